"""The metrics of forecasts, counted window by window."""

from __future__ import annotations

import math

import numpy as np

from wavefront.tasks.forecast.outputs import QUANTILES

__all__ = ["ForecastErrors"]


class ForecastErrors:
    """Errors of forecasts ŷ of y, and of their quantiles ŷ_q, over all steps of all windows; values that are missing do not count.

        mae = mean |y - ŷ|      rmse = √mean (y - ŷ)²      crps = mean over steps and q of 2 max(q (y - ŷ_q), (q - 1)(y - ŷ_q))
        smape = mean 2 |y - ŷ| / (|y| + |ŷ|), 0 where both are 0            [Makridakis et al. 2020, M4: there in %, so 100 times this]
        mase = mean over windows of (mean |y - ŷ|) / unit, the unit being the mean absolute error of the seasonal naive forecast in the
               series before the test           [Hyndman & Koehler 2006]; windows of series whose unit is 0 are left out
        coverage_80 = share of y within the interval of 80 %

    mae, rmse and crps are in the unit of y. crps without quantiles is mae: that of a forecast that is sure of itself.

    >>> errors = ForecastErrors()
    >>> errors.add(np.array([1.0, 3.0]), np.array([2.0, 3.0]), unit=0.5)
    >>> errors.scores()["mae"], errors.scores()["mase"], round(errors.scores()["smape"], 4)
    (0.5, 1.0, 0.3333)
    """

    LEVELS = (80, 95)

    def __init__(self) -> None:
        self.steps = self.windows = self.within_steps = 0
        self.absolute = self.squares = self.symmetric = self.crps = self.mase = 0.0
        self.within = dict.fromkeys(self.LEVELS, 0)

    def add(self, y: np.ndarray, forecast: np.ndarray, unit: float, quantiles: np.ndarray | None = None) -> None:
        """One window: y and forecast [H], quantiles [H, Q]."""
        there = ~np.isnan(y)
        if not there.any():
            return
        y, forecast = y[there], forecast[there]
        apart, sizes = np.abs(y - forecast), np.abs(y) + np.abs(forecast)
        self.steps += len(y)
        self.absolute += float(apart.sum())
        self.squares += float((apart**2).sum())
        self.symmetric += float(np.divide(2 * apart, sizes, out=np.zeros_like(apart), where=sizes > 0).sum())
        if unit > 0:
            self.windows += 1
            self.mase += float(apart.mean()) / unit
        if quantiles is None:
            self.crps += float(apart.sum())
            return
        q, beyond = np.array(QUANTILES), y[:, None] - quantiles[there]
        self.crps += float(2 * np.maximum(q * beyond, (q - 1) * beyond).mean(1).sum())
        self.within_steps += len(y)
        for level in self.LEVELS:
            low, high = (QUANTILES.index(round(0.5 + side * level / 200, 3)) for side in (-1, 1))
            self.within[level] += int(((beyond[:, low] >= 0) & (beyond[:, high] <= 0)).sum())

    def scores(self) -> dict[str, float]:
        if not self.steps:
            return dict.fromkeys(("mase", "smape", "rmse", "mae", "crps"), math.nan)
        found = {
            "mase": self.mase / self.windows if self.windows else math.nan,
            "smape": self.symmetric / self.steps,
            "rmse": math.sqrt(self.squares / self.steps),
            "mae": self.absolute / self.steps,
            "crps": self.crps / self.steps,
        }
        if self.within_steps:
            found |= {f"coverage_{level}": n / self.within_steps for level, n in self.within.items()}
        return found
