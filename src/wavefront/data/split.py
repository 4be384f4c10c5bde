"""The split that nobody gave: by a hash of each row's content, so that a row is in the same split tomorrow, wherever it stands."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

__all__ = ["HashSplit", "TailSplit", "position"]

SMALL = 1000  # rows below which the shares are counted out, so that no split comes out empty


def position(row: dict[str, Any]) -> float:
    """Where a row falls in [0, 1): SHA-256 of its content. Rows of equal content fall together, so that none is in two splits.

    >>> position({"text": "a", "label": "x"}) == position({"label": "x", "text": "a"})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(row):
        value = row[name]
        if isinstance(value, np.ndarray):
            content = repr(value.shape).encode() + np.ascontiguousarray(value, dtype="<f4").tobytes()
        else:
            content = repr(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d %d " % (len(name.encode()), len(content)) + name.encode() + content)
    return int.from_bytes(digest.digest()[:8], "big") / 2**64


class HashSplit:
    """Cuts shares from a stream of rows: {"test": 0.1, "valid": 0.1} -> the rows lowest by `position` are test, the next valid, the
    rest train. With fewer than 1,000 rows the borders lie at the rank of that share among the different ones (at least one each), else at the share.

    groups  columns whose values are cut instead: a value, in whichever of them, is of one split, and so are the rows that hold it. Rows of values of
            two splits are in none: what stands on both sides would tell of each other

    >>> pairs = [{"a": one, "b": other} for one in range(40) for other in range(40)]
    >>> split = HashSplit(lambda: pairs, {"test": 0.3}, groups=("a", "b"))
    >>> seen = {value for pair in split.select("train") for value in pair.values()}
    >>> any(value in seen for pair in split.select("test") for value in pair.values())
    False
    """

    def __init__(self, rows: Callable[[], Iterable[dict[str, Any]]], shares: dict[str, float], groups: Sequence[str] = ()):
        self.rows, self.shares, self.groups = rows, shares, tuple(groups)
        self._borders: dict[str, float] | None = None

    @property
    def borders(self) -> dict[str, float]:
        """split -> the position below which a row is of it (and not of the one before)."""
        if self._borders is None:
            first = [self._places(row) for row in islice(self.rows(), SMALL)]
            few = sorted({place for places in first for place in places}) if len(first) < SMALL else None
            self._borders, upper, rank = {}, 0.0, 0
            for split, share in self.shares.items():
                upper += share
                if few is not None:
                    rank += max(1, round(share * len(few)))
                self._borders[split] = upper if few is None else [*few, 1.0, 1.0][min(rank, len(few))]
        return self._borders

    def split_of(self, row: dict[str, Any]) -> str | None:
        found = {next((split for split, border in self.borders.items() if place < border), "train") for place in self._places(row)}
        return found.pop() if len(found) == 1 else None

    def _places(self, row: dict[str, Any]) -> list[float]:
        """Where the row, or each of its groups, falls."""
        return [position({"": row[name]}) for name in self.groups] or [position(row)]

    def select(self, split: str) -> Iterator[dict[str, Any]]:
        return (row for row in self.rows() if self.split_of(row) == split)


class TailSplit:
    """Cuts the end off a stream of text: {"test": 0.1, "valid": 0.05} -> its last tenth is test, what comes before that valid, the rest train. The
    shares are of the characters, the borders between rows.
    """

    def __init__(self, rows: Callable[[], Iterable[dict[str, Any]]], shares: dict[str, float], column: str):
        self.rows, self.shares, self.column = rows, shares, column
        self._parts: dict[str, tuple[int, int | None]] | None = None

    @property
    def parts(self) -> dict[str, tuple[int, int | None]]:
        """split -> its first row, and the first one after it."""
        if self._parts is None:
            ends = np.cumsum(array("q", (len(row[self.column]) for row in self.rows())), dtype=np.int64)
            self._parts, after, kept = {}, None, 1.0
            for split, share in self.shares.items():
                kept -= share
                first = int(np.searchsorted(ends, kept * ends[-1], side="left")) + 1 if len(ends) else 0
                self._parts[split], after = (first, after), first
            self._parts["train"] = (0, after)
        return self._parts

    def select(self, split: str) -> Iterator[dict[str, Any]]:
        first, after = self.parts[split]
        return islice(iter(self.rows()), first, after)
