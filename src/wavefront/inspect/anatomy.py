"""What of a network shows in a drawing: its layers of state, their directions, what lies inside the paths, what is fed back."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from wavefront import wrap
from wavefront.cell import Cell, Given, state_leaves
from wavefront.networks.recurrent import Bidirectional, Recurrent

__all__ = ["Anatomy", "Layer", "anatomy"]


class Layer(NamedTuple):
    """One layer of state. transition: how many layers its state passes from step to step, beside W; shortcut: it also skips them."""

    transition: int = 0
    shortcut: bool = False


class Anatomy(NamedTuple):
    """layers from the bottom; before and after: how many layers lie between x and the first state, and between the last state and o."""

    name: str
    layers: tuple[Layer, ...]
    before: int = 0
    after: int = 0
    both: bool = False
    reverse: bool = False
    skips: tuple[int, ...] = (1,)
    slots: int | str = 1
    memory: bool = True
    feedback: bool = False
    context: bool = False


def anatomy(network: Any) -> Anatomy:
    """The anatomy of a cell, a network of one or two directions, or a drop-in LSTM, GRU or RNN (torch's own too)."""
    name = type(network).__name__
    if isinstance(network, Cell):
        return _of_cell(network)
    if isinstance(network, Recurrent):
        found = _of_cell(network.cell)
        return found._replace(name=f"{name}({found.name})" if name == "Recurrent" else name, skips=network.skips, reverse=network.reverse)
    if isinstance(network, Bidirectional):
        found = _of_cell(network.ahead.cell)
        return found._replace(name=f"{name}({found.name})", skips=network.ahead.skips, both=True)
    if isinstance(network, nn.RNNBase):
        return Anatomy(name, (Layer(),) * network.num_layers, both=network.bidirectional)
    raise TypeError(f"draw takes a cell, a Recurrent, Bidirectional or Deep network, or an LSTM, GRU or RNN; got {name}.")


def _of_cell(cell: Cell) -> Anatomy:
    if isinstance(cell, wrap.Stack):
        parts = [_of_cell(part) for part in cell.cells]
        layers = tuple(layer for part in parts for layer in part.layers)
        name = f"Stack({', '.join(part.name for part in parts)})"
        return parts[0]._replace(name=name, layers=layers, after=parts[-1].after)
    if isinstance(cell, wrap.Deepened):
        inner = _of_cell(cell.cell)
        layers = inner.layers
        if len(cell.transition):
            layers = (layers[0]._replace(transition=len(cell.transition), shortcut=cell.shortcut), *layers[1:])
        return inner._replace(layers=layers, before=inner.before + len(cell.before), after=inner.after + max(len(cell.after) - 1, 0))
    if isinstance(cell, wrap.Feedback):
        return _of_cell(cell.cell)._replace(feedback=True, context=isinstance(cell.inputs, Given))
    if type(cell).__module__.startswith("wavefront.wrap.") and isinstance(getattr(cell, "cell", None), Cell):
        return _of_cell(cell.cell)  # type: ignore[arg-type]  # dropout, zoneout, norms, ...: the same figure
    memory = any(n > 0 for leaf in state_leaves(cell.sizes) for n in leaf)
    return Anatomy(type(cell).__name__, (Layer(),), slots=cell.slots, memory=memory, context=isinstance(cell.inputs, Given))
