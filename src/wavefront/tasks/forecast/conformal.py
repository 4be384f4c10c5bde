"""Intervals that cover what they say, by how far forecasts were from the truth on data that was not learned from."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["margins"]

ENOUGH = 100  # residuals for a step's margins; where a step has fewer, those of the steps around it are taken too


def margins(residuals: np.ndarray, q: tuple[float, ...]) -> np.ndarray:
    """What to add to each predicted quantile, so that a share q of what came lies below: the quantile of y - ŷ_q over backtests, at the
    rank that is right for finitely many.  [Romano et al. 2019, arXiv:1905.03222 (conformalised quantile regression, each side by itself)]

    residuals [windows, H, Q], NaN where y is missing -> [H, Q]. The median stays as it is.

    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=(4000, 1))
    >>> added = margins(y[:, :, None] - np.zeros(2), (0.1, 0.9))                # two quantiles that were predicted as 0
    >>> added.round(1).tolist()
    [[-1.3, 1.3]]
    """
    _, horizon, count = residuals.shape
    there = ~np.isnan(residuals[..., 0])
    found = np.zeros((horizon, count))
    for h in range(horizon):
        around = 0
        while there[:, max(0, h - around) : h + around + 1].sum() < ENOUGH and around < horizon:
            around += 1
        near = residuals[:, max(0, h - around) : h + around + 1].reshape(-1, count)
        near = np.sort(near[~np.isnan(near[:, 0])], 0)
        n = len(near)
        if not n:
            continue
        for k, share in enumerate(q):
            if share != 0.5:
                rank = math.ceil((n + 1) * share) if share > 0.5 else math.floor((n + 1) * share)
                found[h, k] = near[min(max(rank, 1), n) - 1, k]
    return found
