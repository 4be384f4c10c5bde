"""A SQL query: over a DuckDB database, or over the tables in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavefront.data.readers.delimited import Csv, Tsv
from wavefront.data.readers.parquet import Parquet, Typed
from wavefront.data.readers.reader import Options, ending, stem
from wavefront.data.readers.table import connect, identifier, literal, translated
from wavefront.errors import DataError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Sql"]


class Sql(Typed):
    """`SELECT text, label FROM reviews WHERE stars <> 3`. In a folder every CSV, TSV and Parquet file is a table of the name that it has
    without its ending, read as strictly as alone, every JSON-lines file one with the types that DuckDB sees; a single file of these is a
    table of its name. End with ORDER BY for an order that does not depend on how the query is run.
    """

    format = "sql"

    def __init__(self, path: Path, options: Options):
        if not options.query:
            tables = f" Its tables: {', '.join(_tables(path))}." if path.is_file() else ""
            raise DataError(f'{path}: a database needs a query: query="SELECT text, label FROM ...".{tables}')
        super().__init__(path, options)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) in (".duckdb", ".db")

    def files(self) -> list[Path]:
        """The database, or the files whose names as tables stand in the query."""
        assert self.options.query
        if self.path.is_file() and not _is_table(self.path):
            return [self.path]
        around = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return [p for p in around if p.is_file() and _is_table(p) and stem(p).lower() in self.options.query.lower()]

    def connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self.path.is_file() and not _is_table(self.path):
            try:
                return connect(str(self.path), read_only=True)
            except duckdb.Error as error:
                raise translated(error, self.path) from None
        connection = connect()
        for path in self.files():
            connection.execute(f"CREATE VIEW {identifier(stem(path))} AS SELECT * FROM {_scan(path)}")
        return connection

    def relation(self) -> str:
        assert self.options.query
        return f"({self.options.query.strip().rstrip(';')}\n)"


TABLES = (Csv, Tsv, Parquet)
JSON_LINES = (".jsonl", ".ndjson")


def _is_table(path: Path) -> bool:
    return ending(path) in JSON_LINES or any(reader.recognises(path) for reader in TABLES)


def _scan(path: Path) -> str:
    if ending(path) in JSON_LINES:
        return f"read_json({literal(str(path))}, format='newline_delimited')"
    return next(reader for reader in TABLES if reader.recognises(path))(path, Options()).relation()


def _tables(path: Path) -> list[str]:
    import duckdb

    try:
        with connect(str(path), read_only=True) as connection:
            return [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    except duckdb.Error as error:
        raise translated(error, path) from None
