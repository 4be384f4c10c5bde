"""Breadth: several cells over the same input, side by side."""

from __future__ import annotations

import torch

from wavefront.cell import Cell
from wavefront.errors import ShapeError
from wavefront.wrap._parts import Several, check_cell

__all__ = ["Parallel"]


class Parallel(Several):
    """Cells of any kinds that hear the same input and not one another; their outputs side by side.

        hⁱ' , oⁱ = fⁱ(hⁱ, x)            output = [o¹, ..., oᴷ]

    state: the tuple of the cells' states. Groups of units with their own time scales, or reservoirs with their own settings.

    >>> from wavefront import cells
    >>> both = Parallel(cells.Leaky(3, 8, leak=0.1), cells.GRU(3, 5))
    >>> state, output = both(None, torch.randn(2, 3))
    >>> state[1].shape, output.shape
    (torch.Size([2, 5]), torch.Size([2, 13]))
    """

    def __init__(self, *cells: Cell):
        for cell in cells:
            check_cell(cell, "wrap.Parallel")
        if not cells or len({id(cell) for cell in cells}) < len(cells):
            raise ValueError("wrap.Parallel takes one cell or more, each of them once. The same again? Copy it: copy.deepcopy(cell).")
        for cell in cells[1:]:
            if (cell.inputs, cell.slots) != (cells[0].inputs, cells[0].slots):
                raise ShapeError(
                    f"wrap.Parallel: all cells take the same input and as many predecessors; got inputs {[c.inputs for c in cells]} and"
                    f" slots {[c.slots for c in cells]}."
                )
        super().__init__(cells, sum(cell.outputs for cell in cells))

    def step(self, state, x, draws=None, phase=0):
        states, outputs = zip(*(self.advance(number, state, x, draws, phase) for number in range(len(self.cells))))
        return states, torch.cat(outputs, -1)
