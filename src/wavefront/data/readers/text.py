"""Plain text: one example a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from wavefront.data.readers.reader import Column, Options, Reader, Row, ending, lines

__all__ = ["Text", "words"]


def words(text: str) -> list[str]:
    """The words of a line, the marks at their beginnings and ends set apart. Text that is already split so comes back as it was.

    >>> words("In 2009, I paid $1,995 (U.S. dollars).")
    ['In', '2009', ',', 'I', 'paid', '$', '1,995', '(', 'U.S.', 'dollars', ')', '.']
    >>> words("the well-known '90s , they 're gone !")
    ['the', 'well-known', "'", '90s', ',', 'they', "'re", 'gone', '!']
    """
    found: list[str] = []
    for piece in text.split():
        if piece in CLITICS or not any(c.isalnum() for c in piece):
            found.extend([piece] if piece in CLITICS else _marks(piece))
            continue
        start, end = 0, len(piece)
        while not piece[start].isalnum():
            start += 1
        while not piece[end - 1].isalnum() and not _dotted(piece[start:end]):
            end -= 1
        found.extend([*_marks(piece[:start]), piece[start:end], *_marks(piece[end:])])
    return found


def _marks(text: str) -> list[str]:
    """Runs of the same mark stay together: an ellipsis, a dash of two hyphens."""
    return [run.group() for run in re.finditer(r"(.)\1*", text)]


CLITICS = {"'s", "'re", "'ve", "'ll", "'d", "'m", "n't", "’s", "’re", "’ve", "’ll", "’d", "’m", "n’t"}


def _dotted(word: str) -> bool:
    """U.S., e.g.: letters with a dot after each."""
    letters = word.split(".")
    return len(letters) > 2 and letters[-1] == "" and all(len(letter) == 1 and letter.isalpha() for letter in letters[:-1])


class Text(Reader):
    """One column, `text`: the lines as they are, blank ones left out."""

    format = "text"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = (Column("text", "text"),)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and ending(path) in (".txt", ".text", "")

    def rows(self) -> Iterator[Row]:
        for _, line in lines(self.path):
            if line.strip():
                yield {"text": line}
