"""Graphs of any shape against plain recursion; what is no acyclic graph is named."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from structure.sample_cells import ChildSum, Echo
from wavefront import Sequence, ShapeError, unfold
from wavefront.structure import Graph


@st.composite
def graphs(draw):
    """Batches of graphs as lists of predecessors, whose numbering is no order in which they could be done."""
    batch = []
    for size in draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)):
        name = draw(st.permutations(range(size)))
        before = [[] for _ in range(size)]
        for place, node in enumerate(name):
            some = draw(st.lists(st.sampled_from(name[:place]), max_size=3)) if place else []
            before[node] = [None if draw(st.integers(0, 5)) == 0 else other for other in some]
        batch.append(before)
    return batch


def recursion(cell, before, x, given):
    """The states of one graph, each node asking for those before it."""

    def at(node):
        found = [given if other is None else at(other) for other in before[node]]
        if cell.slots != "any":
            return cell.step((*found, *[given] * (cell.slots - len(found))), x[node : node + 1])[0]
        states = [state for state, other in zip(found, before[node]) if other is not None]
        gates = [(cell.U(x[node : node + 1]) + cell.W(h)).sigmoid() for h in states]
        return (cell.U(x[node : node + 1]) + sum(g * h for g, h in zip(gates, states))).tanh()

    return [at(node) for node in range(len(before))]


@settings(max_examples=80, deadline=None)
@given(graphs(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_fronts_equal_recursion(batch, any_number, with_state, seed):
    torch.manual_seed(seed)
    cell = (ChildSum(3, 4) if any_number else Echo(3, 4, slots=3)).double()
    graph = Graph.lists(batch)
    x = torch.randn(graph.nodes, 3, dtype=torch.double, requires_grad=True)
    state = torch.randn(len(batch), 4, dtype=torch.double, requires_grad=True) if with_state else None
    outputs, last = unfold(cell, graph, graph.pack(x), state)

    want, ends, first = [], [], 0
    for number, before in enumerate(batch):
        missing = cell.initial_state(1) if state is None else state[number : number + 1]
        states = recursion(cell, before, x[first : first + len(before)], missing)
        followed = {other for others in before for other in others}
        sinks = [node for node in range(len(before)) if node not in followed]
        want += states
        ends.append(states[sinks[-1]] if sinks else missing)
        first += len(before)
    want = torch.cat(want) if want else x.new_zeros(0, 4)
    outputs, ends = graph.unpack(outputs), torch.cat(ends)
    torch.testing.assert_close(outputs, want, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(last, ends, rtol=1e-12, atol=1e-13)

    wrt = [x, *cell.parameters(), *([] if state is None else [state])]
    weights = torch.randn_like(want), torch.randn_like(ends)
    mine, theirs = (
        torch.autograd.grad((weights[0] * y).sum() + (weights[1] * s).sum() + 0 * sum(p.sum() for p in wrt), wrt)
        for y, s in ((outputs, last), (want, ends))
    )
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_every_node_comes_after_those_before_it_and_waits_until_it_is_needed(batch):
    graph = Graph.lists(batch)
    assert graph.sizes.sum() == graph.nodes == sum(map(len, batch))
    front = torch.repeat_interleave(torch.arange(len(graph.sizes)), torch.from_numpy(graph.sizes))
    source, owner = graph.in_edges()
    assert (front[source] < front[owner]).all()
    last = {int(row): int(front[graph.row == row].max()) for row in graph.row.unique()}
    for node in range(graph.nodes):
        followers = front[owner[source == node]]
        assert front[node] == (followers.min() - 1 if len(followers) else last[int(graph.row[node])])
    for nodes in graph.fronts():  # those that nothing comes before are the last
        some = torch.isin(torch.arange(graph.nodes)[nodes], owner)
        assert some.sort(descending=True, stable=True).values.equal(some)


@settings(max_examples=30, deadline=None)
@given(graphs(), st.integers(0, 99))
def test_a_batch_equals_one_at_a_time(batch, seed):
    torch.manual_seed(seed)
    cell, graph = Echo(3, 4, slots=3).double(), Graph.lists(batch)
    x = torch.randn(graph.nodes, 3, dtype=torch.double)
    outputs = graph.unpack(unfold(cell, graph, graph.pack(x))[0])
    alone = []
    for before, part in zip(batch, x.split([len(before) for before in batch])):
        single = Graph.lists([before])
        alone.append(single.unpack(unfold(cell, single, single.pack(part))[0]))
    torch.testing.assert_close(outputs, torch.cat(alone), rtol=1e-12, atol=1e-13)


def test_lines_are_sequences():
    torch.manual_seed(0)
    cell, x = Echo(3, 4, slots=1), torch.randn(3, 5, 3)
    lengths = [5, 2, 4]
    line = Sequence(3, 5, lengths)
    want, last = unfold(cell, line, line.pack(x))
    graph = Graph.lists([[[], *([t] for t in range(n - 1))] for n in lengths])
    flat = torch.cat([row[:n] for row, n in zip(x, lengths)])
    outputs, end = unfold(cell, graph, graph.pack(flat))
    torch.testing.assert_close(graph.unpack(outputs), torch.cat([row[:n] for row, n in zip(line.unpack(want), lengths)]))
    torch.testing.assert_close(end, last)


def test_index_arrays_and_lists_are_the_same_graph():
    lists = Graph.lists([[[], [0], [0, 1]], [[1], []]])
    arrays = Graph(torch.tensor([0, 0, 1, 4]), torch.tensor([1, 2, 2, 3]), nodes=5, row=[0, 0, 0, 1, 1])
    assert torch.equal(lists.in_slots(2), arrays.in_slots(2))
    assert torch.equal(lists.ends, arrays.ends)
    assert torch.equal(lists.row, arrays.row)


def test_a_long_line_and_a_wide_fan_cost_what_their_edges_cost():
    long = Graph(range(99_999), range(1, 100_000), nodes=100_000)
    assert len(long.sizes) == 100_000
    fan = Graph(range(10_000), [10_000] * 10_000, nodes=10_001)
    assert fan.sizes.tolist() == [10_000, 1]
    cell = ChildSum(2, 3).double()
    x = torch.randn(10_001, 2, dtype=torch.double)
    _, last = unfold(cell, fan, fan.pack(x))
    leaves = cell.U(x[:-1]).tanh()
    total = ((cell.U(x[-1:]) + cell.W(leaves)).sigmoid() * leaves).sum(0)
    torch.testing.assert_close(last, (cell.U(x[-1:]) + total).tanh(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Graph.lists([[[], [2], [3], [1]]]), "nodes 1 -> 3 -> 2 -> 1 are a cycle"),
        (lambda: Graph.lists([[[]], [[], [1]]]), "node 2 -> 2 comes before itself"),
        (lambda: Graph([0, *range(1, 40)], [1, *range(2, 40), 1], nodes=40), r"1 -> 2 -> 3 -> 4 -> 5 -> 6 -> ... \(28 more\) ... -> "),
        (lambda: Graph.lists([[[], [5]]]), r"graph 0 has nodes 0..1; before node 1 stands 5"),
        (lambda: Graph([0], [1], nodes=1), r"target is made of numbers of at least 0, at most 0; number 0 of it is 1"),
        (lambda: Graph([0, 1], [1], nodes=2), "source and target have one number for each edge; got 2 and 1"),
        (lambda: Graph([0.5], [1], nodes=2), "source is a list of whole numbers, got float64"),
        (lambda: Graph([0], [1], nodes=2, row=[0, 1]), "the edge 0 -> 1 leads from graph 0 to graph 1"),
        (lambda: Graph([0, 1], [2, 2], nodes=3, slot=[0, 0]), "slot 0 of node 2 is filled by two edges"),
        (lambda: Graph([], [], nodes=3, row=[0, 1]), "row has one number for each of the 3 nodes, got 2"),
        (lambda: Graph([], [], nodes=2, row=[0, 1], ends=[1, 0]), "ends has one node of each of the 2 graphs"),
        (lambda: Graph.lists([[[], []]]).pack(torch.zeros(3, 2)), r"one row for each of the 2 nodes, got \[3, 2\]"),
        (
            lambda: unfold(Echo(3, 4, 2), Graph.lists([[[], [], [], [0, 1, 2]]]), torch.zeros(4, 3)),
            r"takes 2 predecessor\(s\) a node, node 3 has 3",
        ),
    ],
)
def test_what_is_no_batch_of_acyclic_graphs_is_named(make, text):
    with pytest.raises(ShapeError, match=text):
        make()
