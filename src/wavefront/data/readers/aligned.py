"""Aligned files: one text in two or more languages, line by line, each in a file whose ending names the language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from wavefront.data.readers.reader import ENDINGS, Column, Options, Reader, Row, lines
from wavefront.errors import DataError

__all__ = ["Aligned", "versions"]

LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")


def language(path: Path) -> str | None:
    """What language the ending of a name says.

    >>> language(Path("train.tok.de.gz")), language(Path("train.tsv")), language(Path("train.src"))
    ('de', None, 'src')
    """
    last = Path(path.name.removesuffix(".gz")).suffix
    return last[1:] if last not in ENDINGS and LANGUAGE.fullmatch(last[1:]) else None


def versions(path: Path) -> dict[str, Path]:
    """The files that differ from one in the language of their names alone, itself among them, by language; empty where it stands alone."""
    own = language(path)
    if own is None or path.is_dir() or not path.parent.is_dir():
        return {}
    zipped = ".gz" if path.name.endswith(".gz") else ""
    start = path.name.removesuffix(zipped).removesuffix(own)
    beside = [p for p in sorted(path.parent.iterdir()) if p.is_file() and (spoken := language(p)) and p.name == f"{start}{spoken}{zipped}"]
    return {str(language(p)): p for p in beside} if len(beside) > 1 else {}


class Aligned(Reader):
    """`train.en` and `train.de`: a column of text for each language. Line n of each belongs together; lines that are empty in all of them are left
    out, one that is empty in some is an error.
    """

    format = "aligned"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.group = versions(path)
        if not self.group:
            raise DataError(f"{path}: stands alone; expected the same text in another language beside it, as train.en beside train.de.")
        self.columns = tuple(Column(spoken, self.kind(spoken, "text")) for spoken in self.group)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return bool(versions(path))

    def files(self) -> list[Path]:
        return list(self.group.values())

    def rows(self) -> Iterator[Row]:
        names = list(self.group)
        for number, together in enumerate(zip_longest(*map(lines, self.group.values())), 1):
            if None in together:
                short, long = (self.group[names[k]] for k in (together.index(None), next(k for k, pair in enumerate(together) if pair)))
                raise DataError(f"{short}: ends before line {number}, {long.name} goes on. Line n of one belongs to line n of the other.")
            texts = [line.strip() for _, line in together]
            if not any(texts):
                continue
            if not all(texts):
                empty, full = (self.group[names[k]] for k in (texts.index(""), next(k for k, text in enumerate(texts) if text)))
                raise DataError(
                    f"{empty}, line {number}: empty, but {full.name} has a line there. Leave the line out of both, or fill it in."
                )
            yield {name: text.split() if kind == "symbols" else text for (name, kind), text in zip(self.columns, texts)}
