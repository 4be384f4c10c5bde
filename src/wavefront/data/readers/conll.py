"""CoNLL: one word a line with its columns, a blank line after each sentence; the last column is the label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending, first_lines, lines
from wavefront.errors import DataError

__all__ = ["Conll", "sentences"]


def sentences(path: Path) -> Iterator[list[tuple[int, str]]]:
    """The sentences of a file, each a list of (line number, line)."""
    sentence: list[tuple[int, str]] = []
    for number, line in lines(path):
        if line.strip():
            sentence.append((number, line))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


class Conll(Reader):
    """Columns separated by tabs, or else by blanks. They are `tokens`, `column2`, ... and `tags`, the last; with a first line
    `# columns = tokens pos chunk tags` (or `# global.columns = FORM ...`) they have the names given there.

    A line that starts with # before the words of a sentence, and has not as many columns as words have, is a comment; lines of
    -DOCSTART- are left out.
    """

    format = "conll"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        names: list[str] | None = None
        line = None
        for _, line in lines(path):
            if line.startswith("#") and "columns" in line and "=" in line:
                names = line.split("=", 1)[1].split()
            elif line.strip() and not line.startswith("#") and not line.startswith("-DOCSTART-"):
                break
        else:
            raise empty_file(path, "a word and its label a line, a blank line after each sentence")
        self.separator = "\t" if "\t" in line else None
        self.width = len(line.split(self.separator))
        if names is None:
            names = ["tokens", *(f"column{k}" for k in range(2, self.width)), *(["tags"] if self.width > 1 else [])]
        if len(names) != self.width:
            raise DataError(f"{path}, line 1: names {len(names)} columns ({' '.join(names)}), but the words have {self.width}.")
        self.columns = tuple(Column(name, "symbols") for name in names)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if ending(path) in (".conll", ".iob", ".iob2", ".bio"):
            return True
        if not path.is_file() or ending(path) not in (".txt", ".tsv", ".text", ""):
            return False
        head = [line for line in first_lines(path, 200) if not line.startswith(("#", "-DOCSTART-"))]
        widths = {len(line.split()) for line in head if line.strip()}
        return any(not line.strip() for line in head[:-1]) and len(widths) == 1 and min(widths) >= 2

    def rows(self) -> Iterator[Row]:
        for sentence in sentences(self.path):
            words: list[list[str]] = []
            for number, line in sentence:
                parts = line.rstrip("\t ").split(self.separator) if self.separator is None else line.split(self.separator)
                if line.startswith("-DOCSTART-") or (line.startswith("#") and not words and len(parts) != self.width):
                    continue
                if len(parts) != self.width or not all(parts):
                    raise DataError(
                        f"{self.path}, line {number}: expected {self.width} columns ({', '.join(c.name for c in self.columns)}) as in the"
                        f" lines before, got {len([p for p in parts if p])}: {line!r}. Every word needs every column."
                    )
                words.append(parts)
            if words:
                yield {column.name: list(values) for column, values in zip(self.columns, zip(*words))}
