"""Unfolding over a tree or any other graph of nodes, as a picture: each node over its predecessors, the ends on top."""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise

import torch

from wavefront.inspect.picture import Label, Picture, Spot
from wavefront.inspect.terminal import DOTS, name
from wavefront.structure import Structure

__all__ = ["graph_of", "outline"]

MOST = 31  # so many nodes are drawn, those nearest to the ends, before the rest is left out


def graph_of(structure: Structure, output: str, loss: bool, of: str) -> Picture:
    """The row of a structure that has the most nodes: its states by their predecessors, U, W for each slot, V at the ends or everywhere."""
    row = int(torch.bincount(structure.row).argmax())
    before: dict[int, list[tuple[int, int]]] = {node: [] for node in (structure.row == row).nonzero().flatten().tolist()}
    seen: Counter[int] = Counter()
    for source, node in zip(*(part.tolist() for part in structure.in_edges())):
        if node in before:
            seen[node] += 1
            if source >= 0:
                before[node].append((seen[node], source))  # (slot, node before)
    ends = [code for code in structure.ends[row].tolist() if code >= 0]
    shown = _nearest(before, ends or [max(before)])
    number = {node: n for n, node in enumerate(sorted(before), start=1)}
    level: dict[int, int] = {}
    for node in sorted(shown):
        level[node] = 1 + max((level[source] for _, source in before[node] if source in shown), default=0)
    picture = Picture(f"{of}, unfolded over {len(before)} nodes")
    followed = Counter(source for node in shown for _, source in before[node])
    tree = max(followed.values(), default=0) <= 1
    x = _spread(shown, before, level, 1.0 if tree else 1.8)
    slots = max(len(sources) for sources in before.values())
    for node in sorted(shown):
        sup = f"({number[node]})"
        state = picture.add(f"{node}:h", Spot("state", Label("h", "", sup), x[node], level[node]))
        if not before[node] or not tree:  # in a tree the inputs are at the leaves
            under, aside = (1, 0.0) if not before[node] else (0, -0.8)
            picture.add(f"{node}:x", Spot("input", Label("x", "", sup), x[node] + aside, level[node] - under))
            picture.join(f"{node}:x", state, Label("U"))
        for slot, source in before[node]:
            if source not in shown:
                gap = picture.add(
                    f"{node}:gap{slot}", Spot("gap", Label(""), x[node] + (slot - (len(before[node]) + 1) / 2) * 0.5, level[node] - 1)
                )
                picture.join(gap, state)
            picture.join(f"{source}:h", state, Label("W", str(slot) if slots > 1 else ""))
    top = max(level.values()) + 1
    for node in shown if output == "every" else ends if output == "last" else []:
        above = top if node in ends else level[node] + 1
        out = picture.add(f"{node}:o", Spot("output", Label("o", "", f"({number[node]})"), x[node] + (0 if node in ends else 0.42), above))
        picture.join(f"{node}:h", out, Label("V"))
        if loss and node in ends:
            picture.add(f"{node}:L", Spot("loss", Label("L"), x[node], top + 1))
            picture.add(f"{node}:y", Spot("target", Label("y"), x[node], top + 2))
            picture.join(out, f"{node}:L")
            picture.join(f"{node}:y", f"{node}:L")
    return picture


def _nearest(before: dict[int, list[tuple[int, int]]], ends: list[int]) -> set[int]:
    """The nodes nearest to the ends, as many as are drawn."""
    shown: set[int] = set()
    waiting = deque(ends)
    while waiting and len(shown) < MOST:
        node = waiting.popleft()
        if node not in shown:
            shown.add(node)
            waiting.extend(source for _, source in before[node])
    return shown


def _spread(shown: set[int], before: dict[int, list[tuple[int, int]]], level: dict[int, int], apart: float) -> dict[int, float]:
    """Columns: leaves side by side in the order in which they are reached, every other node over the middle of those before it."""
    followers = Counter(source for node in shown for _, source in before[node])
    x: dict[int, float] = {}
    order: list[int] = []
    stack = sorted(shown - {source for node in shown for _, source in before[node]})[::-1]
    while stack:  # depth first, first slot first
        node = stack.pop()
        if node not in order:
            order.append(node)
            stack.extend(source for _, source in reversed(before[node]) if source in shown)
    place = {node: n for n, node in enumerate(node for node in order if not any(source in shown for _, source in before[node]))}
    for node in sorted(shown):
        sources = [(slot, source) for slot, source in before[node] if source in shown]
        if not sources:
            x[node] = place[node] * apart
        else:  # one that shares its only predecessor with others stands aside of it, as its slot says
            aside = 0.6 * apart if len(sources) == 1 and followers[sources[0][1]] > 1 else 0.0
            x[node] = sum(x[source] for _, source in sources) / len(sources) + aside * (1 if sources[0][0] > 1 else -1)
    for height in set(level.values()):
        line = sorted((node for node in shown if level[node] == height), key=lambda node: (x[node], node))
        for left, right in pairwise(line):
            x[right] = max(x[right], x[left] + apart)
    return x


def outline(picture: Picture) -> str:
    """The same graph for a terminal, from the ends down to the leaves, each node under those that remember it; its second time by name only."""
    below: dict[str, list[tuple[str, str]]] = {}
    for link in picture.links:
        below.setdefault(link.target, []).append((link.source, name(link.label)))
    above = {link.source for link in picture.links}
    lines: list[str] = []
    done: set[str] = set()
    stack = [(key, "", "", "") for key in reversed(picture.spots) if key not in above or picture.spots[key].kind == "loss"]
    while stack:
        key, first, rest, letter = stack.pop()
        spot = picture.spots[key]
        text = DOTS if spot.kind == "gap" else name(spot.label)
        again = key in done and bool(below.get(key))
        lines.append(f"{first}{letter + ' ' if letter else ''}{text}{' (above)' if again else ''}")
        if again:
            continue
        done.add(key)
        sources = sorted(below.get(key, []), key=lambda part: part[1])
        for number, (source, weights) in reversed(list(enumerate(sources))):
            last = number == len(sources) - 1
            stack.append((source, rest + ("╰─ " if last else "├─ "), rest + ("   " if last else "│  "), weights))
    return "\n".join(lines)
