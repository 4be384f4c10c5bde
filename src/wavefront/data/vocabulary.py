"""Symbols and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wavefront.errors import DataError

__all__ = ["PADDING", "UNKNOWN", "Labels", "Vocabulary"]

PADDING, UNKNOWN = 0, 1


class Vocabulary:
    """Symbols of an input: 0 is padding, 1 any symbol that training never saw, then the symbols, most frequent first.

    >>> vocabulary = Vocabulary.count([["the", "cat"], ["the", "dog"]], min_count=1)
    >>> vocabulary.encode(["the", "bird"]).tolist(), len(vocabulary)
    ([2, 1], 5)
    >>> vocabulary.decode([2, 3, 1])
    ['the', 'cat', '<unknown>']
    """

    SPECIAL: tuple[str, ...] = ("<padding>", "<unknown>")

    def __init__(self, symbols: Sequence[str], counts: Sequence[int] | None = None):
        self.symbols = tuple(symbols)
        self.counts = tuple(counts) if counts is not None else (0,) * len(self.symbols)
        self._numbers = {symbol: k for k, symbol in enumerate(self.symbols, len(self.SPECIAL))}
        if len(self._numbers) != len(self.symbols):
            twice = next(s for s, n in Counter(self.symbols).items() if n > 1)
            raise DataError(f"a vocabulary has every symbol once; {twice!r} comes twice.")

    @classmethod
    def count(cls, sequences: Iterable[Iterable[str]], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Of the symbols that come at least `min_count` times the `max_size` most frequent; among equally frequent by their spelling."""
        counter: Counter[str] = Counter()
        for sequence in sequences:
            counter.update(sequence)
        return cls.of(counter, min_count, max_size)

    @classmethod
    def of(cls, counter: Counter[str], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """As `count`, of symbols already counted."""
        kept = sorted(((s, n) for s, n in counter.items() if n >= min_count), key=lambda pair: (-pair[1], pair[0]))[:max_size]
        return cls([s for s, _ in kept], [n for _, n in kept])

    def encode(self, symbols: Iterable[str]) -> np.ndarray:
        """Numbers, int64 [T]; an unseen symbol is `UNKNOWN`."""
        return np.fromiter((self._numbers.get(s, UNKNOWN) for s in symbols), dtype=np.int64)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The symbols of numbers; `<padding>` and `<unknown>` for 0 and 1."""
        names = (*self.SPECIAL, *self.symbols)
        return [names[int(k)] for k in numbers]

    def __len__(self) -> int:
        """How many numbers there are: symbols, padding, unknown."""
        return len(self.SPECIAL) + len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._numbers

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.symbols == self.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def to_json(self) -> dict[str, Any]:
        return {"symbols": list(self.symbols), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Vocabulary:
        return cls(saved["symbols"], saved["counts"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}: {', '.join(self.symbols[:6])}{', ...' if len(self.symbols) > 6 else ''})"


class Labels(Vocabulary):
    """The labels of an output, in the order of their spelling: no padding, no unknown; another label is an error.

    >>> labels = Labels.count([["B-YEAR", "O"], ["O"]])
    >>> labels.symbols, labels.encode(["O", "B-YEAR"]).tolist()
    (('B-YEAR', 'O'), [1, 0])
    """

    SPECIAL = ()

    @classmethod
    def of(cls, counter: Counter[str], min_count: int = 1, max_size: int | None = None) -> Labels:
        kept = sorted(Vocabulary.of(counter, min_count, max_size)._numbers)
        return cls(kept, [counter[s] for s in kept])

    def encode(self, symbols: Iterable[str]) -> np.ndarray:
        """Numbers, int64 [T]. A label that training never saw raises `DataError`: it can be neither predicted nor trained on."""
        symbols = list(symbols)
        try:
            return np.fromiter((self._numbers[s] for s in symbols), dtype=np.int64, count=len(symbols))
        except KeyError as error:
            known = ", ".join(self.symbols[:12]) + (", ..." if len(self.symbols) > 12 else "")
            raise DataError(f"label {error.args[0]!r} was never seen in training; known: {known}.") from None
