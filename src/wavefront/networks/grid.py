"""Recurrence over images: a two-slot cell from each of the four corners, and four sweeps along rows and columns."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from wavefront.cell import Cell, named
from wavefront.errors import ShapeError
from wavefront.networks.recurrent import Bidirectional
from wavefront.structure import CORNERS, Grid
from wavefront.unfolding import unfold

__all__ = ["FourCorners", "FourSweeps"]


class FourCorners(nn.Module):
    """Four cells over the same images, one from each corner: every output has seen the whole image.  [Graves et al. 2007, arXiv:0705.2011]

        o(i, j) = merge(h↘(i, j), h↙(i, j), h↗(i, j), h↖(i, j))          h↘(i, j) = f(h↘(i-1, j), h↘(i, j-1), x(i, j)), ...

    cells  four, of two slots each, from the top left, top right, bottom left and bottom right
    merge  "concat" (outputs side by side), "sum" or "mean"

    x [B, height, width, inputs]; sizes [B, 2], the height and width of each image where they differ (it lies in the top left) -> outputs
    [B, height, width, outputs], zeros beyond the sizes, and the four final states, each of the corner that comes last.

    >>> from wavefront import cells
    >>> net = FourCorners(*(cells.MDGRU(3, 5) for _ in range(4)))
    >>> outputs, states = net(torch.randn(2, 4, 6, 3), sizes=[[4, 6], [2, 3]])
    >>> outputs.shape, states[0].shape
    (torch.Size([2, 4, 6, 20]), torch.Size([2, 5]))
    """

    def __init__(self, *cells: Cell, merge: str = "concat", backend: str = "auto"):
        super().__init__()
        if len(cells) != 4 or len({id(cell) for cell in cells}) != 4:
            raise ValueError(f"FourCorners takes four cells, one for each corner; got {len({id(cell) for cell in cells})}.")
        if merge not in ("concat", "sum", "mean"):
            raise ValueError(f"merge is concat, sum or mean; got {merge!r}.")
        if merge != "concat" and len({cell.outputs for cell in cells}) > 1:
            raise ShapeError(f"merge={merge!r} needs outputs of one size, got {[cell.outputs for cell in cells]}.")
        self.cells, self.merge, self.backend = nn.ModuleList(cells), merge, backend

    @property
    def outputs(self) -> int:
        sizes = [int(cell.outputs) for cell in self.cells]  # type: ignore[arg-type]
        return sum(sizes) if self.merge == "concat" else sizes[0]

    def forward(self, x: Tensor, sizes: Any = None, states: Any = None) -> tuple[Tensor, tuple[Any, ...]]:
        first: Any = self.cells[0]
        if x.dim() != 4 or x.shape[3] != first.inputs:
            raise ShapeError(f"FourCorners({named(first)}) expects x of [B, height, width, {first.inputs}], got {list(x.shape)}.")
        extents = None if sizes is None else tuple(map(tuple, torch.as_tensor(sizes).tolist()))
        found, last = [], []
        for number, (cell, corner) in enumerate(zip(self.cells, CORNERS)):
            grid = _grid(x.shape[1], x.shape[2], x.shape[0], corner, extents)
            outputs, state = unfold(cell, grid, grid.pack(x), states and states[number], backend=self.backend)  # type: ignore[arg-type]
            found.append(grid.unpack(outputs))
            last.append(state)
        merged = torch.cat(found, -1) if self.merge == "concat" else torch.stack(found).sum(0)
        return merged / 4 if self.merge == "mean" else merged, tuple(last)

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}"


@lru_cache(maxsize=32)
def _grid(height: int, width: int, batch: int, corner: str, sizes: Any) -> Grid:
    """Images mostly come in the same few sizes: their grids are kept."""
    return Grid(height, width, batch, corner, sizes)


class FourSweeps(nn.Module):
    """Four one-dimensional sweeps over a feature map: down and up its columns, then right and left along the rows of what they found.

        v(i, j) = [f↓(v↓(i-1, j), p(i, j)), f↑(v↑(i+1, j), p(i, j))]        o(i, j) = [f→(h→(i, j-1), v(i, j)), f←(h←(i, j+1), v(i, j))]

    [Visin et al. 2015, ReNet, arXiv:1505.00393, section 2; Goodfellow et al. 2016, 10.3]

    down, up, right, left   cells of one slot. Those of the columns take a patch, those of the rows the outputs of both columns' cells
    patch                   the height and width of the patches p that the map is cut into, which are flattened
    before                  any module on [B, channels, height, width] first, a convolution say

    x [B, height, width, channels] -> outputs [B, height / patch height, width / patch width, right.outputs + left.outputs].
    Layers of them one after the other, patch 2 x 2 each, are a ReNet.

    >>> from wavefront import cells
    >>> net = FourSweeps(cells.GRU(12, 5), cells.GRU(12, 5), cells.GRU(10, 6), cells.GRU(10, 6), patch=(2, 2))
    >>> net(torch.randn(2, 8, 4, 3)).shape
    torch.Size([2, 4, 2, 12])
    """

    def __init__(
        self,
        down: Cell,
        up: Cell,
        right: Cell,
        left: Cell,
        patch: tuple[int, int] = (1, 1),
        before: nn.Module | None = None,
        backend: str = "auto",
    ):
        super().__init__()
        self.columns, self.rows = Bidirectional(down, up, backend=backend), Bidirectional(right, left, backend=backend)
        for cell in (right, left):
            if cell.inputs != self.columns.outputs:
                raise ShapeError(f"the rows take the {self.columns.outputs} outputs of the columns, got {named(cell)}.")
        if min(patch) < 1:
            raise ValueError(f"patch is a height and a width of at least 1, got {patch}.")
        self.patch, self.before = (int(patch[0]), int(patch[1])), before

    @property
    def outputs(self) -> int:
        return self.rows.outputs

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ShapeError(f"FourSweeps expects x of [B, height, width, channels], got {list(x.shape)}.")
        if self.before is not None:
            x = self.before(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        patches = self._patches(x)
        batch, height, width, _ = patches.shape
        down_columns = patches.transpose(1, 2).flatten(0, 1)  # [B · width, height, ...]
        v, _ = self.columns(down_columns)
        along_rows = v.unflatten(0, (batch, width)).transpose(1, 2).flatten(0, 1)  # [B · height, width, ...]
        h, _ = self.rows(along_rows)
        return h.unflatten(0, (batch, height))

    def _patches(self, x: Tensor) -> Tensor:
        """[B, height, width, channels] -> [B, rows of patches, patches in a row, all numbers of a patch]."""
        (high, wide), inputs = self.patch, self.columns.ahead.cell.inputs
        if x.shape[1] % high or x.shape[2] % wide or high * wide * x.shape[3] != inputs:
            raise ShapeError(
                f"FourSweeps cuts x [B, height, width, channels] into patches of {high} x {wide} with {inputs} numbers in each; got {list(x.shape)}."
            )
        cut = x.unflatten(1, (-1, high)).unflatten(3, (-1, wide))  # [B, rows, high, columns, wide, channels]
        return cut.transpose(2, 3).flatten(3)

    def extra_repr(self) -> str:
        return f"patch={self.patch}"
