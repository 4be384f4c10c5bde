"""CSV and TSV: the dialect is settled first, then DuckDB reads strictly, with every column and its type given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavefront.data.readers.dialect import Dialect, settle
from wavefront.data.readers.reader import Options, empty_file, ending, is_number
from wavefront.data.readers.table import LONGEST_LINE, Table, connect, identifier, literal
from wavefront.errors import DataError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Csv", "Tsv", "scan"]

SAMPLE_ROWS = 1000  # rows whose cells decide whether a column is of numbers


class Csv(Table):
    """A column is of numbers if every cell of its first 1,000 rows is one or empty (007 is a name); a word in it further down stops
    with its line. `kinds` overrules that. A column of tokens in one cell is `kinds={"words": "symbols"}`: split at blanks.
    """

    format = "csv"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.dialect = settle(path, options.header)
        self.seen = dict.fromkeys(self.dialect.names, "text")
        sample = list(self.values(f"SELECT * FROM {self.relation()} LIMIT {SAMPLE_ROWS}"))
        if not sample:
            raise empty_file(path, "rows below the header")
        for name, cells in zip(self.dialect.names, zip(*sample)):
            filled = [cell for cell in cells if cell is not None]
            if name not in options.kinds and filled and all(is_number(cell) for cell in filled):
                self.seen[name] = "number"
        for name, kind in options.kinds.items():
            if kind in ("series", "spans") and name in self.seen:
                raise DataError(f"{path}: a cell of a {self.format} cannot hold {kind} ({name!r}). Use JSON lines, or series=(columns).")
        self.settle_columns()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) == ".csv"

    def connection(self) -> duckdb.DuckDBPyConnection:
        return connect()

    def relation(self) -> str:
        numbers = {name for name, kind in self.seen.items() if self.kind(name, kind) == "number"}
        return scan(self.path, self.dialect, numbers)


class Tsv(Csv):
    """As Csv, with tabs; a quotation mark is a character as any other unless whole cells of the first lines stand between two."""

    format = "tsv"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) in (".tsv", ".tab")


def scan(path: Path, dialect: Dialect, numbers: set[str]) -> str:
    """The strict scan of a file, as SQL."""
    columns = ", ".join(f"{literal(name)}: '{'DOUBLE' if name in numbers else 'VARCHAR'}'" for name in dialect.names)
    compression = "gzip" if path.name.lower().endswith(".gz") else "none"
    return (
        f"(SELECT {', '.join(map(identifier, dialect.names))} FROM read_csv({literal(str(path))}, auto_detect=false, strict_mode=true,"
        f" delim={literal(dialect.delimiter)}, quote={literal(dialect.quote)}, escape={literal(dialect.quote)},"
        f" header={str(dialect.header).lower()}, columns={{{columns}}}, compression='{compression}', null_padding=false,"
        f" ignore_errors=false, max_line_size={LONGEST_LINE}, buffer_size={LONGEST_LINE}))"
    )
