"""Learn from data: a file, a folder, a generator."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from wavefront.app.command import BEGAN, AsJson, pairs, say
from wavefront.app.text import json_text, scores_table

__all__ = ["fit"]


def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file, a folder, or the name of a generator (years).")],
    task: Annotated[
        str | None,
        typer.Option(
            help="One of `wavefront tasks`: tag, classify, translate, ...; seen from the data where that is certain.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The run's folder.  [default: runs/<name of the data>]")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="ROLE=NAME", help="Which column is what: --column label=kind")] = None,
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to read of a DuckDB database.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.toml", help="Settings from a file, as a run's own config.toml.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, over the file: --set units=64")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training data.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Take this long, everything included.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed twice is the same run.")] = None,
    precision: Annotated[str | None, typer.Option(metavar="float32|bf16", help="bf16: large products in bfloat16.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="With --set kind=esn: search radius, leak, scaling and ridge.")] = False,
    start: Annotated[Path | None, typer.Option("--from", metavar="RUN", help="Start from its weights, as far as they fit.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Carry on where the run's newest checkpoint is.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings; train and write nothing.")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> None:
    """Train a model on DATA, score it, and leave it in a folder of its own.

    The format, the task and the columns are seen from the data where that is certain, and printed. Scores go to standard
    output. Ctrl-C saves first; --resume carries on.

    \b
    Examples:
      wavefront fit years
      wavefront fit reviews.csv --column input=text --column label=stars
      wavefront fit sensors/ --task classify --minutes 5 --out runs/quick
      wavefront fit ner/ --set units=128 --set learning_rate=0.002 --seed 1
      wavefront fit sales.duckdb --query "select note, price from sales" --task regress
      wavefront fit vowels/ --set kind=esn --tune
      wavefront fit ner/ --resume

    \b
    Settings (--set, --config; a setting's short name will do where it is the only one):
      data.*       what is read, and cut:   data.header=false  data.missing=mask  data.valid_share=0.02
      columns.*    which column is what:    columns.label=kind
      network.*    sizes of the network:    see wavefront tasks
      learning.*   how it learns:           learning.learning_rate=0.001  learning.patience=3
      All of them, with what they would be: wavefront fit DATA --dry-run
    """
    from wavefront.app.config import parse_value
    from wavefront.app.fitting import fit as train
    from wavefront.errors import SettingsError

    if resume and overwrite:
        raise SettingsError("--resume carries a run on, --overwrite replaces it: give one of them.")
    if resume and tune:
        raise SettingsError("--resume carries a run on with its own settings, --tune searches others: give one of them.")
    settings = {key: parse_value(value) for key, value in pairs(setting, "--set")}
    run = train(
        data,
        task=task,
        out=out,
        config=config,
        set=settings,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        precision=precision,
        resume=resume,
        overwrite=overwrite,
        dry_run=dry_run,
        quiet=quiet,
        query=query,
        columns=dict(pairs(column, "--column")),
        began=BEGAN,
        as_json=as_json,
        start=start,
        tune=tune,
    )
    if dry_run:
        return
    print(json_text(run.metrics).rstrip() if as_json else scores_table(run.metrics))
    if not quiet:
        say(f"\n{run.folder}/report.html shows more. Use the model: wavefront {run.task.command.format(run=quote(str(run.folder)))}")
