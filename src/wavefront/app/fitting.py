"""Training a run: from a file to a folder with a model, its scores and a report."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import tomli_w
import torch
from torch import nn

from wavefront.app.config import Data, checked, gather, read_toml, without_none
from wavefront.app.folder import claim_folder, locked, make_folder, name_of
from wavefront.app.loader import WIDE, Loader, score
from wavefront.app.plan import Plan
from wavefront.app.progress import Progress
from wavefront.app.report import write_report
from wavefront.app.run import FORMAT, Run, load, read_json, task_from
from wavefront.app.text import epochs as epochs_said, number, plain
from wavefront.data import Source, Store, open_source
from wavefront.errors import DataError, RunError, SettingsError, TrainingError
from wavefront.learning import Interrupted, Log, Outcome, Settings, Trainer, read_log, save_weights, write_whole
from wavefront.tasks import TASKS, Task, choose

__all__ = ["fit"]

# What may be given anew when a run is carried on: how long and how carefully, not what it is
RESUMABLE = ("epochs", "minutes", "patience", "checkpoint_seconds", "learning_rate", "clip_norm", "clip_value", "nonfinite", "device")


def fit(
    data: str | Path,
    task: str | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    query: str | None = None,
    columns: Mapping[str, str] | None = None,
    began: float | None = None,
) -> Run:
    """Trains a model on a file, a folder or a generator's name, scores it, and leaves it in a folder of its own.

    data       what to learn from: CSV, TSV, JSONL, Parquet, CoNLL, CoNLL-U, .ts, UCR, a folder of such with train/valid/test, "years"
    task       "tag", "classify", "regress"; seen from the data where that is certain
    out        the run's folder; runs/<name of the data> unless told
    config     a TOML file; `set` holds single settings, {"network.units": 64}; both over the defaults, `set` over the file
    epochs, minutes, seed  short for learning.epochs, learning.minutes, learning.seed. With minutes alone the run takes that time
    resume     carries on where the folder's newest checkpoint is; overwrite: replaces the run in the folder
    dry_run    trains nothing, writes nothing; prints what would be done
    columns    role -> column, where the roles are not certain: {"input": "text", "label": "kind"}
    began      `time.monotonic()` when the minutes began, if that was before the call

    Raises `DataError`, `SettingsError`, `RunError`, `TrainingError`, each with what to do; `Interrupted` after Ctrl-C or SIGTERM, when
    everything is saved: `load(out)` then gives the best model so far, and `resume=True` carries on.
    """
    began = time.monotonic() if began is None else began
    progress = Progress(quiet)
    flags = {"task": task, "data.query": query, "learning.epochs": epochs, "learning.minutes": minutes, "learning.seed": seed}
    layers = [(str(config), read_toml(config))] if config is not None else []
    layers += [
        ("set", dict(set or {})),
        ("columns", {f"columns.{role}": column for role, column in (columns or {}).items()}),
        ("flags", {key: value for key, value in flags.items() if value is not None}),
    ]
    given = gather(layers, [key for kind in TASKS.values() for key in kind.Settings.model_fields])
    given["data.path"] = str(data)
    folder = Path(out) if out is not None else Path("runs") / name_of(data)
    try:
        if resume:
            return _resume(folder, given, progress, began, dry_run)
        if not dry_run:
            claim_folder(folder, overwrite)
        return _start(folder, given, progress, began, dry_run, overwrite)
    finally:
        progress.close()


def _start(folder: Path, given: Mapping[str, Any], progress: Progress, began: float, dry_run: bool, overwrite: bool) -> Run:
    """A new run."""
    source = _source(_section(given, "data"))
    kind, claim = choose(source, given.get("task"), _section(given, "columns"))
    progress.say(f"{source.path} ({source.format})", "bold")
    progress.say(f"{kind.name}: {claim.because}")
    for file in source.ignored:
        progress.say(f"not read: {file}", "dim")
    task = kind(checked(kind.Settings, _section(given, "network"), "network"), claim.columns)
    task.prepare(_Counting(source, progress))  # type: ignore[arg-type]
    learning = _learning(task, _section(given, "learning"))
    torch.manual_seed(learning.seed)
    network = task.network()
    config = {
        "task": task.name,
        "data": without_none(checked(Data, _section(given, "data"), "data").model_dump()),
        "columns": task.columns,
        "network": without_none(task.settings.model_dump()),
        "learning": learning.model_dump(),
    }
    if dry_run:
        progress.say("")
        print(tomli_w.dumps(config).strip())
        progress.say(f"\n{_parameters(network):,} parameters; nothing was trained, nothing was written", "dim")
        return Run(folder, task, network, source.describe(), {"data": source.path, "parameters": _parameters(network)})
    make_folder(folder, overwrite)
    data = {**source.describe(), "path": source.path, "fingerprint": source.fingerprint()}
    about = {"format": FORMAT, "task": task.name, "data": data, "state": plain(task.state())}
    write_whole(folder / "config.toml", tomli_w.dumps(config))
    write_whole(folder / "task.json", json.dumps(about, ensure_ascii=False))
    return _train(folder, source, task, network, learning, about, progress, began, resume=False)


def _resume(folder: Path, given: Mapping[str, Any], progress: Progress, began: float, dry_run: bool) -> Run:
    """The run of a folder, carried on with its own settings; those that do not change what it is may be given anew."""
    if not (folder / "config.toml").exists():
        raise RunError(f"{folder} holds no run to resume. Leave out --resume to start one.")
    stored = read_toml(folder / "config.toml")
    changed = {key: value for key, value in given.items() if key != "data.path" and stored.get(key) != value}
    fixed = [f"{key}: the run has {stored.get(key)!r}, now it is {value!r}" for key, value in changed.items() if key not in _RESUMABLE_KEYS]
    if fixed:
        raise SettingsError(
            f"cannot resume {folder} with other settings:\n  " + "\n  ".join(fixed) + "\nLeave them out, or start a new run (--out)."
        )
    about = read_json(folder, "task.json") if (folder / "task.json").exists() else None
    if not changed and about is not None and (folder / "report.html").exists():
        progress.say(f"{folder} is finished already. To train on, give it more: --epochs or --minutes.")
        return load(folder)
    if about is None:  # it was killed before there was anything to carry on from
        return _start(folder, {**stored, **given}, progress, began, dry_run, overwrite=True)
    source = _source({**_section(stored, "data"), "path": given["data.path"]})
    if source.fingerprint() != about["data"]["fingerprint"]:
        raise RunError(
            f"cannot resume {folder} with {source.path}: the run was started on other data, {about['data']['path']}, or the file has changed since."
        )
    task = task_from(about, folder)
    limits = {key: 0 for key in ("epochs", "patience") if "learning.minutes" in changed and f"learning.{key}" not in changed}
    learning = checked(Settings, {**_section(stored, "learning"), **limits, **_section(changed, "learning")}, "learning")
    torch.manual_seed(learning.seed)
    network = task.network()
    progress.say(f"{source.path} ({source.format}), {task.name}: {folder} is carried on", "bold")
    if dry_run:
        return Run(folder, task, network, about["data"], {"data": source.path, "parameters": _parameters(network)})
    config = {
        "task": task.name,
        "data": _section(stored, "data"),
        "columns": task.columns,
        "network": without_none(task.settings.model_dump()),
    }
    (folder / "report.html").unlink(missing_ok=True)  # it is there when the run is finished
    write_whole(folder / "config.toml", tomli_w.dumps({**config, "learning": learning.model_dump()}))
    return _train(folder, source, task, network, learning, about, progress, began, resume=True)


_RESUMABLE_KEYS = {f"learning.{key}" for key in RESUMABLE}


def _train(
    folder: Path,
    source: Source,
    task: Task,
    network: nn.Module,
    learning: Settings,
    about: Mapping[str, Any],
    progress: Progress,
    began: float,
    resume: bool,
) -> Run:
    """Encodes, trains, scores, writes the report: what is common to a new run and one that is carried on."""
    with locked(folder):
        stores = _encoded(folder / "work", source, task, progress)
        if not len(stores["train"]):
            raise DataError(f"{source.path}: there is no row to train on.")
        network.to(learning.device)
        log = Log(folder / "metrics.jsonl")
        plan = Plan(task, network, stores, learning)
        valid = stores.get("valid")
        rows = {split: len(store) for split, store in stores.items()}
        facts = {
            "format": FORMAT,
            "task": task.name,
            "metric": task.metric,
            "data": source.path,
            "rows": rows,
            "parameters": _parameters(network),
            "seed": learning.seed,
            "learning": _essentials(learning),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        progress.say("  ".join(f"{split} {n:,}" for split, n in rows.items()) + f"   {facts['parameters']:,} parameters", "dim")
        baselines = _baselines(folder / "work", task, stores, progress)
        if not resume:
            log({"event": "start", "step": 0, **{key: facts[key] for key in ("task", "data", "parameters", "seed", "started")}})

        def listen(event: Mapping[str, Any]) -> None:
            log(event)
            progress(event)

        evaluation = Loader(task, valid, WIDE, learning.device, numbers=plan.valid) if valid is not None else None
        trainer = Trainer(
            network,
            lambda batch: task.loss(network, batch),
            lambda epoch: Loader(task, stores["train"], learning.batch_size, learning.device, seed=learning.seed, epoch=epoch),
            learning,
            folder / "checkpoints",
            evaluate=(lambda: score(task, network, evaluation).metrics()) if evaluation is not None else None,
            metric=task.metric,
            larger_is_better=task.larger_is_better,
            listen=listen,
            identity={
                "data": about["data"]["fingerprint"],
                "task": hashlib.sha256(json.dumps(about["state"], sort_keys=True).encode()).hexdigest(),
            },
            reserve=plan.reserve,
            began=began,
        )
        if resume and not trainer.resume():
            progress.say("there is no checkpoint yet: the run starts from its beginning")
        progress.training(task.metric if evaluation else "", learning.epochs or None)
        try:
            outcome = trainer.run()
        except (Interrupted, TrainingError) as error:
            progress.close()
            reason = "interrupted" if isinstance(error, Interrupted) else "failed"
            unfinished = {"stopped": reason, "epochs": trainer.epochs_done(), "steps": trainer.at.step, "best_epoch": trainer.at.best_epoch}
            save_weights(network.state_dict(), folder / "model.safetensors")
            write_whole(folder / "metrics.json", _json({**facts, **unfinished, "seconds": trainer.seconds(), "error": str(error)}))
            if isinstance(error, Interrupted):
                error.args = (_how_to_go_on(folder, source, trainer),)
            raise
        progress.close()
        if not outcome.steps:
            progress.warn(f"the time was up before the first step: learning.minutes={learning.minutes:g} is too short for these data")
        progress.say("")
        save_weights(network.state_dict(), folder / "model.safetensors")
        return _finish(folder, task, network, about, facts, stores, plan, baselines, outcome, trainer, progress)


def _finish(
    folder: Path,
    task: Task,
    network: nn.Module,
    about: Mapping[str, Any],
    facts: dict[str, Any],
    stores: Mapping[str, Store],
    plan: Plan,
    baselines: Mapping[str, Any],
    outcome: Outcome,
    trainer: Trainer,
    progress: Progress,
) -> Run:
    """The scores, the report, and away with what only training needed."""

    device, meters = trainer.settings.device, {}
    for split, store in stores.items():
        loader = Loader(task, store, WIDE, device, numbers=plan.numbers(split))
        meters[split] = score(task, network, loader)
        facts[split] = {**meters[split].metrics(), "examples": len(loader.numbers)}
    if baselines:
        facts |= {"baselines": baselines, "baselines_on": _judged(stores)}
    facts |= {"stopped": outcome.stopped, "epochs": outcome.epochs, "steps": outcome.steps, "best_epoch": outcome.best_epoch}
    facts["seconds"] = round(trainer.seconds(), 2)
    write_whole(folder / "metrics.json", _json(facts))
    run = Run(folder, task, network, about["data"], facts, device)
    lengths = {split: store.lengths(task.length_column) for split, store in stores.items()}
    shown = _judged(stores)
    write_report(folder / "report.html", run, read_log(folder / "metrics.jsonl"), task.figures(meters[shown]), shown, lengths)
    shutil.rmtree(folder / "work", ignore_errors=True)
    facts["seconds"] = run.metrics["seconds"] = round(trainer.seconds(), 2)
    write_whole(folder / "metrics.json", _json(facts))
    return run


class _Counting:
    """A source whose rows are counted on the screen as they are read."""

    def __init__(self, source: Source, progress: Progress):
        self._source, self._progress = source, progress

    def rows(self, split: str = "all") -> Iterator[dict[str, Any]]:
        return self._progress.counting(self._source.rows(split), f"reading {split}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _encoded(work: Path, source: Source, task: Task, progress: Progress) -> dict[str, Store]:
    """Every split as arrays on disk; those that a run before this one has left are taken as they are. Splits without a row are left out."""
    stores: dict[str, Store] = {}
    for split in source.splits:
        folder = work / split
        if not (folder / "store.json").exists():
            Store.build(folder, progress.counting((task.encode(row) for row in source.rows(split)), f"encoding {split}"))
        store = Store.open(folder)
        if len(store) or split == "train":
            stores[split] = store
    return stores


def _baselines(work: Path, task: Task, stores: Mapping[str, Store], progress: Progress) -> dict[str, dict[str, float]]:
    """What needs no memory, on the split that the run is judged by: the scores to beat."""
    kept = work / "baselines.json"
    if kept.exists():
        return json.loads(kept.read_text())
    judged = _judged(stores)
    if judged == "train":
        return {}
    found = task.baselines(stores["train"], stores[judged])
    for name, metrics in found.items():
        if task.metric in metrics:
            progress.say(f"to beat, on {judged}: {task.metric} {number(metrics[task.metric])} ({name})", "dim")
    write_whole(kept, _json(found))
    return found


def _source(data: Mapping[str, Any]) -> Source:
    return open_source(**checked(Data, data, "data").model_dump())


def _learning(task: Task, given: Mapping[str, Any]) -> Settings:
    """The task's own defaults, under what was given. Minutes alone are the whole limit: no number of epochs, no early stop."""
    defaults = task.training()
    if given.get("minutes") and not given.get("epochs"):
        defaults = {**defaults, "epochs": 0, "patience": 0}
    return checked(Settings, {**defaults, **given}, "learning")


