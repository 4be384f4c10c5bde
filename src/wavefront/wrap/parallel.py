"""Breadth: several cells over the same input, side by side."""

from __future__ import annotations

from math import lcm
from operator import itemgetter
from typing import Any

import torch
from torch import nn

from wavefront.cell import Cell, advance, draws_wanted
from wavefront.errors import ShapeError
from wavefront.wrap._parts import check_cell, each_slot

__all__ = ["Parallel"]


class Parallel(Cell[tuple[Any, ...]]):
    """Cells of any kinds that hear the same input and not one another; their outputs side by side.

        hⁱ' , oⁱ = fⁱ(hⁱ, x)            output = [o¹, ..., oᴷ]

    state: the tuple of the cells' states. Groups of units with their own time scales, or reservoirs with their own settings.

    >>> from wavefront import cells
    >>> both = Parallel(cells.Leaky(3, 8, leak=0.1), cells.GRU(3, 5))
    >>> state, output = both(None, torch.randn(2, 3))
    >>> state[1].shape, output.shape
    (torch.Size([2, 5]), torch.Size([2, 13]))
    """

    cells: Any  # an nn.ModuleList, of cells

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
        super().__init__(
            cells[0].inputs,
            state=tuple((cell.sizes,) if isinstance(cell.sizes, int) else cell.sizes for cell in cells),
            outputs=sum(cell.outputs for cell in cells),
            slots=cells[0].slots,
            phases=lcm(*(cell.phases for cell in cells)),
        )
        self.cells = nn.ModuleList(cells)

    def initial_state(self, rows):
        return tuple(cell.initial_state(rows) for cell in self.cells)

    def draws(self, rows):
        wanted = tuple(draws_wanted(cell, rows) for cell in self.cells)
        return wanted if any(draw is not None for draw in wanted) else None

    def step(self, state, x, draws=None, phase=0):
        states, outputs = [], []
        for number, cell in enumerate(self.cells):
            before = each_slot(self.slots, state, itemgetter(number))
            after, output = advance(cell, before, x, None if draws is None else draws[number], phase)
            states.append(after)
            outputs.append(output)
        return tuple(states), torch.cat(outputs, -1)
