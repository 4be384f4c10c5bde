"""A run that starts from the weights of another: what fits is taken, symbol by symbol where the vocabularies differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from wavefront.app.run import load
from wavefront.errors import SettingsError
from wavefront.tasks import Task

__all__ = ["start_from"]


@torch.no_grad()
def start_from(folder: str | Path, task: Task, network: nn.Module) -> list[str]:
    """Puts the weights of the run in `folder` into the network, as far as they fit; -> a line for each thing taken and not taken.

    A tensor of the same name and shape is taken whole. One that has a row for each symbol is taken row by row, for the symbols that both
    vocabularies have. `SettingsError` where the run is of another task, or nothing of it but biases fits.
    """
    other = load(folder)
    if other.task.name != task.name:
        raise SettingsError(f"{folder} is a run of {other.task.name}, this one is of {task.name}: start from a run of the same task.")
    rows, other_rows = task.numbered(), other.task.numbered()
    if rows is None or other_rows is None:
        if task.vocabularies() != other.task.vocabularies():
            raise SettingsError(
                f"{folder} numbers its symbols or labels in another way, and a run of {task.name} can start only from one that numbers them"
                " as it does itself: from one on the same data."
            )
        rows = other_rows = {}
    here, there = network.state_dict(), other.network.state_dict()
    taken, partly, left = [], [], []
    matrices = 0  # taken, whole or in part: biases alone are no start
    for name, weight in here.items():
        source = there.get(name)
        names, other_names = rows.get(name), other_rows.get(name)
        if source is None or source.shape[1:] != weight.shape[1:]:
            left.append(f"{name} {list(weight.shape)}" + ("" if source is None else f", there {list(source.shape)}"))
        elif names is not None and other_names is not None and names != other_names:
            if common := _common(weight, source, names, other_names):
                partly.append(f"{name}: of {common:,} of {len(names):,} symbols")
                matrices += weight.dim() > 1
            else:
                left.append(f"{name}: no symbol in common")
        elif source.shape == weight.shape and (name in rows) == (name in other_rows):
            weight.copy_(source)
            taken.append(name)
            matrices += weight.dim() > 1
        else:
            left.append(f"{name} {list(weight.shape)}, there {list(source.shape)}")
    if not matrices:
        raise SettingsError(
            f"nothing of {folder} fits this network:\n  " + "\n  ".join(left) + "\nGive it the same cell and sizes (--set)."
        )
    said = [f"from {folder}: {len(taken)} of {len(here)} tensors whole"]
    said += [f"in part: {line}" for line in partly]
    return said + [f"not taken: {line}" for line in left]


def _common(weight: Tensor, source: Tensor, names: Sequence[str], other_names: Sequence[str]) -> int:
    """Copies the rows that have the same names; -> how many."""
    number = {name: k for k, name in enumerate(other_names)}
    pairs = [(k, number[name]) for k, name in enumerate(names) if name in number]
    if pairs:
        mine, theirs = (torch.tensor(column, device=weight.device) for column in zip(*pairs))
        weight[mine] = source[theirs]
    return len(pairs)
