"""A picture as SVG, written by hand: no library, no script, one file that is legible on light and on dark."""

from __future__ import annotations

from html import escape
from math import atan2, cos, sin

from wavefront.inspect.picture import Label, Link, Picture, Spot

__all__ = ["svg"]

COLUMN, LEVEL, LANE, RAIL, SHIFT, MARGIN = 112.0, 82.0, 26.0, 22.0, 27.0, 28.0  # pixels
RADIUS = {"given": 21.0, "first": 11.0, "join": 3.5, "layer": 9.0, "gap": 15.0}  # of what is not a full circle of 23
FONT = "'STIX Two Text','Latin Modern Roman','Cambria Math',Cambria,Georgia,'Times New Roman',serif"
# fill and edge, on light and on dark; blue, green, orange, red and violet of like weight, told apart by their letters as well
COLOURS = {
    "input": ("#e4f1de", "#4a7c35", "#22331b", "#8cc474"),
    "state": ("#dde9f8", "#2f62a3", "#1b2a40", "#7fb0ee"),
    "given": ("#ffffff", "#2f62a3", "#15181e", "#7fb0ee"),
    "first": ("#ffffff", "#2f62a3", "#15181e", "#7fb0ee"),
    "output": ("#fdecd2", "#b06a10", "#3a2a12", "#eeb35e"),
    "loss": ("#fbdedd", "#b23b36", "#3d1d1d", "#f08a84"),
    "target": ("#ece3f7", "#6d4aa5", "#2b2040", "#b99aec"),
    "context": ("#e6e8ea", "#5a626d", "#2a2e35", "#a9b1bc"),
    "layer": ("#dde9f8", "#2f62a3", "#1b2a40", "#7fb0ee"),
}
INK, PAPER, DARK_INK, DARK_PAPER = "#20242c", "#ffffff", "#e6e9ef", "#15181e"
HALO = f'fill="none" stroke="{PAPER}" stroke-width="4" stroke-linejoin="round"'


def svg(picture: Picture) -> str:
    """The whole file."""
    page = Page(picture)
    links = sorted(picture.links, key=lambda link: bool(link.label.base))  # letters on top
    body = [*map(page.link, links), *(page.spot(spot) for spot in picture.spots.values())]
    if picture.unfold is not None:
        body.append(page.unfolding(*picture.unfold))
    left, top, right, bottom = page.bounds
    x, y, width, height = left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    dark = {".paper": f"fill:{DARK_PAPER}", ".ink": f"fill:{DARK_INK}", ".line": f"stroke:{DARK_INK}", ".halo": f"stroke:{DARK_PAPER}"}
    dark |= {f".{kind}": f"fill:{fill};stroke:{edge}" for kind, (_, _, fill, edge) in COLOURS.items()}
    style = "".join(f"{what}{{{look}}}" for what, look in dark.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x:.1f} {y:.1f} {width:.1f} {height:.1f}" width="{width:.0f}" height="{height:.0f}"'
        f' role="img" font-family="{FONT}">\n<title>{escape(picture.title)}</title>\n'
        f"<style>@media (prefers-color-scheme:dark){{{style}}}</style>\n"
        f'<rect class="paper" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="10" fill="{PAPER}"/>\n'
        + "\n".join(part for part in body if part)
        + "\n</svg>\n"
    )


