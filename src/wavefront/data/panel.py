"""A panel: many series of one frequency, read from dated rows, checked row by row, with the covariates that go along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wavefront.data.dates import Times, read_times, written
from wavefront.data.frequency import Frequency
from wavefront.errors import DataError, SettingsError

if TYPE_CHECKING:
    from wavefront.data.source import Source

__all__ = ["REPAIRS", "Panel", "Roles", "Series", "read_panel"]

REPAIRS = ("sort", "duplicates", "gaps")
ASK = "--set 'repair=[\"{}\"]'"


class Roles(NamedTuple):
    """Which column of a table is what.

    y        the values: one column, or several that are a series each (wide)
    ds       the times; None: rows follow each other at equal distances
    id       which series a row is of; None: there is one (or one a column)
    past     covariates known up to the present; future: known in advance; static: the same in all rows of a series
    """

    y: tuple[str, ...]
    ds: str | None = None
    id: str | None = None
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()


class Series(NamedTuple):
    """One series, its rows one step of the panel's frequency apart.

    at      [T] int64 or datetime64[s]
    y       [T] float64, NaN where missing; neither its first nor, with future covariates, its last value is
    past    [T, P] float64, future [T + K, F]: K rows more than y where the covariates of the future are known already
    static  a number or a text for each static column
    """

    id: str
    at: np.ndarray
    y: np.ndarray
    past: np.ndarray
    future: np.ndarray
    static: tuple[Any, ...]

    def until(self, end: int) -> Series:
        """The first `end` rows; the covariates of the future stay."""
        return self._replace(at=self.at[:end], y=self.y[:end], past=self.past[:end])


class Panel(NamedTuple):
    """Series of one frequency, in the order in which the file begins them."""

    frequency: Frequency
    style: str  # of the times, as `Times.style`
    series: tuple[Series, ...]
    missing: int = 0  # values of y that are missing between the first and the last of their series

    def times(self, at: np.ndarray) -> list[str | int]:
        """Times as the file writes them."""
        return written(at, self.style)


def read_panel(
    source: Source,
    roles: Roles,
    repair: Sequence[str] = (),
    cutoff: str | int | None = None,
    frequency: Frequency | None = None,
    whole: bool = False,
) -> Panel:
    """All rows of a source as a panel. Rows of a series have to ascend in time, one step apart: what does not is an error with its row.

    repair     what may be mended instead: "sort" (rows into the order of time), "duplicates" (of two rows of one time the later one in
               the file stays), "gaps" (rows that are not there become missing values)
    cutoff     what comes after this time is not read
    frequency  where it is known; else the most frequent distance between two rows
    whole      a series begins with its first row, be its value missing or not

    An empty y is a missing value; an empty covariate is an error. The panel is held in memory.
    """
    if unknown := [name for name in repair if name not in REPAIRS]:
        raise SettingsError(f"repair takes {', '.join(REPAIRS)}; got {unknown[0]!r}.")
    kinds = {column.name: column.kind for column in source.columns}
    if len(roles.y) == 1 and kinds.get(roles.y[0]) == "series":
        return _whole_rows(source, roles)
    columns = [*roles.y, *(name for name in (roles.ds, roles.id) if name), *roles.past, *roles.future, *roles.static]
    if absent := [name for name in columns if name not in kinds]:
        raise DataError(f"{source.path}: has no column {absent[0]!r}. It has: {', '.join(kinds)}.")
    for name in (*roles.y, *roles.past, *roles.future):
        if kinds[name] != "number":
            raise DataError(f"{source.path}: {name!r} holds {kinds[name]}; the values and covariates of a series are numbers.")
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for values in source.rows("all"):
        for name in columns:
            table[name].append(values[name])
    count = len(table[roles.y[0]])
    if not count:
        raise DataError(f"{source.path}: has no rows.")
    for name in (*roles.past, *roles.future):
        if None in table[name]:
            row = [value is None for value in table[name]].index(True) + 1
            raise DataError(f"{source.path}, row {row}: the covariate {name!r} is empty; it needs a value in every row.")
    times = read_times(table[roles.ds], roles.ds, source.path) if roles.ds else Times(np.arange(count), "number")
    groups = _groups(table[roles.id] if roles.id else None, count)
    if cutoff is not None:
        last = read_times([cutoff], "cutoff", "the settings").at[0]
        if last.dtype.kind != times.at.dtype.kind:
            raise SettingsError(
                f"cutoff is {cutoff!r}, the times of {source.path} are written as {written(times.at[:1], times.style)[0]!r}."
            )
        groups = {key: rows for key, found in groups.items() if len(rows := found[times.at[found] <= last])}
        if not groups:
            raise SettingsError(f"{source.path}: no row is of {cutoff} or before.")
    if not roles.ds and roles.id:  # rows of each series are counted by themselves
        for rows in groups.values():
            times.at[rows] = np.arange(len(rows))
    line = _Line(source.path, roles.ds, roles.id, tuple(repair))
    frequency, times, placed = _placed(groups, times, line, frequency)
    arrays = {name: np.array(table[name], np.float64) for name in (*roles.y, *roles.past, *roles.future)}  # None is NaN
    series, missing = [], 0
    for key, (rows, position) in placed.items():
        for name in roles.y:
            found = _one(key if len(roles.y) == 1 else name, rows, position, times.at, arrays, name, roles, table, line, frequency, whole)
            if found is not None:
                series.append(found)
                missing += int(np.isnan(found.y).sum())
    if not series:
        raise DataError(f"{source.path}: {', '.join(roles.y)} has no value in any row.")
    return Panel(frequency, times.style, tuple(series), missing)


class _Line(NamedTuple):
    """How an error calls a row."""

    path: str
    ds: str | None
    id: str | None
    repair: tuple[str, ...]

    def of(self, row: int, key: str) -> str:
        return f"{self.path}, row {row + 1}" + (f" ({self.id}={key!r})" if self.id else "")


def _groups(ids: Sequence[Any] | None, count: int) -> dict[str, np.ndarray]:
    """series -> the numbers of its rows, in the order of the file."""
    if ids is None:
        return {"": np.arange(count)}
    found: dict[Any, list[int]] = {}
    for row, key in enumerate(ids):
        found.setdefault(key, []).append(row)
    return {_text(key): np.array(rows) for key, rows in found.items()}


def _text(key: Any) -> str:
    return str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)


def _placed(
    groups: Mapping[str, np.ndarray], times: Times, line: _Line, frequency: Frequency | None
) -> tuple[Frequency, Times, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The frequency, and for each series its rows in order of time with their positions, the first 0."""
    try:
        return _regular(groups, times, line, frequency)
    except DataError:
        # across a clock change days of a local calendar are 23 or 25 hours of UTC apart, and regular on the wall
        if times.local is None:
            raise
        try:
            return _regular(groups, Times(times.local, "second"), line, frequency)
        except DataError:
            pass
        raise


