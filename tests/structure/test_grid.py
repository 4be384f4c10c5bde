"""Grids against two loops in plain Python, from every corner; one row is a sequence; a grid is a graph."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from wavefront import Cell, Recurrent, ShapeError, unfold
from wavefront.structure import CORNERS, Graph, Grid


class Two(Cell):
    """The state above and the state beside, each with weights of its own."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, slots=2)
        self.U = nn.Linear(inputs, units)
        self.above, self.beside = (nn.Linear(units, units, bias=False) for _ in range(2))

    def step(self, state, x):
        h = (self.U(x) + self.above(state[0]) + self.beside(state[1])).tanh()
        return h, h


def two_loops(cell, x, given, corner):
    """One image [height, width, inputs] in plain Python -> states [height, width, units], and the last one."""
    height, width = x.shape[:2]
    h = {}
    for i in reversed(range(height)) if corner.startswith("bottom") else range(height):
        for j in reversed(range(width)) if corner.endswith("right") else range(width):
            above = h.get((i + 1 if corner.startswith("bottom") else i - 1, j), given)
            beside = h.get((i, j + 1 if corner.endswith("right") else j - 1), given)
            h[i, j] = last = cell.step((above, beside), x[i, j][None])[0]
    if not h:
        return x.new_zeros(height, width, cell.outputs), given
    return torch.stack([torch.cat([h[i, j] for j in range(width)]) for i in range(height)]), last


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 5), st.integers(0, 3), st.sampled_from(CORNERS), st.booleans(), st.booleans(), st.integers(0, 99))
def test_diagonals_equal_two_loops(height, width, batch, corner, ragged, with_state, seed):
    torch.manual_seed(seed)
    cell = Two(3, 4).double()
    x = torch.randn(batch, height, width, 3, dtype=torch.double)
    sizes = None
    if ragged:
        sizes = torch.stack([torch.randint(0, height + 1, (batch,)), torch.randint(0, width + 1, (batch,))], 1)
        for b, (i, j) in enumerate(sizes.tolist()):
            x[b, i:], x[b, :, j:] = float("nan"), float("nan")
    state = torch.randn(batch, 4, dtype=torch.double) if with_state else None
    grid = Grid(height, width, batch, corner, sizes)
    outputs, last = unfold(cell, grid, grid.pack(x), state)
    outputs = grid.unpack(outputs)
    assert outputs.shape == (batch, height, width, 4)
    for b in range(batch):
        i, j = (height, width) if sizes is None else sizes[b].tolist()
        missing = cell.initial_state(1) if state is None else state[b : b + 1]
        want, end = two_loops(cell, x[b, :i, :j], missing, corner)
        torch.testing.assert_close(outputs[b, :i, :j], want, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(last[b : b + 1], end, rtol=1e-12, atol=1e-13)
        assert (outputs[b, i:] == 0).all()
        assert (outputs[b, :, j:] == 0).all()


def test_fronts_are_diagonals():
    grid = Grid(3, 5, batch=2, corner="bottom right")
    assert grid.sizes.tolist() == [2, 4, 6, 6, 6, 4, 2]


class Beside(Cell):
    """The cell of one row: what is above is missing."""

    def __init__(self, two):
        super().__init__(two.inputs, state=two.sizes)
        self.two = two

    def step(self, state, x):
        return self.two.step((torch.zeros_like(state), state), x)


@pytest.mark.parametrize("corner", CORNERS)
def test_a_grid_of_one_row_or_one_column_is_a_sequence(corner):
    torch.manual_seed(0)
    cell, x = Two(3, 4).double(), torch.randn(2, 7, 3, dtype=torch.double)
    grid = Grid(1, 7, 2, corner)
    outputs, _ = unfold(cell, grid, grid.pack(x[:, None]))
    want, _ = Recurrent(Beside(cell), reverse=corner.endswith("right"))(x)
    torch.testing.assert_close(grid.unpack(outputs)[:, 0], want, rtol=1e-12, atol=1e-13)

    grid = Grid(7, 1, 2, corner)
    outputs, _ = unfold(cell, grid, grid.pack(x[:, :, None]))
    cell.above, cell.beside = cell.beside, cell.above
    want, _ = Recurrent(Beside(cell), reverse=corner.startswith("bottom"))(x)
    torch.testing.assert_close(grid.unpack(outputs)[:, :, 0], want, rtol=1e-12, atol=1e-13)


def test_a_grid_is_a_graph():
    before = [[None if i == 0 else (i - 1) * 4 + j, None if j == 0 else i * 4 + j - 1] for i in range(3) for j in range(4)]
    graph, grid = Graph.lists([before, before]), Grid(3, 4, 2)
    assert torch.equal(graph.in_slots(2), grid.in_slots(2))
    assert torch.equal(graph.ends, grid.ends)
    assert torch.equal(graph.row, grid.row)
    assert graph.sizes.tolist() == grid.sizes.tolist()


def test_a_mirrored_image_from_the_mirrored_corner_is_the_same():
    torch.manual_seed(0)
    cell, x = Two(3, 4).double(), torch.randn(2, 3, 4, 3, dtype=torch.double)
    first, last = Grid(3, 4, 2), Grid(3, 4, 2, "bottom right")
    a = first.unpack(unfold(cell, first, first.pack(x))[0])
    b = last.unpack(unfold(cell, last, last.pack(x.flip(1, 2)))[0])
    torch.testing.assert_close(a, b.flip(1, 2), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Grid(2, 3, corner="middle"), "corner is one of top left, top right, bottom left, bottom right; got 'middle'"),
        (lambda: Grid(2, 3, 2, sizes=[[2, 3]]), r"sizes are 2 pairs \(height, width\) of whole numbers"),
        (lambda: Grid(2, 3, 2, sizes=[[2, 3], [2, 4]]), "sizes lie between 0 and the 2 x 3 there are; grid 1 has 2 x 4"),
        (lambda: Grid(2, 3).pack(torch.zeros(1, 3, 2, 5)), r"expected \[1, 2, 3, ...\] \(batch, height, width\), got \[1, 3, 2, 5\]"),
    ],
)
def test_impossible_grids_are_refused(make, text):
    with pytest.raises(ShapeError, match=text):
        make()
