"""The search for settings of networks that are solved in seconds, such as reservoirs: many are tried, the best is kept."""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from wavefront.app.loader import WIDE, Loader
from wavefront.app.progress import Progress
from wavefront.app.text import number
from wavefront.data import Source, Store
from wavefront.errors import SettingsError
from wavefront.learning import Settings
from wavefront.tasks import Meter, Task

__all__ = ["tune"]

TRIALS = 40
NEAR = 0.5  # of the trials try what is near the best so far
FOLDS = 5
FEW = 2000  # rows below which the score is that of cross-validation: a validation split of a few rows cannot tell settings apart
SHARE = 0.8  # of the minutes, where the run has a time limit


def tune(task: Task, source: Source, learning: Settings, progress: Progress, began: float) -> None:
    """Sets those of the task's settings that `task.tunable()` names to the best that a search finds: at random over their ranges, then nearer and
    nearer around the best. The score is the task's own, on the validation split; of few rows, by cross-validation over train and validation, unless
    the task cuts its splits itself. The test split is never looked at.
    """
    ranges = task.tunable()
    if not ranges:
        raise SettingsError('--tune searches the settings of networks that are solved in seconds: give --set kind="esn" as well.')
    random = np.random.default_rng(learning.seed)
    end = began + SHARE * 60 * learning.minutes if learning.minutes else math.inf
    with TemporaryDirectory() as folder:
        folds = _folds(task, source, Path(folder), learning.seed)
        start = {name: getattr(task.settings, name) for name in ranges}
        best: tuple[Any, dict[str, float]] | None = None
        progress.say(f"tuning {', '.join(ranges)}: {TRIALS} trials, {len(folds)} part(s) to judge by")
        for trial in range(TRIALS):
            width = 1.0 if trial < TRIALS * (1 - NEAR) else 0.5 * (TRIALS - trial) / TRIALS
            around = best[1] if best is not None and width < 1.0 else {}
            values = start if trial == 0 else {name: _drawn(*ranges[name], around.get(name), width, random) for name in ranges}
            task.settings = task.settings.model_copy(update=values)
            meter = _score(task, folds, learning)
            scores = meter.metrics()
            rank = (scores[task.metric] if task.larger_is_better else -scores[task.metric], -scores["loss"])
            better = best is None or rank > best[0]
            if better:
                best = rank, dict(values)
            shown = "  ".join(f"{name} {number(value)}" for name, value in values.items())
            progress.say(f"{trial + 1:>4}/{TRIALS}  {shown}  {task.metric} {number(scores[task.metric])}" + ("  best" if better else ""))
            if time.monotonic() > end:
                progress.say("the time for tuning is up")
                break
        assert best is not None
        task.settings = task.settings.model_copy(update=best[1])


def _drawn(low: float, high: float, logarithmic: bool, around: float | None, width: float, random: np.random.Generator) -> float:
    """A value in the range, or in a part of it around a value, rounded to three digits."""
    a, b = (math.log(low), math.log(high)) if logarithmic else (low, high)
    if around is not None:
        middle, half = math.log(around) if logarithmic else around, width * (b - a) / 2
        a, b = max(a, middle - half), min(b, middle + half)
    x = random.uniform(a, b)
    return float(f"{math.exp(x) if logarithmic else x:.3g}")


def _folds(task: Task, source: Source, folder: Path, seed: int) -> list[tuple[Store, np.ndarray, Store, np.ndarray]]:
    """Pairs of what is learned from and what is judged by: (store, numbers, store, numbers)."""
    stores = {}
    for split in ("train", "valid"):
        if split in task.splits(source):
            Store.build(folder / split, (task.encode(row) for row in task.rows(source, split)))
            stores[split] = Store.open(folder / split)
    train, valid = stores["train"], stores.get("valid")
    own = type(task).rows is not Task.rows  # cut by the task, by time: what overlaps must not be on both sides
    if valid is not None and len(valid) and (own or len(train) + len(valid) >= FEW):
        return [(train, np.arange(len(train)), valid, np.arange(len(valid)))]
    together = [store[k] for store in stores.values() for k in range(len(store))]
    Store.build(folder / "both", together)
    both = Store.open(folder / "both")
    parts = np.array_split(np.random.default_rng(seed).permutation(len(both)), min(FOLDS, len(both)))
    return [(both, np.concatenate([p for p in parts if p is not part]), both, part) for part in parts if len(parts) > 1]


@torch.no_grad()
def _score(task: Task, folds: list[tuple[Store, np.ndarray, Store, np.ndarray]], learning: Settings) -> Meter:
    """The folds' scores together: the same reservoir with another readout for each."""
    meter = task.meter()
    torch.manual_seed(learning.seed)
    network = task.network().to(learning.device).eval()
    for train, chosen, held_out, judged in folds:
        task.solve(network, Loader(task, train, WIDE, learning.device, numbers=np.sort(chosen)))
        for batch in Loader(task, held_out, WIDE, learning.device, numbers=np.sort(judged)):
            meter.add(batch, *task.assess(network, batch))
    return meter
