"""A run: a model with everything that was needed to train it and is needed to use it, in one folder."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from wavefront.app.loader import WIDE, loader, score
from wavefront.app.text import count, duration, epochs, number, scores_table
from wavefront.data import Source, Store, open_source, read_inputs
from wavefront.errors import DataError, RunError, SettingsError
from wavefront.learning import load_weights, memory_guarded
from wavefront.tasks import TASKS, Task
from wavefront.tasks.task import Batch

__all__ = ["FORMAT", "Run", "load", "parameters", "read_json", "task_from"]

FORMAT = 1  # of a run folder
FEWER = "Leave out the longest rows, or split them; from Python, `run.predictions(inputs, at_once=8)` takes fewer at once."


class Run:
    """A trained model in its folder, as `fit` and `load` give it.

    run = wavefront.fit("years", out="runs/years")                 or, later, wavefront.load("runs/years")
    run.predict(["In 2009, I went to Nepal."])
    # [{'labels': ['O', 'B-YEAR', 'O', ...], 'spans': [{'start': 1, 'end': 2, 'label': 'YEAR'}]}]
    """

    def __init__(
        self, folder: Path, task: Task, network: nn.Module, like: Mapping[str, Any], metrics: Mapping[str, Any], device: str = "cpu"
    ):
        self.folder, self.task, self.network, self.metrics = folder, task, network.eval(), dict(metrics)
        self.like, self._device = like, device

    def predict(self, inputs: str | Path | Iterable[Any], **how: Any) -> list[dict[str, Any]]:
        """One prediction per input, in their order. `inputs` is a file, "-" for standard input, or a list of values or of dicts; `how` as in
        `predictions`."""
        return [prediction for _, prediction in self.predictions(inputs, **how)]

    def predictions(
        self,
        inputs: str | Path | Iterable[Any],
        at_once: int = 64,
        num_beams: int | None = None,
        n_best: int = 1,
        explain: bool = False,
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Rows with their predictions, as a stream in bounded memory; `at_once` rows go through the network together.

        An empty line of a text has an empty prediction, so that lines of inputs and predictions stay side by side.

        num_beams  of the search, where the task writes sequences; None: as in the settings
        n_best     so many candidates for each row, with their log-probabilities
        explain    where the network looked
        """
        if not self.task.command.startswith(("predict", "generate")):
            raise SettingsError(f"a run of {self.task.name} is used by: wavefront {self.task.command.format(run=quote(str(self.folder)))}")
        needed = self.task.needed
        rows = read_inputs(inputs, self.like, needed)
        self.task.searching(num_beams, n_best, at_once if explain else 0)
        self.task.begin()
        done = 0
        while chunk := list(islice(rows, at_once)):
            seen = [{name: row[name] for name in needed} for row in chunk if row]
            found: Sequence[dict[str, Any]] = ()
            if seen:
                with memory_guarded(f"a prediction for {len(seen)} rows at once", FEWER):
                    found = self.task.predict(self.network, self._batch(seen, _named(inputs), done))
            done += len(seen)
            answered = zip(seen, found)
            yield from (next(answered) if row else ({}, {}) for row in chunk)

    def log_probs(self, data: str | Path | Iterable[Any], at_once: int = 64) -> Iterator[tuple[dict[str, Any], float]]:
        """Rows with log p(target | source), of tasks that write sequences: of the user's own pairs, or of the candidates of another system, each
        in a row of its own with its source."""
        columns = list(self.task.columns.values())
        rows = filter(None, read_inputs(data, self.like, columns))
        done = 0
        while chunk := list(islice(rows, at_once)):
            seen = [{name: row[name] for name in columns} for row in chunk]
            with memory_guarded(f"the scoring of {len(seen)} rows at once", FEWER):
                batch = self._batch(seen, _named(data), done)
                found = self.task.log_probs(self.network, batch)
            done += len(seen)
            yield from zip(seen, found)

    def _batch(self, rows: Sequence[Mapping[str, Any]], where: str, before: int) -> Batch:
        """Rows as one batch; an error says which row, of all that come after the `before` earlier ones."""
        examples = []
        for place, row in enumerate(rows, before + 1):
            try:
                examples.append(self.task.encode(row))
            except DataError as error:
                raise DataError(f"{where}, row {place}: {error}") from None
        return self.task.collate(examples).to(self._device)

    def score(self, data: str | Path, split: str | None = None, query: str | None = None) -> dict[str, Any]:
        """The metrics on the rows of a file, a folder or a database's `query`, which need their targets: on `split`; or on its test split,
        if it has files for one or is the very data that the run was trained on; or else on all its rows."""
        return self.scores(data, split, query)[0]

    def scores(self, data: str | Path, split: str | None = None, query: str | None = None) -> tuple[dict[str, Any], str]:
        """What `score` gives, and which split it is of."""
        source = open_source(data, query=query, like=self.like)
        if split is None:
            held_out = "test" in source.given or ("test" in source.splits and source.fingerprint() == self.like["fingerprint"])
            split = "test" if held_out else "all"
        absent = [name for name in self.task.columns.values() if name not in [column.name for column in source.columns]]
        if absent:
            raise DataError(
                f"{data}: has no column {absent[0]!r}, which the model was trained on. It has: {', '.join(c.name for c in source.columns)}."
            )
        self.task.searching()
        if self.task.stream:
            return self._stream_scores(source, split), split
        meter, scored = self.task.meter(), 0
        rows = self.task.rows(source, split)
        while chunk := list(islice(rows, 64)):
            with memory_guarded(f"the scoring of rows {scored + 1} to {scored + len(chunk)}", FEWER):
                batch = self._batch(chunk, f"{data}, {split}", scored)
                predictions, loss, items = self.task.assess(self.network, batch)
            meter.add(batch, predictions, loss, items)
            scored += len(chunk)
        if not scored:
            raise DataError(f"{data}: has no rows to score in {split!r}.")
        return {**meter.metrics(), "examples": scored}, split

    def _stream_scores(self, source: Source, split: str) -> dict[str, Any]:
        """The metrics of a text, which is one stream: it is encoded to disk and read as in training."""
        with TemporaryDirectory() as folder:
            store = Store.build(folder, (self.task.encode(row) for row in self.task.rows(source, split)))
            if not len(store):
                raise DataError(f"{source.path}: has no rows to score in {split!r}.")
            return {**score(self.task, self.network, loader(self.task, store, WIDE, self._device)).metrics(), "examples": len(store)}

    def generate(self, prompt: str = "", length: int = 500, **how: Any) -> Iterator[str]:
        """What the network writes after a prompt, as a stream; `how` as in `app.generating.generate` (temperature, top_k, top_p, num_beams, seed)."""
        from wavefront.app.generating import generate

        return generate(self, prompt, length, **how)

    def forecast(self, data: str | Path | None = None, **how: Any) -> list[dict[str, Any]]:
        """What comes next, in the long format, of a run that forecasts: from the ends of its series, or of those of `data`; `how` as in
        `app.forecasting.forecasts` (horizon, level, future, cutoff)."""
        from wavefront.app.forecasting import forecasts, rows

        return [row for found in forecasts(self, data, **how) for row in rows(self, found)]

    def update(self, data: str | Path) -> dict[str, int]:
        """New rows for a run that forecasts, which then goes on from them; nothing is trained. -> how many rows each series got"""
        from wavefront.app.forecasting import update

        return update(self, data)

    @property
    def question(self) -> str:
        """What is said of what: "label from text"."""
        return self.task.question

    def show(self) -> None:
        """Prints what was trained, on what, and how good it is."""
        print(self.summary())

    def summary(self) -> str:
        """What was trained, on what, how good: what `wavefront show` prints."""
        metrics = self.metrics
        sizes = ", ".join(f"{split} {rows:,}" for split, rows in metrics.get("rows", {}).items())
        lines = [
            f"{metrics['data']}  {self.task.name}: {self.question}",
            "",
            f"rows      {sizes}",
            _wrapped("network", {"parameters": f"{metrics['parameters']:,}", **self.task.settings.model_dump()}),
            _wrapped("learning", metrics.get("learning", {})),
            f"trained   {_ended(metrics)}",
        ]
        if any(isinstance(metrics.get(split), Mapping) for split in ("train", "valid", "test")):
            lines += ["", scores_table(metrics)]
        else:
            lines += [
                "",
                "not scored: the run was stopped before its end. Go on with wavefront fit ... --resume, or score it with wavefront score.",
            ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        test = self.metrics.get("test") or self.metrics.get("valid") or {}
        scored = f", {self.task.metric} {number(test[self.task.metric])}" if self.task.metric in test else ""
        return f"Run({str(self.folder)!r}: {self.task.name} on {self.metrics['data']}{scored})"


def load(folder: str | Path, device: str = "cpu") -> Run:
    """The run of a folder, ready to predict. `RunError` says what is missing, damaged or not of a run."""
    folder = Path(folder)
    about = read_json(folder, "task.json")
    task = task_from(about, folder)
    network = task.network().to(device)
    if not (folder / "model.safetensors").exists():
        more = f"wavefront fit {quote(about['data']['path'])} --out {quote(str(folder))} --resume"
        raise RunError(f"{folder} has no model yet: training has not ended. Carry on with: {more}")
    load_weights(network, folder / "model.safetensors")
    task.restore(folder)
    return Run(folder, task, network, about["data"], read_json(folder, "metrics.json"), device)


def parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def task_from(about: Mapping[str, Any], folder: Path) -> Task:
    if about.get("format") != FORMAT:
        raise RunError(f"{folder}/task.json has format {about.get('format')}, this Wavefront reads {FORMAT}: it is of another version.")
    if about.get("task") not in TASKS:
        raise RunError(f"{folder}/task.json is of the task {about.get('task')!r}; there are: {', '.join(TASKS)}.")
    try:
        return TASKS[about["task"]].from_state(about["state"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{folder}/task.json is damaged: {type(error).__name__}: {error}.") from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = "a run folder holds config.toml, task.json, model.safetensors and metrics.json"
        raise RunError(f"{folder} {'has no ' + name if folder.is_dir() else 'is no folder'}: {known}. `wavefront fit` makes one.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / name} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise RunError(f"{folder / name} is damaged: a JSON object was expected, not {type(found).__name__}.")
    return found


def _named(inputs: Any) -> str:
    """Where rows come from, as an error says it."""
    if not isinstance(inputs, (str, Path)):
        return "the inputs"
    return "standard input" if str(inputs) == "-" else str(inputs)


def _wrapped(name: str, values: Mapping[str, Any]) -> str:
    """Settings in lines of at most 100 characters, under a heading to their left."""
    listed = ", ".join(f"{key}\xa0{value}" for key, value in values.items() if value is not None)
    return textwrap.fill(listed, 100, initial_indent=f"{name:<10}", subsequent_indent=" " * 10).replace("\xa0", " ")


def _ended(metrics: Mapping[str, Any]) -> str:
    """How training went, in a line."""
    why = {
        "epochs": "to the end",
        "time": "until the time was up",
        "patience": "until nothing got better",
        "interrupted": "until it was interrupted",
        "failed": "until it failed",
    }
    if "stopped" not in metrics:
        return "not at all"
    best = f", best in epoch {epochs(metrics['best_epoch'])}" if metrics.get("best_epoch") is not None else ""
    line = f"{epochs(metrics['epochs'])} epochs, {count(metrics['steps'], 'step')}, {why[metrics['stopped']]}{best}"
    line += f"; {duration(metrics['seconds'])}, seed {metrics['seed']}"
    return line + (f"\n          {metrics['error']}" if metrics["stopped"] == "failed" else "")
