"""A baseline for every score: what the last few symbols alone foretell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from math import log

from wavefront.errors import SettingsError

__all__ = ["Markov"]


class Markov:
    """p(y(t) | y(t-k), .., y(t-1)), counted, with shorter pasts where longer ones were seen too rarely.  [Witten & Bell 1991; Bell et al. 1990]

        p(s | past) = (n(past, s) + m(past) p(s | shorter past)) / (n(past) + m(past))        at last 1 / number of symbols

    n counts how often, m how many different symbols followed a past. A proper distribution: sequences begin from nothing and, with `ends`, end
    by a symbol of their own; without, they are pieces of a stream.

    order    k; 0 counts symbols only
    symbols  numbered from 0

    >>> model = Markov(order=1, symbols=2)
    >>> model.add([0, 1, 0, 1, 0, 1])
    >>> [round(2.718281828 ** p, 3) for p in model.log_prob_steps([0, 1])]      # the last is that of ending there
    [0.7, 0.85, 0.28]
    """

    def __init__(self, order: int, symbols: int, ends: bool = True):
        if order < 0 or symbols < 1:
            raise SettingsError(f"Markov wants an order of at least 0 and at least one symbol, got {order} and {symbols}.")
        self.order, self.symbols, self.ends = order, symbols, ends
        self.end = symbols
        self.followed: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self.seen: Counter[tuple[int, ...]] = Counter()

    def add(self, sequence: Sequence[int]) -> None:
        """Count one sequence."""
        for past, s in self._steps(sequence):
            for n in range(len(past) + 1):
                self.followed[past[n:]][s] += 1
                self.seen[past[n:]] += 1

    def fit(self, sequences: Iterable[Sequence[int]]) -> Markov:
        for sequence in sequences:
            self.add(sequence)
        return self

    def log_prob_steps(self, sequence: Sequence[int]) -> list[float]:
        """The log-probability of each symbol and, with `ends`, of the end."""
        return [log(self._p(past, s)) for past, s in self._steps(sequence)]

    def log_prob(self, sequence: Sequence[int]) -> float:
        return sum(self.log_prob_steps(sequence))

    def _steps(self, sequence: Sequence[int]) -> Iterable[tuple[tuple[int, ...], int]]:
        """Each symbol with its past. The beginning is the symbol -1, so that what begins a sequence is counted apart; a stream has none."""
        whole = [*([-1] * self.order if self.ends else []), *sequence, *([self.end] if self.ends else [])]
        if any(not 0 <= s < self.symbols for s in sequence):
            raise SettingsError(f"Markov(symbols={self.symbols}): symbols are 0..{self.symbols - 1}; got one outside.")
        for t in range(self.order if self.ends else 0, len(whole)):
            yield tuple(whole[max(0, t - self.order) : t]), whole[t]

    def _p(self, past: tuple[int, ...], s: int) -> float:
        p = 1 / (self.symbols + self.ends)
        for n in range(len(past), -1, -1):
            counts = self.followed.get(past[n:])
            if counts is None:
                break  # what was never seen was never seen after something else either
            p = (counts[s] + len(counts) * p) / (self.seen[past[n:]] + len(counts))
        return p
