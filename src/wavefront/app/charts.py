"""Charts as inline SVG: no script, no fonts, no links; colours come from the page, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Frame", "Line", "bars", "confusion", "lines", "over_columns", "points", "svg", "ticks"]

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 18, 38


class Line(NamedTuple):
    """A named line; `style` is "a" or "b", two colours of the page."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "a"


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers within [low, high], at most `most` + 1; `whole`: nothing between 1 and 2.

    >>> ticks(0, 1), ticks(3, 97), ticks(1, 3, whole=True)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [20.0, 40.0, 60.0, 80.0], [1.0, 2.0, 3.0])
    """
    if low == high:
        return [low]
    span = high - low
    step = 10 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most + 1e-9)
    step = max(step, 1) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(float(k * step), 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(series: Sequence[Line], x_axis: str, y_axis: str, mark: tuple[float, float] | None = None) -> str:
    """Lines over a common axis; what is not finite is left out. `mark` is a point that stands out."""
    series = [
        line._replace(x=[x for x, y in pairs], y=[y for _, y in pairs])
        for line in series
        if (pairs := [(x, y) for x, y in zip(line.x, line.y) if y is not None and math.isfinite(y)])
    ]
    if not series:
        return ""
    frame = Frame([x for line in series for x in line.x], [y for line in series for y in line.y])
    body = [frame.axes(x_axis, y_axis)]
    for line in series:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(line.x, line.y))
        body.append(f'<polyline class="line {line.style}" points="{path}"/>')
        if len(line.x) == 1:
            body.append(f'<circle class="dot {line.style}" cx="{frame.x(line.x[0]):.1f}" cy="{frame.y(line.y[0]):.1f}" r="3"/>')
    if mark is not None:
        body.append(f'<circle class="mark" cx="{frame.x(mark[0]):.1f}" cy="{frame.y(mark[1]):.1f}" r="4"/>')
    legend = " ".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in series)
    return svg(body, f"{y_axis} over {x_axis}") + f'<div class="legend">{legend}</div>'


def bars(labels: Sequence[str], values: Sequence[float], axis: str) -> str:
    """A bar for each label, with its value; fractions are drawn against 1."""
    shown = [value if value is not None and math.isfinite(value) else 0.0 for value in values]
    if not shown:
        return ""
    top = 1.0 if max(shown) <= 1 else max(shown)
    frame = Frame([0, len(shown)], [0, 1.08 * top], pad=False)
    body = [frame.grid(axis)]
    room = (WIDTH - LEFT - RIGHT) / len(shown)
    each = math.ceil((6 * max(len(str(label)) for label in labels) + 6) / room)  # every so many labels have room
    for k, (label, value) in enumerate(zip(labels, shown)):
        x, width = frame.x(k + 0.12), frame.x(k + 0.88) - frame.x(k + 0.12)
        text = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
        body.append(
            f'<rect class="bar" x="{x:.1f}" y="{frame.y(value):.1f}" width="{width:.1f}" height="{frame.y(0) - frame.y(value):.1f}">'
            f"<title>{escape(str(label))}: {text}</title></rect>"
        )
        if len(shown) <= 12:
            body.append(f'<text class="value" x="{x + width / 2:.1f}" y="{frame.y(value) - 4:.1f}">{text}</text>')
        if k % each == 0:
            body.append(f'<text class="tick middle" x="{x + width / 2:.1f}" y="{HEIGHT - BOTTOM + 15}">{escape(str(label))}</text>')
    return svg(body, axis)


def points(x: Sequence[float], y: Sequence[float], x_axis: str, y_axis: str) -> str:
    """Points, with the diagonal on which both are equal."""
    pairs = [(a, b) for a, b in zip(x, y) if math.isfinite(a) and math.isfinite(b)]
    if not pairs:
        return ""
    both = [value for pair in pairs for value in pair]
    frame = Frame(both, both)
    low, high = min(both), max(both)
    body = [frame.axes(x_axis, y_axis)]
    body.append(f'<line class="same" x1="{frame.x(low):.1f}" y1="{frame.y(low):.1f}" x2="{frame.x(high):.1f}" y2="{frame.y(high):.1f}"/>')
    body += [f'<circle class="point" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="2.5"/>' for a, b in pairs]
    return svg(body, f"{y_axis} against {x_axis}")


def over_columns(names: Sequence[str], x: float, y: float, cell: float) -> str:
    """Names over columns `cell` wide, which begin at `x`: upright where they fit, for < on its side is another name, ^."""
    upright, body = 7 * max(map(len, names), default=0) < cell, []
    for column, name in enumerate(names):
        middle = x + (column + 0.5) * cell
        where = f'middle" x="{middle:.0f}" y="{y}"' if upright else f'" transform="translate({middle + 4:.0f} {y}) rotate(-90)"'
        body.append(f'<text class="tick {where}>{escape(name)}</text>' if name else "")
    return "".join(body)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Rows gold, columns predicted; the shade is the share of the row, right ones in one colour, wrong ones in another."""
    n = len(labels)
    if not n:
        return ""
    cell = 44 if n <= 8 else 30 if n <= 16 else 22
    shown = [label if len(label) <= 14 else label[:13] + "…" for label in map(str, labels)]
    side = 10 + 7 * max(2, *map(len, shown))
    size = side + n * cell + 8
    body = [over_columns(shown, side, side - 6, cell)]
    for row, (label, values) in enumerate(zip(shown, counts)):
        total, y = sum(values) or 1, side + row * cell
        body.append(f'<text class="tick end" x="{side - 6}" y="{y + cell / 2 + 4:.0f}">{escape(label)}</text>')
        for column, value in enumerate(values):
            x, share = side + column * cell, value / total
            kind = "right" if row == column else "wrong"
            title = f"{value:,} of {sum(values):,} {labels[row]} were given {labels[column]}"
            place = f'x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
            shade = share**0.5 if value else 0
            body.append(f'<rect class="cell" {place}><title>{escape(title)}</title></rect>')
            body.append(f'<rect class="{kind}" {place} opacity="{shade:.3f}" pointer-events="none"/>')
            if value and n <= 16 and len(f"{value}") * 7 < cell:
                strong = " strong" if share > 0.35 else ""
                body.append(f'<text class="count{strong}" x="{x + cell / 2 - 0.5:.1f}" y="{y + cell / 2 + 4:.0f}">{value}</text>')
    about = 'role="img" aria-label="gold labels in rows, predicted in columns"'
    return f'<svg class="square" viewBox="0 0 {size} {size}" style="max-width:{size}px" {about}>' + "".join(body) + "</svg>"


