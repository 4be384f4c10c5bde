"""JSON lines: one object a line.

Not through DuckDB: given a type for each column it turns a list, a true and a 5 into text where text is expected, "12" into a number,
and takes a key that appears later as never written. Here a value of another kind stops with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wavefront.data.readers.convert import as_series
from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending, lines
from wavefront.errors import DataError

__all__ = ["Jsonl", "as_kind", "as_notes", "parse", "series"]

SAMPLE_ROWS = 1000


class Jsonl(Reader):
    """Values: a string is text, a number a number (null where it is missing), true and false text, a list of strings symbols, a list of
    numbers a series [T, 1], a list of lists of numbers a series [T, channels], a list of {"start", "end", "label"} spans; anything else
    is text, as JSON.

    The columns are the keys of the first 1,000 lines; a key that a line lacks is None (spans: an empty list).
    """

    format = "jsonl"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        kinds: dict[str, str | None] = {}
        for count, (number, line) in enumerate(self._lines()):
            for key, value in parse(line, f"{path}, line {number}").items():
                if kinds.get(key) is None:
                    kinds[key] = kind_of(value)
            if count + 1 >= SAMPLE_ROWS:
                break
        if not kinds:
            raise empty_file(path, "a JSON object a line")
        for name in options.kinds:
            if name not in kinds:
                raise DataError(f"{path}: has no key {name!r} in its first lines; its keys: {', '.join(kinds)}.")
        self.nested = {name for name, kind in kinds.items() if kind == "nested"}
        seen = {name: "text" if kind in (None, "nested") else str(kind) for name, kind in kinds.items()}
        self.columns = tuple(Column(name, self.kind(name, kind)) for name, kind in seen.items())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) in (".jsonl", ".ndjson", ".json")

    def _lines(self) -> Iterator[tuple[int, str]]:
        return ((number, line) for number, line in lines(self.path) if line.strip())

    def rows(self) -> Iterator[Row]:
        known = {column.name for column in self.columns}
        for number, line in self._lines():
            where = f"{self.path}, line {number}"
            found = parse(line, where)
            if unknown := found.keys() - known:
                raise DataError(f"{where}: key {min(unknown)!r} is in none of the lines before; they have {', '.join(sorted(known))}.")
            yield {name: self.value(found.get(name), name, kind, where) for name, kind in self.columns}

    def value(self, value: Any, name: str, kind: str, where: str) -> Any:
        if name in self.nested or (kind == "text" and name in self.options.kinds and isinstance(value, (int, float))):
            return json.dumps(value)
        where = f"{where}, key {name!r}"
        value = as_kind(value, kind, where)
        return self.finite(value, name, where) if kind in ("number", "series") and value is not None else value


def as_kind(value: Any, kind: str, where: str) -> Any:
    """A value of JSON as one of a column's kind, or `DataError`; null is None (spans: an empty list). Not yet checked to be finite."""
    if value is None:
        return [] if kind == "spans" else None
    if kind == "series" and isinstance(value, list):
        return series(value, where)
    if kind == "notes":
        return as_notes(value, where)
    if kind == "symbols" and isinstance(value, str):
        return value.split()
    if value == [] and kind in ("symbols", "spans"):
        return []
    if kind_of(value) != kind:
        raise DataError(f"{where}: expected {kind} as in the other lines, got {json.dumps(value)[:80]}. Make them alike.")
    if kind == "number":
        return float(value)
    if kind == "spans":
        return [{"start": s["start"], "end": s["end"], "label": s["label"]} for s in value]
    return json.dumps(value) if isinstance(value, bool) else value


def parse(line: str, where: str) -> dict[str, Any]:
    """One object, no key twice; NaN and Infinity come through as floats, to be refused or masked by what they stand for."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise DataError(f"{where}: key {next(k for k in keys if keys.count(k) > 1)!r} comes twice in one object.")
        return found

    try:
        found = json.loads(line, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        array = " One array over many lines? Write one object a line: jq -c '.[]'." if line.lstrip().startswith("[") else ""
        raise DataError(f"{where}: expected a JSON object, got {line[:80]!r} ({error}).{array}") from None
    if not isinstance(found, dict):
        array = " An array of objects? Write one object a line: jq -c '.[]'." if isinstance(found, list) else ""
        raise DataError(f"{where}: expected a JSON object, got {type(found).__name__}: {line[:80]!r}.{array}")
    return found


def kind_of(value: Any) -> str | None:
    """The kind of a JSON value; None for null and the empty list, which can be of several."""
    if value is None or value == []:
        return None
    if isinstance(value, (str, bool)):
        return "text"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, list):
        if all(isinstance(v, str) for v in value):
            return "symbols"
        if all(isinstance(v, dict) and {"start", "end", "label"} <= v.keys() for v in value):
            return "spans"
        if all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) or isinstance(v, list) for v in value):
            return "series"
    return "nested"


def series(value: list[Any], where: str) -> np.ndarray:
    """A list of numbers, or of equally long lists of numbers, as float32 [T, channels]."""
    try:
        return as_series(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: expected a list of numbers, or of equally long lists of numbers, got {str(value)[:80]}.") from None


def as_notes(value: Any, where: str) -> list[list[int]]:
    """A piece of music as JSON has it, or `DataError`."""
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list of steps, each a list of notes, got {type(value).__name__}.")
    for number, step in enumerate(value, 1):
        if not isinstance(step, list) or not all(isinstance(note, int) and not isinstance(note, bool) and 0 <= note < 128 for note in step):
            raise DataError(f"{where}, step {number}: expected a list of MIDI note numbers, 0 to 127, got {json.dumps(step)[:80]}.")
        if len(set(step)) < len(step):
            raise DataError(f"{where}, step {number}: a note is there twice: {step}. Which notes sound is all that a step says.")
    return value
