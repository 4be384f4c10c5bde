"""Depth inside the step: layers before the cell, in its recurrence, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from wavefront.cell import Cell, advance
from wavefront.cells._parts import Activation, function, input_to_hidden
from wavefront.errors import ShapeError
from wavefront.wrap._parts import change_first, each_slot, hidden_units, vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Deepened"]


class Deepened(Wrapper):
    """A cell with deeper paths into it, through it and out of it.  [Pascanu et al. 2014, arXiv:1312.6026; Goodfellow et al. 2016, figure 10.13b-c]

        output = after(o)       (h', o) = f(transition(h), before(x))       with a shortcut: f(h + transition(h), ...)

    State as the cell's, of which the first part, h, takes the transition; x [N, before[0]] -> output [N, after[-1]]. Each path is a list of
    widths; its layers are φ(U a + b) but for the last of `after`, a readout, which is U a + b.

    before       input to hidden: (inputs, ..., cell.inputs)
    transition   hidden to hidden: the widths between h and h; (64,) is two layers, h -> 64 -> h
    after        hidden to output: (..., outputs), from the cell's outputs on
    shortcut     h also skips the transition, so that the way through time is no longer than without it

    >>> import torch
    >>> from wavefront import cells
    >>> deep = Deepened(cells.Elman(16, 8), before=(3, 16), transition=(32,), after=(16, 4), shortcut=True)
    >>> state, output = deep(None, torch.randn(2, 3))
    >>> state.shape, output.shape
    (torch.Size([2, 8]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        cell: Cell,
        before: Sequence[int] = (),
        transition: Sequence[int] | None = None,
        after: Sequence[int] = (),
        shortcut: bool = False,
        activation: str | Activation = "tanh",
    ):
        if before and (len(before) < 2 or before[-1] != vector_inputs(cell, "wrap.Deepened(before=...)")):
            raise ShapeError(
                f"wrap.Deepened: before leads from the inputs to the cell's, (inputs, ..., {cell.inputs}); got {tuple(before)}."
            )
        if shortcut and transition is None:
            raise ShapeError("wrap.Deepened: a shortcut skips the transition; give one, such as transition=(64,).")
        super().__init__(cell, inputs=before[0] if before else None, outputs=after[-1] if after else None)
        self.shortcut = shortcut
        self.before = _layers(before, activation)
        self.after = _layers((cell.outputs, *after), activation, readout=True)
        if transition is not None:
            units = hidden_units(cell, "wrap.Deepened(transition=...)")
            transition = (units, *transition, units)
        self.transition = _layers(transition or (), activation)

    def step(self, state, x, draws=None, phase=0):
        state = each_slot(self.slots, state, lambda part: change_first(part, self._through))
        state, output = advance(self.cell, state, self.before(x), draws, phase)
        return state, self.after(output)

    def _through(self, h):
        return h + self.transition(h) if self.shortcut else self.transition(h)


class Layer(nn.Module):
    """φ(U a + b)"""

    def __init__(self, inputs: int, units: int, activation: str | Activation):
        super().__init__()
        self.U, self.activation = input_to_hidden(inputs, units), function(activation)

    def forward(self, a):
        return self.activation(self.U(a))


def _layers(widths: Sequence[int], activation: str | Activation, readout: bool = False) -> nn.Sequential:
    last = len(widths) - 2
    return nn.Sequential(*(Layer(n, m, "identity" if readout and at == last else activation) for at, (n, m) in enumerate(pairwise(widths))))
