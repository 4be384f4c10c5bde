"""Attention: where in a memory to look, by what the network wants to know now.  [Goodfellow et al. 2016, 12.4.5.1]

    a = softmax over the places i of score(query, key(i))        c = Σ_i a(i) value(i)

A score is one class; padding gets weight zero, always.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.errors import SettingsError

__all__ = ["Additive", "Attention", "Dot", "General", "Memory", "Monotonic", "Past", "coverage_loss"]


class Memory(NamedTuple):
    """What attention looks at, given once per sequence: S places."""

    values: Tensor  # [B, S, size]
    keys: Tensor  # [B, S, key size]: `attention.keys(values)`
    mask: Tensor  # [B, S] bool: true where there is something
    symbols: Tensor  # [B, S]: what stands there, as the writer numbers symbols; -1: nothing that it could write


class Past(NamedTuple):
    """Where attention has looked so far."""

    last: Tensor  # a(t-1), [N, S]
    total: Tensor  # Σ_{s<t} a(s), [N, S]: the coverage


def coverage_loss(a: Tensor) -> Tensor:
    """Σ_t Σ_i min(a(t, i), Σ_{s<t} a(s, i)): how much is looked at again. a [B, T, S] -> [B].  [See et al. 2017, arXiv:1704.04368, eq. 12]"""
    before = a.cumsum(1) - a
    return torch.minimum(a, before).sum((1, 2))


class Attention(nn.Module, ABC):
    """score(query, key), and the weights that come of it.

    query, memory  sizes of the query and of a value
    looks_back     whether the weights depend on earlier ones: then steps can only be done one after the other
    """

    looks_back = False

    def __init__(self, query: int, memory: int):
        super().__init__()
        self.query, self.memory = query, memory

    @abstractmethod
    def keys(self, values: Tensor) -> Tensor:
        """What is compared with the query, computed once per sequence: [B, S, memory] -> [B, S, ...]."""

    @abstractmethod
    def scores(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        """query [N, T, query] -> [N, T, S], padding not yet considered. T is 1 where `past` is given."""

    def weights(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        """query [N, T, query] -> a, [N, T, S]: sums to one over what is not padding; zeros where all is padding."""
        mask = memory.mask[:, None]
        scores = self.scores(query, memory, past)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask

    def start(self, memory: Memory) -> Past:
        """Nothing has been looked at yet."""
        none = memory.values.new_zeros(memory.mask.shape)
        return Past(none, none)

    def extra_repr(self) -> str:
        return f"query={self.query}, memory={self.memory}"


class Additive(Attention):
    """score = v · tanh(W q + U m(i) [+ F f(i)] [+ w Σ_{s<t} a(s, i)])  [Bahdanau et al. 2015, arXiv:1409.0473, A.1.2]

    units     the size of this hidden layer
    location  (channels, width): f = a(t-1) convolved with so many filters, so that it knows where it was  [Chorowski et al. 2015, arXiv:1506.07503]
    coverage  it knows how much each place has been looked at already  [Tu et al. 2016, arXiv:1601.04811; See et al. 2017, arXiv:1704.04368, eq. 11]
    """

    def __init__(self, query: int, memory: int, units: int, location: tuple[int, int] | None = None, coverage: bool = False):
        super().__init__(query, memory)
        self.W, self.U = nn.Linear(query, units), nn.Linear(memory, units, bias=False)
        self.v = nn.Linear(units, 1, bias=False)
        self.location = self.coverage = None
        if location is not None:
            channels, width = location
            if width % 2 == 0:
                raise SettingsError(f"Additive: location filters have an odd width, a middle and two sides; got {width}.")
            self.location = nn.Conv1d(1, channels, width, padding=width // 2, bias=False)
            self.F = nn.Linear(channels, units, bias=False)
        if coverage:
            self.coverage = nn.Linear(1, units, bias=False)
        self.looks_back = coverage or location is not None

    def keys(self, values: Tensor) -> Tensor:
        return self.U(values)

    def scores(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        hidden = self.W(query)[:, :, None] + memory.keys[:, None]  # [N, T, S, units]
        if self.looks_back:
            if past is None:
                raise SettingsError("Additive with location or coverage looks back at its own weights: give it its past.")
            if self.location is not None:
                hidden = hidden + self.F(self.location(past.last[:, None]).transpose(1, 2))[:, None]
            if self.coverage is not None:
                hidden = hidden + self.coverage(past.total[..., None])[:, None]
        return self.v(hidden.tanh()).squeeze(-1)


class Dot(Attention):
    """score = q · m(i) / √size, query and memory of one size.  [Luong et al. 2015, arXiv:1508.04025, eq. 8; scaled: Vaswani et al. 2017]"""

    def __init__(self, query: int, memory: int, scaled: bool = True):
        super().__init__(query, memory)
        if query != memory:
            raise SettingsError(f"Dot compares query and memory as they are, of one size; got {query} and {memory}. General takes any.")
        self.factor = query**-0.5 if scaled else 1.0

    def keys(self, values: Tensor) -> Tensor:
        return values

    def scores(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        return self.factor * query @ memory.keys.transpose(1, 2)


class General(Attention):
    """score = q · W m(i).  [Luong et al. 2015, arXiv:1508.04025, eq. 8]"""

    def __init__(self, query: int, memory: int):
        super().__init__(query, memory)
        self.W = nn.Linear(memory, query, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        return self.W(values)

    def scores(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        return query @ memory.keys.transpose(1, 2)


class Monotonic(Attention):
    """Attention that only moves forward, in expectation: from where it was, it stops at place i with probability p(i), else goes on to i + 1.
    [Raffel et al. 2017, arXiv:1704.00784, eq. 8-9]

        p(i) = σ(score(q, i) + r)        a(t, i) = p(i) Σ_{j ≤ i} a(t-1, j) Π_{j ≤ l < i} (1 - p(l))

    score  any attention that does not look back itself
    hard   p is rounded to 0 or 1, so that it looks at one place: what a network trained until p is nearly so is used with
    r      starts at -1. The weights sum to less than one where it may run off the end. (The paper also adds noise to the scores in training.)
    """

    looks_back = True

    def __init__(self, score: Attention, hard: bool = False):
        super().__init__(score.query, score.memory)
        if score.looks_back:
            raise SettingsError("Monotonic already looks back: give it a score without location and coverage.")
        self.score, self.hard = score, hard
        self.r = nn.Parameter(torch.tensor(-1.0))

    def keys(self, values: Tensor) -> Tensor:
        return self.score.keys(values)

    def scores(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        return self.score.scores(query, memory) + self.r

    def weights(self, query: Tensor, memory: Memory, past: Past | None = None) -> Tensor:
        if past is None:
            raise SettingsError("Monotonic starts from where it looked last: give it its past.")
        score = self.scores(query, memory).squeeze(1)  # [N, S]
        if self.hard:
            score = (score > 0).to(score) * 2e4 - 1e4  # σ of these is 1 or 0 to the bit
        p, log_on = score.sigmoid() * memory.mask, F.logsigmoid(-score)
        # Π_{j ≤ l < i} (1 - p(l)) = exp(on(i) - on(j)) with on(i) = Σ_{l<i} log(1 - p(l)), for j ≤ i: never above one
        on = F.pad(log_on.clamp(min=-1e4).cumsum(-1)[:, :-1], (1, 0))
        reach = (on[:, None, :] - on[:, :, None]).clamp(max=0).exp().triu()  # [N, j, i]
        return p[:, None] * (past.last[:, None] @ reach)

    def start(self, memory: Memory) -> Past:
        none = memory.values.new_zeros(memory.mask.shape)
        return Past(torch.cat([torch.ones_like(none[:, :1]), none[:, 1:]], 1), none)
