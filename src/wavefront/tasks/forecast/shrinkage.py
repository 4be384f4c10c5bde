"""How much of a network's correction to a simple forecast is worth having: a share of it, by how it did on data that was not learned from."""

from __future__ import annotations

import numpy as np

__all__ = ["SHARES", "share_of"]

SHARES = tuple(k / 20 for k in range(21))


def share_of(quantiles: np.ndarray, start: np.ndarray, target: np.ndarray, q: tuple[float, ...]) -> float:
    """The s of `SHARES` for which start + s (median - start), with the quantiles about it as they are, has the least quantile loss.

    A combination of two forecasts, whose weight is found on their errors [Bates & Granger 1969]. What cannot be forecast, such as rates of exchange,
    stays near the simple forecast so; where the network knows much, s is 1 or near it.

    quantiles [windows, H, Q], start and target [windows, H], NaN where y is missing

    >>> rng = np.random.default_rng(0)
    >>> start, told, noise = np.zeros((500, 1)), *rng.normal(size=(2, 500, 1))
    >>> share_of((told + noise)[..., None], start, told, (0.5,)), share_of(told[..., None], start, told, (0.5,))
    (0.5, 1.0)
    """
    there = ~np.isnan(target)
    levels, middle = np.asarray(q), quantiles[..., q.index(0.5)]
    apart, more = (target[..., None] - quantiles)[there], (middle - start)[there][:, None]
    if not len(apart):
        return 1.0

    def loss(s: float) -> float:
        d = apart + (1 - s) * more
        return float(np.maximum(levels * d, (levels - 1) * d).mean())

    return min(reversed(SHARES), key=loss)