def _regular(
    groups: Mapping[str, np.ndarray], times: Times, line: _Line, frequency: Frequency | None
) -> tuple[Frequency, Times, dict[str, tuple[np.ndarray, np.ndarray]]]:
    ordered = {key: _ordered(rows, times, line, key) for key, rows in groups.items()}
    if frequency is None:
        if all(len(rows) < 2 for rows in ordered.values()):
            raise DataError(f"{line.path}: no series has two rows, so that their distance is not known; a series has at least two.")
        frequency = Frequency.of(times.at[rows] for rows in ordered.values())
    placed = {}
    for key, rows in ordered.items():
        at = times.at[rows]
        steps, offsets = frequency.steps(at), frequency.offsets(at)
        if len(astray := np.flatnonzero(offsets != offsets[0])):
            here, first = written(at[[astray[0], 0]], times.style)
            raise DataError(
                f"{line.of(rows[astray[0]], key)}: {line.ds}={here!r} is not a whole number of steps ({frequency}) after {first!r}."
                " Bring the rows to equal distances (one a day, hour, ...) before."
            )
        apart = np.diff(steps)
        if "gaps" not in line.repair and len(gaps := np.flatnonzero(apart > 1)):
            k = gaps[0]
            expected = written(frequency.after(at[k], 1), times.style)[0]
            lost, clock = int(apart[k]) - 1, ""
            if lost == 1 and frequency.unit == "second" and frequency.every <= 3600 and times.style != "offset":
                clock = " If it is the hour that a clock change leaves out, write the times in UTC or with their offset."
            raise DataError(
                f"{line.of(rows[k + 1], key)}: expected {line.ds}={expected!r} (a row every {frequency}), got"
                f" {written(at[[k + 1]], times.style)[0]!r}: {lost} row{'s are' if lost > 1 else ' is'} not there ({len(gaps)} such"
                f" place{'s' if len(gaps) > 1 else ''} in this series).{clock} Add the rows with an empty value, or have them taken as"
                f" missing: {ASK.format('gaps')}"
            )
        placed[key] = (rows, steps - steps[0])
    return frequency, times, placed


