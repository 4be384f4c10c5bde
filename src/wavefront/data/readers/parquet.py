"""Parquet, through DuckDB: the types are the file's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavefront.data.readers.convert import kind_of_type
from wavefront.data.readers.reader import Options, empty_file, ending
from wavefront.data.readers.table import Table, connect, literal

if TYPE_CHECKING:
    import duckdb

__all__ = ["Parquet", "Typed"]


class Typed(Table):
    """A relation that knows its types. Lists of strings are symbols, of numbers a series [T, 1], of lists of numbers [T, channels], of
    structures with start, end, label spans; dates and truth values are text.
    """

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.seen = {}
        described = list(self.values(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {self.relation()})"))
        self.seen = {name: kind_of_type(kind) for name, kind in described}
        if next(self.values(f"SELECT 1 FROM {self.relation()} LIMIT 1"), None) is None:
            raise empty_file(path, "at least one row")
        self.settle_columns()


class Parquet(Typed):
    format = "parquet"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) in (".parquet", ".pq")

    def connection(self) -> duckdb.DuckDBPyConnection:
        return connect()

    def relation(self) -> str:
        return f"read_parquet({literal(str(self.path))})"
