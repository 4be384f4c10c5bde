"""Machine code that was made, kept for later processes: a folder of files, each named by the hash of all that its code depends on.

It lies in the user's folder of caches, ~/.cache/wavefront; WAVEFRONT_CACHE names another one, and turns it off if empty. A file is put there
whole or not at all, whoever else writes at the same time; one that is damaged, or that somebody else could have written, is not used.
Nothing depends on it: where it cannot be read or written, code is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["find", "folder", "keep"]

MOST = 64 << 20  # bytes in all; those used longest ago go first
DIGEST = hashlib.sha256().digest_size


def folder() -> Path | None:
    told = os.environ.get("WAVEFRONT_CACHE")
    if told is not None:
        return Path(told) if told else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "wavefront" if os.path.isabs(base) else None


def find(key: str) -> bytes | None:
    where = folder()
    if where is None or not _ours(where):
        return None
    try:
        kept = (where / key).read_bytes()
        os.utime(where / key)
    except OSError:
        return None
    digest, code = kept[:DIGEST], kept[DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def keep(key: str, code: bytes) -> None:
    where = folder()
    if where is None:
        return
    with contextlib.suppress(OSError):  # a full disk, a folder that cannot be written: it costs time, and nothing else
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(where):
            return
        number, name = tempfile.mkstemp(dir=where)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, where / key)
        except OSError:
            os.unlink(name)
            raise
        _trim(where)


def _ours(where: Path) -> bool:
    """Whether nobody but this user can have put anything there."""
    try:
        found = os.stat(where)
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _trim(where: Path) -> None:
    files = sorted(((entry.stat(), entry.path) for entry in os.scandir(where)), key=lambda f: f[0].st_mtime)
    left = sum(found.st_size for found, _ in files)
    for found, path in files:
        if left <= MOST:
            break
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.unlink(path)
        left -= found.st_size
