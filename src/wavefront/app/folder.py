"""Run folders: their names, whether they may be written, and that only one process trains in one."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavefront.data import GENERATORS
from wavefront.errors import RunError

__all__ = ["claim_folder", "emptied", "locked", "name_of"]

OWN = {
    "config.toml",
    "task.json",
    "model.safetensors",
    "series.safetensors",
    "metrics.jsonl",
    "metrics.json",
    "report.html",
    "checkpoints",
    "work",
}


def name_of(data: str | Path) -> str:
    """The name of a data set, for its folder under runs/: that of the file or folder, without its endings.

    >>> name_of("years"), name_of("some/where/reviews.csv.gz"), name_of("snips/")
    ('years', 'reviews', 'snips')
    """
    if str(data) in GENERATORS:
        return str(data)
    name = Path(data).resolve().name
    return name.lstrip(".").split(".")[0] or "data"


def claim_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a folder that is not free: one with something learned in it, unless that is to be replaced; one with anything else, always."""
    if folder.is_dir() and any(folder.iterdir()):
        strange = sorted(path.name for path in folder.iterdir() if path.name not in OWN and not path.name.endswith(".tmp"))
        if strange:
            raise RunError(
                f"{folder} holds what is not of a run ({', '.join(strange[:5])}), and is left alone. Choose another folder with --out."
            )
        if not overwrite:
            raise RunError(
                f"{folder} holds a run already. Carry it on with --resume, replace it with --overwrite, or choose another folder with --out."
            )
    elif folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file. Choose a folder with --out.")


@contextmanager
def emptied(folder: Path, overwrite: bool) -> Iterator[None]:
    """The folder, empty, and from the first file that goes to the end nobody else's."""
    claim_folder(folder, overwrite)
    with locked(folder):
        if (folder / "config.toml").exists():  # perhaps of a process that began and ended since the folder was seen to be free
            claim_folder(folder, overwrite)
        for path in [*folder.iterdir(), *(folder / "work").iterdir()]:
            if path not in (folder / "work", folder / "work" / "lock"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process at a time; the lock ends with the process, however that ends."""
    lock = folder / "work" / "lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}. Choose another folder with --out.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is training in {folder}. Wait for it, or choose another folder with --out.") from None
        yield
