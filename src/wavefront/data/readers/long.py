"""The long format: one row a time step, an id that says of which series, a time that orders them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from wavefront.data.readers.convert import as_series
from wavefront.data.readers.reader import Row
from wavefront.data.readers.table import Table, identifier
from wavefront.errors import DataError

__all__ = ["rows_by_id"]

Step = tuple[Any, ...]


def rows_by_id(table: Table, id: str, time: str | None) -> Iterator[Row]:
    """A row for each id, in the order in which the ids come first: `series` [T, channels], and the other columns, of one value each.

    Steps are sorted by time (a number, or text in ISO 8601), wherever they stand in the file; without `time` they keep its order. The
    distances between times may be any: a series is its values in their order. Two steps of one id at one time are an error, and so is
    another column whose value changes within an id. The sort is DuckDB's, on disk where it does not fit into memory.
    """
    numbered = f"(SELECT *, row_number() OVER () AS _row FROM {table.relation()})"
    order = f"min(_row) OVER (PARTITION BY {identifier(id)})"
    if time:
        order += f", {_sortable(table, time)}"
    at = {name: k for k, name in enumerate(table.kinds)}
    steps = table.values(f"SELECT {table.selected()}, _row FROM {numbered} ORDER BY {order}, _row")
    for key, group in groupby(steps, key=itemgetter(at[id])):
        yield _one_series(table, f"{id}={key!r}", time, group, at)


def _one_series(table: Table, key: str, time: str | None, steps: Iterable[Step], at: dict[str, int]) -> Row:
    constant = [column.name for column in table.columns if column.name in at]
    values: list[list[Any]] = []
    first: Step = ()
    last = None
    for step in steps:
        where = f"{table.path}, row {step[-1]} ({key})"
        first = first or step
        for name in constant:
            if step[at[name]] != first[at[name]]:
                raise DataError(
                    f"{where}: {name!r} is {step[at[name]]!r}, but {first[at[name]]!r} before in the same series; expected one value a"
                    " series. Does it vary with time? Name it in series=."
                )
        if time:
            if values and step[at[time]] == last:
                raise DataError(
                    f"{where}: a second row with {time}={last!r}. Keep one; if it is the hour that a clock change repeats, write the times"
                    " in UTC or with their offset."
                )
            last = step[at[time]]
        values.append([step[at[name]] for name in table.joined])
    where = f"{table.path} ({key})"
    series = table.finite(as_series(values), "series", where)
    return {"series": series, **{name: table.value(name, first[at[name]], where) for name in constant}}


def _sortable(table: Table, time: str) -> str:
    """SQL to sort by."""
    if table.kinds[time] == "number":
        return identifier(time)
    sample = next(table.values(f"SELECT {identifier(time)} FROM {table.relation()} LIMIT 1"), (None,))[0]
    try:
        datetime.fromisoformat(str(sample))
    except ValueError:
        raise DataError(
            f"{table.path}: the times in {time!r} are neither numbers nor ISO 8601 (2024-03-31T02:30:00+01:00); the first is {sample!r}."
        ) from None
    return f"CAST({identifier(time)} AS TIMESTAMP)"
