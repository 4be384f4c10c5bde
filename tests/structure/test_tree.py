"""Trees against recursion in ten lines, sequences and graphs; trees that are deep, wide or none at all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from wavefront import Cell, Sequence, ShapeError, unfold
from wavefront.structure import Graph, Tree


class Join(Cell):
    """k children, each with weights of its own."""

    def __init__(self, inputs, units, slots):
        super().__init__(inputs, state=units, slots=slots)
        self.U = nn.Linear(inputs, units)
        self.W = nn.ModuleList(nn.Linear(units, units, bias=False) for _ in range(slots))

    def step(self, state, x):
        h = (self.U(x) + sum(W(s) for W, s in zip(self.W, (state,) if self.slots == 1 else state))).tanh()
        return h, h


class Sum(Cell):
    """Any number of children, in any order."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, slots="any")
        self.U, self.W = nn.Linear(inputs, units), nn.Linear(units, units, bias=False)

    def step(self, children, x):
        h = (self.U(x) + children.sum(self.W(children.states).tanh())).tanh()
        return h, h


shapes = st.recursive(st.integers(0, 99), lambda below: st.lists(st.none() | below, min_size=1, max_size=3), max_leaves=12)
batches = st.lists(shapes.filter(lambda tree: tree is not None), min_size=1, max_size=4)


def inner_without_child(tree):
    return isinstance(tree, list) and (all(child is None for child in tree) or any(map(inner_without_child, tree)))


batches = batches.filter(lambda trees: not any(map(inner_without_child, trees)))


def recursion(cell, tree, embed, missing, states):
    """Batched fronts have to equal this: a tree's state from its children's, by plain recursion; `states` gets each node's, children first."""
    if isinstance(tree, list):
        x = torch.zeros_like(embed(0))
        children = [missing if child is None else recursion(cell, child, embed, missing, states) for child in tree]
        present = [h for h, child in zip(children, tree) if child is not None]
    else:
        x, children, present = embed(tree), [], []
    if cell.slots == "any":
        states.append((cell.U(x) + sum(cell.W(h).tanh() for h in present)).tanh())
    else:
        states.append(cell.step((*children, *[missing] * (cell.slots - len(children))), x)[0])
    return states[-1]


