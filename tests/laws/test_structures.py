"""One row enrols a structure in the laws of the engine and of the gradient, for every cell with as many slots."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch.utils import _pytree as pytree

from wavefront import Graph, Grid, Sequence, Tree, cells, unfold
from wavefront.structure import CORNERS, Structure

D, H = 3, 4


class Row(NamedTuple):
    name: str
    make: Callable[[], Structure]
    slots: int


def some_graph() -> Graph:
    """A lattice, a graph whose numbering is no order, one with a slot left open, and an empty one."""
    return Graph.lists([[[], [0], [0, 1], [2, 1], [3]], [[2, 1], [2], []], [[], [None, 0]], []])


TREES = [((0, (1, 2)), (3, 4)), 5, (6, (7, (8, (9, 10)))), (None, 11), (12,)]

STRUCTURES = [
    Row("chain", lambda: Tree.chain([5, 1, 3]), 2),
    Row("balanced", lambda: Tree.balanced([5, 1, 8]), 2),
    Row("trees", lambda: Tree.nested(TREES), 2),
    Row("trees, from the root", lambda: Tree.nested(TREES).top_down(), 1),
    Row("trees of free arity", lambda: Tree([3, 3, 3, 7, 6, 6, 7, -1, 9, -1]), 3),
    Row("graphs", some_graph, 2),
    *(Row(f"grids, {corner}", partial(Grid, 3, 4, 2, corner), 2) for corner in CORNERS),
    Row("grids of different sizes", lambda: Grid(3, 4, 3, sizes=[[3, 4], [1, 2], [0, 4]]), 2),
    Row("sequences", lambda: Sequence(3, 5, [5, 2, 0], skips=(1, 2)), 2),
]

CELLS = {
    1: [cells.Elman, cells.LSTM, cells.GRU],
    2: [
        cells.MDGRU,
        cells.MDLSTM,
        cells.MVRNN,
        cells.RNTN,
        cells.RecursiveAutoencoder,
        cells.StableMDLSTM,
        cells.TreeLSTM,
        cells.TreeRNN,
    ],
    3: [partial(cells.TreeLSTM, slots=3), partial(cells.MDLSTM, directions=3, peepholes=True)],
}
FREE = [cells.ChildSumTreeLSTM, cells.TreeGRU]


def enrolled(row, makers):
    return [pytest.param(row, make, id=f"{row.name}, {getattr(make, 'func', make).__name__}") for make in makers]


EVERY = [param for row in STRUCTURES for param in enrolled(row, CELLS[row.slots] + FREE)]


def problem(row, make, dtype=torch.double):
    torch.manual_seed(0)
    cell, structure = make(D, H).double(), row.make()
    with torch.no_grad():
        for p in cell.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype) * 0.3)
    leaves, spec = pytree.tree_flatten(cell.initial_state(structure.rows))

    def one():
        return pytree.tree_unflatten([torch.randn_like(leaf).to(dtype).requires_grad_() for leaf in leaves], spec)

    state = one() if structure.history == 1 else tuple(one() for _ in range(structure.history))
    x = torch.randn(structure.nodes, D, dtype=torch.double).to(dtype).requires_grad_()
    return cell.to(dtype), structure, x, state


@pytest.mark.parametrize("given", [True, False], ids=["from a state", "from zeros"])
@pytest.mark.parametrize(("row", "make"), EVERY)
def test_compiled_is_the_reference(row, make, given):
    cell, structure, x, state = problem(row, make)
    state = state if given else None
    found = []
    for backend in ("compiled", "reference"):
        torch.manual_seed(1)
        outputs, last = unfold(cell, structure, x, state, backend=backend)
        results = [outputs, *pytree.tree_leaves(last)]
        total = sum((torch.randn_like(result) * result).sum() for result in results)
        wrt = [x, *(pytree.tree_leaves(state) if given else []), *cell.parameters()]
        gradients = torch.autograd.grad(total + 0 * sum(p.sum() for p in wrt), wrt)
        found.append([*results, *gradients])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("row", "make"), EVERY)
def test_gradients_are_those_of_finite_differences(row, make):
    cell, structure, x, state = problem(row, make)

    def run(x, *rest):
        count = len(pytree.tree_leaves(state))
        outputs, last = unfold(cell, structure, x, pytree.tree_unflatten(rest[:count], pytree.tree_structure(state)), backend="reference")
        return outputs, *(leaf for leaf in pytree.tree_leaves(last) if leaf.requires_grad)

    assert torch.autograd.gradcheck(run, (x, *pytree.tree_leaves(state), *cell.parameters()), fast_mode=True)


@pytest.mark.parametrize(("row", "make"), EVERY)
def test_float32_is_close_to_float64(row, make):
    cell, structure, x, state = problem(row, make)
    want, _ = unfold(cell, structure, x, state, backend="reference")
    cell, structure, x, state = problem(row, make, torch.float)
    outputs, _ = unfold(cell, structure, x, state)
    torch.testing.assert_close(outputs.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", FREE)
def test_ten_thousand_children_are_compiled(make):
    cell, stars = make(D, H).double(), Tree([-1] + [0] * 10_000 + [-1, 10_001])
    x = torch.randn(stars.nodes, D, dtype=torch.double, requires_grad=True)
    found = []
    for backend in ("compiled", "reference"):
        outputs, _ = unfold(cell, stars, x, backend=backend)
        found.append([outputs, *torch.autograd.grad(outputs.square().sum(), [x, *cell.parameters()])])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
