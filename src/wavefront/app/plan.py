"""How much is scored, and when."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from torch import nn

from wavefront.app.loader import WIDE, loader
from wavefront.data import Store
from wavefront.learning import Settings
from wavefront.tasks import Task

__all__ = ["Plan"]

SCORED_TRAINING_ROWS = 1000  # at least, if there are so many: the training score is of a sample as large as the validation data


class Plan:
    """How much is scored, and when: everything, unless the end of the run is a time that scoring would take too much of."""

    EVALUATION, SCORES = 0.03, 0.2  # shares of the time: one evaluation during training, all scores after it
    REPORT = 0.3  # seconds

    def __init__(self, task: Task, network: nn.Module, stores: Mapping[str, Store], learning: Settings):
        self.task = task
        self.stores, self.steps = stores, {split: int(store.lengths(task.length_column).sum()) for split, store in stores.items()}
        shown = max(SCORED_TRAINING_ROWS, len(stores["valid"]) if "valid" in stores else 0)
        self.limits = {split: len(store) if split != "train" else min(shown, len(store)) for split, store in stores.items()}
        self.valid_rows = self.limits.get("valid", 0)
        self.seconds_per_step = 0.0
        if learning.minutes:
            budget = 60 * learning.minutes
            self.seconds_per_step = self._measure(task, network.eval(), learning)
            expected = sum(self._seconds(split, rows) for split, rows in self.limits.items())
            if expected > self.SCORES * budget:
                self.limits = {split: max(1, int(rows * self.SCORES * budget / expected)) for split, rows in self.limits.items()}
            if "valid" in stores and (once := self._seconds("valid", self.valid_rows)) > self.EVALUATION * budget:
                self.valid_rows = max(1, int(self.valid_rows * self.EVALUATION * budget / once))

    def numbers(self, split: str) -> np.ndarray | None:
        """Which rows of a split are scored at the end: None is all, else a sample that is always the same."""
        return self._sample(split, self.limits[split])

    @property
    def valid(self) -> np.ndarray | None:
        """Which rows are scored during training."""
        return self._sample("valid", self.valid_rows)

    def reserve(self, evaluation_seconds: float) -> float:
        """Seconds that scoring at the end takes, by how long an evaluation took, and the report."""
        if evaluation_seconds and self.valid_rows:
            self.seconds_per_step = evaluation_seconds / max(1.0, self.steps["valid"] * self.valid_rows / len(self.stores["valid"]))
        return self.REPORT + 1.1 * sum(self._seconds(split, rows) for split, rows in self.limits.items())

    def _seconds(self, split: str, rows: int) -> float:
        return self.seconds_per_step * self.steps[split] * rows / max(1, len(self.stores[split]))

    def _sample(self, split: str, rows: int) -> np.ndarray | None:
        of = len(self.stores[split])
        if rows >= of or self.task.stream:
            return None if rows >= of else np.arange(rows)
        return np.sort(np.random.default_rng(0).permutation(of)[:rows])

    def _measure(self, task: Task, network: nn.Module, learning: Settings) -> float:
        """Seconds per step of a sequence; the second of two batches is timed, for the first prepares what all use."""
        batches = loader(task, self.stores["train"], WIDE, learning.device, epoch=0)
        seconds = 0.0
        for k in (0, -1):
            start = time.monotonic()
            batch = batches[k]
            task.assess(network, batch)
            seconds = (time.monotonic() - start) / max(1, int(batch.lengths.sum()))
        return seconds
