"""Encoded examples on disk: ragged columns of numpy arrays, read back one by one through memory maps."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from wavefront.errors import DataError

__all__ = ["Store"]


class Store:
    """Examples, each a dict of arrays; a column has one dtype and one shape but for its first dimension, which is free.

    On disk a folder: for each column `<name>.values` (all values, one after the other) and `<name>.offsets` (int64, where each example
    begins), and `store.json`, written last. Memory needed: the offsets, 8 bytes for each example and column.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = Store.build(folder, ({"x": np.arange(n), "y": np.int64(n)} for n in (3, 1)))
    >>> len(store), store[0]["x"].tolist(), int(store[1]["y"]), store.lengths("x").tolist()
    (2, [0, 1, 2], 1, [3, 1])
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / "store.json").read_text())
        except FileNotFoundError:
            raise DataError(f"{self.folder}: holds no store of examples (store.json is missing). Encode the data again.") from None
        self._count: int = about["examples"]
        self._columns: dict[str, tuple[np.ndarray, np.ndarray, bool]] = {}
        for number, (name, column) in enumerate(about["columns"].items()):
            offsets = np.fromfile(self.folder / f"{number}.offsets", dtype="<i8")
            shape = (int(offsets[-1]), *column["shape"])
            path, dtype = self.folder / f"{number}.values", np.dtype(column["dtype"])
            if path.stat().st_size != int(np.prod(shape)) * dtype.itemsize:
                raise DataError(
                    f"{path}: {path.stat().st_size} bytes, expected {int(np.prod(shape)) * dtype.itemsize}. Encode the data again."
                )
            values = np.memmap(path, dtype, "r", shape=shape) if np.prod(shape) else np.empty(shape, dtype)
            self._columns[name] = (values, offsets, column["scalar"])

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """The store in a folder."""
        return cls(folder)

    @classmethod
    def build(cls, folder: str | Path, examples: Iterable[Mapping[str, np.ndarray]]) -> Store:
        """A new store from a stream of examples, which are written as they come. A store that is there already is replaced."""
        folder = Path(folder)
        beside = folder.with_name(folder.name + ".partial")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        writers: dict[str, _Writer] = {}
        count = 0
        try:
            for count, example in enumerate(examples, 1):
                if count == 1:
                    writers = {name: _Writer(beside, k, name, np.asarray(value)) for k, (name, value) in enumerate(example.items())}
                if example.keys() != writers.keys():
                    raise DataError(f"example {count} has columns {sorted(example)}, those before {sorted(writers)}.")
                for name, writer in writers.items():
                    writer.append(np.asarray(example[name]), count)
        finally:
            for writer in writers.values():
                writer.close()
        about = {"examples": count, "columns": {name: writer.about() for name, writer in writers.items()}}
        (beside / "store.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
        return cls(folder)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def lengths(self, column: str) -> np.ndarray:
        """The first dimension of every example's array in a column, int64 [examples]."""
        return np.diff(self._columns[column][1])

    def stream(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """All values of a column, one example after the other, as they are mapped from disk; and where each example begins, and the last ends."""
        values, offsets, _ = self._columns[column]
        return values, offsets

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if not 0 <= index < self._count:
            raise IndexError(f"{self.folder}: has examples 0 to {self._count - 1}, not {index}")
        found = {}
        for name, (values, offsets, scalar) in self._columns.items():
            part = np.array(values[offsets[index] : offsets[index + 1]])  # a copy: nothing holds the map open, nothing can write to it
            found[name] = part[0] if scalar else part
        return found

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (self[k] for k in range(self._count))


class _Writer:
    """One column that is being written."""

    def __init__(self, folder: Path, number: int, name: str, first: np.ndarray):
        self.name, self.scalar = name, first.ndim == 0
        self.dtype, self.shape = first.dtype, first.shape[1:]
        if first.dtype.hasobject or first.dtype.kind in "USV":
            raise DataError(f"column {name!r}: arrays of numbers can be stored, got dtype {first.dtype}. Encode symbols first.")
        self.values = (folder / f"{number}.values").open("wb")
        self.offsets = (folder / f"{number}.offsets").open("wb")
        self.end = 0
        self.offsets.write(np.int64(0).astype("<i8").tobytes())

    def append(self, array: np.ndarray, example: int) -> None:
        if (array.ndim == 0) != self.scalar or array.shape[1:] != self.shape or array.dtype != self.dtype:
            raise DataError(
                f"example {example}, column {self.name!r}: expected {self.dtype} of shape {self._shape()}, got {array.dtype} of"
                f" {list(array.shape)}. All examples of a column have the same but for the first dimension."
            )
        array = np.ascontiguousarray(array.reshape(1) if self.scalar else array)
        self.values.write(array.data if array.size else b"")
        self.end += array.shape[0]
        self.offsets.write(np.int64(self.end).astype("<i8").tobytes())

    def _shape(self) -> str:
        return "[]" if self.scalar else "[" + ", ".join(["T", *map(str, self.shape)]) + "]"

    def about(self) -> dict[str, object]:
        return {"dtype": self.dtype.str, "shape": list(self.shape), "scalar": self.scalar}

    def close(self) -> None:
        self.values.close()
        self.offsets.close()
