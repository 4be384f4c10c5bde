"""Tables, through DuckDB: the rows of a relation, with kinds that are checked value by value, in bounded memory."""

from __future__ import annotations

import re
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavefront.data.readers.convert import CONVERT, as_series
from wavefront.data.readers.reader import Column, Reader, Row, asked_for
from wavefront.errors import DataError

if TYPE_CHECKING:
    import duckdb

__all__ = ["LONGEST_LINE", "Table", "connect", "identifier", "literal", "translated"]

BATCH_ROWS = 256  # that are Python objects at a time
LONGEST_LINE = 1 << 23  # bytes: a series of a million values; by default DuckDB's buffers would be 16 times as long, all of them in memory
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
    connection = duckdb.connect(database, read_only=read_only, config=settings)
    connection.execute("SET enable_progress_bar = false")  # it would be drawn on stdout, into the data
    return connection


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Table(Reader):
    """Rows of a DuckDB relation. A subclass sets `seen`, the kind of every column, and says how to reach the relation.

    Columns named with `Options.series`, or eight and more columns of numbers that count (t0, t1, ... or t1, t2, ...), are one column
    of kind series: without `id` each row is one series [T, 1], empty cells at its end cut off; with `id` each row is one time step of
    [T, channels] (`rows_by_id`).
    """

    seen: dict[str, str]  # column -> the kind it seems to have
    kinds: dict[str, str]  # column -> the kind it is read as
    joined: tuple[str, ...]  # the columns that together are one series

    @abstractmethod
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A fresh connection."""

    @abstractmethod
    def relation(self) -> str:
        """SQL that can stand after FROM."""

    def settle_columns(self) -> None:
        """From `seen`: which columns are joined to a series, and what the columns of a row are."""
        options = self.options
        for name in (*options.series, *(n for n in (options.id, options.time) if n), *options.kinds):
            if name not in self.seen:
                raise DataError(f"{self.path}: has no column {name!r}; its columns: {', '.join(self.seen)}.")
        if options.id and not options.series:
            raise DataError(f"{self.path}: a long format (id={options.id!r}) needs the names of the columns with values: series=(...).")
        self.kinds = {name: self.kind(name, kind) for name, kind in self.seen.items()}
        self.joined = options.series or _numbered(self.kinds)
        for name in self.joined:
            if self.kinds[name] != "number":
                raise DataError(f"{self.path}: column {name!r} cannot be part of a series: it holds {self.kinds[name]}, not numbers.")
        joined = set(self.joined)
        if self.joined and "series" in self.kinds.keys() - joined:
            raise DataError(f"{self.path}: a column is already named 'series', as {self.joined[0]} ... together would be. Rename it.")
        rest = [Column(name, kind) for name, kind in self.kinds.items() if name not in joined and name != options.time]
        self.columns = (*([Column("series", "series")] if joined else []), *rest)

    def rows(self) -> Iterator[Row]:
        if self.options.id:
            from wavefront.data.readers.long import rows_by_id

            yield from rows_by_id(self, self.options.id, self.options.time)
            return
        at = {name: k for k, name in enumerate(self.kinds)}
        joined = [at[name] for name in self.joined]
        single = [column.name for column in self.columns if column.name in at]
        for number, values in enumerate(self.values(f"SELECT {self.selected()} FROM {self.relation()}"), 1):
            where = f"{self.path}, row {number}"
            row = {name: self.value(name, values[at[name]], where) for name in single}
            if joined:
                row["series"] = self._wide([values[k] for k in joined], where)
            yield row

    def selected(self) -> str:
        """Every column, as SQL: what is not selected is not checked."""
        return ", ".join(identifier(name) for name in self.kinds)

    def values(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query as tuples; an error of DuckDB comes as a `DataError` with the line."""
        import duckdb

        with self.connection() as connection:
            try:
                result = connection.execute(sql)
                while found := result.fetchmany(BATCH_ROWS):
                    yield from found
            except duckdb.Error as error:
                raise translated(error, self.path) from None

    def value(self, name: str, value: Any, where: str) -> Any:
        """A value as one of the column's kind."""
        kind = self.kinds[name]
        try:
            found = CONVERT[kind](value)
        except (TypeError, ValueError, KeyError):
            raise DataError(
                f"{where}, column {name!r}: expected {kind}, got {str(value)[:80]!r}. Of another kind? {asked_for(f'kinds.{name}', 'text')}"
            ) from None
        return self.finite(found, name, f"{where}, column {name!r}") if kind in ("number", "series") and found is not None else found

    def _wide(self, cells: list[Any], where: str) -> Any:
        while cells and cells[-1] is None:
            cells.pop()
        if not cells:
            raise DataError(f"{where}: a series without a value; every cell of {self.joined[0]} ... {self.joined[-1]} is empty.")
        return self.finite(as_series(cells), "series", where)


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
            f" read the column as text: {asked_for(f'kinds.{found[1]}', 'text')}."
        )
    if "Maximum line size" in text:
        return DataError(
            f"{where}: a line of more than {LONGEST_LINE} bytes; expected at most that in a table. Use JSON lines for such rows."
        )
    if "nvalid unicode" in text or "not utf-8" in text:
        return DataError(f"{where}: bytes that are not UTF-8. Convert the file: iconv -f latin1 -t utf-8 {path.name}")
    return DataError(f"{where}: {text.splitlines()[0]}")
