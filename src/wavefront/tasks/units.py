"""What a text is made of, as numbers: characters, bytes, words, or subwords that are learned from it."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from wavefront.data import PADDING, UNKNOWN, Vocabulary
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.subwords import BytePairs

__all__ = ["UNITS", "Bytes", "Characters", "Subwords", "Units", "Words", "unit_for"]

END = PADDING  # nothing is padded in a stream: 0 is the end of a document, and what is read before anything
SPECIAL = len(Vocabulary.SPECIAL)


class Units(ABC):
    """One way to cut a text: seen once as a stream, settled, and from then on encoded piece by piece.

    Numbers: 0 is the end of a document, 1 any symbol that training never saw (or too rarely), 2 and on are the symbols, the most frequent first.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = True  # whether the symbols say every character of a text, so that bits per character can be told

    @abstractmethod
    def learn(self, texts: Iterable[str]) -> None:
        """One pass over the training text."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Numbers of the symbols, int64 [T]."""

    @abstractmethod
    def symbols(self, numbers: Sequence[int]) -> list[str]:
        """Each symbol as it can be shown."""

    @abstractmethod
    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        """The text, as it grows: for each number what it adds."""

    @abstractmethod
    def characters(self) -> np.ndarray:
        """How many characters of text each number stands for, [symbols]."""

    @abstractmethod
    def state(self) -> dict[str, Any]: ...

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def __len__(self) -> int:
        """How many numbers there are."""

    def unknown(self, text: str) -> list[str]:
        """The symbols of a text that training never saw, each once."""
        return []

    def spellings(self) -> list[str]:
        """What tells one number from another, in another model too."""
        return self.symbols(range(len(self)))

    def text(self, numbers: Iterable[int]) -> str:
        return "".join(self.pieces(numbers))


class Characters(Units):
    """Every character is a symbol; so is the end of a line.

    >>> units = Characters()
    >>> units.learn(["to be\\n", "or not\\n"])
    >>> units.text(units.encode("not to!").tolist())
    'not to□'
    """

    name = "characters"

    def __init__(self, largest: int = 100_000, min_count: int = 1):
        self.largest, self.min_count = largest, min_count
        self.vocabulary = Vocabulary([])

    def cut(self, text: str) -> Iterable[str]:
        return text

    def learn(self, texts: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.cut(text))
        self.vocabulary = Vocabulary.of(counts, self.min_count, self.largest)

    def encode(self, text: str) -> np.ndarray:
        return self.vocabulary.encode(self.cut(text))

    def unknown(self, text: str) -> list[str]:
        return [symbol for symbol in dict.fromkeys(self.cut(text)) if symbol not in self.vocabulary]

    def symbols(self, numbers: Sequence[int]) -> list[str]:
        return self.vocabulary.decode(numbers)

    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        for number in numbers:
            yield "□" if number == UNKNOWN else "" if number == END else self.vocabulary.symbols[number - SPECIAL]

    def characters(self) -> np.ndarray:
        sizes = np.ones(len(self), np.int64)
        sizes[END] = 0
        return sizes

    def state(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.to_json()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.vocabulary = Vocabulary.from_json(state["vocabulary"])

    def __len__(self) -> int:
        return len(self.vocabulary)


class Words(Characters):
    """What stands between blanks is a symbol, and so is the end of a line. A word seen fewer than `min_count` times in training is the unknown
    one, wherever it stands, and is foretold as that: with other limits there are other perplexities.

    >>> units = Words(min_count=1)
    >>> units.learn(["to be or\\n", "not to be\\n"])
    >>> units.text(units.encode("or not to swim\\n").tolist())
    'or not to □\\n'
    """

    name = "words"
    lossless = False

    def cut(self, text: str) -> Iterable[str]:
        return [*text.split(), "\n"] if text.endswith("\n") else text.split()

    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        begun = False
        for word in super().pieces(numbers):
            apart = word not in ("\n", "")  # of the end of a line and of a document
            yield f" {word}" if begun and apart else word
            begun = apart


class Bytes(Units):
    """Every byte of the text in UTF-8 is a symbol: any text can be written, and none is unknown.

    >>> units = Bytes()
    >>> units.encode("né").tolist(), units.text(units.encode("né").tolist())
    ([112, 197, 171], 'né')
    """

    name = "bytes"

    def learn(self, texts: Iterable[str]) -> None:
        for _ in texts:
            pass

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) + SPECIAL

    def symbols(self, numbers: Sequence[int]) -> list[str]:
        return [Vocabulary.SPECIAL[n] if n < SPECIAL else bytes([n - SPECIAL]).decode("ascii", "backslashreplace") for n in numbers]

    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        return _decoded(b"" if n < SPECIAL else bytes([n - SPECIAL]) for n in numbers)

    def characters(self) -> np.ndarray:
        return np.array([0] * SPECIAL + [int(byte & 0xC0 != 0x80) for byte in range(256)])

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass

    def __len__(self) -> int:
        return SPECIAL + 256


