"""One side of a pair of sequences: text cut into symbols, symbols as numbers, and back."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wavefront.data import PADDING, Vocabulary
from wavefront.tasks.subwords import BLANK, BytePairs

__all__ = ["PIECES", "Pieces", "Side"]

Pieces = Literal["characters", "words", "subwords"]
PIECES = ("characters", "words", "subwords")


class Side:
    """A column of text, or of lists of symbols.

    pieces     what a text is cut into. "characters"; "words": what stands between blanks, so phonemes and tokens too; "subwords", learned
               (`BytePairs`). None: seen from the data. Words where the same few come
               again and again (phonemes) or there are few different ones, subwords for other sentences, characters for single words
    largest    at most so many different symbols; the rarer ones are unknown
    decompose  characters are taken apart (Unicode NFD: é is e and ´, a syllable of Hangul its letters), and put together again in what is
               written. None: where that at least halves the number of different characters

    0 is padding, and as a target the end; 1 is any symbol that training never saw.

    >>> side = Side()
    >>> for text in ["K AH Z", "K AE T", "T AE K"] * 5:
    ...     side.see(text)
    >>> side.settle(lambda: [])
    >>> side.pieces, side.text(side.encode("T AE Z")), side.symbols("T AE Z")
    ('words', 'T AE Z', ['T', 'AE', 'Z'])
    """

    MANY: int = 6000  # different words, beyond which a text is cut into subwords
    SUBWORDS: int = 8000  # learned, if not told how many

    def __init__(self, pieces: Pieces | None = None, largest: int | None = None, decompose: bool | None = None):
        self.pieces, self.largest, self.decompose = pieces, largest, decompose
        self.vocabulary = Vocabulary([])
        self.rows, self.steps, self.longest = 0, 0, 0
        self.sentences = False  # of words in their order, not of symbols that spell one
        self._words, self._letters = Counter[str](), Counter[str]()
        self._listed = False  # the values are lists of symbols
        self._composed = True  # all text is as NFC would have it
        self._most = {"characters": 0, "words": 0}
        self._pairs: BytePairs | None = None

    # Seen once as a stream, and settled

    def see(self, value: str | Sequence[str]) -> None:
        """A training value: counted."""
        self._listed = self._listed or not isinstance(value, str)
        words = value.split() if isinstance(value, str) else value
        self.rows += 1
        self._words.update(words)
        self._most["words"] = max(self._most["words"], len(words))
        if isinstance(value, str):
            self._letters.update(value)
            self._most["characters"] = max(self._most["characters"], len(value))
            self._composed = self._composed and (value.isascii() or unicodedata.is_normalized("NFC", value))

    def settle(self, texts: Callable[[], Iterable[str]]) -> None:
        """All were seen: what to cut into is decided, and what there is counted. `texts` gives the training values again, to learn subwords."""
        n, different = self._words.total(), len(self._words)
        short = sum(len(word) * count for word, count in self._words.items()) <= 3 * n
        several = n >= 2 * self.rows
        spelled = several and n >= 5 * different and different <= 1000 and short  # few short symbols, again and again: phonemes, say
        self.sentences = several and not spelled
        if self.pieces is None:
            if self._listed or spelled:
                self.pieces = "words"
            elif several:
                self.pieces = "words" if different <= self.MANY else "subwords"
            else:
                self.pieces = "characters"
        if self.pieces == "characters":
            self._settle_characters()
        elif self.pieces == "words":
            self.vocabulary = Vocabulary.of(self._words, max_size=self.largest)
            self.steps, self.longest = n, self._most["words"]
        else:
            self._settle_subwords(texts())
        self._words, self._letters = Counter(), Counter()

    def _settle_characters(self) -> None:
        apart = Counter[str]()
        for letter, count in self._letters.items():
            for part in unicodedata.normalize("NFD", letter):
                apart[part] += count
        if self.decompose is None:
            self.decompose = self._composed and 2 * len(apart) <= len(self._letters)
        counts = apart if self.decompose else self._letters
        self.vocabulary = Vocabulary.of(counts, max_size=self.largest)
        self.steps = counts.total()
        self.longest = self._most["characters"] * (3 if self.decompose else 1)  # a syllable of Hangul is up to three letters

    def _settle_subwords(self, texts: Iterable[str]) -> None:
        kept = list(texts)
        self._pairs = BytePairs("letters")
        self._pairs.learn(kept, self.largest or self.SUBWORDS)
        counts = Counter(dict.fromkeys(self._pairs.pieces, 0))  # letters too that training has only inside of longer ones
        for text in kept:
            symbols = self.symbols(text)
            counts.update(symbol for symbol in symbols if symbol in counts)
            self.longest = max(self.longest, len(symbols))
        self.vocabulary = Vocabulary.of(counts, min_count=0)
        self.steps = counts.total()

    # Text to numbers, and back

    def symbols(self, value: str | Sequence[str]) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        if self.pieces == "characters":
            return list(unicodedata.normalize("NFD", value) if self.decompose else value)
        if self.pieces == "words":
            return value.split()
        assert self._pairs is not None
        return self._pairs.cut(value)

    def encode(self, value: str | Sequence[str]) -> np.ndarray:
        return self.vocabulary.encode(self.symbols(value))

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The symbols of numbers, padding left out."""
        return self.vocabulary.decode(number for number in numbers if number != PADDING)

    def text(self, numbers: Iterable[int]) -> str:
        return self.joined(self.decode(numbers))

    def joined(self, symbols: Sequence[str]) -> str:
        """The text that symbols are cut from."""
        if self.pieces == "words":
            return " ".join(symbols)
        text = "".join(symbols)
        if self.pieces == "subwords":
            return text.replace(BLANK, " ").strip()
        return unicodedata.normalize("NFC", text) if self.decompose else text

    def units(self, text: str) -> list[str]:
        """What errors are counted in: characters, or what stands between blanks."""
        return list(text) if self.pieces == "characters" else text.split()

    @property
    def mean_length(self) -> float:
        return self.steps / max(1, self.rows)

    def __len__(self) -> int:
        """How many numbers there are, padding (or the end) and unknown included."""
        return len(self.vocabulary)

    @property
    def counts(self) -> list[int]:
        """How often each number was seen."""
        return [0] * len(Vocabulary.SPECIAL) + list(self.vocabulary.counts)

    def state(self) -> dict[str, Any]:
        return {
            "pieces": self.pieces,
            "decompose": self.decompose,
            "sentences": self.sentences,
            "vocabulary": self.vocabulary.to_json(),
            "subwords": self._pairs.state() if self._pairs is not None else None,
            "seen": [self.rows, self.steps, self.longest],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Side:
        side = cls(state["pieces"], decompose=state["decompose"])
        side.sentences = state["sentences"]
        side.vocabulary = Vocabulary.from_json(state["vocabulary"])
        side.rows, side.steps, side.longest = state["seen"]
        if state["subwords"] is not None:
            side._pairs = BytePairs.from_state("letters", state["subwords"])
        return side
