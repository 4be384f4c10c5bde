"""Piano rolls: pieces of music as steps, each step the notes that sound."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wavefront.data.readers.jsonl import as_notes
from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending
from wavefront.errors import DataError

__all__ = ["Rolls"]

SPLITS = ("train", "valid", "test")


class Rolls(Reader):
    """One JSON object of splits, each a list of pieces, each a list of steps, each a list of MIDI note numbers: one column, `notes`.

        {"train": [[[60, 64, 67], [60, 64, 67], []], ...], "valid": [...], "test": [...]}

    As Boulanger-Lewandowski et al. (2012) have them. A file is read whole: a million steps are some tens of megabytes.
    """

    format = "rolls"

    def __init__(self, path: Path, options: Options, split: str | None = None):
        super().__init__(path, options)
        self.split = split  # None: all that there are
        self.columns = (Column("notes", "notes"),)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file() or ending(path) != ".json":
            return False
        try:
            with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
                head = b"".join(file.read(400).split())
        except (OSError, EOFError, zlib.error):
            return False
        return any(head.startswith((b'{"%s":[[[' % split.encode(), b'{"%s":[]' % split.encode())) for split in SPLITS)

    @classmethod
    def inside(cls, path: Path, options: Options) -> Mapping[str, Reader]:
        found = cls(path, options)._load()
        if unknown := [name for name in found if name not in SPLITS]:
            raise DataError(f"{path}: the splits of a file of piano rolls are {', '.join(SPLITS)}; got {unknown[0]!r}.")
        return {split: cls(path, options, split) for split in SPLITS if split in found}

    def rows(self) -> Iterator[Row]:
        found = self._load()
        for split, pieces in found.items():
            if self.split in (None, split):
                if not isinstance(pieces, list):
                    raise DataError(f"{self.path}: expected {split!r} to be a list of pieces, got {type(pieces).__name__}.")
                for number, piece in enumerate(pieces, 1):
                    yield {"notes": as_notes(piece, f"{self.path}, piece {number} of {split}")}

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} {self.split}"

    def _load(self) -> dict[str, Any]:
        try:
            with gzip.open(self.path, "rb") if self.path.name.lower().endswith(".gz") else self.path.open("rb") as file:
                found = json.load(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path}: the gzip file is cut short or damaged ({error}). Copy it again.") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}: is not JSON: {error}.") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}.") from None
        if not isinstance(found, dict) or not found:
            raise empty_file(self.path, '{"train": [piece, ...], "valid": [...], "test": [...]}')
        return found