class Subwords(Units):
    """Bytes joined to frequent pieces, learned from the text (`BytePairs`): `size` symbols, those of the single bytes among them. Any text can be
    written, and none is unknown.

    >>> units = Subwords(size=300)
    >>> units.learn(["low lower lowest\\n"] * 50)
    >>> units.text(units.encode("slower ñ\\n").tolist())
    'slower ñ\\n'
    """

    name = "subwords"

    def __init__(self, size: int = 2000):
        if size < 257:
            raise SettingsError(f"network.subwords is at least 257: each of the 256 bytes is one, and there is more to learn; got {size}.")
        self.size = size
        self._pairs = BytePairs("bytes")

    def learn(self, texts: Iterable[str]) -> None:
        self._pairs.learn(texts, self.size)

    @cached_property
    def spelled(self) -> list[bytes]:
        """The bytes of each symbol."""
        letters = {letter: byte for byte, letter in enumerate(_byte_letters())}
        return [bytes(letters[letter] for letter in piece) for piece in self._pairs.pieces]

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._pairs.numbers(text), np.int64) + SPECIAL

    def symbols(self, numbers: Sequence[int]) -> list[str]:
        return [Vocabulary.SPECIAL[n] if n < SPECIAL else self.spelled[n - SPECIAL].decode("utf-8", "backslashreplace") for n in numbers]

    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        return _decoded(b"" if n < SPECIAL else self.spelled[n - SPECIAL] for n in numbers)

    def characters(self) -> np.ndarray:
        return np.array([0] * SPECIAL + [sum(byte & 0xC0 != 0x80 for byte in spelled) for spelled in self.spelled])

    def state(self) -> dict[str, Any]:
        return {"subwords": self._pairs.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._pairs = BytePairs.from_state("bytes", state["subwords"])

    def __len__(self) -> int:
        return SPECIAL + len(self.spelled)


UNITS: dict[str, type[Units]] = {kind.name: kind for kind in (Characters, Bytes, Words, Subwords)}

MANY_WORDS, MARKS = 100_000, 0.05
MANY_CHARACTERS = 5_000


def unit_for(texts: Iterable[str]) -> str:
    """How a text is best cut, by how its beginning looks: words, where marks stand apart as words do and there are 100,000 or more; bytes, where
    there are very many different characters; else characters.

    >>> unit_for(["No marks stand apart here, as in any book.\\n"])
    'characters'
    """
    words = marks = 0
    characters: set[str] = set()
    for text in texts:
        pieces = text.split()
        words += len(pieces)
        marks += sum(not any(map(str.isalnum, piece)) for piece in pieces)
        characters.update(text)
        if words > 10 * MANY_WORDS:
            break
    if words >= MANY_WORDS and marks >= MARKS * words:
        return "words"
    return "bytes" if len(characters) > MANY_CHARACTERS else "characters"


def unit_from(name: str, state: Mapping[str, Any]) -> Units:
    if name not in UNITS:
        raise DataError(f"a text is cut into {', '.join(UNITS)}; got {name!r}.")
    units = UNITS[name]()
    units.restore(state)
    return units


def _decoded(parts: Iterable[bytes]) -> Iterator[str]:
    """Text of UTF-8 in parts that may end within a character; what is none becomes �."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        yield decoder.decode(part)
    yield decoder.decode(b"", final=True)


@lru_cache
def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level tokenizer: itself where it can be printed, else one from 256 on, in their order."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printed else chr(next(others)) for byte in range(256)]
