"""Several CTCs or transducers that write one sequence together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavefront.errors import SettingsError
from wavefront.generative.ctc import CTC
from wavefront.generative.ensemble import log_mean
from wavefront.generative.transducer import Transducer

__all__ = ["CTCs", "Transducers"]


class CTCs(CTC):
    """p(k | o(t)) = 1/M Σ_m p_m(k | o_m(t)): each step is written by M members, in the mean of their probabilities.

    members  `CTC`s of the same symbols. What they are given stands side by side: o [B, T, Σ features]

    Scored and searched as one is. `each` gives the members and what of o is theirs: they learn each on its own.

    >>> both = CTCs([CTC(5, symbols=3), CTC(4, symbols=3)])
    >>> o, y = torch.randn(2, 7, 9), torch.tensor([[0, 0, 2], [1, 0, 1]])
    >>> both.log_prob(o, y).shape, both.beam_search(o)[0][0].log_prob <= 0
    (torch.Size([2]), True)
    """

    def __init__(self, members: Sequence[CTC]):
        nn.Module.__init__(self)
        self.members, self.symbols = nn.ModuleList(members), _symbols(members)
        self.blank, self.features = self.symbols, [member.V.in_features for member in members]

    def each(self, o: Tensor) -> list[tuple[CTC, Tensor]]:
        return list(zip(self.members, o.split(self.features, -1), strict=True))  # type: ignore[arg-type]

    def forward(self, o: Tensor) -> Tensor:
        return log_mean([member(part) for member, part in self.each(o)])


class Transducers(Transducer):
    """p(k | t, u) = 1/M Σ_m p_m(k | t, u): at each point of the lattice M members decide, in the mean of their probabilities.

    members  `Transducer`s of the same symbols. What they are given stands side by side: h [B, T, Σ features]

    Scored and searched as one is. `each` gives the members and what of h is theirs: they learn each on its own.
    """

    def __init__(self, members: Sequence[Transducer]):
        nn.Module.__init__(self)
        self.members, self.symbols = nn.ModuleList(members), _symbols(members)
        self.blank = self.symbols
        self.features = [member.W.in_features for member in members]
        self.remembered = [member.U.in_features for member in members]

    def each(self, h: Tensor) -> list[tuple[Transducer, Tensor]]:
        return list(zip(self.members, h.split(self.features, -1), strict=True))  # type: ignore[arg-type]

    def join(self, h: Tensor, g: Tensor) -> Tensor:
        said = zip(self.each(h), g.split(self.remembered, -1), strict=True)
        return log_mean([member.join(of_h, of_g) for (member, of_h), of_g in said])

    def remember(self, y: Tensor) -> Tensor:
        return torch.cat([member.remember(y) for member in self.members], -1)  # type: ignore[operator]

    def _read(self, state: Any, symbols: Tensor | None, rows: int) -> tuple[Any, Tensor]:
        states = [None] * len(self.members) if state is None else state
        read = [member._read(one, symbols, rows) for member, one in zip(self.members, states, strict=True)]  # type: ignore[operator]
        return tuple(state for state, _ in read), torch.cat([g for _, g in read], -1)


def _symbols(members: Sequence[CTC] | Sequence[Transducer]) -> int:
    numbers = {member.symbols for member in members}
    if len(numbers) != 1:
        raise SettingsError(f"Members that write together write the same symbols; here they have {sorted(numbers) or 'no member'}.")
    return numbers.pop()
