"""Training a run: from a file to a folder with a model, its scores and a report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import nn

from wavefront.app.config import Data, checked, gather, read_toml, without_none
from wavefront.app.folder import claim_folder, emptied, locked, name_of
from wavefront.app.job import Counted, Job
from wavefront.app.progress import Progress
from wavefront.app.run import FORMAT, Run, load, parameters, read_json, task_from
from wavefront.app.starting import start_from
from wavefront.app.text import json_text, plain
from wavefront.data import Source, open_source
from wavefront.data.readers.reader import ending
from wavefront.errors import RunError, SettingsError
from wavefront.learning import Settings, write_whole
from wavefront.tasks import TASKS, Task, choose

__all__ = ["fit"]

# What may be given anew when a run is carried on: how long and how carefully, not what it is
HARMLESS = ("epochs", "minutes", "patience", "checkpoint_seconds", "learning_rate", "clip_norm", "clip_value", "nonfinite", "device")
RESUMABLE = {f"learning.{key}" for key in HARMLESS}
SHOWN = 10  # files of a folder that were not read: so many by name


def fit(
    data: str | Path,
    task: str | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    precision: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    query: str | None = None,
    columns: Mapping[str, str] | None = None,
    began: float | None = None,
    as_json: bool = False,
    start: str | Path | None = None,
    tune: bool = False,
) -> Run:
    """Trains a model on a file, a folder or a generator's name, scores it, and leaves it in a folder of its own.

    data       what to learn from: CSV, TSV, JSONL, Parquet, CoNLL, CoNLL-U, .ts, UCR, a folder of such with train/valid/test, "years"
    task       "tag", "classify", "regress", "tree"; seen from the data where that is certain
    out        the run's folder; runs/<name of the data> unless told
    config     a TOML file; `set` holds single settings, {"network.units": 64}; both over the defaults, `set` over the file
    epochs, minutes, seed, precision  short for learning.epochs and so on. With minutes alone the run takes that time
    resume     carries on where the folder's newest checkpoint is; overwrite: replaces the run in the folder
    dry_run    trains nothing, writes nothing; prints what would be done: the resolved settings, as TOML or `as_json`
    columns    role -> column, where the roles are not certain: {"input": "text", "label": "kind"}
    tune       searches the settings of a network that is solved in closed form (network.kind = "esn"), by validation
    start      another run, whose weights are taken as far as they fit: of another vocabulary those of the common symbols
    began      `time.monotonic()` when the minutes began, if that was before the call

    Raises `DataError`, `SettingsError`, `RunError`, `TrainingError`, each with what to do; `Interrupted` after Ctrl-C or SIGTERM, when
    everything is saved: `load(out)` then gives the best model so far, and `resume=True` carries on.
    """
    began = time.monotonic() if began is None else began
    progress = Progress(quiet)
    flags = {"task": task, "data.query": query, "learning.epochs": epochs, "learning.minutes": minutes, "learning.seed": seed}
    flags |= {"learning.precision": precision}
    file = read_toml(config) if config is not None else {}
    if minutes is not None:  # they take the place of the limits that the file has
        file = {key: value for key, value in file.items() if key not in ("learning.epochs", "learning.patience")}
    layers = [(str(config), file)] if config is not None else []
    layers += [
        ("set", dict(set or {})),
        ("columns", {f"columns.{role}": column for role, column in (columns or {}).items()}),
        ("flags", {key: value for key, value in flags.items() if value is not None}),
    ]
    given = gather(layers, [key for kind in TASKS.values() for key in kind.Settings.model_fields])
    given["data.path"] = str(data)
    folder = Path(out) if out is not None else Path("runs") / name_of(data)
    try:
        if resume and start is not None:
            raise SettingsError("a run that is resumed has its own weights: start (--from) is for a new one.")
        if resume:
            run = _resume(folder, given, progress, began, dry_run)
        else:
            if not dry_run:
                claim_folder(folder, overwrite)
            run = _start(folder, given, progress, began, dry_run, overwrite, tune, start)
        if dry_run and "config" in run.metrics:
            progress.say("")
            print((json_text if as_json else tomli_w.dumps)(run.metrics["config"]).strip())
            progress.say(f"\n{run.metrics['parameters']:,} parameters; nothing was trained, nothing was written", "dim")
        return run
    finally:
        progress.close()


def _start(
    folder: Path,
    given: Mapping[str, Any],
    progress: Progress,
    began: float,
    dry_run: bool,
    overwrite: bool,
    tune: bool = False,
    start: str | Path | None = None,
) -> Run:
    """A new run."""
    if given.get("task") == "language" and "data.format" not in given and ending(Path(given["data.path"])) == ".txt":
        given = {**given, "data.format": "text"}  # whatever else its lines may look like
    source = _source(_section(given, "data"))
    kind, claim = choose(source, given.get("task"), _section(given, "columns"))
    kinds = {column.name: column.kind for column in source.columns}
    groups = [claim.columns[role] for role in kind.grouped if kinds[claim.columns[role]] in ("text", "symbols")]
    if groups and "data.groups" not in given:
        given = {**given, "data.groups": groups}
        source = _source(_section(given, "data"))
    progress.say(f"{source.path} ({source.format})", "bold")
    progress.say(f"{kind.name}: {claim.because}")
    for file in source.ignored[:SHOWN]:
        progress.say(f"not read: {file}", "dim")
    if (more := len(source.ignored) - SHOWN) > 0:
        progress.say(f"not read: {more:,} files more", "dim")
    task = kind(checked(kind.Settings, _section(given, "network"), "network"), claim.columns)
    task.prepare(Counted(source, progress))  # type: ignore[arg-type]
    learning = _learning(task, _section(given, "learning"))
    if tune and not dry_run:
        from wavefront.app.tuning import tune as search

        search(task, source, learning, progress, began)
    torch.manual_seed(learning.seed)
    network = task.network()
    for line in start_from(start, task, network) if start is not None else ():
        progress.say(line)
    config = {
        "task": task.name,
        "data": without_none(checked(Data, _section(given, "data"), "data").model_dump()),
        "columns": task.columns,
        "network": without_none(task.settings.model_dump()),
        "learning": learning.model_dump(),
    }
    if dry_run:
        return Run(folder, task, network, source.describe(), _planned(source, network, config))
    data = {**source.describe(), "path": source.path, "fingerprint": source.fingerprint()}
    about = {"format": FORMAT, "task": task.name, "data": data, "state": plain(task.state())}
    with emptied(folder, overwrite):
        write_whole(folder / "config.toml", tomli_w.dumps(config))
        task.keep(folder)
        write_whole(folder / "task.json", json.dumps(about, ensure_ascii=False))
        return Job(folder, source, task, network, learning, about, progress, began).run()


def _resume(folder: Path, given: Mapping[str, Any], progress: Progress, began: float, dry_run: bool) -> Run:
    """The run of a folder, carried on with its own settings; those that do not change what it is may be given anew."""
    if not (folder / "config.toml").exists():
        raise RunError(f"{folder} holds no run to resume. Leave out --resume to start one.")
    stored = read_toml(folder / "config.toml")
    changed = {key: value for key, value in given.items() if key != "data.path" and stored.get(key) != value}
    fixed = [f"{key}: the run has {stored.get(key)!r}, now it is {value!r}" for key, value in changed.items() if key not in RESUMABLE]
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
    config = {
        "task": task.name,
        "data": _section(stored, "data"),
        "columns": task.columns,
        "network": without_none(task.settings.model_dump()),
        "learning": learning.model_dump(),
    }
    if dry_run:
        return Run(folder, task, network, about["data"], _planned(source, network, config))
    with locked(folder):  # what another process trains with is left as it is
        (folder / "report.html").unlink(missing_ok=True)  # it is there when the run is finished
        write_whole(folder / "config.toml", tomli_w.dumps(config))
        return Job(folder, source, task, network, learning, about, progress, began, resume=True).run()


def _planned(source: Source, network: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a dry run knows of a run."""
    return {"data": source.path, "parameters": parameters(network), "config": config}


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
