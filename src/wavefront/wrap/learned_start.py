"""A first state that is learned."""

from __future__ import annotations

from torch import nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, is_size
from wavefront.wrap.wrapper import Wrapper

__all__ = ["LearnedStart"]


class LearnedStart(Wrapper):
    """A cell whose initial state is a parameter, the same for all sequences; it starts as the cell's own.  [Goodfellow et al. 2016, 10.2.2]

        h(0) = s       h(t) = f(h(t-1), x(t))

    State, x and output as the cell's. It stands wherever there is no state before: at the start, after a reset, at the leaves of a tree.

    >>> from wavefront import cells
    >>> LearnedStart(cells.LSTM(3, 5)).initial_state(rows=2).c.requires_grad
    True
    """

    def __init__(self, cell: Cell):
        super().__init__(cell)
        self.start = nn.ParameterList(nn.Parameter(leaf.detach()[0].clone()) for leaf in pytree.tree_leaves(cell.initial_state(1)))

    def initial_state(self, rows):
        parts = [part.expand(rows, *part.shape) for part in self.start]
        return pytree.tree_unflatten(parts, pytree.tree_structure(self.sizes, is_leaf=is_size))

    def step(self, state, x, draws=None, phase=0):
        return advance(self.cell, state, x, draws, phase)
