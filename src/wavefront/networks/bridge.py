"""From a vector to the first state of a cell."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, is_size, state_leaves
from wavefront.errors import ShapeError

__all__ = ["Bridge"]


class Bridge(nn.Module):
    """A vector c, given once per sequence, as the first state: every part of it h(0) = tanh(V c + b).  [Goodfellow et al. 2016, 10.2.4; Cho et
    al. 2014]

    size  of c
    cell  the cell whose state is made

    >>> import torch
    >>> from wavefront import cells
    >>> Bridge(3, cells.LSTM(2, 5))(torch.randn(7, 3)).c.shape
    torch.Size([7, 5])
    """

    def __init__(self, size: int, cell: Cell):
        super().__init__()
        self.size, self.sizes = size, cell.sizes
        self.V = nn.ModuleList(nn.Linear(size, prod(shape)) for shape in state_leaves(cell.sizes))

    def forward(self, c: Tensor) -> Any:
        if c.dim() != 2 or c.shape[1] != self.size:
            raise ShapeError(f"Bridge(size={self.size}) expects one vector per sequence, [N, {self.size}], got {list(c.shape)}.")
        parts = [V(c).tanh().view(len(c), *shape) for V, shape in zip(self.V, state_leaves(self.sizes))]
        return pytree.tree_unflatten(parts, pytree.tree_structure(self.sizes, is_leaf=is_size))