def _ordered(rows: np.ndarray, times: Times, line: _Line, key: str) -> np.ndarray:
    """The rows of a series in order of time, none twice."""
    at = times.at[rows]
    if len(back := np.flatnonzero(at[1:] < at[:-1])):
        if "sort" not in line.repair and "duplicates" not in line.repair:
            k = back[0]
            now, before = written(at[[k + 1, k]], times.style)
            raise DataError(
                f"{line.of(rows[k + 1], key)}: {line.ds}={now!r} comes after {before!r}; the rows of a series ascend in time. Sort the"
                f" file, or have it sorted: {ASK.format('sort')}"
            )
        order = np.argsort(at, kind="stable")
        rows, at = rows[order], at[order]
    if len(twice := np.flatnonzero(at[1:] == at[:-1])):
        if "duplicates" not in line.repair:
            k = twice[0]
            raise DataError(
                f"{line.of(rows[k + 1], key)}: a second row with {line.ds}={written(at[[k]], times.style)[0]!r} (the first is row {rows[k] + 1})."
                " If it is the hour that a clock change repeats, write the times in UTC or with their offset; if several series are in the file,"
                f" name the column that tells them apart: --column unique_id=COLUMN. Else keep one, or have the last kept: {ASK.format('duplicates')}"
            )
        rows = rows[np.append(at[1:] != at[:-1], True)]
    return rows


def _one(
    key: str,
    rows: np.ndarray,
    position: np.ndarray,
    at: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    name: str,
    roles: Roles,
    table: Mapping[str, list[Any]],
    line: _Line,
    frequency: Frequency,
    whole: bool,
) -> Series | None:
    """A series from its rows, without what is missing at its start; None where it has no value."""
    there = np.flatnonzero(~np.isnan(arrays[name][rows]))
    if whole:
        there = np.append(0, there)
    if not len(there):
        return None
    first, last = there[0], (there[-1] if roles.future or len(roles.y) > 1 else len(rows) - 1)
    rows, position = rows[first:], position[first:] - position[first]
    steps = int(position[-1]) + 1
    end = int(position[last - first]) + 1
    if (roles.past or roles.future) and steps != len(rows):
        raise DataError(f"{line.of(rows[0], key)}: with covariates no row of a series can be left out; {steps - len(rows)} are not there.")

    def placed(values: np.ndarray) -> np.ndarray:
        filled = np.full((steps, *values.shape[1:]), np.nan)
        filled[position] = values
        return filled

    y = placed(arrays[name][rows])[:end]
    every = np.concatenate([at[rows[:1]], frequency.after(at[rows[0]], steps - 1)])
    static = tuple(table[column][rows[0]] for column in roles.static)
    for column, value in zip(roles.static, static):
        for row in rows:
            if table[column][row] != value:
                raise DataError(
                    f"{line.of(row, key)}: {column!r} is {table[column][row]!r}, but {value!r} before; a static covariate is the same in all"
                    " rows of its series. Does it vary? Name it in past= or future=."
                )
    past = np.stack([placed(arrays[column][rows])[:end] for column in roles.past], 1) if roles.past else np.zeros((end, 0))
    future = np.stack([placed(arrays[column][rows]) for column in roles.future], 1) if roles.future else np.zeros((end, 0))
    return Series(key, every[:end], y, past, future, static)


def _whole_rows(source: Source, roles: Roles) -> Panel:
    """A row a series: an id, and the values side by side."""
    if roles.past or roles.future:
        raise DataError(f"{source.path}: a row holds a whole series here, and no covariates of each step. Use the long format for those.")
    series, missing = [], 0
    for number, row in enumerate(source.rows("all"), 1):
        values = np.asarray(row[roles.y[0]], np.float64)
        if values.shape[1] != 1:
            raise DataError(
                f"{source.path}, row {number}: {values.shape[1]} values at each step; a row holds one series. Use the long format."
            )
        y = values[:, 0]
        there = np.flatnonzero(~np.isnan(y))
        if not len(there):
            continue
        y = y[there[0] :]
        missing += int(np.isnan(y).sum())
        key = _text(row[roles.id]) if roles.id else str(number)
        series.append(
            Series(key, np.arange(len(y)), y, np.zeros((len(y), 0)), np.zeros((len(y), 0)), tuple(row[name] for name in roles.static))
        )
    if not series:
        raise DataError(f"{source.path}: no row has a value.")
    return Panel(Frequency("number", 1), "number", tuple(series), missing)
