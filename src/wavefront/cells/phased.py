"""Phased LSTM: each unit opens for a part of its own rhythm, and keeps what it has for the rest; the rhythms are learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import hidden_to_hidden, input_to_hidden
from wavefront.cells.irregular import Irregular, there
from wavefront.errors import SettingsError

__all__ = ["PhasedLSTM"]


class PhasedState(NamedTuple):
    h: Tensor  # [N, units]
    c: Tensor  # [N, units]
    t: Tensor  # the time, [N, 1]


class PhasedLSTM(Cell[PhasedState]):
    """Phased LSTM.  [Neil et al. 2016, arXiv:1610.09513, eq. 6-11]

        φ = ((t - s) mod τ)/τ       k = 2φ/r  while φ < r/2,   2 - 2φ/r  while φ < r,   leak φ  after that
        (h̃, c̃) = LSTM(h, c, x)       c' = k ⊙ c̃ + (1 - k) ⊙ c       h' = k ⊙ h̃ + (1 - k) ⊙ h

    state (h, c [N, units], the time t [N, 1]), x [N, inputs] -> output h' [N, units]. Time moves on by 1 a step; or, with `gaps`, x is an
    `Irregular(value, gap, observed)` and time moves on by the gap. Rows of U and W: i, f, g, o.

    periods  (shortest, longest): τ, learned, starts uniform in its logarithm between these, in steps; the shift s, learned, uniform in [0, τ]
    open     r, the share of its rhythm for which a unit is open
    leak     what is let through while it is closed, in training; in eval mode nothing

    >>> cell = PhasedLSTM(3, 5)
    >>> state, output = cell(None, torch.randn(2, 3))
    >>> state.t.tolist()
    [[1.0], [1.0]]
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        periods: tuple[float, float] = (2.0, 200.0),
        *,
        open: float = 0.05,
        leak: float = 0.001,
        gaps: bool = False,
        forget_bias: float = 1.0,
    ):
        shortest, longest = periods
        if not 0 < shortest <= longest:
            raise SettingsError(f"cells.PhasedLSTM: periods are (shortest, longest) in steps, above 0; got {periods}.")
        if not 0 < open <= 1 or not 0 <= leak < 1:
            raise SettingsError(f"cells.PhasedLSTM: open and leak are shares, 0 < open <= 1 and 0 <= leak < 1; got {open} and {leak}.")
        super().__init__(Irregular(inputs, 1, inputs) if gaps else inputs, state=PhasedState(units, units, 1))  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units, 4), hidden_to_hidden(units, units, 4)
        with torch.no_grad():
            self.U.bias.chunk(4)[1].fill_(forget_bias)
        period = shortest * (longest / shortest) ** torch.rand(units)
        self.period, self.shift = nn.Parameter(period), nn.Parameter(period * torch.rand(units))
        self.open, self.leak, self.gaps = open, leak, gaps

    def step(self, state, x):
        t = state.t + (x.gap if self.gaps else 1.0)
        value = there(x) if self.gaps else x
        k = self.openness(t)
        i, f, g, o = (self.U(value) + self.W(state.h)).chunk(4, -1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        h, c = k * h + (1 - k) * state.h, k * c + (1 - k) * state.c
        return PhasedState(h, c, t), h

    def openness(self, t: Tensor) -> Tensor:
        """k at the times t [N, 1] -> [N, units]."""
        turns = (t - self.shift) / self.period
        phase = turns - turns.floor()
        rising, falling = 2 * phase / self.open, 2 - 2 * phase / self.open
        closed = (self.leak if self.training else 0.0) * phase
        return torch.where(phase < self.open / 2, rising, torch.where(phase < self.open, falling, closed))
