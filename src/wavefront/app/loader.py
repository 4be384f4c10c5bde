"""Batches of encoded examples, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wavefront.app.stream import StreamLoader
from wavefront.data import Store, batches
from wavefront.learning import memory_guarded
from wavefront.tasks import Batch, Meter, Task

__all__ = ["WIDE", "Loader", "loader", "score"]

WIDE = 64  # rows in a batch that is only scored


class Loader(Sequence[Batch]):
    """The batches of one epoch over a store: a sequence, so that it can be entered at any position.

    numbers  which of the examples; None: all
    """

    def __init__(
        self,
        task: Task,
        store: Store,
        batch_size: int,
        device: str = "cpu",
        *,
        seed: int = 0,
        epoch: int | None = None,
        numbers: np.ndarray | None = None,
    ):
        self.task, self.store, self.device = task, store, device
        self.numbers = np.arange(len(store)) if numbers is None else numbers
        lengths = store.lengths(task.length_column)[self.numbers] if len(self.numbers) else []
        self.rows = [self.numbers[rows] for rows in batches(lengths, batch_size, seed=seed, epoch=epoch or 0, shuffle=epoch is not None)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: Any) -> Any:
        return self.task.collate([self.store[int(row)] for row in self.rows[k]]).to(self.device)

    def describe(self, k: int) -> str:
        """How an error calls batch k."""
        rows = sorted(self.rows[k] + 1)
        shown = ", ".join(map(str, rows[:8])) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        lengths = self.store.lengths(self.task.length_column)[self.rows[k]]
        return f"training rows {shown}; {lengths.min()} to {lengths.max()} steps long"


def loader(
    task: Task,
    store: Store,
    batch_size: int,
    device: str = "cpu",
    *,
    seed: int = 0,
    epoch: int | None = None,
    numbers: np.ndarray | None = None,
    memory: dict[str, Tensor] | None = None,
) -> Loader | StreamLoader:
    """The batches of one pass: examples of about the same length, or pieces of the stream that they are; `memory` is what its batches share."""
    if task.stream:
        return StreamLoader(task, store, batch_size, device, seed=seed, epoch=epoch, numbers=numbers, memory=memory)
    return Loader(task, store, batch_size, device, seed=seed, epoch=epoch, numbers=numbers)


def score(task: Task, network: Any, loader: Loader | StreamLoader) -> Meter:
    """The meter of a task after all batches. The network has to be in evaluation mode."""
    meter = task.meter()
    for batch in loader:
        with memory_guarded(f"the scoring of {len(batch)} rows", "Lower learning.batch_size, or leave out the longest rows."):
            predictions, loss, items = task.assess(network, batch)
        meter.add(batch, predictions, loss, items)
    return meter
