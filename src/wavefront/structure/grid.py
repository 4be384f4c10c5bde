"""Grids: images, and all that has a place in two directions, walked from one of their four corners."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
import torch
from torch import Tensor

from wavefront.errors import ShapeError
from wavefront.structure.graph import Graph

__all__ = ["CORNERS", "Grid"]

CORNERS = ("top left", "top right", "bottom left", "bottom right")


class Grid(Graph):
    """A batch of grids; each node has the one above and the one beside it before it, as seen from a corner.  [Graves et al. 2007]

    height, width  of each grid, held as [batch, height, width, ...]
    batch          how many there are
    corner         where the walk begins: "top left" (before a node lie those above and to the left), "top right", "bottom left", "bottom right"
    sizes          [batch, 2], the height and width of each grid where they differ: it lies in the top left of its [height, width], and nothing
                   beyond is ever looked at

    Slot 0 is the neighbour in the direction of the height, slot 1 in that of the width. Fronts are the diagonals: height + width - 1 of them.
    The final state is that of the corner that comes last, which everything leads to.

    >>> g = Grid(2, 3)
    >>> g.sizes.tolist(), g.in_slots(2).tolist()     # -2: what was given
    ([1, 2, 2, 1], [[-2, -2], [-2, 0], [0, -2], [-2, 1], [1, 2], [3, 4]])
    >>> g.pack(torch.tensor([[[1, 2, 4], [3, 5, 6]]])).tolist()
    [1, 2, 3, 4, 5, 6]
    """

    def __init__(self, height: int, width: int, batch: int = 1, corner: str = "top left", sizes: Tensor | Many[Many[int]] | None = None):
        if corner not in CORNERS:
            raise ShapeError(f"corner is one of {', '.join(CORNERS)}; got {corner!r}.")
        self.height, self.width, self.corner = height, width, corner
        extent = _extent(sizes, height, width, batch)
        row, i, j = (a.ravel() for a in np.indices((batch, height, width)))
        inside = np.flatnonzero((i < extent[row, 0]) & (j < extent[row, 1]))
        row, i, j = row[inside], i[inside], j[inside]
        node = np.full((batch, height, width), -1)
        node.ravel()[inside] = np.arange(len(inside))
        # as seen from the corner
        down = extent[row, 0] - 1 - i if corner.startswith("bottom") else i
        right = extent[row, 1] - 1 - j if corner.endswith("right") else j
        step = (1 if corner.startswith("bottom") else -1, 1 if corner.endswith("right") else -1)
        below, beside = np.flatnonzero(down > 0), np.flatnonzero(right > 0)
        source = np.concatenate([node[row[below], i[below] + step[0], j[below]], node[row[beside], i[beside], j[beside] + step[1]]])
        slot = np.repeat([0, 1], [len(below), len(beside)])
        last = np.full(batch, -1)
        ends = np.flatnonzero((down == extent[row, 0] - 1) & (right == extent[row, 1] - 1))
        last[row[ends]] = ends
        self._inside = torch.from_numpy(inside)
        super().__init__(source, np.concatenate([below, beside]), len(inside), slot, row, batch, last, front=down + right)

    def pack(self, x: Tensor) -> Tensor:
        """[batch, height, width, ...] -> [nodes, ...] in the order of the fronts."""
        if tuple(x.shape[:3]) != (self.rows, self.height, self.width):
            raise ShapeError(f"expected [{self.rows}, {self.height}, {self.width}, ...] (batch, height, width), got {list(x.shape)}.")
        flat = x.flatten(0, 2)
        return flat.index_select(0, self._inside[self.order].to(x.device))

    def unpack(self, y: Tensor) -> Tensor:
        """[nodes, ...] in the order of the fronts -> [batch, height, width, ...], zeros beyond the sizes."""
        flat = y.new_zeros((self.rows * self.height * self.width, *y.shape[1:]))
        return flat.index_copy(0, self._inside.to(y.device), super().unpack(y)).unflatten(0, (self.rows, self.height, self.width))


def _extent(sizes: Tensor | Many[Many[int]] | None, height: int, width: int, batch: int) -> np.ndarray:
    if sizes is None:
        return np.tile([height, width], (batch, 1))
    found = sizes.detach().cpu().numpy() if isinstance(sizes, Tensor) else np.asarray(sizes)
    if found.shape != (batch, 2) or found.dtype.kind not in "iu":
        raise ShapeError(f"sizes are {batch} pairs (height, width) of whole numbers, got {found.dtype} of {list(found.shape)}.")
    wrong = (found < 0).any(1) | (found > [height, width]).any(1)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ShapeError(f"sizes lie between 0 and the {height} x {width} there are; grid {at} has {found[at, 0]} x {found[at, 1]}.")
    return found.astype(np.int64)
