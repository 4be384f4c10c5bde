"""Depth by layers of state: each layer's outputs are the next one's inputs."""

from __future__ import annotations

from itertools import pairwise
from math import lcm
from operator import itemgetter
from typing import Any

from torch import nn

from wavefront.cell import Cell, advance, draws_wanted, named
from wavefront.errors import ShapeError
from wavefront.wrap._parts import each_slot

__all__ = ["Stack"]


class Stack(Cell[tuple[Any, ...]]):
    """Layers of any kinds and sizes, one on the other.  [Schmidhuber 1992; Graves et al. 2013; Goodfellow et al. 2016, figure 10.13a]

        hˡ(t) = fˡ(hˡ(t-1), oˡ⁻¹(t))       o⁰ = x       output = oᴸ

    state: the tuple of the layers' states; x as the first layer's, output as the last one's. Layers of k slots get their own k states each.

    Raises ShapeError when a layer does not take what the one before gives.

    >>> import torch
    >>> from wavefront import cells
    >>> state, output = Stack(cells.LSTM(3, 8), cells.GRU(8, 5))(None, torch.randn(2, 3))
    >>> state[0].c.shape, state[1].shape, output.shape
    (torch.Size([2, 8]), torch.Size([2, 5]), torch.Size([2, 5]))
    """

    cells: Any  # an nn.ModuleList, of cells

    def __init__(self, *cells: Cell):
        _check(cells)
        super().__init__(
            inputs=cells[0].inputs,
            # a plain tuple of ints would be the size of a matrix
            state=tuple((cell.sizes,) if isinstance(cell.sizes, int) else cell.sizes for cell in cells),
            outputs=cells[-1].outputs,
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
        states = []
        for layer, cell in enumerate(self.cells):
            before = each_slot(self.slots, state, itemgetter(layer))
            after, x = advance(cell, before, x, None if draws is None else draws[layer], phase)
            states.append(after)
        return tuple(states), x


def _check(cells: tuple[Cell, ...]) -> None:
    if not cells or not all(isinstance(cell, Cell) for cell in cells):
        raise TypeError(f"wrap.Stack takes cells, one or more: Stack(cells.LSTM(3, 8), cells.GRU(8, 5)); got {cells!r}.")
    if len({id(cell) for cell in cells}) < len(cells):
        raise ValueError("wrap.Stack takes a cell for each layer; one of these is there twice. Copy it: copy.deepcopy(cell).")
    for layer, (below, above) in enumerate(pairwise(cells), start=1):
        if above.inputs != below.outputs:
            raise ShapeError(f"wrap.Stack: layer {layer}, {named(above)}, gets the {below.outputs} outputs of {named(below)} below it.")
        if above.slots != below.slots:
            raise ShapeError(
                f"wrap.Stack: all layers take as many predecessors; layer {layer} takes {above.slots}, below it {below.slots}."
            )
