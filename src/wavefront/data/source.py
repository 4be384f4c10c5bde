"""A data set with its splits: what a task sees of files, queries and generators."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from wavefront.data.layout import SPLITS, layout
from wavefront.data.readers import READERS, Column, Options, Reader, Row
from wavefront.data.readers.reader import ending, stem
from wavefront.data.readers.sql import Sql
from wavefront.data.split import HashSplit, TailSplit
from wavefront.data.years import Years
from wavefront.errors import DataError

__all__ = ["GENERATORS", "Source", "open_source"]

GENERATORS = {"years": Years}
SHARES = {"test": 0.1, "valid": 0.1}  # of the rows, where the files do not give these splits
STREAM_SHARES = {"test": 0.1, "valid": 0.05}  # of the text, where the rows are one
FEW = 500  # rows of a train file, below which no valid split is cut from it: so few rows tell less than they cost


class Source:
    """Rows of named, typed columns, by split; nothing is held in memory as a whole.

    path     as given; name: that of the data, for runs/<name>
    format   of the reader: "csv", "tsv", "jsonl", "parquet", "sql", "conll", "conllu", "parallel", "folder of classes", "ts", "ucr",
             "text", "rolls", "midi", "generator"
    columns  `Column(name, kind)` of every row
    given    the splits that the files give: ("train", "test"), or () for a single file
    splits   those that there are: train, valid and test, and what a generator has beside; what is not given is cut by `HashSplit`: from
             train 10 % for valid (but of a train file of fewer than 500 rows), and 10 % for test too if neither is given. Of a text, whose
             rows go on from one another, `TailSplit` cuts off the last tenth for test and 5 % before that for valid
    shares   split -> the share to cut for it instead, 0 for none: {"valid": 0.02}, of valid and test
    groups   columns of which each value is in one split only, where splits are cut: rows of one patient, pairs of the same sentences
    stream   whether the rows go on from one another
    ignored  files of a folder that are no data, and so were not read
    """

    def __init__(
        self,
        path: str,
        name: str,
        parts: Mapping[str, Sequence[Reader]],
        options: Options,
        ignored: Sequence[Path] = (),
        groups: Sequence[str] = (),
        shares: Mapping[str, float] | None = None,
    ):
        self.path, self.name, self.options, self.ignored, self.groups = path, name, options, tuple(ignored), tuple(groups)
        self.shares = dict(shares or {})
        self._parts = dict(parts)
        readers = list(chain(*self._parts.values()))
        self.format, self.columns = readers[0].format, readers[0].columns
        for reader in readers[1:]:
            if reader.columns != self.columns:
                raise DataError(
                    f"{reader.path}: has columns {_named(reader.columns)}, but {readers[0].path} {_named(self.columns)}. They must agree: as"
                    " one data set the files need the same columns; a kind guessed differently is settled by kinds=."
                )
        for name in self.groups:
            if name not in [column.name for column in self.columns]:
                raise DataError(f"{path}: groups names {name!r}, which is no column. There are {_named(self.columns)}.")
        if self.groups and all(reader.stream for reader in readers):
            raise DataError(f"{path}: groups are of rows; a text, whose lines go on from one another, is cut in one piece.")
        self.given = tuple(split for split in self._parts if split != "all")
        self._rest = "all" if "all" in self._parts else "train"
        self.stream = all(reader.stream for reader in readers)
        shares = self._shares()
        self._cut: HashSplit | TailSplit = HashSplit(lambda: self._stream(self._rest), shares, self.groups)
        if self.stream:
            self._cut = TailSplit(lambda: self._stream(self._rest), shares, self.columns[0].name)
        self.splits = tuple(dict.fromkeys(s for s in (*SPLITS, *self.given) if s in {*self.given, *shares, "train"}))

    def _shares(self) -> dict[str, float]:
        """The splits to cut, and how much: what is asked for, over what the files call for."""
        usual = STREAM_SHARES if self.stream else SHARES
        shares = {split: share for split, share in usual.items() if split not in self._parts and not (split == "test" and self.given)}
        if "valid" in shares and "train" in self._parts and not self.stream and sum(1 for _ in islice(self._stream("train"), FEW)) < FEW:
            del shares["valid"]
        for split, share in self.shares.items():
            if split not in usual or not 0 <= share < 1:
                raise DataError(f"{self.path}: a share is of valid or test, 0 or more and below 1; got {split} = {share}.")
            if share and split in self._parts:
                raise DataError(f"{self.path}: has files for {split}, so no share of the others is cut for it; leave {split}_share out.")
        found = {split: share for split in usual if split not in self._parts and (share := self.shares.get(split, shares.get(split, 0.0)))}
        if sum(found.values()) >= 1:
            raise DataError(f"{self.path}: shares of {sum(found.values()):g} for {' and '.join(found)} leave nothing to train on.")
        return found

    def rows(self, split: str = "all") -> Iterator[Row]:
        """The rows of a split ("all": of every one, as the files stand), in the same order every time. Call it again to start anew."""
        if split == "all":
            return chain.from_iterable(self._stream(part) for part in self._parts)
        if split not in self.splits:
            raise DataError(f"{self.path}: has no split {split!r}; it has {', '.join(self.splits)}.")
        if split in self._cut.shares or (self._cut.shares and split == "train"):
            return self._cut.select(split)
        return self._stream(split if split in self._parts else self._rest)

    def fingerprint(self) -> str:
        """SHA-256 of all content, for a run that is resumed: other data gives another."""
        digest = hashlib.sha256()
        for split, readers in self._parts.items():
            for reader in readers:
                digest.update(f"{split} {reader.fingerprint()}\n".encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What a saved run keeps, as JSON: `read_inputs` and `open_source(like=...)` read other files in the same way by it."""
        kinds = {column.name: column.kind for column in self.columns}
        cut = {"groups": list(self.groups), "shares": self.shares}
        return {"name": self.name, "format": self.format, "columns": kinds, "options": self.options.to_json(), **cut}

    def masked(self) -> Counter[str]:
        """column -> how many values the latest pass over the files masked (`missing="mask"`)."""
        return sum((reader.masked for reader in chain(*self._parts.values())), Counter())

    def _stream(self, part: str) -> Iterator[Row]:
        if part not in self._parts:
            raise DataError(f"{self.path}: expected rows to train on, got {' and '.join(self._parts)} alone. Add train, or score it.")
        for reader in self._parts[part]:
            reader.masked.clear()
            yield from reader.rows()

    def __repr__(self) -> str:
        return f"Source({self.path!r}, {self.format}: {_named(self.columns)}; {', '.join(self.splits)})"


