"""Parallel files, line by line: the words of a sentence in one, their tags in the next, the label of the sentence in a third."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from wavefront.data.readers.reader import Column, Options, Reader, Row, lines, stem
from wavefront.errors import DataError

__all__ = ["Parallel"]

ROLES = {
    "tokens": ("seq.in", "tokens", "words"),
    "tags": ("seq.out", "tags", "slots", "labels"),
    "label": ("label", "intent", "class"),
}


def role_of(path: Path) -> tuple[str, str] | None:
    """(the role of a file, what its name has before that): train.words is ("tokens", "train."), seq.out is ("tags", "")."""
    name = stem(path)
    for role, names in ROLES.items():
        for ending in names:
            if name == ending or name.endswith(("." + ending, "_" + ending)):
                return role, name[: -len(ending)]
    return None


def companions(path: Path) -> dict[str, Path]:
    """The files that go with a file of words: role -> path, `tokens` first; empty when it is not one or stands alone."""
    found = role_of(path)
    if path.is_dir() or found is None or found[0] != "tokens":
        return {}
    beside = {role_of(p): p for p in sorted(path.parent.iterdir()) if p.is_file()}
    group = {role: beside[role, found[1]] for role in ROLES if (role, found[1]) in beside}
    return {**group, "tokens": path} if len(group) > 1 else {}


class Parallel(Reader):
    """`seq.in`, `seq.out`, `label` (as SNIPS and ATIS come), or `train.words` and `train.tags`: columns tokens, tags, label, those
    that exist. Line n of each belongs together; as many tags as tokens in every line.
    """

    format = "parallel"

    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.group = companions(path)
        if not self.group:
            raise DataError(f"{path}: expected a file of words (seq.in, *.tokens, *.words) beside one of tags (seq.out, *.tags) or label.")
        self.columns = tuple(Column(role, "text" if role == "label" else "symbols") for role in self.group)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return bool(companions(path))

    def files(self) -> list[Path]:
        return list(self.group.values())

    def rows(self) -> Iterator[Row]:
        streams = [lines(path) for path in self.group.values()]
        for number, together in enumerate(zip_longest(*streams), 1):
            if None in together:
                short = list(self.group.values())[together.index(None)]
                raise DataError(
                    f"{short}: ends before line {number}, other files of {self.path.parent} go on. Every line needs its partner."
                )
            row: Row = {}
            for role, (_, line) in zip(self.group, together):
                row[role] = line.strip() if role == "label" else line.split()
            if "tags" in row and len(row["tags"]) != len(row["tokens"]):
                raise DataError(
                    f"{self.group['tags']}, line {number}: {len(row['tags'])} tags for the {len(row['tokens'])} tokens of"
                    f" {self.path.name}; expected one each."
                )
            yield row
