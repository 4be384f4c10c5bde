"""The dialect of a CSV or TSV, settled from its name and its first lines before anything is read strictly."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from wavefront.data.readers.reader import empty_file, ending, first_lines, is_number
from wavefront.errors import DataError

__all__ = ["Dialect", "settle"]

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SAMPLE = 100  # lines looked at


class Dialect(NamedTuple):
    delimiter: str
    quote: str  # "" where a quotation mark is a character as any other
    header: bool
    names: tuple[str, ...]


def settle(path: Path, header: bool | None = None) -> Dialect:
    """How the file is written: the delimiter that gives all first lines as many cells as the header; the header's names.

    Raises `DataError` for an empty file, a header that names a column twice, and a delimiter that is not one.
    """
    head = [line for line in first_lines(path, SAMPLE) if line.strip()]
    if not head:
        raise empty_file(path, "a header and at least one row")
    candidates = "\t" if ending(path) in (".tsv", ".tab") else ",;\t|"
    delimiter = max(candidates, key=lambda d: (_agreement(head, d), -candidates.index(d)))
    cells = _split(head[:1], delimiter)[0]
    if len(cells) == 1:
        _refuse_other_delimiter(path, head)
    quoted = delimiter != "\t" or any(len(c) > 1 and c[0] == c[-1] == '"' for line in head for c in line.split("\t"))
    if not quoted:
        cells = head[0].split(delimiter)
    if header is None:
        header = _is_header(cells, head, delimiter, trusted=ending(path) == ".csv")
    names = _names(path, [c.strip() for c in cells]) if header else tuple(f"column{k}" for k in range(1, len(cells) + 1))
    return Dialect(delimiter, '"' if quoted else "", header, names)


def _split(lines: list[str], delimiter: str) -> list[list[str]]:
    limit = csv.field_size_limit(1 << 30)  # how long a line may be, the strict reading decides
    try:
        return [cells for cells in csv.reader(lines, delimiter=delimiter) if cells]
    finally:
        csv.field_size_limit(limit)


def _agreement(head: list[str], delimiter: str) -> float:
    """Which part of the first lines has as many cells as the header has, which must be two or more."""
    rows = _split(head, delimiter)
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows) if len(rows[0]) > 1 else 0.0


def _refuse_other_delimiter(path: Path, head: list[str]) -> None:
    """One cell a line: right for a list of texts, wrong where another mark comes equally often, at least once, in every line."""
    marks = [Counter(c for c in line if not c.isalnum() and c not in " \"'.-_") for line in head]
    for mark in sorted(marks[0]):
        if len(head) > 1 and all(m[mark] == marks[0][mark] for m in marks):
            wanted = "tab" if ending(path) in (".tsv", ".tab") else "comma, semicolon, tab or bar"
            raise DataError(
                f"{path}, line 1: expected columns with a {wanted} between them, got one column; {mark!r} stands equally often in every"
                " line. Is that the delimiter? Write the file with commas, as .csv."
            )


def _is_header(cells: list[str], head: list[str], delimiter: str, trusted: bool) -> bool:
    """A .csv has a header unless its first line has a number or nothing in some cell. A .tsv has one if its cells are names, and
    either a column is of numbers below it, or some are usual ones and none is made of words that stand below it, too."""
    if any(is_number(c) for c in cells) or any(not c.strip() for c in cells[1:]):
        return False
    if trusted:
        return True
    if any(not re.fullmatch(r"[^\W\d][\w .\-/#%()]{0,40}", c.strip()) for c in cells) or len(head) == 1:
        return False
    below = [line.split(delimiter) for line in head[1:]]
    if any(is_number(b) and not is_number(c) for row in below[:1] for b, c in zip(row, cells)):
        return True
    words = [{word for row in below if k < len(row) for word in row[k].split()} for k in range(len(cells))]
    if any(len(c.split()) > 1 and {*c.split()} <= seen for c, seen in zip(cells, words)):
        return False
    return bool({c.strip().lower() for c in cells} & USUAL)


USUAL = {"text", "label", "sentence", "class", "target", "category", "sentiment", "tokens", "tags", "words", "id", "name", "value", "y"}
USUAL |= {"title", "review", "question", "intent", "language", "source", "date", "time", "score", "rating", "spelling", "phonemes"}
USUAL |= {"word", "phones", "pronunciation", "input", "output", "translation"}


def _names(path: Path, cells: list[str]) -> tuple[str, ...]:
    if cells and not cells[0]:
        cells = ["index", *cells[1:]]  # as pandas writes its index
    for k, name in enumerate(cells, 1):
        if not name:
            raise DataError(
                f"{path}, line 1: column {k} of {len(cells)} has no name. Name every column; no header at all?"
                " header=False (--set data.header=false)."
            )
        if cells.index(name) != k - 1:
            raise DataError(
                f"{path}, line 1: the header names {name!r} twice, as columns {cells.index(name) + 1} and {k}. Rename one of them."
            )
    return tuple(cells)
