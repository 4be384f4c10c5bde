"""A picture in box-drawing characters, for a terminal."""

from __future__ import annotations

from wavefront.inspect.picture import Label, Link, Picture, Spot

__all__ = ["terminal"]

COLUMN, SHIFT = 17, 4  # characters from step to step; from the middle of a column to one of its two states
N, E, S, W = 1, 2, 4, 8
LINES = dict(zip(range(16), " ╵╶└╷│┌├╴┘─┴┐┤┬┼")) | {N | E: "╰", E | S: "╭", S | W: "╮", W | N: "╯"}
DELAY, LAYER, DOTS = "■", "□", "···"


class Canvas:
    """Characters by place; lines are arms to the four sides, so that those that meet are joined."""

    def __init__(self) -> None:
        self.arms: dict[tuple[int, int], int] = {}
        self.letters: dict[tuple[int, int], str] = {}

    def arm(self, x: int, y: int, sides: int) -> None:
        self.arms[x, y] = self.arms.get((x, y), 0) | sides

    def down(self, x: int, top: int, bottom: int) -> None:
        """A line from `top` to `bottom`; it passes over what runs across."""
        for y in range(top, bottom + 1):
            sides = (N if y > top else 0) | (S if y < bottom else 0)
            if sides == N | S and self.arms.get((x, y)) == E | W:
                self.arms[x, y] = 0
            self.arm(x, y, sides)

    def across(self, left: int, right: int, y: int) -> None:
        """A line from `left` to `right`; it passes under what runs down."""
        for x in range(left, right + 1):
            sides = (W if x > left else 0) | (E if x < right else 0)
            if not (sides == E | W and self.arms.get((x, y)) == N | S):
                self.arm(x, y, sides)

    def write(self, x: int, y: int, text: str) -> None:
        for offset, letter in enumerate(text):
            self.letters[x + offset, y] = letter

    def __str__(self) -> str:
        cells = {place: LINES[arms] for place, arms in self.arms.items()} | self.letters
        left, right = min(x for x, _ in cells), max(x for x, _ in cells)
        top, bottom = min(y for _, y in cells), max(y for _, y in cells)
        rows = ("".join(cells.get((x, y), " ") for x in range(left, right + 1)).rstrip() for y in range(top, bottom + 1))
        return "\n".join(rows)


def terminal(picture: Picture) -> str:
    """The whole picture as lines of text."""
    sheet = Sheet(picture)
    for spot in picture.spots.values():
        sheet.spot(spot)
    for link in picture.links:
        sheet.link(link)
    if picture.unfold is not None:
        column, level = picture.unfold
        x, y = round(column * COLUMN), sheet.rows[level]
        sheet.canvas.write(x - 3, y - 1, "unfold")
        sheet.canvas.write(x - 3, y, "═════▶")
    return str(sheet.canvas)


