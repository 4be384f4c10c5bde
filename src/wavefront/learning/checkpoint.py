"""Checkpoints that survive a kill at any moment, a full disk and a flipped bit: the one before is always whole.

A checkpoint is two files: `000012.safetensors`, the tensors, and then `000012.json`, the rest of the state with the hashes of both. It
exists once its JSON does. No number is ever used again while it exists, and older ones are deleted only after that, all but the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wavefront.errors import RunError
from wavefront.learning.files import write_whole
from wavefront.learning.weights import pack, unpack

__all__ = ["Checkpoint", "Checkpoints"]

FORMAT = 1


class Checkpoint(NamedTuple):
    """Tensors by name, and a JSON object of everything else."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one folder.

    >>> import tempfile, torch
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
    >>> checkpoints.save(Checkpoint({"w": torch.ones(2)}, {"epoch": 1}))
    >>> checkpoints.latest().state
    {'epoch': 1}
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._damaged: set[int] = set()  # found so by `latest`

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes tensors, then the manifest; then drops what is older than the one before. `RunError` if the disk refuses."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the folder {self.folder}: {error.strerror}.") from error
        before = self.numbers()
        number = before[-1] + 1 if before else 1
        tensors = pack(checkpoint.tensors)
        manifest = {"format": FORMAT, "tensors": _hash(tensors), "state": checkpoint.state}
        path = self._path(number)
        write_whole(path.with_suffix(".safetensors"), tensors)
        write_whole(path, json.dumps({**manifest, "sha256": _hash(_canonical(manifest))}))
        kept = {number, *[old for old in before if old not in self._damaged][-1:]}
        for old in self.folder.iterdir():
            if old.suffix == ".tmp" or (old.stem.isdigit() and int(old.stem) not in kept):
                old.unlink(missing_ok=True)

    def numbers(self) -> list[int]:
        """The numbers of the finished checkpoints, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit())

    def latest(self, warn: Callable[[str], None] = lambda message: None) -> Checkpoint | None:
        """The newest one that is whole; None if none was ever finished. `warn` hears of each damaged one that is passed over."""
        damaged = []
        for number in reversed(self.numbers()):
            try:
                return self._load(self._path(number))
            except RunError as error:
                damaged.append(str(error))
                self._damaged.add(number)
                warn(str(error))
        if damaged:
            raise RunError("no checkpoint is whole:\n  " + "\n  ".join(damaged) + "\nStart the run anew with --overwrite.")
        return None

    def _load(self, path: Path) -> Checkpoint:
        try:
            manifest = json.loads(path.read_bytes())
            intact = manifest.pop("sha256") == _hash(_canonical(manifest))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise RunError(f"the checkpoint {path} is damaged: {type(error).__name__}: {error}.") from error
        if not intact:
            raise RunError(f"the checkpoint {path} is damaged: its content does not match its hash.")
        if manifest["format"] != FORMAT:
            raise RunError(
                f"the checkpoint {path} has format {manifest['format']}, this Wavefront reads {FORMAT}: it is of another version."
            )
        tensors = path.with_suffix(".safetensors")
        try:
            content = tensors.read_bytes()
        except OSError as error:
            raise RunError(f"the checkpoint {tensors} cannot be read: {error.strerror}.") from error
        if manifest["tensors"] != _hash(content):
            raise RunError(f"the checkpoint {tensors} is damaged: its {len(content)} bytes do not match the hash in {path.name}.")
        return Checkpoint(unpack(content, tensors), manifest["state"])

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def _canonical(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, allow_nan=False).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