class Page:
    """Where everything lies, in pixels, y downwards; and how far it reaches."""

    def __init__(self, picture: Picture):
        self.picture = picture
        lanes, self.rails = picture.lanes(), picture.rails()
        self.along = {spot.level for spot in picture.spots.values() if spot.kind == "state"}
        self.heights = [0.0]
        for level in range(max(spot.level for spot in picture.spots.values())):
            small = {spot.kind for spot in picture.spots.values() if spot.level in (level, level + 1)} & {"join"}
            extra = LANE * lanes.get(level, 0) + RAIL * self.rails.get(level + 1, 0)
            self.heights.append(self.heights[-1] - LEVEL * (0.62 if small else 1) - extra)
        self.bounds = (0.0, 0.0, 0.0, 0.0)
        for spot in picture.spots.values():
            self._reach(*self.place(spot), 24)

    def place(self, spot: Spot) -> tuple[float, float]:
        return spot.x * COLUMN + spot.shift * SHIFT, self.heights[spot.level]

    def _reach(self, x: float, y: float, around: float = 4) -> None:
        a, b, c, d = self.bounds
        self.bounds = min(a, x - around), min(b, y - around), max(c, x + around), max(d, y + around)

    # spots

    def spot(self, spot: Spot) -> str:
        x, y = self.place(spot)
        r = RADIUS.get(spot.kind, 23.0)
        if spot.kind == "gap":
            return "".join(f'<circle class="ink" cx="{x + dx:.1f}" cy="{y:.1f}" r="2" fill="{INK}"/>' for dx in (-8, 0, 8))
        if spot.kind == "join":
            return f'<circle class="ink" cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{INK}"/>'
        fill, edge, *_ = COLOURS[spot.kind]
        look = f'class="{spot.kind}" fill="{fill}" stroke="{edge}" stroke-width="1.6"'
        if spot.kind == "layer":
            shape = f'<rect {look} x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}" rx="3"/>'
            above = spot.level in self.along  # within a path that runs along the level
            return shape + (
                self.words(spot.label, x, y - r - 4, "middle", 12) if above else self.words(spot.label, x + r + 5, y + 4, "start", 12)
            )
        dashes = ' stroke-dasharray="4 3"' if spot.kind in ("given", "first") else ""
        return f'<circle {look}{dashes} cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>' + self.words(
            spot.label, x, y + 5.5, "middle", 18 if r > 12 else 12
        )

    def words(self, label: Label, x: float, y: float, anchor: str = "start", size: float = 15, halo: bool = False) -> str:
        """A symbol in bold italics, its subscript and superscript behind it; with a halo where lines may pass under it."""
        if not label.base:
            return ""
        small = size * 0.62
        base, extra = width(label.base, size), max(width(label.sub, small), width(label.sup, small))
        x -= {"start": 0.0, "middle": (base + extra) / 2, "end": base + extra}[anchor]
        self._reach(x, y)
        self._reach(x + base + extra, y)
        style = "" if label.base[0] in "×0" else ' font-style="italic" font-weight="bold"'
        parts = [f'<text class="ink" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{style} fill="{INK}">{escape(label.base)}</text>']
        for text, dy in ((label.sub, 0.28 * size), (label.sup, -0.42 * size)):
            if text:
                slant = ' font-style="italic"' if text[-1].isalpha() else ""
                parts.append(
                    f'<text class="ink" x="{x + base + 0.5:.1f}" y="{y + dy:.1f}" font-size="{small:.1f}"{slant} fill="{INK}">{escape(text)}</text>'
                )
        under = [part.replace('class="ink"', 'class="halo"').replace(f'fill="{INK}"', HALO) for part in parts] if halo else []
        return "".join(under + parts)

    # links

    def link(self, link: Link) -> str:
        draw = {
            "line": self.line,
            "arc": self.arc,
            "loop": self.loop,
            "feedback": self.fed_back,
            "feedback loop": self.back_loop,
            "bus": self.bus,
        }
        return draw[link.kind](link)

    def _spots(self, link: Link) -> tuple[Spot, Spot]:
        return self.picture.spots[link.source], self.picture.spots[link.target]

    def _ends(self, link: Link) -> tuple[float, float, float, float]:
        a, b = self._spots(link)
        return *self.place(a), *self.place(b)

    def line(self, link: Link) -> str:
        a, b = self._spots(link)
        x1, y1, x2, y2 = self._ends(link)
        angle = atan2(y2 - y1, x2 - x1)
        x1, y1 = x1 + reach(a, angle) * cos(angle), y1 + reach(a, angle) * sin(angle)
        x2, y2 = x2 - reach(b, angle) * cos(angle), y2 - reach(b, angle) * sin(angle)
        if abs(y2 - y1) < 1:
            words = self.words(link.label, (x1 + x2) / 2, y1 - 8, "middle", halo=True)
        else:  # near the tip, for other lines may cross further back; below a rail
            near = (19 + RAIL * 0.9 * self.rails.get(b.level, 0)) / abs(sin(angle))
            x, y, side = (
                x2 - near * cos(angle),
                y2 - near * sin(angle) + 5,
                -1 if a.shift + b.shift < 0 or (not a.shift + b.shift and x2 - x1 > 1) else 1,
            )
            words = self.words(link.label, x + side * (8 + 7 * abs(cos(angle))), y, "start" if side > 0 else "end", halo=True)
        head = "" if b.kind == "join" else arrow(x2, y2, angle)
        return stroke(f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}") + head + words

    def arc(self, link: Link) -> str:
        a, b = self._spots(link)
        x1, y1, x2, y2 = self._ends(link)
        way = 1 if x2 > x1 else -1
        lean = 0.55  # radians from the vertical at which it leaves and arrives
        x1, y1 = x1 + way * reach(a, 1) * sin(lean), y1 - reach(a, 1) * cos(lean)
        x2, y2 = x2 - way * reach(b, 1) * sin(lean), y2 - reach(b, 1) * cos(lean)
        rise = 30 + LANE * link.lane * 1.2
        cx = min(abs(x2 - x1) / 2, 46 + 8 * link.lane)
        words = self.words(link.label, (x1 + x2) / 2, (y1 + y2) / 2 - rise * 0.75 - 5, "middle", halo=True)
        self._reach((x1 + x2) / 2, y1 - rise)
        return (
            stroke(
                f"M{x1:.1f} {y1:.1f}C{x1 + way * cx * 0.8:.1f} {y1 - rise:.1f} {x2 - way * cx * 0.8:.1f} {y2 - rise:.1f} {x2:.1f} {y2:.1f}"
            )
            + arrow(x2, y2, atan2(rise, way * cx * 0.8))
            + words
        )

    def fed_back(self, link: Link) -> str:
        x1, y1, x2, y2 = self._ends(link)
        way = 1 if x2 > x1 else -1
        x1, y1 = x1 + way * 23 * cos(0.45), y1 + 23 * sin(0.45)
        x2, y2 = x2 - way * 23 * cos(0.75), y2 - 23 * sin(0.75)
        mx, my = (x1 + x2) / 2, (y1 + y2) / 2
        curve = f"M{x1:.1f} {y1:.1f}C{x1 + way * 34:.1f} {y1 + 22:.1f} {x2 - way * 34:.1f} {y2 - 40:.1f} {x2:.1f} {y2:.1f}"
        return stroke(curve) + arrow(x2, y2, atan2(40, way * 34)) + self.words(link.label, mx + 8, my - 4, halo=True)

    def loop(self, link: Link) -> str:
        spot = self.picture.spots[link.source]
        x, y = self.place(spot)
        r, lean, out, tall = 23.0, 0.5 + 0.22 * link.lane, 62 + 76 * link.lane, 30 + 24 * link.lane
        if link.layers:
            out, tall = out + 18, tall + 8
        x1, y1, y2 = x + link.side * r * cos(lean), y - r * sin(lean), y + r * sin(lean)
        curve = f"M{x1:.1f} {y1:.1f}C{x + link.side * out:.1f} {y - tall:.1f} {x + link.side * out:.1f} {y + tall:.1f} {x1:.1f} {y2:.1f}"
        far = x1 / 4 + 0.75 * (x + link.side * out)
        dense = ""
        if link.layers:  # a quarter of the way along
            px, py = bezier(0.22, (x1, y1), (x + link.side * out, y - tall), (x + link.side * out, y + tall), (x1, y2))
            fill, edge, *_ = COLOURS["layer"]
            look = f'class="layer" fill="{fill}" stroke="{edge}" stroke-width="1.6"'
            dense = f'<rect {look} x="{px - 7:.1f}" y="{py - 7:.1f}" width="14" height="14" rx="3"/>'
            dense += self.words(Label(f"×{link.layers}" if link.layers > 1 else ""), px + 9, py - 6, "start", 12)
        words = self.words(link.label, far + link.side * 10, y + 5, "start" if link.side > 0 else "end")
        self._reach(far + link.side * 12, y - tall * 0.8)
        return stroke(curve) + arrow(x1, y2, atan2(y2 - (y + tall), x1 - (x + link.side * out))) + self._delay(far, y) + dense + words

    def back_loop(self, link: Link) -> str:
        x1, y1, x2, y2 = self._ends(link)
        x1, x2, out = x1 - 23 * cos(0.3), x2 - 23 * cos(0.3), 62
        y1, y2 = y1 + 23 * sin(0.3), y2 - 23 * sin(0.3)
        far, middle = x1 / 4 + 0.75 * (x1 - out), (y1 + y2) / 2
        curve = f"M{x1:.1f} {y1:.1f}C{x1 - out:.1f} {y1 + 12:.1f} {x2 - out:.1f} {y2 - 12:.1f} {x2:.1f} {y2:.1f}"
        self._reach(far - 10, middle)
        return (
            stroke(curve) + arrow(x2, y2, atan2(12, out)) + self._delay(far, middle) + self.words(link.label, far - 10, middle + 5, "end")
        )

    def bus(self, link: Link) -> str:
        x1, y1, x2, y2 = self._ends(link)
        rail, angle = y2 + 23 + RAIL * 1.05, -1.0
        up, tip = x2 - 23 * cos(angle) - 11, (x2 - 23 * cos(angle), y2 - 23 * sin(angle))
        curve = f"M{x1:.1f} {y1 - 23:.1f}V{rail + 9:.1f}Q{x1:.1f} {rail:.1f} {x1 + 9:.1f} {rail:.1f}H{up - 9:.1f}L{tip[0]:.1f} {tip[1]:.1f}"
        return stroke(curve) + arrow(*tip, atan2(tip[1] - rail, tip[0] - up + 9)) + self.words(link.label, up - 22, rail - 6, "end")

    def _delay(self, x: float, y: float) -> str:
        return f'<rect class="ink" x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" fill="{INK}"/>'

    def unfolding(self, column: float, level: int) -> str:
        x, y = column * COLUMN, self.heights[level]
        text = f'<text class="ink" x="{x:.1f}" y="{y - 12:.1f}" font-size="14" font-style="italic" text-anchor="middle" fill="{INK}">unfold</text>'
        return stroke(f"M{x - 26:.1f} {y:.1f}H{x + 22:.1f}", 3) + arrow(x + 30, y, 0, 13) + text


