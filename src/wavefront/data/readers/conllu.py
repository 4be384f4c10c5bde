"""CoNLL-U, the format of Universal Dependencies: ten columns, tab between them.  [universaldependencies.org/format.html]"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wavefront.data.readers.conll import sentences
from wavefront.data.readers.reader import Column, Options, Reader, Row, ending
from wavefront.errors import DataError

__all__ = ["Conllu"]

FIELDS = {"tokens": 1, "lemma": 2, "upos": 3, "xpos": 4, "feats": 5, "head": 6, "deprel": 7}


class Conllu(Reader):
    """Columns `tokens lemma upos xpos feats head deprel`, one symbol a word. Words of several tokens (id 1-2) and empty nodes
    (id 1.1) are not words of the sentence and are left out; ids must count 1, 2, 3, ...
    """

    format = "conllu"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = tuple(Column(name, "symbols") for name in FIELDS)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return ending(path) == ".conllu"

    def rows(self) -> Iterator[Row]:
        for sentence in sentences(self.path):
            words: list[list[str]] = []
            for number, line in sentence:
                if line.startswith("#"):
                    continue
                parts = line.split("\t")
                if len(parts) != 10:
                    raise DataError(
                        f"{self.path}, line {number}: expected the 10 tab-separated columns of CoNLL-U, got {len(parts)}: {line!r}."
                    )
                if "-" in parts[0] or "." in parts[0]:
                    continue
                if parts[0] != str(len(words) + 1):
                    raise DataError(
                        f"{self.path}, line {number}: expected word {len(words) + 1} of the sentence, got id {parts[0]!r}."
                        " Is a blank line missing between two sentences?"
                    )
                words.append(parts)
            if words:
                yield {name: [word[k] for word in words] for name, k in FIELDS.items()}
