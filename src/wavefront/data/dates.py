"""Times as people write them: ISO 8601 dates, months, instants with and without an offset, or plain whole numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from wavefront.errors import DataError

__all__ = ["Times", "read_times", "written"]

STYLES = {
    "month": r"\d{4}-\d{2}",
    "day": r"\d{4}-\d{2}-\d{2}",
    "minute": r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}",
    "second": r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.0+)?",
    "offset": r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.0+)?)?(Z|[+-]\d{2}(:?\d{2})?)",
}
EXPECTED = "expected ISO 8601 (2024-03-31, 2024-03, 2024-03-31 02:00:00, 2024-03-31T02:00:00+01:00) or whole numbers"


class Times(NamedTuple):
    """Times of rows. style: how they were written, so that those of forecasts are written in the same way.

    at     int64 for whole numbers ("number"), else datetime64[s], in UTC where there are offsets ("offset")
    local  where there are offsets: what the clock on the wall said
    """

    at: np.ndarray
    style: str
    local: np.ndarray | None = None


def read_times(values: Sequence[Any], column: str, where: str) -> Times:
    """Reads a column of times, all written in one way; `where` names the file for the error, which has the row.

    >>> read_times(["1949-01", "1949-02"], "ds", "sales.csv").at
    array(['1949-01-01T00:00:00', '1949-02-01T00:00:00'], dtype='datetime64[s]')
    >>> read_times(["2024-03-31T01:00:00+01:00", "2024-03-31T03:00:00+02:00"], "ds", "sales.csv").at[1]
    np.datetime64('2024-03-31T01:00:00')
    """
    for row, value in enumerate(values, 1):
        if value is None or value == "":
            raise DataError(f"{where}, row {row}: {column!r} is empty; every row needs its time.")
    if all(isinstance(value, (int, float)) for value in values):
        numbers = np.array(values, np.float64)
        if len(broken := np.flatnonzero(numbers != np.round(numbers))):
            raise DataError(f"{where}, row {broken[0] + 1}: {column!r} is {numbers[broken[0]]}; times as numbers are whole ones.")
        return Times(numbers.astype(np.int64), "number")
    texts = [str(value).strip() for value in values]
    style = next((name for name, form in STYLES.items() if re.fullmatch(form, texts[0])), None)
    if style is None:
        raise DataError(f"{where}, row 1: {column!r} is {texts[0]!r}; {EXPECTED}.")
    form = re.compile(STYLES[style])
    for row, text in enumerate(texts, 1):
        if not form.fullmatch(text):
            raise DataError(f"{where}, row {row}: {column!r} is {text!r}, but {texts[0]!r} in row 1: all times are written in one way.")
    try:
        if style == "offset":
            moments = [datetime.fromisoformat(text) for text in texts]
            utc = np.array([moment.astimezone(UTC).replace(tzinfo=None) for moment in moments], "datetime64[s]")
            return Times(utc, style, np.array([moment.replace(tzinfo=None) for moment in moments], "datetime64[s]"))
        return Times(np.array(texts, "datetime64[s]"), style)
    except ValueError:
        row = next(row for row, text in enumerate(texts, 1) if not _is_time(text, style))
        raise DataError(f"{where}, row {row}: {column!r} is {texts[row - 1]!r}: there is no such time.") from None


def written(at: np.ndarray, style: str) -> list[str | int]:
    """Times as text in the style they were read in (whole numbers as such; those with an offset in UTC).

    >>> written(np.array(["1949-01-01"], "datetime64[s]"), "month"), written(np.array([1700]), "number")
    (['1949-01'], [1700])
    """
    if style == "number":
        return [int(value) for value in at]
    if style in ("minute", "second", "offset"):
        texts = np.datetime_as_string(at, unit="m" if style == "minute" else "s")
        ending = "+00:00" if style == "offset" else ""
        return [str(text).replace("T", "T" if style == "offset" else " ") + ending for text in texts]
    return [str(text) for text in np.datetime_as_string(at, unit="M" if style == "month" else "D")]


def _is_time(text: str, style: str) -> bool:
    try:
        if style == "offset":
            datetime.fromisoformat(text)
        else:
            np.datetime64(text, "s")
    except ValueError:
        return False
    return True