def open_source(
    path: str | Path,
    *,
    query: str | None = None,
    kinds: Mapping[str, str] | None = None,
    header: bool | None = None,
    missing: str = "refuse",
    series: Sequence[str] = (),
    id: str | None = None,
    time: str | None = None,
    format: str | None = None,
    steps_per_quarter: int = 1,
    groups: Sequence[str] = (),
    valid_share: float | None = None,
    test_share: float | None = None,
    like: Mapping[str, Any] | None = None,
) -> Source:
    """A file, a folder, a database with a query, or the name of a generator ("years") as a `Source`.

    The format is seen from the names and first lines; the keywords are those of `Options` and `Source`
    (`valid_share` and `test_share` are its `shares`). `like`: what `Source.describe` gave of the
    data that a run was trained on; columns of the same names then have the same kinds.

    >>> source = open_source("years")
    >>> source.columns
    (Column(name='tokens', kind='symbols'), Column(name='tags', kind='symbols'))
    >>> row = next(source.rows("train"))
    >>> len(row["tokens"]) == len(row["tags"])
    True
    """
    options = Options(dict(kinds or {}), header, missing, tuple(series), id, time, query, format, steps_per_quarter)
    shares = {split: share for split, share in (("valid", valid_share), ("test", test_share)) if share is not None}
    place = Path(path)
    if str(path) == "-":
        raise DataError("standard input can be read once, and training reads its data again and again: save it to a file first.")
    if not place.exists():
        if str(path) in GENERATORS:
            return Source(str(path), str(path), GENERATORS[str(path)].parts(), options, shares=shares)
        raise _not_found(str(path))
    if like is not None and not options.to_json():  # its kinds come by the columns, of which there may be fewer here
        options = Options.from_json({**like["options"], "query": None, "kinds": {}})
    if query is not None:
        return Source(str(path), stem(place), {"all": [Sql(place, options)]}, options, groups=groups, shares=shares)
    parts, ignored = layout(place)
    chosen = {split: [_reader(file, options, like) for file in files] for split, files in parts.items()}
    if list(chosen) == ["all"] and len(chosen["all"]) == 1 and (inside := chosen["all"][0].inside(chosen["all"][0].path, options)):
        chosen = {split: [reader] for split, reader in inside.items()}
    chosen = _agreeing(chosen, options)
    if like is not None and not groups and {*like.get("groups", ())} <= {column.name for column in next(iter(chosen.values()))[0].columns}:
        groups = like.get("groups", ())
    if like is not None and not shares:
        shares = {split: share for split, share in like.get("shares", {}).items() if split not in chosen}
    return Source(str(path), stem(place.resolve()), chosen, options, ignored, groups, shares)


