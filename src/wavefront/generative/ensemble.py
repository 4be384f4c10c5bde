"""Several networks that write one sequence together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from wavefront.errors import SettingsError
from wavefront.generative.autoregressive import Autoregressive, Writing
from wavefront.generative.ending import Ending, Length

__all__ = ["Ensemble", "Writer", "log_mean"]


class Ensemble:
    """p(y(t) | y(<t)) = 1/M Σ_m p_m(y(t) | y(<t)): each step is written by M networks, in the mean of their probabilities.
    [Hansen and Salamon 1990, IEEE TPAMI 12(10); of decoders: Sutskever et al. 2014, section 3.6]

    members  `Autoregressive`, which write the same symbols and end in the same way (not by a length that comes first)

    It is scored and searched as one network is: `log_prob`, `greedy`, `sample`, `beam_search`. What the members are given is given as a tuple, one
    part for each: context, and the state to begin with. It has no parameters: those are the members', which are trained each on its own.

    >>> from torch import nn
    >>> from wavefront import cells
    >>> from wavefront.generative import Categorical, greedy
    >>> def member():
    ...     return Autoregressive(cells.GRU(4, 8), Categorical(8, symbols=3), reader=nn.Embedding(3, 4))
    >>> both = Ensemble([member(), member()])
    >>> written = greedy(both, rows=2, max_length=5)
    >>> torch.allclose(both.log_prob(written.y, written.lengths)[written.ended], written.log_prob[written.ended], atol=1e-5)
    True
    """

    def __init__(self, members: Sequence[Autoregressive]):
        if not members:
            raise SettingsError("An ensemble has at least one member.")
        self.members = list(members)
        one = self.members[0]
        for other in self.members[1:]:
            if (other.symbols, other.end, type(other.ending)) != (one.symbols, one.end, type(one.ending)):
                said = [f"{m.symbols} symbols, {type(m.ending).__name__}, the end is {m.end}" for m in (one, other)]
                raise SettingsError(f"The members of an ensemble write the same symbols and end alike; here: {said[0]}; and {said[1]}.")
        if isinstance(one.ending, Length):
            raise SettingsError("The members of an ensemble end step by step; a length that comes first is drawn by each on its own.")

    @property
    def network(self) -> Any:
        return self.members[0].network

    @property
    def ending(self) -> Ending:
        return self.members[0].ending

    @property
    def symbols(self) -> int:
        return self.members[0].symbols

    @property
    def end(self) -> int:
        return self.members[0].end

    @property
    def training(self) -> bool:
        return self.members[0].training

    @property
    def shares_context(self) -> bool:
        return all(member.shares_context for member in self.members)

    def each(self, context: Any = None, state: Any = None) -> Iterator[tuple[Autoregressive, Any, Any]]:
        """The members, and what each of them is given."""
        nothing = [None] * len(self.members)
        return zip(self.members, nothing if context is None else context, nothing if state is None else state, strict=True)

    # One step at a time

    def open(self, rows: int, lengths: Any, x: Tensor | None, context: Any, state: Any) -> tuple[Writing, Tensor]:
        """As `Autoregressive.open`."""
        parts = state.inner if isinstance(state, Writing) else state
        opened = [member.open(rows, lengths, x, c, part) for member, c, part in self.each(context, parts)]
        w, log_p = opened[0]
        return w._replace(inner=tuple(state for state, _ in opened)), log_p

    def next(self, w: Writing, x: Tensor | None = None, context: Any = None) -> tuple[Writing, Tensor]:
        """One step of every member -> the new state, and log p of what may come next, [N, choices]."""
        stepped = [member.next(part, x, c) for member, c, part in self.each(context, w.inner)]
        return w._replace(inner=tuple(state for state, _ in stepped), place=w.place + 1), log_mean([log_p for _, log_p in stepped])

    def write(self, w: Writing, y: Tensor) -> Writing:
        parts = tuple(member.write(part, y) for member, part in zip(self.members, w.inner))
        return w._replace(inner=parts, last=y, left=w.left - 1)

    # All steps at once

    def log_prob_steps(self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None) -> Tensor:
        """log p(y(t) | y(<t)), exact, and at t = length the log-probability of ending there: [B, T + 1]; zeros past that."""
        parts = state.inner if isinstance(state, Writing) else state
        return log_mean([member.log_prob_steps(y, lengths, x, c, part) for member, c, part in self.each(context, parts)])

    def log_prob(self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None) -> Tensor:
        """log p(y), exact, [B]."""
        return self.log_prob_steps(y, lengths, x, context, state).sum(1)

    def aligned(
        self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None
    ) -> tuple[Tensor, Tensor]:
        """As `Autoregressive.aligned`; where the members looked in the mean."""
        found = [member.aligned(y, lengths, x, c, part) for member, c, part in self.each(context, state)]
        return log_mean([log_p for log_p, _ in found]), torch.stack([a for _, a in found]).mean(0)


Writer = Autoregressive | Ensemble  # what writes symbol by symbol, and is scored and searched


def log_mean(log_p: Sequence[Tensor]) -> Tensor:
    """log 1/M Σ_m p_m, of their logarithms."""
    return torch.stack(list(log_p)).logsumexp(0) - math.log(len(log_p))