class Frame:
    """Where values are on the picture."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], pad: bool = True):
        self.x_low, self.x_high = min(xs), max(xs)
        self.whole = all(float(x).is_integer() for x in xs)  # epochs, say
        low, high = min(ys), max(ys)
        room = 0.06 * (high - low or abs(high) or 1.0) if pad else 0.0
        self.y_low, self.y_high = (low if not pad or low >= 0 > low - room else low - room), high + room
        if pad and low >= 0:
            self.y_low = max(0.0, low - room)

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low or 1.0) * (HEIGHT - TOP - BOTTOM)

    def grid(self, y_axis: str) -> str:
        parts = []
        for value in ticks(self.y_low, self.y_high, 4):
            y = self.y(value)
            parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{value:,g}</text>')
        return "".join(parts) + f'<text class="axis" x="{LEFT}" y="{TOP - 6}">{escape(y_axis)}</text>'

    def axes(self, x_axis: str, y_axis: str) -> str:
        parts = [self.grid(y_axis)]
        parts += [
            f'<text class="tick middle" x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 15}">{value:,g}</text>'
            for value in ticks(self.x_low, self.x_high, 6, self.whole)
        ]
        return "".join(parts) + f'<text class="axis end" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{escape(x_axis)}</text>'


def svg(body: Sequence[str], label: str) -> str:
    """The picture of these elements; `label` says what it shows."""
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">' + "".join(body) + "</svg>"
