"""Unfolding over a line of steps, as a picture: a column for each step, and the folded circuit beside them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from wavefront.errors import ShapeError
from wavefront.inspect.anatomy import Anatomy
from wavefront.inspect.picture import Label, Picture, Spot
from wavefront.structure import NONE, Sequence, Structure

__all__ = ["Line", "around_t", "line_of", "unfolded"]

MINUS, PRIME = "\N{MINUS SIGN}", "\N{PRIME}"
MOST = 7  # so many steps are drawn before some are left out
FIRST = None  # in place of a source: the cell's own initial state, behind a reset
WIDTH = {"step": 1.0, "given": 0.95, "gap": 0.8}  # of a column, in steps

Edges = set[tuple[int | None, int]]  # (place remembered, place), in the order in which the steps are done


class Column(NamedTuple):
    kind: str  # "step", "given" (states handed in) or "gap"
    name: str = ""


class Step(NamedTuple):
    """What column `target` remembers: the state in column `source`, `delay` steps away, or the cell's initial state."""

    source: int | None
    target: int
    delay: int


class Line(NamedTuple):
    """What is drawn of a sequence: its columns, left to right; who remembers whom, ahead and (with two directions) back; the last to be done."""

    columns: list[Column]
    ahead: list[Step]
    back: list[Step]
    end: int


def around_t(skips: tuple[int, ...], reverse: bool, to_the_end: bool) -> Line:
    """The steps around t of a sequence without beginning; with the last one, τ, where that is asked for."""
    end = max(skips) + 2  # far enough from t for no skip to reach it
    shown = {-1, 0, *(-d for d in skips), end if to_the_end else 1}
    edges: Edges = {(p - d, p) for p in range(min(shown), end + 2) for d in skips}

    def name(place: int) -> str:
        if to_the_end and place == end:
            return "1" if reverse else "τ"
        ahead = -place if reverse else place
        return "t" if ahead == 0 else f"t{'+' if ahead > 0 else MINUS}{abs(ahead)}"

    return _line(shown, edges, {(b, a) for a, b in edges}, lambda p: Column("step", name(p)), (True, not to_the_end), reverse)  # type: ignore[misc]


def line_of(structure: Structure, both: bool) -> Line | None:
    """What is drawn of the longest row of a structure, by its own predecessors; None where some front has several nodes: no line, that."""
    if structure.nodes == 0:
        raise ShapeError("There is nothing to draw: this structure has no nodes.")
    row = int(torch.bincount(structure.row).argmax())
    nodes = (structure.row == row).nonzero().squeeze(1).numpy()
    front = np.searchsorted(structure.offsets, nodes, side="right")
    if len(np.unique(front)) < len(nodes):
        return None
    place = {node: p for p, node in enumerate(nodes.tolist())}
    last = len(nodes) - 1
    edges: Edges = set()
    for code, node in zip(*(part.tolist() for part in structure.in_edges())):
        if node in place:
            edges.add((place[code] if code >= 0 else FIRST if code == NONE else code + 1, place[node]))
    back = {_mirrored(a, b, last) for a, b in edges if a is not FIRST or b > 0} if both else set()
    shown = set(range(last + 1))
    if last >= MOST:
        shown = {0, 1, 2, last} | {b - a for a, b in edges if a is not FIRST and 0 < b - a < last}
    for given in ({a for a, b in edges | back if a is not FIRST and b in shown and beyond(a)} for beyond in ((0).__gt__, last.__lt__)):
        shown |= given if len(given) <= 3 else {min(given), max(given)}
    reverse = isinstance(structure, Sequence) and structure.reverse

    def column(place: int) -> Column:
        return Column("step" if 0 <= place <= last else "given", str(last - place + 1 if reverse else place + 1).replace("-", MINUS))

    return _line(shown, edges, back, column, (False, False), reverse)


def _mirrored(a: int | None, b: int, last: int) -> tuple[int | None, int]:
    """The same boundary seen from the other direction: what lies before the first step lies after the last."""
    if a is FIRST:
        return FIRST, b - 1
    return (last - a, last - b) if a < 0 else (b, a)


