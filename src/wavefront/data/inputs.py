"""Inputs to predict from: files and streams with or without the labels, read as the training data was, in their order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavefront.data.readers import READERS, Options, Row, words
from wavefront.data.readers.conll import Conll
from wavefront.data.readers.jsonl import Jsonl, as_kind, parse
from wavefront.data.readers.parallel import Parallel
from wavefront.data.readers.reader import finite, is_number, lines
from wavefront.data.readers.text import Text
from wavefront.data.source import open_source
from wavefront.errors import DataError

__all__ = ["read_inputs"]


def read_inputs(path: str | Path | Iterable[Any], like: Mapping[str, Any], needed: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, of standard input ("-") or of values in memory, with at least the columns `needed`; `like` is what
    `Source.describe` gave of the training data.

    Plain text (and standard input whose lines do not start with "{") is one input a line for the one column needed: as it is for text,
    split into `words` for symbols; an empty line is an empty row. JSON lines, CSV, TSV, Parquet, CoNLL, .ts and the other formats are read
    as in training, with those of its columns that they have; labels may be there and come along. In memory: dicts as rows, or bare values
    of the column needed.

    >>> like = {"format": "conll", "columns": {"tokens": "symbols", "tags": "symbols"}, "options": {}}
    >>> list(read_inputs(["In 2009, I went to Nepal."], like, ["tokens"]))
    [{'tokens': ['In', '2009', ',', 'I', 'went', 'to', 'Nepal', '.']}]
    """
    if not isinstance(path, (str, Path)):
        return _in_memory(path, like, needed)
    if str(path) == "-":
        return _from_lines(_standard_input(), "standard input", like, needed)
    return _from_file(Path(path), like, needed)


def _from_file(path: Path, like: Mapping[str, Any], needed: Sequence[str]) -> Iterator[Row]:
    if " " in str(path) and not path.exists():
        raise DataError(f"{path}: no such file or folder. A text itself is given by standard input: echo ... | wavefront predict RUN -")
    if path.is_file():
        reader = next((r for r in READERS if r.recognises(path)), None)
        conll = like["format"] in ("conll", "conllu")
        if reader is None and like["format"] == "aligned":  # one side alone: new.en
            reader = Text
        if reader is Text and conll and _one_word_a_line(path):
            reader = Conll
        if reader is Jsonl or (reader in (Text, Parallel) and len(needed) == 1):
            yield from _from_lines(lines(path), str(path), like, needed, objects=reader is Jsonl)
            return
        if reader is Conll:
            yield from _conll(path, like, needed)
            return
    source = open_source(path, like=like)
    names = [column.name for column in source.columns]
    if absent := [name for name in needed if name not in names]:
        raise DataError(f"{path}: needs the column {absent[0]!r} that the model was trained on; its columns: {', '.join(names)}.")
    for number, row in enumerate(source.rows("all"), 1):
        yield _complete(row, needed, f"{path}, row {number}")


def _conll(path: Path, like: Mapping[str, Any], needed: Sequence[str]) -> Iterator[Row]:
    """Words alone, or with the columns of training."""
    reader = Conll(path, Options())
    names = [c.name for c in reader.columns]
    if absent := [name for name in needed if name not in names]:
        raise DataError(
            f"{path}: needs the column {absent[0]!r} that the model was trained on; it has {len(names)} columns, taken for"
            f" {', '.join(names)}. Name them in the first line: # columns = {' '.join(like['columns'])}"
        )
    yield from reader.rows()


def _one_word_a_line(path: Path) -> bool:
    """A file of single words with blank lines between sentences."""
    head = [line for _, line in zip(range(200), (line for _, line in lines(path)))]
    return any(not line.strip() for line in head[:-1]) and all(len(line.split()) <= 1 for line in head)


def _from_lines(
    numbered: Iterator[tuple[int, str]], where: str, like: Mapping[str, Any], needed: Sequence[str], objects: bool = False
) -> Iterator[Row]:
    for number, line in numbered:
        if number == 1 and not objects and _is_header(line, like["columns"], needed):
            raise DataError(
                f"{where}, line 1: {line!r} is the header of a table, and lines here are plain text or JSON objects. Give the table as a"
                " file that ends in .csv or .tsv."
            )
        if line.lstrip().startswith("{") or (objects and line.strip()):
            place = f"{where}, line {number}"
            yield _row(parse(line, place), like, needed, place)
        elif not objects:
            yield _bare(line, like, needed, f"{where}, line {number}") if line.strip() else {}


def _is_header(line: str, columns: Iterable[str], needed: Sequence[str]) -> bool:
    """Whether a line is nothing but names of columns, several, with those needed among them."""
    return any(
        len(names) > 1 and set(needed) <= names <= set(columns)
        for names in ({cell.strip().strip('"') for cell in line.split(mark)} for mark in ",;\t|")
    )


def _in_memory(values: Iterable[Any], like: Mapping[str, Any], needed: Sequence[str]) -> Iterator[Row]:
    for number, value in enumerate(values, 1):
        where = f"input {number}"
        yield _row(value, like, needed, where) if isinstance(value, Mapping) else _bare(value, like, needed, where)


def _bare(value: Any, like: Mapping[str, Any], needed: Sequence[str], where: str) -> Row:
    """A value that stands for the one column needed; where numbers are, a line of them, with commas or blanks between."""
    if isinstance(value, str) and all(like["columns"].get(name) == "number" for name in needed):
        cells = value.replace(",", " ").split()
        if len(cells) != len(needed) or not all(map(is_number, cells)):
            raise DataError(f"{where}: expected {len(needed)} number(s), {', '.join(needed)}; got {value[:80]!r}.")
        return _row(dict(zip(needed, map(float, cells))), like, needed, where)
    if len(needed) != 1:
        raise DataError(f'{where}: the model needs {", ".join(needed)}; give a JSON object with these keys: {{"{needed[0]}": ...}}.')
    if isinstance(value, str) and like["columns"].get(needed[0]) == "symbols":
        return {needed[0]: words(value)}
    if isinstance(value, str) and like["columns"].get(needed[0]) == "series":
        raise DataError(f'{where}: the model needs a series; give a JSON object {{"{needed[0]}": [[...], ...]}}, or a file as in training.')
    return _row({needed[0]: value}, like, needed, where)


def _row(found: Mapping[str, Any], like: Mapping[str, Any], needed: Sequence[str], where: str) -> Row:
    """Values of JSON as the kinds of the columns; arrays are taken as lists of numbers."""
    row: Row = {}
    for name, value in found.items():
        kind = like["columns"].get(name)
        if kind is None:
            continue
        value = value.tolist() if hasattr(value, "tolist") else value
        if kind == "symbols" and isinstance(value, str):
            row[name] = words(value)
        else:
            row[name] = as_kind(value, kind, f"{where}, key {name!r}")
            if kind in ("number", "series") and value is not None:
                row[name], _ = finite(row[name], f"{where}, key {name!r}", like["options"].get("missing", "refuse"))
    return _complete(row, needed, where, found)


def _complete(row: Row, needed: Sequence[str], where: str, found: Iterable[str] | None = None) -> Row:
    """The row, if it has what is needed; `found`: the keys that there were, for the message."""
    for name in needed:
        if row.get(name) is None:
            there = ", ".join(row if found is None else found) or "nothing"
            raise DataError(f"{where}: {name!r} is missing or empty; the model needs it. There: {there}.")
    return row


def _standard_input() -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(sys.stdin.buffer, 1):
        try:
            yield number, raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise DataError(f"standard input, line {number}: bytes that are not UTF-8. Convert: iconv -f latin1 -t utf-8") from None
