"""Tables, through DuckDB: the rows of a relation, with kinds that are checked value by value, in bounded memory."""

from __future__ import annotations

import math
import re
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wavefront.data.readers.reader import Column, Reader, Row, finite, missing_values
from wavefront.errors import DataError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Table", "connect", "identifier", "kind_of_type", "literal"]

BATCH_CELLS = 1 << 15  # cells that are Python objects at a time
WIDE = 8  # so many numbered columns of numbers (t0 ... t7) are one series


def connect(database: str = ":memory:", read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """One thread (so that the order is the file's), little memory, nothing loaded from the network."""
    import duckdb

    settings: dict[str, Any] = {
        "threads": 1,
        "memory_limit": "512MB",
        "temp_directory": tempfile.gettempdir(),
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": True,
    }
    return duckdb.connect(database, read_only=read_only, config=settings)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Table(Reader):
    """Rows of a DuckDB relation. A subclass sets `seen`, the kind of every column, and says how to reach the relation.

    Columns named with `Options.series`, or eight and more columns of numbers that count (t0, t1, ... or t1, t2, ...), are one column
    of kind series: without `id` each row is one series [T, 1], empty cells at its end cut off; with `id` each row is one time step of
    [T, channels], and every other column has one value a series.
    """

    seen: dict[str, str]

    @abstractmethod
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A fresh connection."""

    @abstractmethod
    def relation(self) -> str:
        """SQL that can stand after FROM."""

    def settle_columns(self) -> None:
        """From `seen`: which columns are joined to a series, and what the columns of a row are."""
        kinds = {name: self.kind(name, kind) for name, kind in self.seen.items()}
        options = self.options
        named = [*options.series, *(n for n in (options.id, options.time) if n), *options.kinds]
        for name in named:
            if name not in kinds and not (name == "series" and name in options.kinds):
                raise DataError(f"{self.path}: has no column {name!r}; its columns: {', '.join(kinds)}.")
        if options.id and not options.series:
            raise DataError(f"{self.path}: a long format (id={options.id!r}) needs the names of the columns with values: series=(...).")
        self.joined = tuple(options.series) or _numbered(kinds)
        for name in self.joined:
            if kinds[name] != "number":
                raise DataError(f"{self.path}: column {name!r} cannot be part of a series: it holds {kinds[name]}, not numbers.")
        self.kinds = kinds
        rest = [Column(name, kind) for name, kind in kinds.items() if name not in self.joined and name != options.time]
        self.columns = (*([Column("series", "series")] if self.joined else []), *rest)

    def rows(self) -> Iterator[Row]:
        if self.options.id:
            yield from self._long()
        else:
            at = {name: k for k, name in enumerate(self.kinds)}
            joined = [at[name] for name in self.joined]
            single = [(name, k) for name, k in at.items() if k not in set(joined)]
            for number, values in enumerate(self.values(f"SELECT {self._selected()} FROM {self.relation()}"), 1):
                where = f"{self.path}, row {number}"
                row = {name: self._value(name, values[k], where) for name, k in single}
                if joined:
                    row["series"] = self._wide([values[k] for k in joined], where)
                yield row

    def values(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query as tuples; an error of DuckDB comes as a `DataError` with the line."""
        import duckdb

        with self.connection() as connection:
            try:
                result = connection.execute(sql)
                batch = max(1, BATCH_CELLS // max(1, len(self.seen)))
                while found := result.fetchmany(batch):
                    yield from found
            except duckdb.Error as error:
                raise translated(error, self.path) from None

    def _selected(self) -> str:
        return ", ".join(identifier(name) for name in self.kinds)

    def _value(self, name: str, value: Any, where: str) -> Any:
        kind = self.kinds[name]
        try:
            if kind == "number":
                return self._number(value, f"{where}, column {name!r}")
            return CONVERT[kind](value)
        except (TypeError, ValueError):
            raise DataError(
                f"{where}, column {name!r}: expected {kind}, got {value!r}. Another kind: kinds={{{name!r}: ...}}, one of"
                f" {', '.join(CONVERT)}."
            ) from None

    def _number(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        number = float(value)
        if math.isfinite(number):
            return number
        if self.options.missing == "mask":
            return None
        raise missing_values(where, 1, 1)

    def _wide(self, cells: list[Any], where: str) -> np.ndarray:
        while cells and cells[-1] is None:
            cells.pop()
        if not cells:
            raise DataError(f"{where}: a series without a value; every cell of {self.joined[0]} ... {self.joined[-1]} is empty.")
        return finite(as_series(cells)[:, None], where, self.options.missing)

    def _long(self) -> Iterator[Row]:
        """Time steps grouped by id, in the order in which the ids come first; sorted by time within each."""
        options = self.options
        assert options.id
        numbered = f"(SELECT *, row_number() OVER () AS _row FROM {self.relation()})"
        order = f"min(_row) OVER (PARTITION BY {identifier(options.id)})"
        if options.time:
            order += ", " + self._time()
        steps = self.values(f"SELECT {self._selected()}, _row FROM {numbered} ORDER BY {order}, _row")
        at = {name: k for k, name in enumerate(self.kinds)}
        per_row = [name for name in self.kinds if name not in self.joined and name != options.time]
        for key, group in groupby(steps, key=itemgetter(at[options.id])):
            yield self._one_series(key, group, at, per_row)

    def _one_series(self, key: Any, group: Iterable[tuple[Any, ...]], at: dict[str, int], per_row: list[str]) -> Row:
        values: list[list[Any]] = []
        first: tuple[Any, ...] | None = None
        last = None
        time = self.options.time
        for step in group:
            where = f"{self.path}, row {step[-1]} ({self.options.id}={key!r})"
            first = first or step
            for name in per_row:
                if step[at[name]] != first[at[name]]:
                    raise DataError(
                        f"{where}: {name!r} is {step[at[name]]!r}, but {first[at[name]]!r} before in the same series. Does it vary with"
                        f" time? Name it in series=; else one value a series."
                    )
            now = step[at[time]] if time else None
            if time and values and now == last:
                raise DataError(
                    f"{where}: two rows with {time}={last!r}. Keep one; is it the hour that a clock change repeats, write times in UTC."
                )
            last = now
            values.append([step[at[name]] for name in self.joined])
        assert first is not None
        where = f"{self.path}, {self.options.id}={key!r}"
        series = finite(as_series(values), where, self.options.missing)
        return {"series": series, **{n: self._value(n, first[at[n]], where) for n in per_row}}

    def _time(self) -> str:
        """SQL to sort by time: a number, or text in ISO 8601."""
        name = self.options.time
        assert name
        if self.kinds[name] == "number":
            return identifier(name)
        sample = next(self.values(f"SELECT {identifier(name)} FROM {self.relation()} LIMIT 1"), (None,))[0]
        try:
            datetime.fromisoformat(str(sample))
        except ValueError:
            raise DataError(
                f"{self.path}: the times in {name!r} are neither numbers nor ISO 8601 (2024-03-31T02:30:00+01:00); the first is {sample!r}."
            ) from None
        return f"CAST({identifier(name)} AS TIMESTAMP)"


def as_series(values: Any) -> np.ndarray:
    """Numbers, lists of numbers and None as float32 with NaN for None; beyond float32 becomes inf, which is refused as not finite."""
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32)


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise TypeError
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _symbols(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list) or any(v is None or isinstance(v, (list, dict, float)) for v in value):
        raise TypeError
    return [str(v) for v in value]


def _spans(value: Any) -> list[Row]:
    spans = [{"start": int(s["start"]), "end": int(s["end"]), "label": s["label"]} for s in value or []]
    if any(not isinstance(s["label"], str) for s in spans):
        raise TypeError
    return spans


CONVERT: dict[str, Any] = {"text": _text, "symbols": _symbols, "number": float, "series": None, "spans": _spans}


def kind_of_type(kind: str) -> str:
    """The kind for a DuckDB type.

    >>> [kind_of_type(t) for t in ("VARCHAR", "DECIMAL(9,2)", "FLOAT[]", "DOUBLE[][]", "VARCHAR[]", "DATE")]
    ['text', 'number', 'series', 'series', 'symbols', 'text']
    """
    base = kind.rstrip("[]0123456789") if kind.endswith("]") else kind
    number = re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL)\b", base) is not None
    if base.startswith("STRUCT") and kind.endswith("]"):
        return "spans"
    if kind.endswith("]"):
        return "series" if number else "symbols"
    return "number" if number else "text"


def _numbered(kinds: dict[str, str]) -> tuple[str, ...]:
    """The longest run of columns of numbers that are named by counting."""
    runs: dict[str, list[tuple[int, str]]] = {}
    for name, kind in kinds.items():
        if (found := re.fullmatch(r"(.*?)[_. -]?(\d+)", name)) and kind == "number":
            runs.setdefault(found[1], []).append((int(found[2]), name))
    run = max((sorted(found) for found in runs.values()), key=len, default=[])
    counts = [k for k, _ in run]
    return tuple(name for _, name in run) if len(run) >= WIDE and counts == list(range(counts[0], counts[0] + len(run))) else ()


def translated(error: Exception, path: Path) -> DataError:
    """DuckDB's message as ours: the line, what was expected, what came, what to do."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    where = f"{path}, line {line[1]}" if line else f"{path}"
    original = re.search(r"Original Line: ?(.*)", text)
    got = f": {original[1][:100]!r}" if original else ""
    if found := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        return DataError(f"{where}: expected {found[1]} cells, got {found[2]}{got}. Quote a cell that contains the delimiter.")
    if "unterminated quote" in text:
        return DataError(f'{where}: a quotation mark opens and never closes{got}. Close it, or double it ("") if it is part of the text.')
    if found := re.search(r'Error when converting column "(.*)"\. Could not convert string "(.*)" to', text):
        return DataError(
            f"{where}: column {found[1]!r} holds numbers so far, got {found[2]!r}. Mend the cell (leave it empty if there is no number), or"
            f' read the column as text: kinds={{{found[1]!r}: "text"}}.'
        )
    if "nvalid unicode" in text or "not utf-8" in text:
        return DataError(f"{where}: bytes that are not UTF-8. Convert the file: iconv -f latin1 -t utf-8 {path.name}")
    return DataError(f"{where}: {text.splitlines()[0]}")
