"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path

from wavefront.errors import RunError

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes the file so that at any moment, a power cut included, `path` holds either what it held before or all of `content`.

    A temporary file in the same folder, flushed to the disk, takes the place of the old one in a single step; then the folder's own entry
    is flushed. A disk that is full or a folder that cannot be written is a `RunError`, and the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = " What was there before is whole." if path.exists() else ""
        raise RunError(
            f"cannot write {path}: {error.strerror or error}.{kept} Free some space or choose another folder (--out)."
        ) from error


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
