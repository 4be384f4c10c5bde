"""What cells made from one other cell have in common."""

from __future__ import annotations

from typing import Any

from wavefront.cell import Cell, Sizes, draws_wanted
from wavefront.wrap._parts import check_cell

__all__ = ["Wrapper"]


class Wrapper(Cell[Any]):
    """A cell made from one other, `cell`: sizes, slots, clocks, first state and randomness are that one's, unless said otherwise."""

    def __init__(self, cell: Cell, inputs: Sizes = None, state: Sizes = None, outputs: int | None = None):
        check_cell(cell, f"wrap.{type(self).__name__}")
        super().__init__(
            cell.inputs if inputs is None else inputs,
            cell.sizes if state is None else state,
            cell.outputs if outputs is None else outputs,
            cell.slots,
            cell.phases,
        )
        self.cell = cell

    def initial_state(self, rows):
        return self.cell.initial_state(rows)

    def draws(self, rows):
        return draws_wanted(self.cell, rows)