def _reader(path: Path, options: Options, like: Mapping[str, Any] | None = None) -> Reader:
    """The reader that recognises a file; with `like` under the kinds that the columns had."""
    wanted = options.format
    if wanted is not None:
        found = next((r for r in READERS if r.format == wanted), None)
        if found is None:
            raise DataError(f"format= is one of {', '.join(sorted(r.format for r in READERS))}; got {wanted!r}.")
    else:
        found = next((r for r in READERS if r.recognises(path)), None)
        if found is None:
            raise DataError(
                f"{path}: of no format known by its ending {ending(path)!r}. Known: .csv .tsv .jsonl .parquet .conll .conllu .ts .mid .txt .log"
                " (each also .gz), a DuckDB database with query=, a folder. Name it with format=."
            )
    return _with_kinds(found, path, options, like["columns"]) if like else found(path, options)


def _with_kinds(found: type[Reader], path: Path, options: Options, kinds: Mapping[str, str]) -> Reader:
    """A reader whose columns have the kinds given, where it has such columns."""
    reader = found(path, options)
    changed = {c.name: kinds[c.name] for c in reader.columns if kinds.get(c.name, c.kind) != c.kind}
    if not changed:
        return reader
    return found(path, Options(**{**options.__dict__, "kinds": {**options.kinds, **changed}}))


def _agreeing(parts: dict[str, list[Reader]], options: Options) -> dict[str, list[Reader]]:
    """A column that looks like numbers in one file and like text in another (a small test file, say) is text in all."""
    kinds: dict[str, set[str]] = {}
    for reader in chain(*parts.values()):
        for column in reader.columns:
            kinds.setdefault(column.name, set()).add(column.kind)
    mixed = {name: "text" for name, seen in kinds.items() if seen == {"number", "text"}}
    return {split: [_with_kinds(type(r), r.path, options, mixed) if mixed else r for r in readers] for split, readers in parts.items()}


def _not_found(path: str) -> DataError:
    from difflib import get_close_matches

    parent = Path(path).parent
    near = get_close_matches(Path(path).name, [p.name for p in parent.iterdir()] if parent.is_dir() else [], 1)
    near += get_close_matches(path, GENERATORS, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DataError(f"{path}: no such file or folder, and no generator ({', '.join(GENERATORS)}).{hint}")


def _named(columns: Sequence[Column]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns)
