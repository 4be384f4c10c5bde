"""Weights in safetensors files: written whole, read with every difference listed, and never pickle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, torch as safetensors
from torch import Tensor, nn

from wavefront.errors import RunError
from wavefront.learning.files import write_whole

__all__ = ["load_weights", "pack", "save_weights", "unpack"]


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Writes the tensors to the file, which is there whole or as it was before. `RunError` if the disk refuses."""
    write_whole(path, pack(weights))


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads the file into the network; it has to hold exactly the network's tensors, of the same shapes and dtypes, all finite.

    `RunError` lists every tensor that is missing, unknown, there twice, of another shape or dtype, or not finite. The network is then as
    it was.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the weights {path}: {error.strerror}.") from error
    found, wanted = unpack(content, path), network.state_dict()
    faults = [f"missing: {name} {_kind(wanted[name])}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"not in this network: {name} {_kind(found[name])}" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(found.keys() & wanted.keys()):
        if found[name].shape != wanted[name].shape or found[name].dtype != wanted[name].dtype:
            faults.append(f"{name} is {_kind(found[name])}, the network has {_kind(wanted[name])}")
        elif (count := int((~found[name].isfinite()).sum())) > 0:
            faults.append(f"{name} has {count} of {found[name].numel()} values that are not finite")
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:20]) + (f"\n  and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise RunError(
            f"the weights {path} do not fit the network:{shown}\nAre they of another run, or was the network's configuration changed?"
        )
    network.load_state_dict(found)


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file. Tensors that share memory are written once each under their own names."""
    return safetensors.save({name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()})


def unpack(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; `path` is for the errors."""
    # bytes 0-7 of safetensors are the length of the header, which may look like the start of a pickle; byte 8 is its first brace
    if content[8:9] != b"{" and (content[:1] == b"\x80" or content[:2] == b"PK"):
        raise RunError(f"{path} is a pickle (or a zip of pickles), which can run code when it is read. Wavefront reads safetensors only.")
    try:
        tensors = safetensors.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is not a whole safetensors file: {error}.") from error
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    names = Counter(name for name, _ in json.loads(header, object_pairs_hook=list))
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise RunError(f"{path} has tensors that are there twice: {', '.join(twice)}. Which is meant cannot be known.")
    return tensors


def _kind(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
