"""What the engine makes of a cell or a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["explain"]


def explain(
    what: Annotated[
        str, typer.Argument(metavar="CELL|RUN", help="A cell by its name (see `wavefront cells`), your own as FILE.py:CLASS, or a run.")
    ],
    inputs: Annotated[int, typer.Option(help="The size of a cell's input.")] = 64,
    units: Annotated[int, typer.Option(help="The size of a cell's state.")] = 128,
    code: Annotated[bool, typer.Option("--code", help="The native code of the loop as well.")] = False,
) -> None:
    """What the engine makes of a cell: what leaves the loop, what stays in it, what runs it, and why.

    \b
    Examples:
      wavefront explain lstm
      wavefront explain gru --units 256 --code
      wavefront explain mine.py:Mine
      wavefront explain runs/years
    """
    from wavefront.app.bench import find_cell
    from wavefront.engine import explain

    if Path(what, "config.toml").exists():
        from wavefront.app.run import load

        network = load(what).network
    else:
        network = find_cell(what)(inputs, units)
    print(explain(network, code))
