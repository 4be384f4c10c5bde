"""Where a network looked, as a picture: a row for each symbol that it wrote, a column for each place of the source."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wavefront.app.charts import over_columns

__all__ = ["alignment"]

CELL, LETTER = 22, 7


def alignment(source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]]) -> str:
    """Weights in [0, 1] as shades; each cell says its weight when it is pointed at.

    >>> alignment(["a"], ["A"], [[0.5]]).count("<rect")
    1
    """
    wide = min(CELL, max(4, 640 // max(1, len(source))))  # of long sources the columns are narrow, and not named
    shown = [name if len(name) <= 12 else name[:11] + "…" for name in map(str, source)]
    left = 12 + LETTER * max([1, *(len(name) for name in target)])
    top = 12 + LETTER * max([1, *map(len, shown)])
    body = [over_columns(shown, left, top - 6, wide)]
    for row, (name, line) in enumerate(zip(target, weights)):
        y = top + row * CELL
        body.append(f'<text class="tick end" x="{left - 6}" y="{y + CELL / 2 + 4:.0f}">{escape(str(name))}</text>')
        for column, weight in enumerate(line):
            if weight >= 0.01:
                place = f'x="{left + column * wide}" y="{y}" width="{max(1, wide - 1)}" height="{CELL - 1}"'
                said = escape(f"{name}, place {column + 1}: {weight:.2f}")
                body.append(f'<rect class="right" {place} opacity="{min(1.0, weight):.2f}"><title>{said}</title></rect>')
    width, height = left + len(source) * wide + 8, top + len(target) * CELL + 8
    about = 'role="img" aria-label="symbols written in rows, places of the source in columns"'
    return f'<svg class="square" viewBox="0 0 {width} {height}" style="max-width:{width}px" {about}>' + "".join(body) + "</svg>"
