"""Interpolated Kneser-Ney: the n-gram model that a network over a stream of symbols has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wavefront.errors import SettingsError

__all__ = ["KneserNey"]

UNSEEN = -1


class _Order(NamedTuple):
    """All grams of one length: a gram is a past and a symbol, its number the rank of past number × symbols + symbol."""

    codes: np.ndarray  # sorted
    counts: np.ndarray  # of each gram
    totals: np.ndarray  # of each past: Σ of the counts of its grams
    followed: np.ndarray  # of each past: how many grams it has
    discount: float


class KneserNey:
    """p(y(t) | y(t-n+1), .., y(t-1)) of a stream of symbols, counted.  [Kneser & Ney 1995; Chen & Goodman 1999, interpolated]

        p(s | u) = max(c(u, s) - D, 0) / c(u) + D n(u) / c(u) p(s | u')        u' is u without its first symbol; at last 1 / symbols

    c(u, s) counts how often s followed u at the highest order, and below it how many different symbols came before (u, s); c(u) = Σ_s c(u, s), and
    n(u) is how many s have any; D = n₁ / (n₁ + 2 n₂), of the grams of that order counted once and twice. Of a past that was never seen the shorter
    one is asked. A proper distribution at each step; where a stream begins its past is short.

    discounts  D of each order, the shortest first, in place of those counted

    >>> model = KneserNey(2, symbols=3).fit([0, 1, 0, 1, 0, 2])
    >>> [round(float(np.exp(p)), 2) for p in model.log_prob_steps([0, 1])]
    [0.33, 0.64]
    """

    def __init__(self, order: int, symbols: int, discounts: Sequence[float] | None = None):
        if order < 1 or symbols < 1 or (discounts is not None and len(discounts) != order):
            raise SettingsError(
                f"KneserNey wants an order of at least 1, a symbol or more, and a discount for each order; got {order}, {symbols}, {discounts}."
            )
        self.order, self.symbols, self.discounts = order, symbols, discounts
        self.orders: list[_Order] = []

    def fit(self, stream: Sequence[int] | np.ndarray) -> KneserNey:
        """Counts one stream."""
        y = self._checked(stream)
        self.orders = []
        gram, pasts = np.zeros(len(y) + 1, np.int64), 1  # the numbers of the grams that end at each place; of length 0 there is one
        for n in range(1, self.order + 1):
            codes, gram = np.unique(gram[:-1] * self.symbols + y[n - 1 :], return_inverse=True)
            counted = gram
            if n < self.order:  # once for each different symbol before it
                counted = np.unique(y[: max(0, len(y) - n)] * len(codes) + gram[1:]) % max(1, len(codes))
            counts = np.bincount(counted, minlength=len(codes))
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            discount = self.discounts[n - 1] if self.discounts is not None else once / (once + 2 * twice) if once else 0.5
            totals, followed = (np.bincount(codes // self.symbols, part, minlength=pasts) for part in (counts, counts > 0))
            self.orders.append(_Order(codes, counts, totals, followed, discount))
            pasts = len(codes)
        return self

    def log_prob_steps(self, stream: Sequence[int] | np.ndarray) -> np.ndarray:
        """The log-probability of each symbol given those before it, [T]."""
        y = self._checked(stream)
        p, past = np.full(len(y), 1 / self.symbols), np.zeros(len(y), np.int64)
        for codes, counts, totals, followed, discount in self.orders:
            known = past != UNSEEN
            code = past * self.symbols + y
            place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
            found = known & (codes[place] == code)
            total = np.where(known, totals[past], 0)
            asked = total > 0
            left = np.where(found, np.maximum(counts[place] - discount, 0), 0) + discount * followed[past] * p
            p = np.where(asked, left / np.where(asked, total, 1), p)
            past = np.concatenate([[UNSEEN], np.where(found, place, UNSEEN)[:-1]])
        return np.log(p)

    def _checked(self, stream: Sequence[int] | np.ndarray) -> np.ndarray:
        y = np.asarray(stream, np.int64)
        if y.ndim != 1 or (len(y) and not 0 <= y.min() <= y.max() < self.symbols):
            raise SettingsError(f"KneserNey(symbols={self.symbols}): a stream is one list of symbols 0..{self.symbols - 1}.")
        return y
