"""Files of trees: bracketed with labels or without, JSON a line, Newick."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wavefront.data.readers.reader import Column, Options, Reader, Row, empty_file, ending, first_lines, lines
from wavefront.data.trees import labelled, read_trees
from wavefront.errors import DataError

__all__ = ["Trees"]

ALWAYS = (".ptb", ".mrg", ".prd", ".tree", ".trees", ".nwk", ".newick", ".nhx", ".tre")


class Trees(Reader):
    """One column, `tree`: the text of each tree on one line, which `data.trees.parse_tree` reads; every tree is checked here.

    Penn brackets and Newick may go over several lines. A text file is one of trees when each of its first lines begins with a bracket;
    a file of JSON lines, when its first is a list that holds lists of words, or an object with "children".
    """

    format = "trees"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.columns = (Column("tree", "text"),)
        self.penn = labelled(line for line in first_lines(path, 1000) if line.strip())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if not path.is_file():
            return False
        kind = ending(path)
        if kind in ALWAYS:
            return True
        if kind not in (".txt", ".text", "", ".json", ".jsonl", ".ndjson"):
            return False
        try:
            head = [line.strip() for line in first_lines(path, 20) if line.strip()]
        except DataError:
            return False  # another reader says what is wrong with its bytes
        if "json" in kind:
            return bool(head) and bool(re.match(r'\[\s*\[*\s*"|\{[^{[]*"children"\s*:', head[0])) and _nested(head)
        return bool(head) and all(line.startswith(("(", ")")) for line in head)

    def rows(self) -> Iterator[Row]:
        found = False
        for text, _ in read_trees(lines(self.path), str(self.path), self.penn):
            found = True
            yield {"tree": text}
        if not found:
            raise empty_file(self.path, "a tree, such as (2 (3 good) (2 film))")


def _nested(head: list[str]) -> bool:
    """Lists of words alone are symbols, not trees."""
    return any(line.startswith("{") or re.match(r'\[\s*\[|\[(\s*"(?:[^"\\]|\\.)*"\s*,)+\s*[\[{]', line) for line in islice(head, 20))
