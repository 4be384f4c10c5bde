"""Hierarchical subsampling: each layer reads several steps of the one below as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many
from typing import Any

import torch
from torch import Tensor, nn

from wavefront import cells
from wavefront.cell import Cell
from wavefront.errors import SettingsError, ShapeError
from wavefront.networks.recurrent import Recurrent

__all__ = ["Pyramid"]


class Pyramid(nn.Module):
    """Layers of slower and slower steps.  [Schmidhuber 1992; Graves 2012, chapter 9; Chan et al. 2016, arXiv:1508.01211, eq. 5]

        hˡ(t) = fˡ(hˡ(t-1), [hˡ⁻¹(kt), hˡ⁻¹(kt+1), ..., hˡ⁻¹(kt+k-1)])       k = factors[l-1]       h¹(t) = f¹(h¹(t-1), x(t))

    A sequence of T steps is T/Πk steps long at the top, so that what is far apart below is close there, and the upper layers, which may be wide,
    cost little. A window that the end of a sequence cuts short is filled with zeros.

    units    the size of each layer's state, from the bottom up
    factors  k between each two layers: one less than the layers; one number for all
    cell     what makes a layer of (inputs, units): a class of `wavefront.cells`, or any function that returns a cell

    Called with x [B, T, inputs] and lengths [B] it returns the top's outputs [B, ⌈T/Πk⌉, outputs], their lengths, and the layers' final states.
    state is such a tuple of states, to carry on where a sequence was cut: after a multiple of Πk steps.

    >>> net = Pyramid(3, units=(8, 12, 16), factors=4)
    >>> outputs, lengths, state = net(torch.randn(2, 40, 3), lengths=[40, 17])
    >>> outputs.shape, lengths.tolist()
    (torch.Size([2, 3, 16]), [3, 2])
    """

    def __init__(
        self,
        inputs: int,
        units: Many[int],
        factors: int | Many[int] = 4,
        cell: Callable[[int, int], Cell] = cells.GRU,
        backend: str = "auto",
    ):
        super().__init__()
        self.factors = (factors,) * (len(units) - 1) if isinstance(factors, int) else tuple(factors)
        if not units or len(self.factors) != len(units) - 1 or any(k < 1 for k in self.factors):
            raise SettingsError(
                f"Pyramid: factors are numbers of steps, at least 1, one between each two of the {len(units)} layers; got {factors}."
            )
        self.layers = nn.ModuleList()
        for n, k in zip(units, (1, *self.factors)):
            layer = cell(k * inputs, n)
            self.layers.append(Recurrent(layer, backend=backend))
            inputs = layer.outputs
        self.outputs = inputs

    def forward(
        self, x: Tensor, lengths: Tensor | Many[int] | None = None, state: tuple[Any, ...] | None = None
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        if x.dim() != 3:
            raise ShapeError(f"Pyramid expects x of [B, T, inputs], got {list(x.shape)}.")
        left = torch.full((x.shape[0],), x.shape[1]) if lengths is None else torch.as_tensor(lengths)
        before = state or (None,) * len(self.layers)
        if len(before) != len(self.layers):
            raise ShapeError(f"Pyramid has a state for each of its {len(self.layers)} layers, got {len(before)}.")
        states = []
        for layer, given, k in zip(self.layers, before, (1, *self.factors)):
            x, left = windows(x, k), -(left // -k)
            x, after = layer(x, given, lengths=None if lengths is None else left)
            states.append(after)
        return x, left, tuple(states)


def windows(x: Tensor, k: int) -> Tensor:
    """Every k steps side by side: [B, T, n] -> [B, ⌈T/k⌉, k n], filled up with zeros.

    >>> windows(torch.arange(5.).view(1, 5, 1), 2).tolist()
    [[[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]]
    """
    missing = -x.shape[1] % k
    if missing:
        x = torch.cat([x, x.new_zeros(x.shape[0], missing, x.shape[2])], 1)
    return x.unflatten(1, (-1, k)).flatten(2)
