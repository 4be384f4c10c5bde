"""What a drawing is made of, before anybody decides how a circle looks: labelled spots in columns and levels, and links between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Label", "Link", "Picture", "Spot"]


class Label(NamedTuple):
    """A symbol with its subscript and superscript: h, 1, (t−1)."""

    base: str
    sub: str = ""
    sup: str = ""

    def __str__(self) -> str:
        return f"{self.base}{self.sub}{self.sup}"


NOTHING = Label("")


class Spot(NamedTuple):
    """One thing in the picture.

    kind   "input", "state", "output", "loss", "target", "context"; "given" (a state handed in), "first" (the cell's initial state after a reset),
           "layer" (a layer inside a path), "join" (where two directions meet), "gap" (steps left out)
    x      in columns, one for each step
    level  in levels, 0 at the bottom
    shift  -1 or 1 where two states share a column, left and right of its middle
    """

    kind: str
    label: Label
    x: float
    level: int
    shift: int = 0


class Link(NamedTuple):
    """An arrow from one spot to another, by their keys.

    kind   "line"; "arc" (over the spots between); "loop" (through a delay of so many steps); "feedback" (from an output down to the next state);
           "feedback loop"; "bus" (from a context, along a rail)
    lane   how far outside an arc or a loop runs, 0 innermost
    delay  steps, drawn as a black square on a loop
    side   1 for a loop on the right of its spot, -1 on the left
    layers how many layers a loop passes, drawn as a small square
    """

    source: str
    target: str
    label: Label = NOTHING
    kind: str = "line"
    lane: int = 0
    delay: int = 0
    side: int = 1
    layers: int = 0


@dataclass
class Picture:
    """Spots by key, the links between them, and where the arrow "unfold" stands, if there is one."""

    title: str
    spots: dict[str, Spot] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    unfold: tuple[float, int] | None = None

    def add(self, key: str, spot: Spot) -> str:
        self.spots[key] = spot
        return key

    def join(self, source: str, target: str, label: Label = NOTHING, kind: str = "line", **how: int) -> None:
        """A link, where both of its ends are in the picture."""
        if source in self.spots and target in self.spots:
            self.links.append(Link(source, target, label, kind, **how))

    def lanes(self) -> dict[int, int]:
        """How many lanes run over each level, for arcs and for what is fed back."""
        return self._most("arc", "feedback")

    def rails(self) -> dict[int, int]:
        """How many rails run under each level."""
        return self._most("bus")

    def _most(self, *kinds: str) -> dict[int, int]:
        most: dict[int, int] = {}
        for link in self.links:
            if link.kind in kinds:
                level = self.spots[link.target].level
                most[level] = max(most.get(level, 0), link.lane + 1)
        return most

    def settle(self) -> Picture:
        """Gives arcs that would lie on each other lanes of their own."""
        taken: dict[tuple[int, int], list[tuple[float, float]]] = {}
        placed: list[Link] = []
        for link in sorted(self.links, key=lambda link: self._span(link)[1] - self._span(link)[0]):
            if link.kind in ("arc", "feedback"):
                a, b = self._span(link)
                level, lane = self.spots[link.target].level, 0
                while any(a < d and c < b for c, d in taken.get((level, lane), [])):
                    lane += 1
                taken.setdefault((level, lane), []).append((a, b))
                link = link._replace(lane=lane)
            placed.append(link)
        self.links = placed
        return self

    def _span(self, link: Link) -> tuple[float, float]:
        a, b = self.spots[link.source].x, self.spots[link.target].x
        return min(a, b), max(a, b)
