"""Something said of a whole sequence by a reservoir: its states summed up, and a linear readout of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.errors import DataError, ShapeError
from wavefront.networks.echo_state import CHUNK, Features, Reading
from wavefront.networks.recurrent import Recurrent
from wavefront.networks.ridge import Linear, Ridge

__all__ = ["EchoSummary"]


class EchoSummary(nn.Module):
    """-> [B, outputs], from the mean states of a reservoir over each of a few parts of the sequence.  [Bianchi et al. 2021, IEEE TNNLS 32(5)]

        s = [mean over part 1 of [h(t), x(t)], ..., mean over part P]          o = V s + c

    cell     the reservoir, or reservoirs stacked or in parallel
    outputs  one for each class, or for each number
    parts    P: the sequence is cut in so many parts of (nearly) one length; one that is shorter is cut into steps, some of them twice
    reverse  another reservoir, of as many inputs, that hears each sequence from its end; its means come after the first one's
    direct   x is read as well as h

    x [B, T, inputs], lengths [B] or None. `fit` finds V and c by ridge regression.

    >>> from wavefront import cells
    >>> net = EchoSummary(cells.Reservoir(1, 50, dtype=torch.float64, seed=1), outputs=1, parts=2)
    >>> x = torch.rand(40, 30, 1, dtype=torch.float64) + torch.rand(40, 1, 1, dtype=torch.float64)
    >>> _ = net.fit(x, x.mean(1), penalty=1e-6)
    >>> bool((net(x) - x.mean(1)).abs().max() < 0.01)
    True
    """

    V: Tensor  # [outputs, features]
    c: Tensor  # [outputs]

    def __init__(self, cell: Cell, outputs: int, parts: int = 1, reverse: Cell | None = None, direct: bool = True):
        super().__init__()
        if parts < 1:
            raise ShapeError(f"EchoSummary: parts is at least 1, got {parts}.")
        if reverse is not None and reverse.inputs != cell.inputs:
            raise ShapeError(f"EchoSummary: both directions hear the same x; got inputs {cell.inputs} and {reverse.inputs}.")
        self.inputs, self.outputs, self.parts = cell.inputs, outputs, parts
        readings = [Reading(cell, outputs, direct)] + ([Reading(reverse, outputs, direct=False)] if reverse is not None else [])
        self.directions = nn.ModuleList(Recurrent(Features(reading), reverse=k == 1) for k, reading in enumerate(readings))
        self.features = parts * sum(reading.features for reading in readings)
        self.register_buffer("V", readings[0].V.new_zeros(outputs, self.features))
        self.register_buffer("c", readings[0].c.clone())
        self.penalty = float("nan")  # the one that `fit` took

    def forward(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        return self.summary(x, lengths) @ self.V.T + self.c

    def summary(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """s [B, features]; zeros for a sequence of length 0."""
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ShapeError(f"EchoSummary expects x of [B, T, {self.inputs}], got {list(x.shape)}.")
        steps = torch.full((len(x),), x.shape[1]) if lengths is None else torch.as_tensor(lengths)
        few = max(1, CHUNK // max(1, x.shape[1] * self.features // self.parts))
        found = [self._means(part, n) for part, n in zip(x.split(few), steps.split(few))]
        return torch.cat(found) if found else x.new_zeros(0, self.features)

    @torch.no_grad()
    def fit(
        self, x: Tensor, targets: Tensor, lengths: Tensor | Sequence[int] | None = None, penalty: float | Sequence[float] = 1e-2
    ) -> EchoSummary:
        """The readout of least squared error for targets [B, outputs]; of several penalties generalised cross-validation takes one."""
        return self.fit_batches([(x, targets, lengths)], penalty)

    @torch.no_grad()
    def fit_batches(self, batches: Iterable[tuple[Tensor, Tensor, Any]], penalty: float | Sequence[float] = 1e-2) -> EchoSummary:
        sums = Ridge(self.features, self.outputs)
        for x, targets, lengths in batches:
            sums.add(self.summary(x, lengths), targets)
        if not sums.count:
            raise DataError("there is no sequence to learn from.")
        self.penalty, readout = sums.best([penalty] if isinstance(penalty, (int, float)) else list(penalty))
        self.take(readout)
        return self

    def take(self, readout: Linear) -> None:
        """This readout from now on."""
        self.V.copy_(readout.V)
        self.c.copy_(readout.c)

    def _means(self, x: Tensor, steps: Tensor) -> Tensor:
        p = torch.arange(self.parts)
        first = p * steps[:, None] // self.parts  # [B, P]
        end = torch.maximum(first + 1, (p + 1) * steps[:, None] // self.parts)
        found = []
        for direction in self.directions:
            h, _ = direction(x, lengths=steps)
            total = torch.cat([h.new_zeros(len(h), 1, h.shape[2]), h.cumsum(1)], 1)  # sums up to each step
            last = total.shape[1] - 1
            wide = (-1, -1, h.shape[2])
            means = total.gather(1, end.clamp(max=last)[..., None].expand(wide)) - total.gather(
                1, first.clamp(max=last)[..., None].expand(wide)
            )
            found.append((means / (end - first)[..., None]).flatten(1))
        return torch.cat(found, 1)
