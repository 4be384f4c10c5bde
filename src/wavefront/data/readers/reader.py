"""What a reader is: one file (or one folder that is one file in pieces) as a stream of rows of named, typed columns."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wavefront.errors import DataError

KINDS = ("text", "symbols", "number", "series", "spans", "notes")
Row = dict[str, Any]


class Column(NamedTuple):
    """A column of a source, and what its values are.

    text     str
    symbols  list[str]: one symbol per position (words, tags, phonemes)
    number   float, None where empty
    series   float32 array [T, channels]; NaN where missing, and only if `missing="mask"` was asked for
    spans    list of {"start": int, "end": int, "label": str}: characters start..end-1 of the row's text
    notes    list[list[int]]: at each step the MIDI numbers of the notes that sound, none twice
    """

    name: str
    kind: str


@dataclass(frozen=True)
class Options:
    """How to read, where the file does not say it itself.

    kinds    column -> kind, where the guess from the first rows is wrong: {"zip": "text", "words": "symbols"}
    header   whether the first line of a CSV or TSV names the columns; None: seen from the line itself
    missing  "refuse" (a NaN, infinite or missing value in a number or series stops with its row and the count) or
             "mask" (such a number is None, such a value of a series NaN)
    series   columns that together are one series: one row each time step with `id`, else one row each series
    id       the column that says to which series a row belongs (long format)
    time     the column that orders the rows of one series (long format); without it the order of the file
    steps_per_quarter  steps that a quarter note of a MIDI file is cut into: 4 for sixteenths
    query    SQL over the tables of a database, or the files of a folder
    format   the reader by name, where the ending of the file name misleads
    """

    kinds: dict[str, str] = field(default_factory=dict)
    header: bool | None = None
    missing: str = "refuse"
    series: tuple[str, ...] = ()
    id: str | None = None
    time: str | None = None
    query: str | None = None
    format: str | None = None
    steps_per_quarter: int = 1

    def __post_init__(self) -> None:
        if self.missing not in ("refuse", "mask"):
            raise DataError(f'missing= is "refuse" or "mask", got {self.missing!r}.')
        if not 1 <= self.steps_per_quarter <= 96:
            raise DataError(f"steps_per_quarter= is 1 to 96, got {self.steps_per_quarter}.")
        for name, kind in self.kinds.items():
            if kind not in KINDS:
                raise DataError(f"kinds[{name!r}] is one of {', '.join(KINDS)}; got {kind!r}.")

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        plain = Options()
        return {f.name: value for f in fields(self) if (value := asdict(self)[f.name]) != getattr(plain, f.name)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Options:
        return cls(**{**saved, "series": tuple(saved.get("series", ()))})


class Reader(ABC):
    """One reader is one file under data/readers and one row of `READERS`.

    `__init__` looks at the beginning only, and sets `columns`; `rows` starts anew at every call, reads with bounded memory, and always
    gives the same order.
    """

    format: ClassVar[str]
    stream: ClassVar[bool] = False  # whether the rows go on from one another: what is cut off then is cut off in one piece
    columns: tuple[Column, ...]

    def __init__(self, path: Path, options: Options):
        self.path, self.options = path, options
        self.masked: Counter[str] = Counter()  # column -> how many values the latest pass masked

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether this file or folder is of this format, by its name and its first lines."""

    @classmethod
    def inside(cls, path: Path, options: Options) -> Mapping[str, Reader]:
        """A reader for each split, where one file holds several; else nothing."""
        return {}

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Every row, in the order of the file."""

    def files(self) -> list[Path]:
        """The files that the rows come from."""
        return [self.path]

    def fingerprint(self) -> str:
        """SHA-256 of the content of the files and of how they are read."""
        digest = hashlib.sha256(repr((self.format, self.options.to_json())).encode())
        for path in self.files():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def kind(self, name: str, seen: str) -> str:
        """The kind asked for, else the kind seen."""
        return self.options.kinds.get(name, seen)

    def finite(self, value: Any, name: str, where: str) -> Any:
        """A number or series of column `name` with nothing missing, or with it masked and counted; refused with the count of the file."""
        try:
            value, count = finite(value, where, self.options.missing)
        except DataError as error:
            lenient = type(self)(self.path, replace(self.options, missing="mask"))
            rows = sum(1 for _ in lenient.rows())
            raise DataError(f"{error} In all of {self.path.name}: {lenient.masked[name]} values of {name!r} in {rows} rows.") from None
        self.masked[name] += count
        return value


def finite(value: Any, where: str, missing: str) -> tuple[Any, int]:
    """A number, or a series, and how many values of it are masked: a number that is NaN or infinite becomes None, such values of a
    series NaN. With missing="refuse" they are a `DataError`."""
    if isinstance(value, float):
        count, size = int(not math.isfinite(value)), 1
    else:
        count, size = value.size - int(np.isfinite(value).sum()), value.size
    if not count:
        return value, 0
    if missing == "refuse":
        raise DataError(
            f"{where}: {count} of {size} values missing, NaN or infinite; expected finite numbers. Fill them in, or ask for "
            + asked_for("missing", "mask")
            + "."
        )
    return (None if size == 1 and isinstance(value, float) else np.where(np.isfinite(value), value, np.float32(np.nan))), count


def asked_for(option: str, value: str) -> str:
    """How to ask for an option, in Python and on the command line.

    >>> asked_for("missing", "mask")
    'missing="mask" (--set data.missing=mask)'
    """
    name, _, key = option.partition(".")
    python = f'{name}={{"{key}": "{value}"}}' if key else f'{name}="{value}"'
    return f"{python} (--set data.{option}={value})"


TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".npz", ".duckdb", ".db")
SEQUENCES = (".mid", ".midi", ".conllu", ".conll", ".iob", ".iob2", ".bio", ".ts", ".txt", ".text", ".log")
ENDINGS = {".gz", *TABLES, *SEQUENCES}


def ending(path: Path) -> str:
    """The ending that says what the file is, lower case and without .gz.

    >>> ending(Path("en_ewt-ud-train.conllu.gz"))
    '.conllu'
    """
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def stem(path: Path) -> str:
    """The name without any ending that says what the file is.

    >>> stem(Path("GunPoint_TRAIN.tsv.gz")), stem(Path("seq.in.gz"))
    ('GunPoint_TRAIN', 'seq.in')
    """
    name = path.name
    while (cut := Path(name).suffix.lower()) in ENDINGS and cut:
        name = name[: -len(cut)]
    return name


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a text file in UTF-8, gzipped or not; bounded memory.

    Raises `DataError` with the line for bytes that are not UTF-8, and for a gzip file that is cut short or damaged.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: bytes that are not UTF-8 ({error.object[error.start : error.end]!r} at byte {error.start + 1} of the"
            f" line). Convert the file: iconv -f latin1 -t utf-8 {path.name}"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is cut short or damaged after line {number} ({error}). Copy it again.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None


def first_lines(path: Path, count: int = 50) -> list[str]:
    """At most `count` lines from the beginning."""
    found = []
    for _, line in lines(path):
        found.append(line)
        if len(found) == count:
            break
    return found


def empty_file(path: Path, what: str) -> DataError:
    return DataError(f"{path}: no rows; expected {what}. Is it the right file?")


NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)


def is_number(text: str) -> bool:
    """Written as a number; NaN and infinities too, since they are found and refused as numbers, not hidden as words. 007 is a name.

    >>> is_number("-3.5e2"), is_number("nan"), is_number("007"), is_number("3rd")
    (True, True, False, False)
    """
    if NUMBER.fullmatch(text):
        digits = text.strip().lstrip("+-")
        return not (len(digits) > 1 and digits[0] == "0" and digits[1].isdigit())
    return bool(NOT_FINITE.fullmatch(text))
