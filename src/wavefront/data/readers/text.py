"""Plain text, as the stream that it is."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
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
    """One column, `text`: the lines with their ends, blank ones too, so that the rows one after the other are the text. A line of more than 4,096
    characters comes in pieces, cut at a blank where there is one; whatever ends a line in the file, here it is "\\n".
    """

    format = "text"
    stream = True
    PIECE = 4096  # characters

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = (Column("text", "text"),)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and ending(path) in (".txt", ".text", ".log", "")

    def rows(self) -> Iterator[Row]:
        rest = ""
        try:
            with gzip.open(self.path, "rb") if self.path.name.lower().endswith(".gz") else self.path.open("rb") as file:
                text = TextIOWrapper(file, encoding="utf-8-sig")
                while piece := text.readline(self.PIECE - len(rest)):
                    piece = rest + piece
                    cut = piece.rfind(" ") + 1 or len(piece)
                    keep = len(piece) if piece.endswith("\n") or len(piece) < self.PIECE else cut
                    rest = piece[keep:]
                    yield {"text": piece[:keep]}
            if rest:
                yield {"text": rest}
        except (UnicodeDecodeError, EOFError, OSError, zlib.error):
            for _ in lines(self.path):  # says what is wrong, and in which line
                pass
            raise
