"""The UCR archive's .tsv: a class, then the values of one series, a line each.  [Dau et al. 2018, arXiv:1810.07758]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending, first_lines, is_number, lines
from wavefront.errors import DataError

__all__ = ["Ucr"]


class Ucr(Reader):
    """Columns `series` [T, 1] and `label`. Series may differ in length: NaN after the last value fills a line up and is cut off
    (as the archive does); NaN before it is a missing value.
    """

    format = "ucr"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = (Column("series", "series"), Column("label", "text"))
        if not first_lines(path, 1):
            raise empty_file(path, "a class and the values of a series a line, tabs between them")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if ending(path) != ".tsv" or not path.is_file():
            return False
        head = [line.split("\t") for line in first_lines(path, 5) if line.strip()]
        return bool(head) and all(len(cells) > 8 and all(is_number(cell) for cell in cells[1:]) for cells in head)

    def rows(self) -> Iterator[Row]:
        for number, line in lines(self.path):
            if not line.strip():
                continue
            label, *cells = line.split("\t")
            where = f"{self.path}, line {number}"
            series = numbers(cells, where)
            known = np.flatnonzero(~np.isnan(series))
            series = series[: known[-1] + 1 if known.size else 0]
            if not series.size:
                raise DataError(f"{where}: a series without a value; expected a class, then at least one number.")
            yield {"series": self.finite(series[:, None], "series", where), "label": label.strip()}


def numbers(cells: list[str], where: str) -> np.ndarray:
    """Cells as float32, `?` and nothing as NaN."""
    try:
        with np.errstate(over="ignore"):
            return np.array([c if c.strip() not in ("?", "") else "nan" for c in cells], dtype=np.float64).astype(np.float32)
    except ValueError:
        k = next(k for k, cell in enumerate(cells) if not _reads(cell))
        raise DataError(f"{where}: expected a number as value {k + 1} of the series, got {cells[k]!r}.") from None


def _reads(cell: str) -> bool:
    try:
        float(cell) if cell.strip() not in ("?", "") else None
    except ValueError:
        return False
    return True
