"""How good a model is on other data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wavefront.app.command import AsJson, Folder
from wavefront.app.text import json_line, json_text, parts_table, scores_table

__all__ = ["score"]


def score(
    run: Folder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows with what is to be predicted.")],
    split: Annotated[
        str | None, typer.Option(help="Which rows: train, valid, test, all.  [default: test, or all where there is no such]")
    ] = None,
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to read of a DuckDB database.")] = None,
    each: Annotated[bool, typer.Option("--each", help="The log-probability of each row's target, where sequences are written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score a model on DATA that it was not trained on.

    \b
    Examples:
      wavefront score runs/reviews march.csv
      wavefront score runs/ner ner/ --split valid --json
      wavefront score runs/g2p candidates.tsv --each
    """
    from wavefront.app.run import load

    model = load(run)
    if each:
        for row, log_prob in model.log_probs(data):
            print(json_line({**row, "log_prob": log_prob}) if as_json else "\t".join([f"{log_prob:.4f}", *map(_cell, row.values())]))
        return
    metrics, used = model.scores(data, split, query)
    if as_json:
        print(json_text(metrics).rstrip())
        return
    print(scores_table({"metric": model.task.metric, used: metrics}))
    if parts := parts_table(metrics):
        print(f"\n{parts}")


def _cell(value: Any) -> str:
    """A value of a row in one line."""
    return value if isinstance(value, str) else " ".join(value) if isinstance(value, list) else f"{len(value):,} steps"