def _section(flat: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The keys of one section; data.kinds.x = ... becomes a dict again."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith(f"{section}."):
            name, _, inner = key.removeprefix(f"{section}.").partition(".")
            if inner and section == "data":
                found[name] = {**found.get(name, {}), inner: value}
            else:
                found[key.removeprefix(f"{section}.")] = value
    return found


def _how_to_go_on(folder: Path, source: Source, trainer: Trainer) -> str:
    best = f"the best so far, of epoch {epochs_said(trainer.at.best_epoch)}" if trainer.at.best_epoch is not None else "as it is"
    return (
        f"stopped in epoch {trainer.at.epoch + 1}, at step {trainer.at.step:,}; everything is saved. The model in {folder} is {best}."
        f"\nGo on with: wavefront fit {quote(source.path)} --out {quote(str(folder))} --resume"
    )


def _judged(stores: Mapping[str, Any]) -> str:
    """The split that tells how good a run is."""
    return next(split for split in ("test", "valid", "train") if split in stores)


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _essentials(learning: Settings) -> dict[str, Any]:
    """The settings that tell how it was trained, without those that are off or at their default."""
    always = ("optimizer", "learning_rate", "schedule", "epochs", "minutes", "batch_size")
    values = learning.model_dump()
    return {key: value for key, value in values.items() if (key in always and value) or value != Settings.model_fields[key].default}


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(plain(values), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
