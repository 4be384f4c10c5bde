"""What comes next in series, with intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wavefront.app.command import AsJson, Folder
from wavefront.app.text import json_line

__all__ = ["forecast"]


def forecast(
    run: Folder,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Series to forecast.  [default: those of training]", show_default=False)
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Steps, at most those trained.")] = None,
    level: Annotated[str, typer.Option(metavar="80,95", help="Intervals, in %.")] = "80,95",
    future: Annotated[str | None, typer.Option(metavar="FILE", help="Covariates of the steps to come.")] = None,
    cutoff: Annotated[str | None, typer.Option(metavar="TIME", help="Look at nothing after this time.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="A picture: .svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """What comes next in each series, with intervals: CSV in the long format, or one JSON object a row.

    \b
    Examples:
      wavefront forecast runs/sales > next.csv
      wavefront forecast runs/sales --horizon 6 --level 50,90 --plot next.svg
      wavefront forecast runs/sales other.csv --json
    """
    import csv

    from wavefront.app.config import parse_value
    from wavefront.app.forecasting import draw, forecasts, rows
    from wavefront.app.run import load
    from wavefront.errors import SettingsError

    model = load(run)
    try:
        levels = [float(one) for one in level.split(",")]
    except ValueError:
        raise SettingsError(f"--level takes numbers with commas, such as 80,95; got {level!r}.") from None
    end = None if cutoff is None else parse_value(cutoff) if cutoff.isdigit() else cutoff
    writer, found = None, []
    for one in forecasts(model, data, horizon, levels, future, end):
        found.append(one)
        for row in rows(model, one):
            if as_json:
                print(json_line(row))
                continue
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: f"{value:.10g}" if isinstance(value, float) else value for name, value in row.items()})
    if picture is not None:
        draw(found, picture)
