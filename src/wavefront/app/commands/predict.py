"""What a model says of inputs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wavefront.app.command import AsJson, Folder
from wavefront.app.text import json_line

__all__ = ["predict"]


def predict(
    run: Folder,
    inputs: Annotated[str, typer.Argument(metavar="[INPUT]", help="A file, or - for standard input.", show_default=False)] = "-",
    num_beams: Annotated[
        int | None, typer.Option(min=1, help="Beams of the search, where sequences are written.  [default: as trained]", show_default=False)
    ] = None,
    n_best: Annotated[int, typer.Option(min=1, help="So many candidates for each input, with their log-probabilities.")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="A picture of where the network looked, or of the tree.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict for every input: one readable line each, or one JSON object each, in their order. On a terminal trees are drawn.

    A text file is one input a line, an empty line is answered by an empty one; CSV, JSONL, CoNLL and the other formats are read as in
    training, labels not needed.

    \b
    Examples:
      echo "In 2009, I went to Nepal." | wavefront predict runs/years
      wavefront predict runs/reviews new.csv --json > predicted.jsonl
      echo "ABDOMEN" | wavefront predict runs/g2p --n-best 3 --explain
    """
    from wavefront.app.run import load

    model = load(run)
    at_once = 1 if inputs == "-" and (sys.stdin.isatty() or model.task.live) else 64
    pictures = explain or (sys.stdout is not None and sys.stdout.isatty())
    told = model.task.drawn if pictures else model.task.row_text
    for row, prediction in model.predictions(inputs, at_once, num_beams, n_best, explain):
        print(json_line(prediction) if as_json else told(row, prediction) if row else "")
        if at_once == 1 and sys.stdout is not None:
            sys.stdout.flush()  # whoever reads along sees it now
