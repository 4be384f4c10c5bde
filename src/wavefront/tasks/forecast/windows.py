"""Windows: what a forecaster sees of a series at a cut-off, and what came after."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wavefront.data.frequency import Frequency
from wavefront.data.panel import Series
from wavefront.tasks.task import Example

__all__ = ["Cuts", "last_season", "level_of", "mean_of", "spread_of", "window"]


class Cuts(NamedTuple):
    """Where a series is cut for the three splits: a cut-off c is the number of values that are known.

        0 ........................ train | valid | test ... T        every target of a split lies within its part

    first    the fewest known values that training begins with
    """

    horizon: int
    valid: int
    test: int
    stride: int
    first: int

    def of(self, split: str, steps: int) -> range:
        """The cut-offs of a series of so many steps; empty where it is too short."""
        H, end = self.horizon, steps - self.test
        if split == "test":
            return range(max(1, end), steps - H + 1, self.stride) if self.test else range(0)
        if split == "valid":
            return range(max(1, end - self.valid), end - H + 1, self.stride) if self.valid else range(0)
        if split == "all":
            return range(max(1, self.first), steps - H + 1, H)
        return range(max(1, self.first), end - self.valid - H + 1)


def window(
    series: Series, number: int, cut: int, length: int, horizon: int, frequency: Frequency, calendar: bool, unit: float, spread: float
) -> Example:
    """The last `length` values before the cut-off (NaN before the series began), the `horizon` values after it as far as there are any,
    and the covariates of both.

    number  of the series among those of training, from 1; 0: one that training never saw
    unit    mean absolute error of the seasonal naive forecast in the series' training part: the unit of `mase`
    spread  deviation of the series in its training part
    """
    begin = max(0, cut - length)
    lead = length - (cut - begin)

    def known(values: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([np.full((lead, *values.shape[1:]), fill), values[begin:cut]])

    future = series.future
    if calendar:
        ahead = max(0, cut + horizon - len(series.at))
        at = np.concatenate([series.at, frequency.after(series.at[-1], ahead)]) if ahead else series.at
        place = frequency.calendar(at[begin : cut + horizon])
        future = np.concatenate([_between(future, begin, cut + horizon), place], 1)
    else:
        future = _between(future, begin, cut + horizon)
    target = np.full(horizon, np.nan)
    after = series.y[cut : cut + horizon]
    target[: len(after)] = after
    seen = np.concatenate([np.zeros((lead, future.shape[1])), future])
    return {
        "y": known(series.y, np.nan),
        "past": np.concatenate([known(series.past, 0.0), seen[:length]], 1).astype(np.float32),
        "future": seen[length:].astype(np.float32),
        "series": np.array(number, np.int64),
        "cut": np.array(cut, np.int64),
        "unit": np.array(unit),
        "spread": np.array(spread),
        "target": target,
    }


def _between(values: np.ndarray, begin: int, end: int) -> np.ndarray:
    return values[begin:end] if values.shape[1] else np.zeros((end - begin, 0))


def last_season(y: np.ndarray, season: int) -> np.ndarray:
    """The latest value of each place in the season, y [B, L] with NaN -> [B, season], the oldest place first; the mean of what there is where a
    place was never seen, NaN where nothing was.

    >>> last_season(np.array([[1.0, 2, 3, np.nan, 5, 6]]), 3).tolist()
    [[1.0, 5.0, 6.0]]
    """
    lead = -y.shape[1] % season
    seasons = np.pad(y, ((0, 0), (lead, 0)), constant_values=np.nan).reshape(len(y), -1, season)
    found = seasons[:, -1].copy()
    for k in range(seasons.shape[1] - 2, -1, -1):
        found = np.where(np.isnan(found), seasons[:, k], found)
    return np.where(np.isnan(found), mean_of(y)[:, None], found)


def mean_of(y: np.ndarray) -> np.ndarray:
    """The mean of what is there, [B, L] -> [B]; NaN where nothing is."""
    there = ~np.isnan(y)
    count = there.sum(1)
    return np.where(count > 0, np.where(there, y, 0).sum(1) / np.maximum(count, 1), np.nan)


def level_of(y: np.ndarray, kind: str, season: int) -> np.ndarray:
    """What is subtracted from windows [B, L] -> [B]; 0 where a window has no value at all."""
    if kind == "none":
        return np.zeros(len(y))
    level = mean_of(y) if kind == "mean" else last_season(y, season if kind == "season" else 1).mean(1)
    return np.nan_to_num(level)


def spread_of(y: np.ndarray, level: np.ndarray, series: np.ndarray) -> np.ndarray:
    """The deviation of windows [B, L] from their level; of a constant one that of its series, and of a constant series a thousandth of its size
    (1 where that is 0)."""
    there = ~np.isnan(y)
    apart = np.where(there, y - level[:, None], 0)
    spread = np.sqrt((apart**2).sum(1) / np.maximum(there.sum(1), 1))
    return positive(spread, level, positive(series, level, np.where(level == 0, 1.0, 1e-3 * np.abs(level))))


def positive(spread: np.ndarray, level: np.ndarray, instead: np.ndarray) -> np.ndarray:
    """The spread where it is more than rounding."""
    return np.where(spread > 1e-7 * np.abs(level), spread, instead)
