"""NumPy archives: .npz files of arrays, one value of each for every row."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wavefront.data.readers.reader import Column, Options, Reader, Row, ending
from wavefront.errors import DataError

__all__ = ["Arrays"]


class Arrays(Reader):
    """Each array is a column; its first dimension counts the rows.

    [rows] of numbers are numbers, of strings text; [rows, T] and [rows, T, channels] series. Series of different lengths are one array
    [Σ T, channels] beside one of where each begins: `frames` and `frames_offsets` [rows + 1] (or `sample_offsets` for `samples`).
    Nothing pickled is read. Arrays are held in memory.
    """

    format = "npz"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        arrays = self._arrays()
        self.offsets = {name: beside for name in arrays if (beside := _offsets(name, arrays))}
        names = [name for name in arrays if name not in self.offsets.values()]
        counts = {name: len(arrays[self.offsets[name]]) - 1 if name in self.offsets else len(arrays[name]) for name in names}
        if not counts or not max(counts.values()):
            raise DataError(f"{path}: no rows; expected arrays whose first dimension counts them.")
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DataError(
                f"{path}: every array needs as many rows as the others; there are {listed}. Series of different lengths are one array of all"
                " their steps, and beside it NAME_offsets, where each begins and the last one ends."
            )
        for name, beside in self.offsets.items():
            ends = arrays[beside]
            if ends[0] != 0 or ends[-1] != len(arrays[name]) or (np.diff(ends) < 0).any():
                raise DataError(f"{path}: {beside} goes from 0 to the {len(arrays[name])} steps of {name}, never down; got {ends[:4]} ...")
        self.columns = tuple(Column(name, self.kind(name, self._kind(name, arrays[name]))) for name in names)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) == ".npz"

    def rows(self) -> Iterator[Row]:
        arrays = self._arrays()
        count = len(self._parts(arrays, self.columns[0].name))
        parts = {name: self._parts(arrays, name) for name, _ in self.columns}
        for k in range(count):
            where = f"{self.path}, row {k + 1}"
            yield {name: self._value(parts[name][k], name, kind, where) for name, kind in self.columns}

    def _parts(self, arrays: dict[str, np.ndarray], name: str) -> Any:
        if name not in self.offsets:
            return arrays[name]
        return np.split(arrays[name], arrays[self.offsets[name]][1:-1])

    def _value(self, value: Any, name: str, kind: str, where: str) -> Any:
        if kind in ("text", "symbols"):
            return str(value) if kind == "text" else str(value).split()
        where = f"{where}, array {name!r}"
        if kind == "number":
            return self.finite(float(value), name, where)
        series = np.asarray(value, np.float32)
        return self.finite(series[:, None] if series.ndim == 1 else series, name, where)

    def _kind(self, name: str, array: np.ndarray) -> str:
        steps = array.ndim + (name in self.offsets)
        if array.dtype.kind in "US" and array.ndim == 1:
            return "text"
        if array.dtype.kind in "biuf" and steps <= 3:
            return "number" if steps == 1 else "series"
        raise DataError(
            f"{self.path}: array {name!r} is {array.dtype} of {list(array.shape)}; expected numbers or strings, at most [rows, T, channels]."
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        if not zipfile.is_zipfile(self.path):
            raise DataError(f"{self.path}: expected a zip archive of arrays, as numpy.savez writes it; it is none, or cut short.")
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: cannot be read as arrays of numbers and strings: {error}") from None


def _offsets(name: str, arrays: dict[str, np.ndarray]) -> str | None:
    """The array that says where each row of another begins."""
    names = (f"{name}_offsets", f"{name.removesuffix('s')}_offsets")
    return next((beside for beside in names if beside in arrays and beside != name and arrays[beside].dtype.kind in "iu"), None)