def _line(shown: set[int], ahead: Edges, back: Edges, column: Callable[[int], Column], is_open: tuple[bool, bool], reverse: bool) -> Line:
    places = sorted(shown)
    columns, at = ([Column("gap")] if is_open[0] else []), {}
    gaps: list[tuple[int, int | None, int | None]] = [(0, None, places[0])] if is_open[0] else []
    for before, place in pairwise([places[0], *places]):
        if place - before > 1:
            gaps.append((len(columns), before, place))
            columns.append(Column("gap"))
        at[place] = len(columns)
        columns.append(column(place))
    if is_open[1]:
        gaps.append((len(columns), places[-1], None))
        columns.append(Column("gap"))

    def steps(edges: Edges, way: int) -> list[Step]:
        found = [
            Step(None if a is FIRST else at[a], at[b], 1 if a is FIRST else abs(b - a))
            for a, b in edges
            if (a is FIRST or a in at) and b in at
        ]
        for gap, before, after in gaps:  # the steps into what is left out, and out of it
            first, last = (before, after)[::way]
            if first is not None and (first, first + way) in edges:
                found.append(Step(at[first], gap, 1))
            if last is not None and (last - way, last) in edges:
                found.append(Step(gap, at[last], 1))
        reached = {step.target for step in found}
        for gap, before, after in gaps:  # a step that remembers only such as are left out still remembers
            for a, b in sorted((a, b) for a, b in edges if a is not FIRST and b in at and at[b] not in reached):
                if (before is None or before < a) and (after is None or a < after):
                    found.append(Step(gap, at[b], abs(b - a)))
                    reached.add(at[b])
        return sorted(found, key=lambda step: (step.delay, step.target))

    line = Line(columns, steps(ahead, 1), steps(back, -1), max(at[p] for p in places if column(p).kind == "step"))
    return _flipped(line) if reverse else line


def _flipped(line: Line) -> Line:
    width = len(line.columns) - 1

    def turned(steps: list[Step]) -> list[Step]:
        return [Step(None if s.source is None else width - s.source, width - s.target, s.delay) for s in steps]

    return Line(line.columns[::-1], turned(line.ahead), turned(line.back), width - line.end)


class Levels(NamedTuple):
    """At which level of the picture each thing stands: for each layer of state (ahead, back), and what lies between."""

    before: int | None
    states: list[tuple[int, int]]
    joins: list[int]
    after: int | None
    output: int


def _levels(found: Anatomy) -> Levels:
    level = 1
    before = after = None
    if found.before:
        before, level = level, level + 1
    states, joins = [], []
    for layer in range(len(found.layers)):
        if layer and found.both:
            joins.append(level)
            level += 1
        states.append((level, level + 1 if found.both else level))
        level = states[-1][1] + 1
    if found.after:
        after, level = level, level + 1
    return Levels(before, states, joins, after, level)


def unfolded(found: Anatomy, line: Line, output: str, loss: bool) -> Picture:
    """The folded circuit, the arrow, and a column for each step."""
    levels = _levels(found)
    picture = Picture(f"{found.name}, folded and unfolded")
    left = 0.9 * found.context + 0.5 * (found.both or found.feedback)
    _column(picture, found, levels, "folded", left, "", output != "none", loss)
    _circuit(picture, found, levels, line)
    wider = 1.3 if found.both or any(layer.transition for layer in found.layers) else 1.0
    loops = len({step.delay for step in line.ahead}) + any(layer.shortcut for layer in found.layers)
    arrow = left + 1.1 + 0.5 * (loops - 1) + 0.25 * found.both + 0.15 * (wider > 1)
    picture.unfold = (arrow, levels.states[0][0])
    xs = [arrow + 0.85 + 0.7 * found.context]
    for one, other in pairwise(line.columns):
        xs.append(xs[-1] + (WIDTH[one.kind] + WIDTH[other.kind]) / 2 * wider)
    for number, (column, x) in enumerate(zip(line.columns, xs)):
        if column.kind == "step":
            shows = output == "every" or (output == "last" and number == line.end)
            _column(picture, found, levels, str(number), x, f"({column.name})", shows, loss)
        for layer, (ahead, back) in enumerate(levels.states):
            for steps, way, level in ((line.ahead, "h", ahead), (line.back, "g", back))[: 1 + found.both]:
                linked = column.kind == "gap" or any(number in (step.source, step.target) for step in steps)
                if column.kind != "step" and linked and found.memory:
                    picture.add(
                        f"{number}:{way}{layer}",
                        Spot(column.kind, _state(found, way, layer, f"({column.name})"), x, level, _shift(found, way)),
                    )
    for layer in range(len(found.layers)):
        for way, steps in (("h", line.ahead), ("g", line.back))[: 1 + found.both]:
            for step in steps:
                _remember(picture, found, levels, line, way, layer, step, xs)
    if found.context:
        firsts = [n for n, column in enumerate(line.columns) if column.kind == "step"]
        picture.add("c", Spot("context", Label("c"), xs[0] - 0.8, 0))
        for number in firsts:
            picture.join("c", f"{number}:h0", Label("R") if number == firsts[0] else Label(""), "bus")
    return picture.settle()


def _state(found: Anatomy, way: str, layer: int, sup: str = "") -> Label:
    return Label(way, str(layer + 1) if len(found.layers) > 1 else "", sup)


def _shift(found: Anatomy, way: str) -> int:
    return 0 if not found.both else -1 if way == "h" else 1