class Sheet:
    """Where everything lies, in characters, y downwards: boxes of three rows, and the rows between them."""

    def __init__(self, picture: Picture):
        self.picture, self.canvas = picture, Canvas()
        self.lanes, self.rails = picture.lanes(), picture.rails()
        self.both = any(spot.shift for spot in picture.spots.values())
        self.outermost: dict[Spot, int] = {}  # the lane of the outermost loop of a spot
        for link in picture.links:
            if link.kind == "loop":
                spot = picture.spots[link.source]
                self.outermost[spot] = max(self.outermost.get(spot, 0), link.lane)
        loops = {spot.level: lane for spot, lane in self.outermost.items()}
        self.rows = [0]
        for level in range(max(spot.level for spot in picture.spots.values())):
            over = max(self.lanes.get(level, 0), min(loops.get(level, 0), 1))
            under = max(2 * self.rails.get(level + 1, 0), loops.get(level + 1, 0))
            self.rows.append(self.rows[-1] - 4 - over - under)

    def place(self, spot: Spot) -> tuple[int, int]:
        return round(spot.x * COLUMN) + spot.shift * SHIFT, self.rows[spot.level]

    def half(self, spot: Spot) -> int:
        """Characters from the middle of a spot to its edge."""
        if spot.kind in ("layer", "first"):
            return 0
        if spot.kind == "gap":
            return 2
        least = 5 if self.both and spot.kind in ("input", "output") else 3 + self.outermost.get(spot, 0)
        return max(least, len(name(spot.label)) // 2 + 2)

    def spot(self, spot: Spot) -> None:
        x, y = self.place(spot)
        canvas, half = self.canvas, self.half(spot)
        if spot.kind == "join":
            canvas.across(x - 3, x + 3, y)
        elif spot.kind == "gap":
            canvas.write(x - 1, y, DOTS)
        elif spot.kind == "first":
            canvas.write(x, y, "0")
        elif spot.kind == "layer":
            canvas.write(x, y, LAYER + str(spot.label))
        else:
            dashed = spot.kind == "given"
            for row in (y - 1, y + 1):
                canvas.across(x - half, x + half, row)
                if dashed:
                    canvas.write(x - half + 1, row, "╌" * (2 * half - 1))
            for column in (x - half, x + half):
                canvas.down(column, y - 1, y + 1)
                if dashed:
                    canvas.write(column, y, "╎")
            text = name(spot.label)
            canvas.write(x - (len(text) - 1) // 2, y, text)

    def link(self, link: Link) -> None:
        a, b = self.picture.spots[link.source], self.picture.spots[link.target]
        if link.kind == "loop":
            self.loop(link, a)
        elif link.kind == "feedback loop":
            self.back_loop(link, a, b)
        elif link.kind == "arc":
            self.arc(link, a, b)
        elif link.kind == "feedback":
            self.fed_back(link, a, b)
        elif link.kind == "bus":
            self.bus(link, a, b)
        elif a.level == b.level:
            self.along(link, a, b)
        else:
            self.upright(link, a, b)

    def along(self, link: Link, a: Spot, b: Spot) -> None:
        (x1, y), (x2, _) = self.place(a), self.place(b)
        way = 1 if x2 > x1 else -1
        boxed = a.kind not in ("gap", "first", "layer")
        start, tip = x1 + way * (self.half(a) + (0 if boxed else 1)), x2 - way * (self.half(b) + 1)
        if a.kind == "layer" and way > 0:
            start += len(str(a.label))
        self.canvas.across(min(start, tip), max(start, tip), y)
        if not boxed:
            self.canvas.arm(start, y, E | W)
        self.canvas.write(tip, y, "▶" if way > 0 else "◀")
        text = name(link.label)
        self.canvas.write((start + tip) // 2 - (len(text) - 1) // 2, y - 1, text)

    def upright(self, link: Link, a: Spot, b: Spot) -> None:
        shift = a.shift or b.shift
        x = self.place(a)[0] + (3 * shift - SHIFT * a.shift)
        bottom, top = self.rows[a.level], self.rows[b.level]
        way = 1 if bottom < top else -1  # down the page, or up
        thick = {"layer": 1, "join": 0}
        start, tip = bottom + way * thick.get(a.kind, 1), top - way * thick.get(b.kind, 1)
        self.canvas.down(x, min(start, tip), max(start, tip))
        if a.kind == "layer":
            self.canvas.arm(x, start, N | S)
        if b.kind != "join":
            self.canvas.write(x, tip, "▼" if way > 0 else "▲")
        text = name(link.label)
        left = shift < 0
        if any(loop.kind == "loop" and loop.source == link.target for loop in self.picture.links):
            left = not left  # away from the loop
        self.canvas.write(x - 1 - len(text) if left else x + 2, tip - way * (1 + 2 * self.rails.get(b.level, 0)), text)

    def arc(self, link: Link, a: Spot, b: Spot) -> None:
        (x1, y), (x2, _) = self.place(a), self.place(b)
        way = 1 if x2 > x1 else -1
        x1, x2, lane = x1 + way * 2, x2 - way * 2, y - 2 - link.lane
        self.canvas.down(x1, lane, y - 1)
        self.canvas.across(min(x1, x2), max(x1, x2), lane)
        self.canvas.down(x2, lane, y - 1)
        self.canvas.write(x2, y - 1, "▼")
        text = name(link.label)
        if text:
            self.canvas.write((x1 + x2) // 2 - len(text) // 2 + 3, lane, f" {text} ")

    def fed_back(self, link: Link, a: Spot, b: Spot) -> None:
        (x1, y1), (x2, y2) = self.place(a), self.place(b)
        way = 1 if x2 > x1 else -1
        x1, x2, lane = x1 + way * self.half(a), x2 - way * 2, y2 - 2 - link.lane
        turn = x1 + way * 3
        self.canvas.across(min(x1, turn), max(x1, turn), y1)
        self.canvas.down(turn, y1, lane)
        self.canvas.across(min(turn, x2), max(turn, x2), lane)
        self.canvas.down(x2, lane, y2 - 1)
        self.canvas.write(x2, y2 - 1, "▼")
        self.canvas.write(turn + 2, y1 + 1, name(link.label))

    def loop(self, link: Link, spot: Spot) -> None:
        x, y = self.place(spot)
        side, half = link.side, self.half(spot)
        far = x + side * (half + 3 + 7 * link.lane)
        low, foot = y + 2 + link.lane, x + side * (2 + link.lane)
        start = x + side * half
        if link.lane:  # out over the top, past the loop inside
            start = x + side * (1 + link.lane)
            self.canvas.down(start, y - 2, y - 1)
            self.canvas.across(min(start, far), max(start, far), y - 2)
            self.canvas.down(far, y - 2, low)
        else:
            self.canvas.across(min(start, far), max(start, far), y)
            self.canvas.down(far, y, low)
        self.canvas.across(min(foot, far), max(foot, far), low)
        self.canvas.down(foot, y + 1, low)
        self.canvas.write(foot, y + 1, "▲")
        self.canvas.write(far, y + 1, DELAY)
        text = name(link.label)
        self.canvas.write(far + 2 if side > 0 else far - 1 - len(text), y + 1, text)
        if link.layers:
            self.canvas.write(start + side * 2, y, LAYER)

    def back_loop(self, link: Link, a: Spot, b: Spot) -> None:
        (x1, y1), (x2, y2) = self.place(a), self.place(b)
        far = min(x1 - self.half(a), x2 - self.half(b)) - 4
        self.canvas.across(far, x1 - self.half(a), y1)
        self.canvas.down(far, y1, y2)
        self.canvas.across(far, x2 - self.half(b) - 1, y2)
        self.canvas.write(x2 - self.half(b) - 1, y2, "▶")
        self.canvas.write(far, (y1 + y2) // 2, DELAY)
        text = name(link.label)
        self.canvas.write(far - 1 - len(text), (y1 + y2) // 2, text)

    def bus(self, link: Link, a: Spot, b: Spot) -> None:
        (x1, y1), (x2, y2) = self.place(a), self.place(b)
        rail, foot = y2 + 2, x2 - 2
        self.canvas.down(x1, rail, y1 - 1)
        self.canvas.across(x1, foot, rail)
        self.canvas.down(foot, y2 + 1, rail)
        self.canvas.write(foot, y2 + 1, "▲")
        self.canvas.write(x1 + 2, rail + 1, name(link.label))


def name(label: Label) -> str:
    """h1(t−1); small delays and layer numbers as subscripts where there are such characters."""
    return label.base + label.sub.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")) + label.sup
