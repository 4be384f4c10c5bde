"""Slow layers: a cell that takes one step where the others take several."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from wavefront.cell import Cell, advance
from wavefront.errors import SettingsError, ShapeError
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Every"]


class EveryState(NamedTuple):
    inner: Any
    output: Tensor  # of the last step it took, [N, outputs]


class Every(Wrapper):
    """A cell that sees every k-th step, and holds still in between.  [Schmidhuber 1992; El Hihi & Bengio 1996; Graves 2012, chapter 9]

        (h', o) = f(h, x)   where k divides t,   else as they were

    state (the cell's, its last output [N, outputs], zeros at first), x and output as the cell's. Between its steps nothing is computed (a compiled
    loop computes it and does not take it), so that Stack(cells.GRU(3, 8), Every(cells.GRU(8, 8), 4), Every(cells.GRU(8, 8), 16)) is a hierarchy whose
    upper layers reach far back. `networks.Pyramid` is one that has fewer steps there, too.

    >>> import torch
    >>> from wavefront import Recurrent, cells
    >>> outputs, _ = Recurrent(Every(cells.GRU(3, 5), 2))(torch.randn(1, 4, 3))
    >>> bool((outputs[:, 1] == outputs[:, 0]).all()), bool((outputs[:, 2] == outputs[:, 1]).all())
    (True, False)
    """

    def __init__(self, cell: Cell, k: int):
        if k < 1:
            raise SettingsError(f"wrap.Every: k is a number of steps, at least 1; got {k}.")
        super().__init__(cell, state=EveryState(cell.sizes, cell.outputs))  # type: ignore[arg-type]
        if cell.slots != 1:
            raise ShapeError(f"wrap.Every holds the one state before; a cell of slots={cell.slots} has another number of them.")
        self.k, self.phases = k, k * cell.phases

    def initial_state(self, rows):
        inner = self.cell.initial_state(rows)
        like = next(self.parameters())
        return EveryState(inner, like.new_zeros(rows, self.outputs))

    def step(self, state, x, draws=None, phase=0):
        if phase % self.k:
            return state, state.output
        inner, output = advance(self.cell, state.inner, x, draws, phase // self.k)
        return EveryState(inner, output), output
