"""What a task reads from a column, as arrays for the store and tensors for the network: symbols (words, characters, any), or a numeric series."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wavefront.data import Vocabulary
from wavefront.errors import DataError
from wavefront.networks.embedding import Symbols, Words
from wavefront.tasks.spans import tokens_of
from wavefront.tasks.task import cell_maker

__all__ = ["Input", "SeriesInput", "SymbolInput", "padded"]

Example = dict[str, np.ndarray]


def padded(rows: Sequence[np.ndarray], fill: float = 0) -> Tensor:
    """Rows [T, ...] of different lengths -> [B, max T, ...], at least one step long."""
    steps = max([1, *map(len, rows)])
    out = np.full((len(rows), steps, *rows[0].shape[1:]), fill, rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


class Input(ABC):
    """One column of a data set: seen once as a stream, settled, and from then on encoded row by row."""

    kind: ClassVar[str]
    column: ClassVar[str]  # of an example: the one as long as the sequence

    rows: int = 0  # how many were seen, of how many steps together and at most
    steps: int = 0
    longest: int = 0

    @abstractmethod
    def see(self, value: Any) -> None:
        """A training value: counted."""

    @abstractmethod
    def settle(self) -> None:
        """All were seen: vocabularies and scales are made."""

    @abstractmethod
    def encode(self, value: Any) -> Example: ...

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
        """-> what the reading network takes, and the lengths."""

    @abstractmethod
    def state(self) -> dict[str, Any]: ...

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None: ...

    def _seen(self, steps: int) -> None:
        self.rows, self.steps, self.longest = self.rows + 1, self.steps + steps, max(self.longest, steps)

    @property
    def mean_length(self) -> float:
        return self.steps / max(1, self.rows)


class SymbolInput(Input):
    """A list of symbols as it is, or text cut into words or characters; optionally each symbol's spelling too, casing kept.

    pieces    what a text is cut into: "words" or "characters" (a list of symbols stays as it is)
    spelling  whether the network also sees how a symbol is written, letter by letter; None: if they look like words, that is, if there are
              at least 100 different ones of two letters or more in the mean
    largest   at most so many different symbols are known; the rarer ones, and with spelling those seen once, are unknown
    longest   what comes after so many symbols is not read; None: all is
    limit     a symbol longer than this is read by its first and last letters only

    Padding is 0, a symbol that training never saw is 1: unknown.
    """

    kind = "symbols"
    column = "symbols"
    limit: ClassVar[int] = 24

    def __init__(self, pieces: str = "words", spelling: bool | None = None, largest: int = 100_000, longest: int | None = None):
        self.pieces, self.spelling, self.largest, self.cut = pieces, spelling, largest, longest
        self._counts: Counter[str] = Counter()
        self.vocabulary = self.letters = Vocabulary([])

    def symbols(self, value: Any) -> list[str]:
        symbols = value if isinstance(value, list) else [token.text for token in tokens_of(value, self.pieces)]
        return symbols[: self.cut]

    def see(self, value: Any) -> None:
        symbols = self.symbols(value)
        self._counts.update(symbols)
        self._seen(len(symbols))

    def settle(self) -> None:
        if self.spelling is None:
            letters = sum(len(symbol) * n for symbol, n in self._counts.items())
            self.spelling = self.pieces != "characters" and len(self._counts) >= 100 and letters >= 2 * self._counts.total()
        # a word seen once tells little by itself: how it is written tells more, and the vector of the unknown one is learned from it
        self.vocabulary = Vocabulary.of(self._counts, min_count=2 if self.spelling else 1, max_size=self.largest)
        letters_seen: Counter[str] = Counter()
        if self.spelling:
            for symbol, n in self._counts.items():
                for letter in symbol:
                    letters_seen[letter] += n
        self.letters = Vocabulary.of(letters_seen)
        self._counts = Counter()

    def encode(self, value: Any) -> Example:
        symbols = self.symbols(value)
        example: Example = {"symbols": self.vocabulary.encode(symbols)}
        if self.spelling:
            half = self.limit // 2
            short = [symbol if len(symbol) <= self.limit else symbol[:half] + symbol[-half:] for symbol in symbols]
            example["letters"] = self.letters.encode([letter for symbol in short for letter in symbol])
            example["sizes"] = np.array([len(symbol) for symbol in short], np.int32)
        return example

    def collate(self, examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
        lengths = torch.tensor([len(example["symbols"]) for example in examples])
        inputs = {"symbols": padded([example["symbols"] for example in examples]).long()}
        if self.spelling:
            known: dict[bytes, int] = {b"": 0}  # number of each spelling, 0 for padding
            spellings, rows = [np.zeros(0, np.int64)], []
            for example in examples:
                ends = np.cumsum(example["sizes"])
                row = np.zeros(len(ends), np.int64)
                for i, letters in enumerate(np.split(example["letters"], ends[:-1]) if len(ends) else ()):
                    row[i] = known.setdefault(letters.tobytes(), len(spellings))
                    if row[i] == len(spellings):
                        spellings.append(letters)
                rows.append(row)
            inputs["spelling"] = padded(rows)
            inputs["letters"] = padded(spellings).long()
            inputs["sizes"] = torch.tensor([len(letters) for letters in spellings])
        return inputs, lengths

    @property
    def counts(self) -> list[int]:
        """How often each number was seen, those of padding and unknown included."""
        return [0] * len(Vocabulary.SPECIAL) + list(self.vocabulary.counts)

    def text(self, example: Example) -> list[str]:
        """The symbols again, as far as they are known."""
        if not self.spelling:
            return self.vocabulary.decode(example["symbols"].tolist())
        letters = self.letters.decode(example["letters"].tolist())
        ends = np.cumsum(example["sizes"]).tolist()
        return [
            "".join("□" if len(letter) > 1 else letter for letter in letters[end - n : end])
            for end, n in zip(ends, example["sizes"].tolist())
        ]

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "pieces": self.pieces,
            "spelling": self.spelling,
            "longest": self.cut,
            "vocabulary": self.vocabulary.to_json(),
            "letters": self.letters.to_json(),
            "seen": [self.rows, self.steps, self.longest],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.pieces, self.spelling, self.cut = state["pieces"], state["spelling"], state["longest"]
        self.vocabulary, self.letters = Vocabulary.from_json(state["vocabulary"]), Vocabulary.from_json(state["letters"])
        self.rows, self.steps, self.longest = state["seen"]


class SeriesInput(Input):
    """A numeric series [T, channels], scaled channel by channel.

    view  "train": (x - mean) / deviation of the training data, so that level and size of a series still tell;
          "series": by its own mean and deviation, so that only its shape tells;
          "both": the one beside the other, and the logarithm of its own deviation;
          None: "both" where the deviations of the training series differ by more than a factor e from their (geometric) mean, else "train"

    Where training has missing values (NaN), each channel gets one more that says which are there (1) and which are not (0); a missing
    value is 0 itself, which is the mean. A series of a million steps is first made shorter: the mean of every `shrink` steps is one,
    so that the longest of training has at most `MOST`; with `whole`, every step stays.
    """

    kind = "series"
    column = "values"
    MOST: ClassVar[int] = 2048

    def __init__(self, view: str | None = None, whole: bool = False):
        self.view, self.whole = view, whole
        self.channels, self.masked, self.shrink = 0, False, 1
        self._values, self._sizes = Moments(), Moments()

    def see(self, value: Any) -> None:
        values = self._checked(value, self.channels or None)
        self.channels = values.shape[1]
        self.masked = self.masked or bool(np.isnan(values).any())
        self._values.add(values)
        if len(values):
            self._sizes.add(_log_deviation(values)[None])
        self._seen(len(values))

    def settle(self) -> None:
        if self.view is None:
            self.view = "both" if self._sizes.deviation.max(initial=0.0) > 1 else "train"
        self.shrink = 1 if self.whole else max(1, math.ceil(self.longest / self.MOST))
        self.longest = math.ceil(self.longest / self.shrink)

    @property
    def features(self) -> int:
        return self.channels * ((3 if self.view == "both" else 1) + self.masked)

    def encode(self, value: Any) -> Example:
        values = self._checked(value, self.channels)
        views = [self._values.scaled(values)] if self.view != "series" else []
        if self.view != "train":
            own = Moments()
            own.add(values)
            views.append(own.scaled(values))
        if self.view == "both":
            size = self._sizes.scaled(_log_deviation(values)[None]) if len(values) else np.zeros((1, self.channels))
            views.append(np.where(np.isnan(values), np.nan, size))
        return {"values": self._shorter(np.concatenate(views, 1)).astype(np.float32)}

    def collate(self, examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tensor]:
        values = padded([example["values"] for example in examples])
        there = ~values[..., : self.channels].isnan()
        lengths = torch.tensor([len(example["values"]) for example in examples])
        values = values.nan_to_num(0.0)
        return {"values": torch.cat([values, there.to(values.dtype)], -1) if self.masked else values}, lengths

    def _shorter(self, values: np.ndarray) -> np.ndarray:
        if self.shrink == 1 or not len(values):
            return values
        starts = np.arange(0, len(values), self.shrink)
        n = np.add.reduceat(~np.isnan(values), starts, 0, dtype=np.int64)
        sums = np.add.reduceat(np.nan_to_num(values), starts, 0)
        return np.where(n > 0, sums / np.maximum(n, 1), np.nan)

    def _checked(self, value: Any, channels: int | None) -> np.ndarray:
        values = np.asarray(value, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or (channels is not None and values.shape[1] != channels):
            raise DataError(f"expected a series of [T, {channels or 'channels'}], as in training; got one of {list(values.shape)}.")
        if np.isinf(values).any():
            raise DataError(
                f"a series of {list(values.shape)} has {int(np.isinf(values).sum())} infinite value(s). Every value must be finite."
            )
        return values

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "view": self.view,
            "channels": self.channels,
            "masked": self.masked,
            "shrink": self.shrink,
            "values": self._values.state(),
            "sizes": self._sizes.state(),
            "seen": [self.rows, self.steps, self.longest],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.view, self.channels, self.masked, self.shrink = (state[key] for key in ("view", "channels", "masked", "shrink"))
        self._values, self._sizes = Moments(**state["values"]), Moments(**state["sizes"])
        self.rows, self.steps, self.longest = state["seen"]


class Moments:
    """Mean and deviation of each column of a stream of rows, NaN left out: exact for large offsets.  [Chan et al. 1979]

    >>> moments = Moments()
    >>> moments.add(np.array([[1.0], [3.0]]))
    >>> moments.add(np.array([[np.nan], [5.0]]))
    >>> moments.mean.tolist(), moments.deviation.round(4).tolist()
    ([3.0], [1.633])
    """

    def __init__(self, count: Sequence[float] = (0,), mean: Sequence[float] = (0,), squares: Sequence[float] = (0,)):
        self.count, self.mean, self.squares = np.array(count, float), np.array(mean, float), np.array(squares, float)

    def add(self, rows: np.ndarray) -> None:
        there = ~np.isnan(rows)
        n = there.sum(0)
        mean = np.where(there, rows, 0).sum(0) / np.maximum(n, 1)
        squares = (np.where(there, rows - mean, 0) ** 2).sum(0)
        total, apart = self.count + n, mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * n / np.maximum(total, 1)
        self.mean = self.mean + apart * n / np.maximum(total, 1)
        self.count = total

    @property
    def deviation(self) -> np.ndarray:
        return np.sqrt(self.squares / np.maximum(self.count, 1))

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """To mean 0 and deviation 1; what is constant (but for rounding), to 0 only."""
        deviation = self.deviation
        return (rows - self.mean) / np.where(deviation > 1e-7 * np.abs(self.mean), deviation, 1.0)

    def state(self) -> dict[str, Any]:
        return {"count": self.count.tolist(), "mean": self.mean.tolist(), "squares": self.squares.tolist()}


def _log_deviation(values: np.ndarray) -> np.ndarray:
    own = Moments()
    own.add(values)
    return np.log(own.deviation + 1e-6)


def input_from_state(state: Mapping[str, Any]) -> SymbolInput | SeriesInput:
    restored: SymbolInput | SeriesInput = SymbolInput() if state["kind"] == "symbols" else SeriesInput()
    restored.restore(state)
    return restored


def text_of_runs(values: Sequence[Any], most: int = 12) -> str:
    """A long list of labels, run by run.

    >>> text_of_runs(["rest", "rest", "walk", "rest"])
    '0-1 rest, 2 walk, 3 rest'
    """
    shown, first = [], 0
    for value, run in groupby(values):
        last = first + sum(1 for _ in run) - 1
        shown.append(f"{first} {value}" if first == last else f"{first}-{last} {value}")
        first = last + 1
    return ", ".join(shown[:most]) + (f", ... ({len(shown)} runs)" if len(shown) > most else "")


def in_brief(value: Any) -> str:
    """What was read, for the line of a prediction: texts and symbols whole, a series by its length.

    >>> in_brief(["a", "b"]), in_brief(np.zeros((7, 2)))
    ('a b', 'series of 7 steps')
    """
    return value if isinstance(value, str) else " ".join(value) if isinstance(value, list) else f"series of {len(value)} steps"


def about(n: float, low: int, high: int) -> int:
    """n within limits, rounded to a power of two: a size chosen from data."""
    return max(low, min(high, 2 ** round(math.log2(max(n, 1)))))


def symbol_reader(source: SymbolInput, settings: Any) -> Words | Symbols:
    """What turns symbols into vectors, as the settings say: by what they are, and by how they are written."""
    if not settings.spelling:
        return Symbols(source.counts, settings.word_size, settings.rare)
    letters = (len(source.letters), settings.letter_size, settings.letter_units, cell_maker(settings.letter_cell))
    return Words(source.counts, settings.word_size, *letters, rare=settings.rare, dropout=settings.dropout)
