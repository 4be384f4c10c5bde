"""How far apart the rows of a series are: so many seconds, business days, months, or units of a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from wavefront.errors import DataError

__all__ = ["Frequency"]

MINUTE, HOUR, DAY = 60, 3600, 86400
NAMES = {
    ("second", MINUTE): "minute",
    ("second", HOUR): "hour",
    ("second", DAY): "day",
    ("second", 7 * DAY): "week",
    ("month", 3): "quarter",
    ("month", 12): "year",
}
# What repeats, in steps: the day of hours and minutes, the week of days, the year of weeks, months and quarters.
SEASONS = {("second", 7 * DAY): 52, ("second", DAY): 7, ("business day", 1): 5, ("month", 1): 12, ("month", 3): 4}


class Frequency(NamedTuple):
    """A step of time: `every` of a `unit`, which is "number", "second", "business day" or "month" (a day is 86,400 seconds).

    `steps(at)` counts whole steps since a fixed origin: a regular series has consecutive numbers. `after(last, n)` are the n times that
    come next.

    >>> at = np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[s]")
    >>> monthly = Frequency.of([at])
    >>> monthly, monthly.after(at[-1], 2).astype("datetime64[D]").tolist()[1].isoformat()
    (Frequency(unit='month', every=1), '2024-05-31')
    """

    unit: str
    every: int

    @classmethod
    def of(cls, series: Iterable[np.ndarray]) -> Frequency:
        """The frequency of sorted times, int64 or datetime64[s]: the most frequent distance between two rows of a series."""
        apart: Counter[int] = Counter()
        months: Counter[int] = Counter()
        days: set[int] = set()
        ends, weekend, dated = True, False, False
        for at in series:
            if at.dtype.kind != "M":
                apart.update(np.diff(at).tolist())
                continue
            dated = True
            apart.update(np.diff(at).astype(np.int64).tolist())
            month = at.astype("datetime64[M]")
            months.update(np.diff(month).astype(np.int64).tolist())
            day = (at - month.astype("datetime64[s]")).astype(np.int64)  # seconds into the month
            days.update(np.unique(day).tolist())
            ends = ends and bool((_month_length(month) - 1 == day // DAY).all())
            weekend = weekend or bool((_weekday(at) >= 5).any())
        apart.pop(0, None)
        if not apart:
            raise DataError("one row a series: the distance between two is not known. Name the frequency by giving at least two rows.")
        if not dated:
            return cls("number", apart.most_common(1)[0][0])
        often = apart.most_common(1)[0][0]
        if (len(days) == 1 or ends) and often >= 28 * DAY:
            months.pop(0, None)
            return cls("month", months.most_common(1)[0][0])
        if often == DAY and not weekend and apart[3 * DAY]:
            return cls("business day", 1)
        return cls("second", often)

    def steps(self, at: np.ndarray) -> np.ndarray:
        """Whole steps since a fixed origin, int64; times between two steps give the one below."""
        if self.unit == "month":
            return at.astype("datetime64[M]").astype(np.int64) // self.every
        if self.unit == "business day":
            return np.busday_count(np.datetime64("1970-01-01"), at.astype("datetime64[D]"))
        return at.astype(np.int64) // self.every

    def offsets(self, at: np.ndarray) -> np.ndarray:
        """How far times are after their step, int64: the same for all rows of a regular series (months: but for their ends)."""
        if self.unit == "month":
            month = at.astype("datetime64[M]")
            day = (at - month.astype("datetime64[s]")).astype(np.int64)
            last = _month_length(month) - 1 == day // DAY
            if bool(last.all()):
                day = np.full_like(day, 31 * DAY)
            return month.astype(np.int64) % self.every * 32 * DAY + day
        if self.unit == "business day":
            return (at - at.astype("datetime64[D]").astype("datetime64[s]")).astype(np.int64) + DAY * (_weekday(at) >= 5)
        return at.astype(np.int64) % self.every

    def after(self, last: Any, n: int) -> np.ndarray:
        """The n times that follow."""
        k = np.arange(1, n + 1)
        if self.unit == "number":
            return int(last) + self.every * k
        last = np.datetime64(last, "s")
        if self.unit == "second":
            return last + (self.every * k).astype("timedelta64[s]")
        day = last.astype("datetime64[D]")
        clock = last - day.astype("datetime64[s]")
        if self.unit == "business day":
            return np.busday_offset(day, k, roll="forward").astype("datetime64[s]") + clock
        month = last.astype("datetime64[M]")
        into = (day - month.astype("datetime64[D]")).astype(np.int64)
        is_end = into == _month_length(month) - 1 and into >= 27
        months = month + (self.every * k).astype("timedelta64[M]")
        into = np.where(is_end, _month_length(months) - 1, np.minimum(into, _month_length(months) - 1))
        return (months.astype("datetime64[D]") + into.astype("timedelta64[D]")).astype("datetime64[s]") + clock

    @property
    def season(self) -> int:
        """Steps after which things repeat, as far as the calendar tells; 1: it does not."""
        if self.unit == "second" and self.every < DAY and DAY % self.every == 0:
            day = DAY // self.every
            return day if day <= 288 else HOUR // self.every if HOUR % self.every == 0 else 1
        return SEASONS.get((self.unit, self.every), 1)

    def calendar(self, at: np.ndarray) -> np.ndarray:
        """Where times are in the day, the week and the year, as far as a step is shorter than these: sine and cosine of each, [n, 2 k]."""
        if self.unit == "number":
            return np.zeros((len(at), 0))
        phases = []
        seconds = at.astype(np.int64)
        if self.unit == "second" and self.every < DAY:
            phases.append(seconds % DAY / DAY)
        if self.unit == "business day" or (self.unit == "second" and self.every <= DAY):
            phases.append((_weekday(at) + (seconds % DAY / DAY)) / 7)
        if self.every < 12 or self.unit != "month":
            year = at.astype("datetime64[Y]")
            length = ((year + 1).astype("datetime64[s]") - year.astype("datetime64[s]")).astype(np.int64)
            phases.append((at - year.astype("datetime64[s]")).astype(np.int64) / length)
        angles = 2 * np.pi * np.stack(phases, 1) if phases else np.zeros((len(at), 0))
        return np.concatenate([np.sin(angles), np.cos(angles)], 1)

    def __str__(self) -> str:
        name = NAMES.get((self.unit, self.every))
        if name:
            return name
        if self.unit == "second":
            for size, unit in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
                if self.every % size == 0:
                    return f"{self.every // size} {unit}"
        if self.unit == "number":
            return f"step of {self.every}"
        return self.unit if self.every == 1 else f"{self.every} {self.unit}s"


def _weekday(at: np.ndarray) -> np.ndarray:
    """0 Monday .. 6 Sunday (1970-01-01 was a Thursday)."""
    return (at.astype("datetime64[D]").astype(np.int64) + 3) % 7


def _month_length(month: np.ndarray) -> np.ndarray:
    return ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64)