def _weights(found: Anatomy, letter: str, way: str = "h", layer: int = 0, delay: str = "") -> Label:
    number = str(layer + 1) if len(found.layers) > 1 else ""
    return Label(letter + (PRIME if way == "g" else ""), number + ("," if number and delay else "") + delay)


def _column(picture: Picture, found: Anatomy, levels: Levels, key: str, x: float, sup: str, output: bool, loss: bool) -> None:
    """One step, or the folded circuit without its loops: from the input at the bottom to the target at the top."""
    below = [picture.add(f"{key}:x", Spot("input", Label("x", "", sup), x, 0))]
    if levels.before is not None:
        dense = picture.add(f"{key}:before", Spot("layer", _times(found.before), x, levels.before))
        picture.join(below[0], dense)
        below = [dense]
    for layer, (ahead, back) in enumerate(levels.states):
        if layer and found.both:
            meet = picture.add(f"{key}:join{layer}", Spot("join", Label(""), x, levels.joins[layer - 1]))
            for state in below:
                picture.join(state, meet)
            below = [meet]
        above = []
        for way, level in (("h", ahead), ("g", back))[: 1 + found.both]:
            state = picture.add(f"{key}:{way}{layer}", Spot("state", _state(found, way, layer, sup), x, level, _shift(found, way)))
            for source in below:
                picture.join(source, state, _weights(found, "U", way, layer))
            above.append(state)
        below = above
    if not output:
        return
    if levels.after is not None:
        dense = picture.add(f"{key}:after", Spot("layer", _times(found.after), x, levels.after))
        for state in below:
            picture.join(state, dense)
        below = [dense]
    out = picture.add(f"{key}:o", Spot("output", Label("o", "", sup), x, levels.output))
    for number, source in enumerate(below):
        picture.join(source, out, Label("V" + PRIME * number))
    if loss:
        picture.add(f"{key}:L", Spot("loss", Label("L", "", sup), x, levels.output + 1))
        picture.add(f"{key}:y", Spot("target", Label("y", "", sup), x, levels.output + 2))
        picture.join(out, f"{key}:L")
        picture.join(f"{key}:y", f"{key}:L")


def _times(layers: int) -> Label:
    return Label("" if layers == 1 else f"×{layers}")


def _circuit(picture: Picture, found: Anatomy, levels: Levels, line: Line) -> None:
    """The loops of the folded circuit, each with its delay; and its context."""
    delays = sorted({step.delay for step in line.ahead})
    for layer, part in enumerate(found.layers):
        for way in "hg"[: 1 + found.both]:
            state = f"folded:{way}{layer}"
            side = -1 if found.both and way == "h" else 1
            for lane, delay in enumerate(delays if found.memory else []):
                label = _weights(found, "W", way, layer, str(delay) if len(delays) > 1 else "")
                picture.join(state, state, label, "loop", lane=lane, delay=delay, side=side, layers=part.transition)
            if part.shortcut:
                picture.join(state, state, Label(""), "loop", lane=len(delays), delay=delays[0], side=side)
    if found.feedback:
        picture.join("folded:o", "folded:h0", Label("R" if found.memory else "W"), "feedback loop", delay=delays[0], side=-1)
    if found.context:
        picture.add("folded:c", Spot("context", Label("c"), picture.spots["folded:x"].x - 0.9, 0))
        picture.join("folded:c", "folded:h0", Label("R"), "bus")


def _remember(picture: Picture, found: Anatomy, levels: Levels, line: Line, way: str, layer: int, step: Step, xs: list[float]) -> None:
    """The arrow by which one column remembers another, with what lies inside that path."""
    target, level = f"{step.target}:{way}{layer}", levels.states[layer][way == "g"]
    part, several = found.layers[layer], len({s.delay for s in line.ahead}) > 1
    label = _weights(found, "W", way, layer, str(step.delay) if several else "")
    shift = _shift(found, way)
    if step.source is None:
        x = xs[step.target] + (0.5 if way == "g" else -0.5)
        first = picture.add(f"first{step.target}:{way}{layer}", Spot("first", Label("0"), x, level, shift))
        picture.join(first, target)
        return
    source = f"{step.source}:{way}{layer}"
    near = abs(step.source - step.target) == 1
    if found.memory and near and part.transition and target in picture.spots and source in picture.spots:
        middle = (xs[step.source] + xs[step.target]) / 2
        dense = picture.add(f"{source}>{target}", Spot("layer", _times(part.transition), middle, level, shift))
        picture.join(source, dense)
        picture.join(dense, target, label)
        if part.shortcut:
            picture.join(source, target, Label(""), "arc")
    elif found.memory:
        picture.join(source, target, label, "line" if near else "arc")
    if found.feedback and layer == 0:
        picture.join(f"{step.source}:o", target, Label("R" if found.memory else "W"), "feedback")
