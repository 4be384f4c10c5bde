"""What wrappers do to the states that they hand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, is_size, named
from wavefront.errors import SettingsError, ShapeError


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
