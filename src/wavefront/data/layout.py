"""Which files of a folder are its splits, which belong together, and which are no data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from wavefront.data.readers.reader import ending, stem
from wavefront.errors import DataError

__all__ = ["SPLITS", "Layout", "layout", "split_of", "visible"]

SPLITS = ("train", "valid", "test")
NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid"}
NAMES |= {"test": "test", "testing": "test", "eval": "test"}
NO_DATA = re.compile(
    r"(readme|licen[cs]e|sources|copying|notice|changelog|citation|authors|metadata)(?![a-z]).*|.*\.(md|rst|pdf|html?|py|sh|bib)", re.I
)


class Layout(NamedTuple):
    """parts: split -> its files (or folders that are one reader's), or {"all": ...}; ignored: what was found beside them."""

    parts: dict[str, list[Path]]
    ignored: list[Path]


def split_of(path: Path) -> str | None:
    """The split that a name says, as a word in it, digits after it allowed.

    >>> [split_of(Path(n)) for n in ("en_ewt-ud-dev.conllu.gz", "GunPoint_TRAIN.tsv", "train12.tsv", "latest.csv", "qa2_valid.txt")]
    ['valid', 'train', 'train', None, 'valid']
    """
    found = [NAMES[w] for w in re.findall(r"[a-z]+", stem(path).lower()) if w in NAMES]
    return found[-1] if found else None


def visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """(data files, folders) in the order of their names; hidden ones and README, LICENSE, SOURCES and the like are left out."""
    entries = [p for p in sorted(folder.iterdir()) if not p.name.startswith((".", "_")) and not NO_DATA.fullmatch(p.name)]
    return [p for p in entries if p.is_file()], [p for p in entries if p.is_dir()]


def layout(path: Path) -> Layout:
    """The splits of a folder: folders train, valid (dev, val, validation), test; or files with these words in their names. Else all of
    it is one.
    """
    if not path.is_dir():
        return Layout({"all": [path]}, [])
    files, folders = visible(path)
    by_folder = {NAMES[p.name.lower()]: units(p) for p in folders if p.name.lower() in NAMES}
    if "train" in by_folder:
        return _with_ignored(path, by_folder)
    by_file: dict[str, list[Path]] = {}
    for file in without_companions(files):
        if split := split_of(file):
            by_file.setdefault(split, []).append(file)
    if "train" in by_file:
        return _with_ignored(path, by_file)
    return _with_ignored(path, {"all": units(path)})


def units(folder: Path) -> list[Path]:
    """What one split (or a whole folder without splits) is made of: files read one after the other, or the folder itself: classes."""
    files, folders = visible(folder)
    alone = without_companions(files)
    texts = all(ending(p) in (".txt", ".text", "") for p in alone)
    if len(alone) == 1 and not folders:
        return alone
    if alone and not texts:
        tables = [p for p in alone if ending(p) not in (".txt", ".text", "")]
        if len({ending(p) for p in tables}) == 1:
            return tables
    elif (alone and not folders) or (folders and not alone):
        return [folder]
    raise DataError(
        f"{folder}: expected one data set: files of one format, folders or files named train, valid, test, or one text file a class; got"
        f" {', '.join(p.name for p in [*files, *folders][:8]) or 'nothing'}. Name the file itself."
    )


def without_companions(files: list[Path]) -> list[Path]:
    """Files that are the tags, the labels or the translation of another are read with that."""
    taken = {p for file in files for p in read_with(file)[1:]}
    return [p for p in files if p not in taken]


def read_with(file: Path) -> list[Path]:
    """The files that are read together with one, the first of which stands for all."""
    from wavefront.data.readers.aligned import versions
    from wavefront.data.readers.parallel import companions

    return list((companions(file) or versions(file)).values())


def _with_ignored(path: Path, parts: dict[str, list[Path]]) -> Layout:
    used = {p for files in parts.values() for file in files for p in (file, *read_with(file))}
    folders = [p for p in used if p.is_dir()]
    inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)]
    whole = {p for folder in folders for p in _data_files(folder)}
    ordered = {split: parts[split] for split in (*SPLITS, "all") if split in parts}
    return Layout(ordered, [p for p in inside if p not in used and p not in whole])


def _data_files(folder: Path) -> list[Path]:
    files, folders = visible(folder)
    return [*files, *(p for inner in folders for p in visible(inner)[0])]
