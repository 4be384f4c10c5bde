"""Clockwork: groups of units, each with a clock of its own, the fast ones listening to the slow ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["Clockwork"]


class Clockwork(Cell[Tensor]):
    """Clockwork RNN.  [Koutnik et al. 2014, arXiv:1402.3511, eq. 1-4; Goodfellow et al. 2016, 10.9.3]

        h'ᵢ = φ(Uᵢ x + Wᵢ [hᵢ, hᵢ₊₁, ..., h_k] + bᵢ)   where the period Tᵢ divides t,   else hᵢ

    state h [N, units], the groups side by side, fastest first; x [N, inputs] -> output h' [N, units]. A group sees itself and the slower ones. What
    does not tick is not computed (a compiled loop computes it and does not take it: over sequences, `networks.Clockwork` is faster). A clock of 1
    for all is `Elman`.

    periods   Tᵢ of each group, in steps, rising
    sizes     units of each group; by default all the same, the first ones larger by one where they cannot be

    >>> cell = Clockwork(3, 8, periods=(1, 2, 4, 8))
    >>> h = torch.randn(1, 8)
    >>> [bool((cell.step(h, torch.randn(1, 3), phase=t)[0] == h)[0, 2]) for t in range(4)]    # unit 2 is of period 2
    [False, True, False, True]
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        periods: Sequence[int] = (1, 2, 4, 8),
        *,
        sizes: Sequence[int] | None = None,
        activation: str | Activation = "tanh",
        bias: bool = True,
    ):
        self.periods = tuple(periods)
        if not periods or list(periods) != sorted(periods) or periods[0] < 1:
            raise SettingsError(f"cells.Clockwork: periods are whole numbers of steps, rising, such as (1, 2, 4, 8); got {tuple(periods)}.")
        k = len(periods)
        self.groups = tuple(units // k + (i < units % k) for i in range(k)) if sizes is None else tuple(sizes)
        if len(self.groups) != k or sum(self.groups) != units or min(self.groups) < 1:
            raise SettingsError(f"cells.Clockwork: sizes are those of {k} groups, {units} units in all; got {self.groups}.")
        super().__init__(inputs, state=units, phases=lcm(*periods))
        self.U = nn.ModuleList(input_to_hidden(inputs, n, bias=bias) for n in self.groups)
        self.W = nn.ModuleList(hidden_to_hidden(sum(self.groups[i:]), n) for i, n in enumerate(self.groups))
        self.activation = function(activation)

    def step(self, state, x, phase=0):
        groups, first = [], 0
        for period, n, U, W in zip(self.periods, self.groups, self.U, self.W):
            ticks = phase % period == 0
            groups.append(self.activation(U(x) + W(state[:, first:])) if ticks else state[:, first : first + n])
            first += n
        h = torch.cat(groups, -1)
        return h, h
