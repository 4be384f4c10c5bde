"""Figures: what is drawn is what the structure says, nothing lies on anything else, and both forms can be read."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import wavefront
from wavefront import Bidirectional, Cell, Deep, Recurrent, Sequence, ShapeError, cells, draw, wrap
from wavefront.errors import SettingsError
from wavefront.inspect.anatomy import anatomy
from wavefront.inspect.lines import FIRST, line_of, unfolded
from wavefront.structure import Structure

MINUS = "\N{MINUS SIGN}"
SVG = "{http://www.w3.org/2000/svg}"


class Two(Cell):
    """A cell of two slots."""

    def __init__(self, inputs=3, units=5):
        super().__init__(inputs, state=units, slots=2)
        self.W = torch.nn.Linear(inputs + 2 * units, units)

    def step(self, state, x):
        h = self.W(torch.cat([x, *state], -1)).tanh()
        return h, h


class Nodes(Structure):
    """Any graph, given by its predecessors."""

    def __init__(self, predecessors, sizes, end):
        self.rows, self.sizes = 1, np.array(sizes)
        self.predecessors, self.ends = torch.tensor(predecessors), torch.tensor([[end]])
        self.row = torch.zeros(len(predecessors), dtype=torch.long)

    def pack(self, x):
        return x

    def unpack(self, y):
        return y


def tree(leaves):
    """A balanced binary tree."""
    sizes, predecessors = [leaves], [[-2, -2]] * leaves
    while sizes[-1] > 1:
        first = len(predecessors) - sizes[-1]
        predecessors += [[first + 2 * i, first + 2 * i + 1] for i in range(sizes[-1] // 2)]
        sizes.append(sizes[-1] // 2)
    return Nodes(predecessors, sizes, len(predecessors) - 1)


def grid(n):
    """n by n pixels, each after the one above and the one to its left."""
    order = [(i, f - i) for f in range(2 * n - 1) for i in range(n) if 0 <= f - i < n]
    number = {place: k for k, place in enumerate(order)}
    sizes = [sum(i + j == f for i, j in order) for f in range(2 * n - 1)]
    return Nodes([[number.get((i - 1, j), -2), number.get((i, j - 1), -2)] for i, j in order], sizes, n * n - 1)


RESETS = torch.tensor([[False, False, True, False]])
FIGURES = {
    "10.2, a cell": lambda: draw(cells.Elman(3, 5)),
    "10.3, given steps": lambda: draw(Recurrent(cells.LSTM(3, 5)), Sequence(2, 4, lengths=[2, 4])),
    "10.4, output to hidden": lambda: draw(Recurrent(wrap.Feedback(cells.GRU(8, 5)))),
    "10.5, output at the end": lambda: draw(cells.Elman(3, 5), output="last"),
    "10.9, context": lambda: draw(Recurrent(cells.Elman(5, 5)), context=True),
    "10.11, both directions": lambda: draw(Bidirectional(cells.GRU(3, 5), cells.GRU(3, 5)), Sequence(1, 4, resets=RESETS)),
    "10.13a, stacked": lambda: draw(Deep(3, (5, 4))),
    "10.13b, deeper": lambda: draw(Deep(3, (5,), before=(4,), transition=(4,), after=(4, 3))),
    "10.13c, shortcuts": lambda: draw(Deep(3, (5, 4), transition=(4,), shortcut=True)),
    "10.14, tree": lambda: draw(Two(), tree(4)),
    "skips": lambda: draw(Recurrent(Two(), skips=(1, 3))),
    "skips, given steps": lambda: draw(Recurrent(Two(), skips=(1, 3)), Sequence(1, 6, skips=(1, 3))),
    "long skips": lambda: draw(Recurrent(Two(), skips=(2, 50)), Sequence(1, 200, skips=(2, 50))),
    "reversed": lambda: draw(Recurrent(cells.LSTM(3, 5), reverse=True)),
    "reversed, the end": lambda: draw(Recurrent(cells.LSTM(3, 5), reverse=True), output="last"),
    "resets": lambda: draw(Recurrent(cells.LSTM(3, 5)), Sequence(1, 4, resets=RESETS)),
    "long": lambda: draw(Recurrent(cells.LSTM(3, 5)), Sequence(1, 1000)),
    "one step": lambda: draw(cells.GRU(3, 5), Sequence(1, 1)),
    "layers of both directions": lambda: draw(wavefront.LSTM(3, 5, num_layers=2, bidirectional=True)),
    "torch's": lambda: draw(torch.nn.GRU(3, 5, num_layers=3)),
    "no output": lambda: draw(cells.GRU(3, 5), output="none"),
    "wrapped": lambda: draw(wrap.Stack(wrap.Zoneout(cells.LSTM(3, 5), 0.1), wrap.Residual(cells.GRU(5, 5)))),
    "grid": lambda: draw(Two(), grid(3)),
    "big tree": lambda: draw(Two(), tree(64)),
}


@pytest.fixture(params=sorted(FIGURES))
def figure(request):
    return FIGURES[request.param]()


def circles(root):
    return [(float(c.get("cx")), float(c.get("cy")), float(c.get("r"))) for c in root.iter(f"{SVG}circle")]


def labels(root):
    """The letters that stand in the figure, joined: h(t), and so on."""
    return "".join(part.text or "" for part in root.iter(f"{SVG}text"))


def test_the_svg_is_well_formed_and_legible(figure):
    root = ET.fromstring(figure.svg)
    left, top, width, height = map(float, root.get("viewBox").split())
    for x, y, r in circles(root):
        assert left <= x - r, "a circle is cut off"
        assert top <= y - r
        assert x + r <= left + width
        assert y + r <= top + height
    whole = [circle for circle in circles(root) if circle[2] > 5]
    for (x1, y1, r1), (x2, y2, r2) in combinations(whole, 2):
        assert np.hypot(x1 - x2, y1 - y2) > r1 + r2 + 2, "circles lie on each other"
    for text in root.iter(f"{SVG}text"):
        assert left <= float(text.get("x")) <= left + width
    assert "prefers-color-scheme:dark" in figure.svg
    assert "script" not in figure.svg


def test_the_text_fits_a_terminal_line_by_line(figure):
    lines = figure.text.split("\n")
    assert all(line == line.rstrip() for line in lines)
    assert not re.search(r"[^\x20-\x7e─│╭╮╰╯├┤┬┴┼╵╷╴╶▲▼◀▶■□·═╌╎₀-₉τ′×−]", "".join(lines))
    # no line ends in nothing: what leads to the right meets something there
    for line in lines:
        assert not re.search(r"[─├╰╭] {2}", line.replace("╰─ ", "").replace("├─ ", "")), line


def test_all_letters_of_the_svg_are_in_the_text_and_the_other_way_round():
    for name in ("10.2, a cell", "10.11, both directions", "10.13c, shortcuts", "skips, given steps", "10.14, tree"):
        figure = FIGURES[name]()
        subscripts = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
        text = set(re.findall(r"[xhgoLy]\d?\([^)]*\)", figure.text.translate(subscripts)))
        drawn = set(re.findall(r"[xhgoLy]\d?\([^)]*\)", labels(ET.fromstring(figure.svg))))
        assert text, name
        assert text == drawn, name


@st.composite
def lines(draw):
    steps = draw(st.integers(1, 6))
    skips = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2, unique=True))
    resets = draw(st.lists(st.booleans(), min_size=steps, max_size=steps))
    return steps, draw(st.integers(1, steps)), tuple(skips), resets, draw(st.booleans())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lines())
def test_every_step_remembers_what_the_definition_says(line):
    """From the meaning of lengths, skips, resets and direction, written out for each step by itself."""
    steps, length, skips, resets, reverse = line
    structure = Sequence(2, steps, [length, 0], torch.tensor([resets] * 2), reverse, skips)

    def drawn(both, way):
        line = line_of(structure, both)
        names = [column.name for column in line.columns]
        return names, {(None if s.source is FIRST else names[s.source], names[s.target]) for s in getattr(line, way)}

    def number(t):  # of step t = 0..length-1, and of the states handed in beyond them
        return str(t + 1).replace("-", MINUS)

    expected = set()
    for t in range(length):
        for d in skips:
            before = t + d if reverse else t - d
            cut = any(resets[b] for b in (range(t + 1, min(before, length - 1) + 1) if reverse else range(max(before + 1, 0), t + 1)))
            expected.add((None if cut else number(before), number(t)))
    names, found = drawn(False, "ahead")
    # of many states handed in, only the nearest and the farthest are shown
    hidden = {(a, b) for a, b in expected if a is not None and a not in names}
    assert {(a, b) for a, b in found if a != ""} == expected - hidden
    assert {b for _, b in found} == {b for _, b in expected}  # where all that a step remembers is left out, dots stand for it
    assert not hidden or len(set(names) - {number(t) for t in range(length)} - {""}) == 2

    def inner(edges):
        return {(a, b) for a, b in edges if a is not None and 1 <= int(a.replace(MINUS, "-")) <= length}

    assert inner(drawn(True, "back")[1]) == {(b, a) for a, b in inner(expected)}  # the second direction has the same boundaries


def test_a_long_sequence_is_drawn_short():
    figure = draw(Recurrent(cells.GRU(3, 5)), Sequence(1, 100000))
    assert set(re.findall(r"h\((\d+)\)", figure.text)) == {"0", "1", "2", "3", "100000"}
    assert "···" in figure.text


def test_outputs_where_asked():
    def outputs(**how):
        return re.findall(r"o\((\w+)\)", draw(cells.GRU(3, 5), Sequence(1, 3), **how).text)

    assert outputs() == ["1", "2", "3"]
    assert outputs(output="last") == ["3"]
    assert outputs(output="none") == []
    assert "L(1)" in draw(cells.GRU(3, 5), Sequence(1, 3)).text
    assert "L" not in draw(cells.GRU(3, 5), Sequence(1, 3), loss=False).text


def test_delays_are_black_squares_one_for_each():
    assert FIGURES["10.2, a cell"]().text.count("■") == 1
    assert FIGURES["skips"]().text.count("■") == 2
    assert FIGURES["10.13a, stacked"]().text.count("■") == 2
    feedback = FIGURES["10.4, output to hidden"]()
    assert feedback.text.count("■") == 2
    squares = [r for r in ET.fromstring(feedback.svg).iter(f"{SVG}rect") if r.get("class") == "ink"]
    assert len(squares) == 2


def test_every_node_of_a_tree_hangs_on_its_predecessors():
    text = FIGURES["10.14, tree"]().text
    assert text.split("\n")[:8] == [
        "L",
        "├─ o(7)",
        "│  ╰─ V h(7)",
        "│     ├─ W₁ h(5)",
        "│     │  ├─ W₁ h(1)",
        "│     │  │  ╰─ U x(1)",
        "│     │  ╰─ W₂ h(2)",
        "│     │     ╰─ U x(2)",
    ]
    assert FIGURES["grid"]().text.count("(above)") == 4  # each node once, by name where it comes again


def test_memory_only_through_the_output():
    """The book's network without hidden-to-hidden connections: one loop, from the output."""

    class Forward(Cell):
        def __init__(self):
            super().__init__(8, state=0, outputs=5)

        def step(self, state, x):
            return state, x[:, :5]

    picture = unfolded(anatomy(wrap.Feedback(Forward())), line_of(Sequence(1, 3), False), "every", True)
    kinds = [link.kind for link in picture.links]
    assert kinds.count("feedback loop") == 1
    assert kinds.count("feedback") == 2
    assert "loop" not in kinds
    assert not [link for link in picture.links if link.source == "0:h0" and link.target == "1:h0"]


def test_a_drawing_prints_saves_and_shows(tmp_path):
    figure = draw(cells.GRU(3, 5))
    assert str(figure) == figure._repr_svg_() == figure.svg
    assert str(draw(cells.GRU(3, 5), format="text")) == figure.text == repr(figure)
    assert figure.save(tmp_path / "a.svg").read_text(encoding="utf-8") == figure.svg
    assert figure.save(str(tmp_path / "a.txt")).read_text(encoding="utf-8") == figure.text + "\n"
    with pytest.raises(SettingsError, match=r"\.svg or \.txt, got a\.png"):
        figure.save(tmp_path / "a.png")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(TypeError, match=r"draw takes a cell.*got Linear"):
        draw(torch.nn.Linear(3, 5))
    with pytest.raises(SettingsError, match='format is "svg" or "text"'):
        draw(cells.GRU(3, 5), format="png")
    with pytest.raises(SettingsError, match='output is "every"'):
        draw(cells.GRU(3, 5), output="some")
    with pytest.raises(SettingsError, match="feeds its outputs back"):
        draw(wrap.Feedback(cells.GRU(8, 5)), output="last")
    with pytest.raises(ShapeError, match="no nodes"):
        draw(cells.GRU(3, 5), Sequence(2, 0))
