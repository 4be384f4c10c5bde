"""Layers one above the other, each unfolded over all steps by itself, with dropout of whole features between them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from math import lcm
from typing import Any

from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.errors import SettingsError, ShapeError
from wavefront.networks.encoder import drop_features
from wavefront.networks.recurrent import Recurrent
from wavefront.wrap import Dropout, Stack

__all__ = ["Layers"]


class Layers(nn.Module):
    """A deep network that looks backward only, layer by layer: each layer's product of its inputs is made for all steps at once.

        o⁰ = x        oˡ, hˡ(τ) = unfold(fˡ, m ⊙ oˡ⁻¹, hˡ(0))        output = m ⊙ oᴸ

    The masks m drop whole features, the same ones at all steps, in training only.  [Gal & Ghahramani 2016, arXiv:1512.05287; Merity et al. 2018,
    arXiv:1708.02182, 4.2]  The same function as `Recurrent(wrap.Stack(...))` where nothing is dropped.

    cells    one a layer
    dropout  of features: of what the first layer reads, of what each further one reads, of what the last one gives

    x [B, T, inputs], state (the tuple of the layers' states, None: their initial ones), lengths [B], resets [B, T], start as in `Recurrent`,
    context [B, ...] beside what the first layer reads -> outputs [B, T, outputs], state

    >>> import torch
    >>> from wavefront import cells
    >>> net = Layers([cells.LSTM(3, 8), cells.GRU(8, 5)], dropout=(0.1, 0.2, 0.3))
    >>> outputs, state = net(torch.randn(2, 7, 3))
    >>> outputs.shape, state[0].c.shape, net.step(state, torch.randn(2, 3))[1].shape
    (torch.Size([2, 7, 5]), torch.Size([2, 8]), torch.Size([2, 5]))
    """

    def __init__(self, cells: Iterable[Cell], dropout: tuple[float, float, float] = (0.0, 0.0, 0.0)):
        super().__init__()
        layers = [Recurrent(cell) for cell in cells]
        if not layers:
            raise SettingsError("Layers takes cells, one or more.")
        for below, above in pairwise(layers):
            if below.cell.outputs != above.cell.inputs:
                raise ShapeError(
                    f"Layers: a layer of {above.cell.inputs} inputs is given the {below.cell.outputs} outputs of the one below."
                )
        self.layers: Any = nn.ModuleList(layers)
        self.dropout = dropout
        self.inputs: Any = layers[0].cell.inputs
        self.outputs = layers[-1].cell.outputs
        self.phases = lcm(*(layer.cell.phases for layer in layers))

    @property
    def cell(self) -> Cell:
        """All layers and their dropout as one cell, for where what is put out at one step is needed at the next."""
        first, between, last = self.dropout
        cells: list[Cell] = [layer.cell for layer in self.layers]
        wrapped = [Dropout(cell, inputs=between if n else first, variational=True) for n, cell in enumerate(cells)]
        stack = Stack(*wrapped[:-1], Dropout(wrapped[-1], outputs=last, variational=True))
        for module in (stack, *wrapped, stack.cells[-1]):
            module.training = self.training  # these alone: train() would reach into the layers
        return stack

    def forward(
        self, x: Tensor, state: Any = None, lengths: Any = None, resets: Tensor | None = None, context: Any = None, start: int = 0
    ) -> tuple[Tensor, Any]:
        raw, state = self.features(x, state, lengths, resets, context, start)
        return self.dropped(raw), state

    def features(
        self, x: Tensor, state: Any = None, lengths: Any = None, resets: Tensor | None = None, context: Any = None, start: int = 0
    ) -> tuple[Tensor, Any]:
        """The outputs before the last dropout, and the state."""
        first, between, _ = self.dropout
        states = []
        for number, layer in enumerate(self.layers):
            x = drop_features(x, between if number else first, self.training)
            x, after = layer(x, None if state is None else state[number], lengths, resets, None if number else context, start=start)
            states.append(after)
        return x, tuple(states)

    def dropped(self, raw: Tensor) -> Tensor:
        """What `features` gave, as `forward` gives it."""
        return drop_features(raw, self.dropout[2], self.training)

    def step(self, state: Any, x: Tensor, context: Any = None, start: int = 0) -> tuple[Any, Tensor]:
        """One step of a stream: x [B, inputs] -> state, output [B, outputs]. Nothing is dropped."""
        states = []
        for number, layer in enumerate(self.layers):
            after, x = layer.step(None if state is None else state[number], x, None if number else context, start)
            states.append(after)
        return tuple(states), x

    def initial_state(self, rows: int, context: Any = None, state: Any = None) -> Any:
        """The state given, or each layer's initial one."""
        return tuple(layer.cell.initial_state(rows) for layer in self.layers) if state is None else state

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}" if any(self.dropout) else ""
