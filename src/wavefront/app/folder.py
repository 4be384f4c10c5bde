"""Run folders: their names, whether they may be written, and that only one process trains in one."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavefront.data import GENERATORS
from wavefront.errors import RunError

__all__ = ["claim_folder", "locked", "make_folder", "name_of"]

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


def make_folder(folder: Path, overwrite: bool) -> None:
    """The folder, empty."""
    claim_folder(folder, overwrite)
    try:
        if folder.exists():
            with locked(folder):
                for path in folder.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}. Choose another folder with --out.") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process at a time; the lock ends with the process, however that ends."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    with open(folder / "work" / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is training in {folder}. Wait for it, or choose another folder with --out.") from None
        yield
