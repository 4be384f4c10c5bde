"""What wrappers do to the states that they hand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import lcm
from operator import itemgetter
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, draws_wanted, is_size, named
from wavefront.errors import SettingsError, ShapeError


class Several(Cell[tuple[Any, ...]]):
    """A cell made of cells of as many slots each: its state is the tuple of theirs, each of which draws for itself."""

    cells: Any  # an nn.ModuleList, of cells

    def __init__(self, cells: Sequence[Cell], outputs: int):
        super().__init__(
            inputs=cells[0].inputs,
            # a plain tuple of ints would be the size of a matrix
            state=tuple((cell.sizes,) if isinstance(cell.sizes, int) else cell.sizes for cell in cells),
            outputs=outputs,
            slots=cells[0].slots,
            phases=lcm(*(cell.phases for cell in cells)),
        )
        self.cells = nn.ModuleList(cells)

    def initial_state(self, rows):
        return tuple(cell.initial_state(rows) for cell in self.cells)

    def draws(self, rows):
        wanted = tuple(draws_wanted(cell, rows) for cell in self.cells)
        return wanted if any(draw is not None for draw in wanted) else None

    def advance(self, number: int, state: Any, x: Any, draws: Any, phase: int) -> tuple[Any, Tensor]:
        """One step of one of the cells -> its state, its output."""
        before = each_slot(self.slots, state, itemgetter(number))
        return advance(self.cells[number], before, x, None if draws is None else draws[number], phase)


def each_slot(slots: int | str, state: Any, f: Callable[[Any], Any]) -> Any:
    """f of the state in every slot: of the bare state, of each of k, of the children's states edge by edge."""
    if slots == 1:
        return f(state)
    return state._replace(states=f(state.states)) if slots == "any" else tuple(f(part) for part in state)


def change_first(state: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """The state with f of its first part, h."""
    leaves, spec = pytree.tree_flatten(state)
    return pytree.tree_unflatten([f(leaves[0]), *leaves[1:]], spec)


def hidden_units(cell: Cell, who: str) -> int:
    """The size of the first part of the state, which has to be the one vector h that a wrapper can change."""
    sizes = cell.sizes
    while not is_size(sizes):
        if type(sizes) is tuple:
            raise SettingsError(
                f"{who} changes the state of one layer; this cell is made of {len(sizes)}. Wrap each layer, then stack them."
            )
        sizes = sizes[0]
    if isinstance(sizes, tuple) and len(sizes) != 1:
        raise SettingsError(f"{who} changes a state that is a vector; the first part of {named(cell)}'s is {sizes}.")
    return sizes if isinstance(sizes, int) else sizes[0]


def check_cell(cell: Any, who: str) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(f"{who} is made from a wavefront.Cell, such as cells.GRU(8, 8); got {type(cell).__name__}.")


def vector_inputs(cell: Cell, who: str) -> int:
    """The size of the one vector that the cell takes."""
    check_cell(cell, who)
    if not isinstance(cell.inputs, int):
        raise ShapeError(f"{who} wants a cell whose input is one vector, {named(cell)} takes {cell.inputs}.")
    return cell.inputs


def probability(p: float, who: str, what: str) -> float:
    if not 0 <= p < 1:
        raise SettingsError(f"{who}: {what} is a probability, at least 0 and below 1; got {p}.")
    return float(p)
