"""Batches of one long stream of symbols: cut into parallel streams, each read on from batch to batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavefront.data import Store
from wavefront.tasks import Batch, Task

__all__ = ["StreamLoader"]

BOUNDARY, NOT_COUNTED = 0, -1  # what is read before the first symbol; a target that is read only
WARM = 512  # symbols that a stream which is scored reads first, so that it begins with the state that it would have there


class StreamLoader(Sequence[Batch]):
    """A pass over a store whose examples go on from one another, as a sequence of batches that share one memory.

    The symbols, as they lie on disk one example after the other, are cut into `batch_size` streams of equal length, read side by side, so many
    `steps` a batch: batch k + 1 goes on where batch k ended, and finds in `memory` what that has left there.

    numbers  which examples: they have to be neighbours; None: all
    epoch    of training: each begins at another place, drawn by (seed, epoch), so that the borders of the batches move. None: the pass scores.
             Every symbol is then counted once, and each stream first reads `WARM` symbols before its own
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
        memory: dict[str, Tensor] | None = None,
    ):
        self.task, self.device = task, device
        self.numbers = np.arange(len(store)) if numbers is None else numbers
        self.memory: dict[str, Tensor] = {} if memory is None else memory
        self.values, offsets = store.stream(task.length_column)
        first, end = (int(offsets[self.numbers[0]]), int(offsets[self.numbers[-1] + 1])) if len(self.numbers) else (0, 0)
        self.begin, self.steps = first, task.steps_at_once
        if epoch is None:
            self.streams = max(1, min(batch_size, (end - first) // (4 * WARM)))
            self.warm = WARM if self.streams > 1 else 0
            length = -(-(end - first) // self.streams)
        else:
            first += int(np.random.default_rng([seed, epoch]).integers(min(self.steps, 1 + (end - first) // 8)))
            self.streams, self.warm = max(1, min(batch_size, (end - first) // self.steps)), 0
            length = (end - first) // self.streams
        self.starts, self.end = first + length * np.arange(self.streams), min(end, first + length * self.streams)
        self.length = length

    def __len__(self) -> int:
        return -(-(self.length + self.warm) // self.steps) if self.length else 0

    def __getitem__(self, k: Any) -> Any:
        if k < 0:
            k += len(self)
        if not 0 <= k < len(self):
            raise IndexError(f"there are {len(self)} batches, not {k}")
        if k == 0:
            self.memory.clear()
        offset = np.arange(k * self.steps, min((k + 1) * self.steps, self.length + self.warm)) - self.warm
        at = self.starts[:, None] + offset
        counted = (offset >= 0) & (at < self.end)
        target = np.where(counted, self._symbols(at), NOT_COUNTED)
        before = self._symbols(at - 1)
        inputs = {"before": torch.from_numpy(before).to(self.device)}
        lengths = torch.full((self.streams,), len(offset))
        return Batch(inputs, lengths, torch.from_numpy(target).to(self.device), memory=self.memory)

    def _symbols(self, at: np.ndarray) -> np.ndarray:
        """The symbols at these places; before the first and after the last, the boundary."""
        inside = (at >= self.begin) & (at < self.end)
        return np.where(inside, self.values[np.where(inside, at, self.begin)], BOUNDARY).astype(np.int64)

    def describe(self, k: int) -> str:
        """How an error calls batch k."""
        first = k * self.steps
        return f"symbols {first + 1:,} to {min(first + self.steps, self.length):,} of each of {self.streams} streams of {self.length:,}"
