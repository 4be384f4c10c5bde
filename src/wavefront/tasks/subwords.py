"""Subwords: pieces of words that are learned from a text, so that any text is a row of few different symbols."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from wavefront.errors import DataError

__all__ = ["BLANK", "BytePairs"]

BLANK = "▁"  # marks the beginning of a word among pieces of letters
UNKNOWN = "<unknown>"


class BytePairs:
    """Byte-pair encoding: of all pairs that stand side by side the most frequent one is joined, again and again.  [Sennrich et al. 2016,
    arXiv:1508.07909]

    start  what is joined. "bytes": every text can be cut, and comes back to the byte; pieces are written in the letters that stand for bytes, a blank
           belongs to the word behind it. "letters": of words, which begin with ▁; a letter that the text does not have is `UNKNOWN`

    >>> pairs = BytePairs("letters")
    >>> pairs.learn(["low lower lowest"] * 50, size=20)
    >>> pairs.cut("lower low")
    ['▁lower', '▁low']
    """

    def __init__(self, start: Literal["bytes", "letters"]):
        self.start = start
        self._tokenizer: Any = None

    def learn(self, texts: Iterable[str], size: int) -> None:
        """`size` pieces, those that are joined first among them."""
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        if self.start == "bytes":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            trainer = trainers.BpeTrainer(
                vocab_size=size, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
            )
        else:
            tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
            words = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(words))  # no piece goes across words
            trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=[UNKNOWN])
        tokenizer.train_from_iterator(texts, trainer)
        self._tokenizer = tokenizer

    def cut(self, text: str) -> list[str]:
        return list(self._tokenizer.encode(text).tokens)

    def numbers(self, text: str) -> list[int]:
        """The pieces of a text by their places in `pieces`."""
        return list(self._tokenizer.encode(text).ids)

    @property
    def pieces(self) -> list[str]:
        """All there are, but for the unknown one."""
        found = sorted(self._tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        return [piece for piece, _ in found if piece != UNKNOWN]

    def __len__(self) -> int:
        return len(self.pieces)

    def state(self) -> str:
        return str(self._tokenizer.to_str())

    @classmethod
    def from_state(cls, start: Literal["bytes", "letters"], state: str) -> BytePairs:
        from tokenizers import Tokenizer

        pairs = cls(start)
        try:
            pairs._tokenizer = Tokenizer.from_str(state)
        except Exception as error:  # what the library raises for text that is no tokenizer of its own
            raise DataError(f"the subwords of a saved run cannot be read: {error}") from None
        return pairs
