"""Depth by layers of state: each layer's outputs are the next one's inputs."""

from __future__ import annotations

from itertools import pairwise

from wavefront.cell import Cell, named
from wavefront.errors import ShapeError
from wavefront.wrap._parts import Several

__all__ = ["Stack"]


class Stack(Several):
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

    def __init__(self, *cells: Cell):
        _check(cells)
        super().__init__(cells, cells[-1].outputs)

    def step(self, state, x, draws=None, phase=0):
        states = []
        for layer in range(len(self.cells)):
            after, x = self.advance(layer, state, x, draws, phase)
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
