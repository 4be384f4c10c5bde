"""Cells as a user would write them, that the package does not have: what an engine that knows no cell by name is measured with.

wavefront bench benchmarks/users_cells.py:LearnedLeaks
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront import Cell

__all__ = ["DeepCandidateGRU", "LearnedLeaks", "NormedPeepholeLSTM"]


class Memory(NamedTuple):
    h: Tensor
    c: Tensor


class NormedPeepholeLSTM(Cell):
    """LSTM with layer normalisation of the gates' sums and of the memory, and peepholes."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=Memory(units, units))  # type: ignore[arg-type]
        self.U, self.W = nn.Linear(inputs, 4 * units), nn.Linear(units, 4 * units, bias=False)
        self.norm, self.norm_c = nn.LayerNorm(4 * units), nn.LayerNorm(units)
        self.p = nn.Parameter(torch.zeros(3, units))

    def step(self, state: Any, x: Tensor) -> Any:
        h, c = state
        i, f, g, o = self.norm(self.U(x) + self.W(h)).chunk(4, -1)
        c = (f + self.p[0] * c).sigmoid() * c + (i + self.p[1] * c).sigmoid() * g.tanh()
        h = (o + self.p[2] * c).sigmoid() * self.norm_c(c).tanh()
        return Memory(h, c), h


class DeepCandidateGRU(Cell):
    """A GRU whose candidate has two layers."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.W = nn.Linear(inputs, 3 * units), nn.Linear(units, 2 * units, bias=False)
        self.first, self.second = nn.Linear(units, units), nn.Linear(units, units)

    def step(self, h: Tensor, x: Tensor) -> Any:
        a, b, n = self.U(x).chunk(3, -1)
        r, z = self.W(h).chunk(2, -1)
        r, z = (a + r).sigmoid(), (b + z).sigmoid()
        h = (1 - z) * self.second((n + self.first(r * h)).tanh()).tanh() + z * h
        return h, h


class LearnedLeaks(Cell):
    """Leaky units whose time constants are learned."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.W, self.rate = nn.Linear(inputs, units), nn.Linear(units, units, bias=False), nn.Parameter(torch.zeros(units))

    def step(self, h: Tensor, x: Tensor) -> Any:
        leak = self.rate.sigmoid()
        h = leak * h + (1 - leak) * (self.U(x) + self.W(h)).tanh()
        return h, h