@settings(max_examples=80, deadline=None)
@given(batches, st.booleans(), st.booleans(), st.integers(0, 99))
def test_fronts_equal_recursion(trees, any_number, with_state, seed):
    torch.manual_seed(seed)
    cell = (Sum(3, 4) if any_number else Join(3, 4, slots=3)).double()
    words = torch.randn(100, 3, dtype=torch.double, requires_grad=True)
    tree = Tree.nested(trees)
    x = tree.at_leaves(words[torch.tensor(tree.values)])
    state = torch.randn(len(trees), 4, dtype=torch.double, requires_grad=True) if with_state else None
    outputs, last = unfold(cell, tree, tree.pack(x), state)

    want, ends = [], []
    for number, one in enumerate(trees):
        missing = cell.initial_state(1) if state is None else state[number : number + 1]
        ends.append(recursion(cell, one, lambda word: words[word : word + 1], missing, want))
    torch.testing.assert_close(tree.unpack(outputs), torch.cat(want), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(last, torch.cat(ends), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tree.unpack(outputs)[tree.roots], last, rtol=0, atol=0)

    wrt = [words, *cell.parameters(), *([] if state is None else [state])]
    weights = torch.randn(tree.nodes, 4, dtype=torch.double)
    mine, theirs = (
        torch.autograd.grad((weights * y).sum() + 0 * sum(p.sum() for p in wrt), wrt) for y in (tree.unpack(outputs), torch.cat(want))
    )
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(batches, st.integers(0, 99))
def test_from_the_root_to_the_leaves_each_node_follows_its_parent(trees, seed):
    torch.manual_seed(seed)
    cell, tree = Join(3, 4, slots=1).double(), Tree.nested(trees).top_down()
    x = torch.randn(tree.nodes, 3, dtype=torch.double)
    state = torch.randn(len(trees), 4, dtype=torch.double)
    outputs, last = unfold(cell, tree, tree.pack(x), state)
    row = dict(zip(tree.order.tolist(), tree.row.tolist()))

    def at(node):
        parent = int(tree.parent[node])
        return cell.step(state[row[node] : row[node] + 1] if parent < 0 else at(parent), x[node : node + 1])[0]

    want = torch.cat([at(node) for node in range(tree.nodes)])
    torch.testing.assert_close(tree.unpack(outputs), want, rtol=1e-12, atol=1e-13)
    last_leaves = [max(leaf for leaf in tree.leaves.tolist() if row[leaf] == number) for number in range(len(trees))]
    torch.testing.assert_close(last, want[last_leaves], rtol=1e-12, atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(batches)
def test_the_same_trees_whichever_way_they_are_told(trees):
    nested = Tree.nested(trees)
    order = torch.argsort(nested.order)
    child = torch.nonzero(nested.parent >= 0).flatten()
    graph = Graph(child, nested.parent[child], nested.nodes, nested.slot[child], nested.row[order], ends=nested.roots)
    table = torch.full((nested.nodes, 3), -1)
    table[nested.parent[child], nested.slot[child]] = child
    lists = [[int(c) for c in row] for row in table]
    for other in (graph, Tree.from_children(table), Tree.from_children(lists), Tree(nested.parent, nested.slot)):
        assert torch.equal(other.in_slots(3), nested.in_slots(3))
        assert torch.equal(other.order, nested.order)
        assert torch.equal(other.ends, nested.ends)
        assert other.sizes.tolist() == nested.sizes.tolist()
    for single, part in zip(trees, range(len(trees))):
        assert Tree.nested([single]).nodes == int((nested.row == part).sum())


@settings(max_examples=30, deadline=None)
@given(batches, st.integers(0, 99))
def test_a_batch_equals_one_at_a_time_in_any_order(trees, seed):
    torch.manual_seed(seed)
    cell = Join(3, 4, slots=3).double()
    words = torch.randn(100, 3, dtype=torch.double)

    def roots(some):
        tree = Tree.nested(some)
        return unfold(cell, tree, tree.pack(tree.at_leaves(words[torch.tensor(tree.values)])))[1]

    want = torch.cat([roots([tree]) for tree in trees])
    torch.testing.assert_close(roots(trees), want, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(roots(trees[::-1]), want.flip(0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("down", [False, True])
def test_a_tree_that_is_a_line_is_a_sequence(down):
    torch.manual_seed(0)
    cell, x = Join(3, 4, slots=1), torch.randn(6, 3)
    tree = Tree([1, 2, 3, 4, 5, -1], down=down)
    line = Sequence(1, 6, reverse=down)
    outputs, last = unfold(cell, tree, tree.pack(x))
    want, end = unfold(cell, line, line.pack(x[None]))
    torch.testing.assert_close(tree.unpack(outputs), line.unpack(want)[0])
    torch.testing.assert_close(last, end)


def test_the_order_of_siblings_matters_where_the_cell_says_so():
    torch.manual_seed(0)
    words = torch.randn(4, 3)

    def root(cell, tree):
        tree = Tree.nested([tree])
        return unfold(cell, tree, tree.pack(tree.at_leaves(words[torch.tensor(tree.values)])))[1]

    for cell, same in ((Sum(3, 4), True), (Join(3, 4, slots=3), False)):
        a, b = root(cell, [[0, 1], 2, 3]), root(cell, [3, [1, 0], 2])
        assert torch.allclose(a, b, atol=1e-6) is same


def test_balanced_and_chain_are_trees_over_the_same_leaves():
    lengths = [1, 2, 5, 8]
    for make, levels in ((Tree.balanced, [1, 2, 4, 4]), (Tree.chain, [1, 2, 5, 8])):
        tree = make(lengths)
        assert tree.rows == 4
        assert len(tree.leaves) == sum(lengths)
        for length, level in zip(lengths, levels):
            alone = make([length])
            assert len(alone.sizes) == level
            assert alone.leaves.tolist() == list(range(length))
            assert alone.roots.tolist() == [2 * length - 2]


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (Tree.balanced, [0, [0, 1], [[0, 1], 2], [[0, 1], [2, 3]], [[[0, 1], [2, 3]], 4], [[[0, 1], [2, 3]], [[4, 5], 6]]]),
        (Tree.chain, [0, [0, 1], [[0, 1], 2], [[[0, 1], 2], 3]]),
    ],
)
def test_trees_over_sequences_keep_the_order_of_words(make, shapes):
    torch.manual_seed(0)
    cell, words = Join(3, 4, slots=2), torch.randn(7, 3)
    nested = Tree.nested(shapes)
    over = make([str(shape).count(",") + 1 for shape in shapes])
    leaves = torch.tensor(nested.values)
    want, got = (unfold(cell, tree, tree.pack(tree.at_leaves(words[leaves])))[1] for tree in (nested, over))
    torch.testing.assert_close(got, want)


def test_a_hundred_thousand_levels_and_ten_thousand_children():
    levels = 100_000
    deep = "x"
    for _ in range(levels):
        deep = (deep, "y")
    tree = Tree.nested([deep])
    assert (len(tree.sizes), tree.nodes) == (levels + 1, 2 * levels + 1)
    assert len(tree.top_down().sizes) == levels + 1
    while isinstance(deep, tuple):  # so that Python does not have to take it apart
        deep = deep[0]
    wide = Tree.nested([tuple(range(10_000))])
    assert wide.sizes.tolist() == [10_000, 1]
    cell, x = Sum(2, 3).double(), torch.randn(10_000, 2, dtype=torch.double)
    _, last = unfold(cell, wide, wide.pack(wide.at_leaves(x)))
    torch.testing.assert_close(last, (cell.U.bias + cell.W(cell.U(x).tanh()).tanh().sum(0)).tanh()[None], rtol=1e-10, atol=1e-10)


def test_work_is_linear_in_the_nodes_of_a_chain_and_of_a_bushy_tree():
    """Rows gathered forward and scattered backward, counted: twice the nodes, twice the rows."""
    for make in (Tree.chain, Tree.balanced):
        counts = []
        for leaves in (256, 512):
            tree = make([leaves])
            cell, seen = Join(2, 3, slots=2), []

            class Counting(torch.utils._python_dispatch.TorchDispatchMode):
                def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                    out = function(*args, **(kwargs or {}))
                    seen.append(out.numel() if isinstance(out, torch.Tensor) else 0)  # noqa: B023
                    return out

            x = torch.randn(tree.nodes, 2)
            with Counting():
                outputs, _ = unfold(cell, tree, x)
                outputs.sum().backward()
            counts.append(sum(seen))
        assert counts[1] < 2.5 * counts[0]


def test_batches_of_parents_are_joined():
    one, two = [1, -1], [2, 2, -1]
    tree = Tree.batch([one, two])
    assert tree.parent.tolist() == [1, -1, 4, 4, -1]
    assert tree.roots.tolist() == [1, 4]
    swapped = Tree.batch([one, two], slots=[[0, 0], [1, 0, 0]])
    assert swapped.in_slots(2)[-1].tolist() == tree.in_slots(2)[-1].flip(0).tolist()
    assert Tree.batch([]).nodes == 0
    assert Tree([]).rows == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Tree([1, 2, 0]), "nodes 0 -> 1 -> 2 -> 0 are a cycle"),
        (lambda: Tree([-1, 1]), "node 1 -> 1 comes before itself"),
        (lambda: Tree([5, -1]), "parent is made of numbers of at least -1, at most 1; number 0 of it is 5"),
        (lambda: Tree([1, -1], slot=[0]), "slot has one number for each of the 2 nodes, got 1"),
        (lambda: Tree([2, 2, -1], slot=[1, 1, 0]), "slot 1 of node 2 is filled by two edges"),
        (lambda: Tree.batch([[1, -1], []]), "tree 1 has no nodes"),
        (lambda: Tree.batch([[-1, -1]]), "tree 0 has 2 roots; a tree has one"),
        (lambda: Tree.batch([[1, -1], [3, -1]]), "tree 1 has 2 nodes, but a parent 3"),
        (lambda: Tree.from_children([[1, 2], [2], []]), "node 2 is a child of 0 and of 1: not a tree, but a Graph"),
        (lambda: Tree.from_children([[1, 7], []]), r"there are nodes 0..1; node 0 has a child 7"),
        (lambda: Tree.from_children([[1], [0]]), "are a cycle"),
        (lambda: Tree.nested(["a", ("b", ())]), r"tree 1 has a node without children, \(\) or \[\]"),
        (lambda: Tree.nested([("a",), (None, None)]), "tree 1 has a node without children"),
        (lambda: Tree.nested([None]), "tree 0 is None, and so has no node"),
        (lambda: Tree.balanced([3, 0]), "a tree over a sequence needs one element at least; got a length of 0"),
        (lambda: Tree.chain([2]).at_leaves(torch.zeros(3, 1)), r"one row for each of the 2 leaves, got \[3, 1\]"),
        (lambda: unfold(Join(3, 4, 2), Tree([3, 3, 3, -1]), torch.zeros(4, 3)), r"takes 2 predecessor\(s\) a node, node 3 has 3"),
        (lambda: unfold(Join(3, 4, 1), Tree([2, 2, -1]), torch.zeros(3, 3)), r"takes 1 predecessor\(s\) a node, node 2 has 2"),
    ],
)
def test_what_is_no_tree_is_named(make, text):
    with pytest.raises(ShapeError, match=text):
        make()


def test_a_long_cycle_in_given_parents_is_found():
    parent = np.roll(np.arange(100_000), -1)
    with pytest.raises(ShapeError, match=r"nodes 0 -> 1 -> .* more\) .* are a cycle"):
        Tree(parent)
