"""The work of a run once its data, its task and its settings are known: encode, train, score, report."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor, nn

from wavefront.app import text
from wavefront.app.loader import WIDE, Loader, loader, score
from wavefront.app.plan import Plan
from wavefront.app.progress import Progress
from wavefront.app.report import write_report
from wavefront.app.run import FORMAT, Run, parameters
from wavefront.data import Source, Store
from wavefront.errors import DataError, TrainingError
from wavefront.learning import Interrupted, Log, Outcome, Settings, Trainer, read_log, save_weights, write_whole
from wavefront.tasks import Batch, Task
from wavefront.tasks.task import in_row

__all__ = ["Counted", "Job"]

BASELINE_SHARE = 0.05  # of the time, at most, when the end of the run is a time


@dataclass
class Job:
    """One run in its folder, which holds config.toml and task.json already.

    about   what task.json holds
    began   `time.monotonic()` when its minutes began
    resume  whether it goes on from a checkpoint
    """

    folder: Path
    source: Source
    task: Task
    network: nn.Module
    learning: Settings
    about: Mapping[str, Any]
    progress: Progress
    began: float
    resume: bool = False

    def run(self) -> Run:
        """All of it, in a folder that nobody else writes to. Whatever ends it early, what was learned so far stays there."""
        self.stores = self._encoded()
        self.network.to(self.learning.device)
        self.plan = Plan(self.task, self.network, self.stores, self.learning)
        self.facts = self._facts()
        sizes = "  ".join(f"{split} {rows:,}" for split, rows in self.facts["rows"].items())
        self.progress.say(f"{sizes}   {self.facts['parameters']:,} parameters", "dim")
        baselines = self._baselines()
        if baselines:
            self.facts |= {"baselines": baselines, "baselines_on": self.judged}
        with torch.no_grad():
            self.task.solve(self.network, Loader(self.task, self.stores["train"], WIDE, self.learning.device))
        trainer = self._trainer()
        try:
            outcome = trainer.run()
        except (Interrupted, TrainingError) as error:
            self.progress.close()
            self._leave(trainer, error)
            raise
        self.progress.close()
        if not outcome.steps:
            minutes = f"learning.minutes={self.learning.minutes:g}"
            self.progress.warn(f"the time was up before the first step: {minutes} is too short for these data")
        held_out = self.stores.get("valid", self.stores["train"])
        with torch.no_grad():
            self.task.calibrate(self.network, Loader(self.task, held_out, WIDE, self.learning.device))
        save_weights(self.network.state_dict(), self.folder / "model.safetensors")
        return self._finish(trainer, outcome)

    @property
    def judged(self) -> str:
        """The split that tells how good a run is."""
        return next(split for split in ("test", "valid", "train") if split in self.stores)

    def _encoded(self) -> dict[str, Store]:
        """Every split as arrays on disk; what was left from before a stop is taken as it is. Splits without a row are left out."""
        stores: dict[str, Store] = {}
        for split in self.task.splits(self.source):
            folder = self.folder / "work" / split
            if not (folder / "store.json").exists():
                Store.build(folder, self._examples(split))
            store = Store.open(folder)
            if len(store):
                stores[split] = store
        if "train" not in stores:
            raise DataError(f"{self.source.path}: there is no row to train on.")
        return stores

    def _examples(self, split: str) -> Iterator[dict[str, Any]]:
        rows = self.progress.counting(self.task.rows(self.source, split), f"encoding {split}")
        for number, row in enumerate(rows, 1):
            with in_row(self.source, number, split):
                example = self.task.encode(row)
            yield example

    def _facts(self) -> dict[str, Any]:
        """What metrics.json says of the run besides its scores."""
        return {
            "format": FORMAT,
            "task": self.task.name,
            "metric": self.task.metric,
            "data": self.source.path,
            "rows": {split: len(store) for split, store in self.stores.items()},
            "parameters": parameters(self.network),
            "seed": self.learning.seed,
            "learning": _essentials(self.learning),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _baselines(self) -> dict[str, dict[str, float]]:
        """What needs no memory, on the split that the run is judged by: the scores to beat."""
        kept, judged = self.folder / "work" / "baselines.json", self.judged
        if kept.exists():
            return json.loads(kept.read_text())
        if judged == "train":
            return {}
        train, held_out = self.stores["train"], self.stores[judged]
        if self.learning.minutes:  # a small part is timed, to see whether there is time for all
            part, start = 200, time.monotonic()
            self.task.baselines(list(islice(train, part)), list(islice(held_out, part)))
            seconds = (time.monotonic() - start) * max(1, len(train) // part, len(held_out) // part)
            if seconds > BASELINE_SHARE * 60 * self.learning.minutes:
                self.progress.say("no time for the scores to beat: they are left out", "dim")
                return {}
        found = self.task.baselines(train, held_out)
        for name, metrics in found.items():
            if self.task.metric in metrics:
                best = f"{self.task.metric} {text.number(metrics[self.task.metric])}"
                self.progress.say(f"to beat, on {judged}: {best} ({name})", "dim")
        write_whole(kept, text.json_text(found))
        return found

    def _trainer(self) -> Trainer:
        """The trainer, where it has to begin."""
        task, network, learning, stores = self.task, self.network, self.learning, self.stores
        log = Log(self.folder / "metrics.jsonl")
        if not self.resume:
            log({"event": "start", "step": 0, **{key: self.facts[key] for key in ("task", "data", "parameters", "seed", "started")}})

        def listen(event: Mapping[str, Any]) -> None:
            log(event)
            self.progress(event)

        memory: dict[str, Tensor] = {}

        def epoch(number: int) -> Sequence[Batch]:
            return loader(task, stores["train"], learning.batch_size, learning.device, seed=learning.seed, epoch=number, memory=memory)

        valid = loader(task, stores["valid"], WIDE, learning.device, numbers=self.plan.valid) if "valid" in stores else None
        trainer = Trainer(
            network,
            lambda batch: task.loss(network, batch),
            epoch,
            learning,
            self.folder / "checkpoints",
            evaluate=(lambda: score(task, network, valid).metrics()) if valid is not None else None,
            metric=task.chosen_by,
            larger_is_better=task.larger_is_better,
            listen=listen,
            identity={"data": self.about["data"]["fingerprint"], "task": _hash(self.about["state"])},
            reserve=self.plan.reserve,
            began=self.began,
            memory=memory,
        )
        if self.resume and not trainer.resume():
            self.progress.say("there is no checkpoint yet: the run starts from its beginning")
        self.progress.training(task.metric if valid else "", learning.epochs or None)
        return trainer

    def _leave(self, trainer: Trainer, error: Interrupted | TrainingError) -> None:
        """Stopped early: the weights that were kept become the model, without scores."""
        save_weights(self.network.state_dict(), self.folder / "model.safetensors")
        reason = "interrupted" if isinstance(error, Interrupted) else "failed"
        self.facts |= {"stopped": reason, "epochs": trainer.epochs_done(), "steps": trainer.at.step, "best_epoch": trainer.at.best_epoch}
        self.facts |= {"seconds": round(trainer.seconds(), 2), "error": str(error)}
        write_whole(self.folder / "metrics.json", text.json_text(self.facts))
        if isinstance(error, Interrupted):
            best = trainer.at.best_epoch
            model = f"the best so far, of epoch {text.epochs(best)}" if best is not None else "as it is"
            error.args = (
                f"stopped in epoch {trainer.at.epoch + 1}, at step {trainer.at.step:,}; everything is saved. The model in {self.folder}"
                f" is {model}.\nGo on with: wavefront fit {quote(self.source.path)} --out {quote(str(self.folder))} --resume",
            )

    def _finish(self, trainer: Trainer, outcome: Outcome) -> Run:
        """The scores, the report, and away with what only training needed."""
        meters = {}
        self.task.searching()
        for split, store in self.stores.items():
            batches = loader(self.task, store, WIDE, self.learning.device, numbers=self.plan.numbers(split))
            meters[split] = score(self.task, self.network, batches)
            self.facts[split] = {**meters[split].metrics(), "examples": len(batches.numbers)}
        ended = {"stopped": outcome.stopped, "epochs": outcome.epochs, "steps": outcome.steps, "best_epoch": outcome.best_epoch}
        self.facts |= {**ended, "seconds": round(trainer.seconds(), 2)}
        run = Run(self.folder, self.task, self.network, self.about["data"], self.facts, self.learning.device)
        write_whole(self.folder / "metrics.json", text.json_text(self.facts))
        lengths = {split: store.lengths(self.task.length_column) for split, store in self.stores.items()}
        figures = self.task.figures(meters[self.judged])
        write_report(self.folder / "report.html", run, read_log(self.folder / "metrics.jsonl"), figures, self.judged, lengths)
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        return run


class Counted:
    """A source whose rows are counted on the screen as they are read."""

    def __init__(self, source: Source, progress: Progress):
        self._source, self._progress = source, progress

    def rows(self, split: str = "all") -> Iterator[dict[str, Any]]:
        return self._progress.counting(self._source.rows(split), f"reading {split}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _essentials(learning: Settings) -> dict[str, Any]:
    """The settings that tell how it was trained, without those that are off or at their default."""
    always = ("optimizer", "learning_rate", "schedule", "epochs", "minutes", "batch_size")
    values = learning.model_dump()
    return {key: value for key, value in values.items() if (key in always and value) or value != Settings.model_fields[key].default}


def _hash(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
