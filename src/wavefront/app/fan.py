"""Fan charts: what was known, what is forecast with its intervals, and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from wavefront.app.charts import Frame, svg

__all__ = ["fan"]


def fan(
    past: Sequence[float],
    forecast: Sequence[float],
    bands: Sequence[tuple[Sequence[float], Sequence[float]]],
    y: Sequence[float] = (),
) -> str:
    """An SVG of one series: x is steps from the cut-off. bands: (low, high) from the widest to the narrowest; y: what came, if it is known."""
    steps = [*range(1 - len(past), 1), *range(1, len(forecast) + 1)]
    values = [*past, *forecast, *y, *(value for band in bands for side in band for value in side)]
    frame = Frame(steps, [value for value in values if math.isfinite(value)] or [0.0])
    body = [frame.axes("steps from the cut-off", "")]
    for low, high in bands:
        places = [(k + 1, value) for k, value in enumerate(high)] + [(k + 1, value) for k, value in reversed(list(enumerate(low)))]
        body.append(f'<polygon class="band" points="{" ".join(f"{frame.x(x):.1f},{frame.y(v):.1f}" for x, v in places)}"/>')
    body += _lines(frame, 1 - len(past), past, "line soft") + _lines(frame, 1, y, "line soft") + _lines(frame, 1, forecast, "line a")
    legend = (
        '<span class="key">forecast</span> <span class="key soft">' + escape("known" if not len(y) else "known, and what came") + "</span>"
    )
    return svg(body, "a forecast with its intervals") + f'<div class="legend">{legend}</div>'


def _lines(frame: Frame, begin: int, values: Sequence[float], style: str) -> list[str]:
    """A line for each run of values without a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for k, value in enumerate(values):
        if math.isfinite(value):
            runs[-1].append((begin + k, value))
        elif runs[-1]:
            runs.append([])
    return [f'<polyline class="{style}" points="{" ".join(f"{frame.x(x):.1f},{frame.y(v):.1f}" for x, v in run)}"/>' for run in runs if run]
