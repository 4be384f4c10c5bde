"""New rows for a run that forecasts, without training."""

from __future__ import annotations

from typing import Annotated

import typer

from wavefront.app.command import Folder, say

__all__ = ["update"]


def update(
    run: Folder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="New rows, as in training; rows that are known may be among them.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> None:
    """New rows for a run that forecasts: it goes on from them, and nothing is trained.

    \b
    Example:
      wavefront update runs/sales today.csv && wavefront forecast runs/sales
    """
    from wavefront.app.forecasting import update as append
    from wavefront.app.run import load

    added = append(load(run), data)
    if not quiet:
        say(f"{sum(added.values()):,} new rows in {sum(n > 0 for n in added.values()):,} of {len(added):,} series")