def width(text: str, size: float) -> float:
    """About how wide a text is: what a serif face takes for its letters."""
    narrow = {"(": 0.34, ")": 0.34, "t": 0.3, "1": 0.48, ",": 0.26, "\N{PRIME}": 0.28, "L": 0.62, "U": 0.74, "W": 0.92, "V": 0.7, "R": 0.68}
    return size * sum(narrow.get(letter, 0.53) for letter in text)


def reach(spot: Spot, angle: float) -> float:
    """How far from its middle a spot ends, in that direction."""
    r = RADIUS.get(spot.kind, 23.0)
    if spot.kind == "layer":
        return r / max(abs(cos(angle)), abs(sin(angle)))
    return r + (1 if spot.kind != "join" else 0)


def bezier(t: float, *points: tuple[float, float]) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return sum(w * p[0] for w, p in zip(weights, points)), sum(w * p[1] for w, p in zip(weights, points))


def stroke(path: str, thick: float = 1.5) -> str:
    return f'<path class="line" d="{path}" fill="none" stroke="{INK}" stroke-width="{thick:g}" stroke-linecap="round"/>'


def arrow(x: float, y: float, angle: float, size: float = 8.5) -> str:
    """An arrowhead whose tip is at (x, y)."""
    corners = [(x, y)]
    for turn in (0.38, 0.0, -0.38):
        back = size if turn else size * 0.72
        corners.append((x - back * cos(angle + turn), y - back * sin(angle + turn)))
    return f'<polygon class="ink" fill="{INK}" points="' + " ".join(f"{px:.1f},{py:.1f}" for px, py in corners) + '"/>'
