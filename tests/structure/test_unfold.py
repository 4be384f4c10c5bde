"""The one loop against plain Python: sequences with everything switched on, and structures of any shape, so that trees and graphs come as files."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from structure.sample_cells import ChildSum, Echo
from wavefront import Recurrent, Sequence, ShapeError, unfold
from wavefront.structure import NONE, Edges, Structure


class Graph(Structure):
    """An acyclic graph from lists of predecessors, one row; a structure that nothing in the package has heard of."""

    def __init__(self, before, slots=None):
        level = []
        for sources in before:
            level.append(1 + max((level[s] for s in sources), default=-1))
        order = sorted(range(len(before)), key=level.__getitem__)
        number = {node: k for k, node in enumerate(order)}
        self.rows = 1
        self.sizes = torch.bincount(torch.tensor(level)).numpy()
        self.row = torch.zeros(len(before), dtype=torch.long)
        self.ends = torch.tensor([[number[len(before) - 1]]])
        self.order = torch.tensor(order)
        lists = [[number[s] for s in before[node]] for node in order]
        if slots is None:
            source = torch.tensor([s for sources in lists for s in sources], dtype=torch.long)
            owner = torch.tensor([k for k, sources in enumerate(lists) for _ in sources], dtype=torch.long)
            self.predecessors = Edges(source, owner)
        else:
            self.predecessors = torch.tensor([[*s, *[NONE - 1] * (slots - len(s))] for s in lists]).view(len(lists), slots)

    def pack(self, x):
        return x[self.order]

    def unpack(self, y):
        return torch.empty_like(y).index_copy(0, self.order, y)


@st.composite
def problems(draw):
    batch, steps = draw(st.integers(0, 4)), draw(st.integers(0, 6))
    skips = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)))
    lengths = draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    return batch, steps, skips, lengths, draw(st.booleans()), draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 99))


def plain(cell, x, given, length, resets, skips, reverse):
    """One sequence, in plain Python, from the words of `Sequence`: -> outputs, the last max(skips) states, latest first."""
    past, outputs = list(given), [x.new_zeros(1, cell.outputs)] * len(x)
    for t in reversed(range(length)) if reverse else range(length):
        boundary = t + 1 if reverse else t  # between t-1 and t in both directions
        if resets is not None and boundary < length and resets[boundary]:
            past = [cell.initial_state(1) for _ in past]
        before = [past[d - 1] for d in skips]
        h, outputs[t] = cell.step(before[0] if cell.slots == 1 else tuple(before), x[t : t + 1])
        past = [h, *past[:-1]]
    return torch.cat(outputs) if outputs else x.new_zeros(0, cell.outputs), past


@settings(max_examples=60, deadline=None)
@given(problems())
def test_sequences_equal_plain_python(problem):
    batch, steps, skips, lengths, reverse, some_resets, some_state, seed = problem
    torch.manual_seed(seed)
    cell = Echo(3, 4, len(skips)).double()
    x = torch.randn(batch, steps, 3, dtype=torch.double, requires_grad=True)
    resets = torch.rand(batch, steps) < 0.3 if some_resets else None
    history = max(skips)
    state = tuple(torch.randn(batch, 4, dtype=torch.double, requires_grad=True) for _ in range(history)) if some_state else None
    given_state = None if state is None else state if history > 1 else state[0]
    outputs, last = Recurrent(cell, skips, reverse)(x, given_state, lengths, resets)
    last = last if history > 1 else (last,)

    each = []
    for b in range(batch):
        first = [s[b : b + 1] for s in state] if state else [cell.initial_state(1)] * history
        length = steps if lengths is None else lengths[b]
        each.append(plain(cell, x[b], first, length, None if resets is None else resets[b], skips, reverse))
    assert outputs.shape == (batch, steps, 4)
    if not batch:
        return
    want = torch.stack([y for y, _ in each])
    want_last = [torch.cat([past[j] for _, past in each]) for j in range(history)]
    torch.testing.assert_close(outputs, want, rtol=1e-12, atol=1e-13)
    for a, b in zip(last, want_last):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)

    wrt = [x, *cell.parameters(), *(state or ())]
    weights = [torch.randn_like(v) for v in (want, *want_last)]
    mine, theirs = (
        torch.autograd.grad(sum((w * v).sum() for w, v in zip(weights, values)) + 0 * sum(p.sum() for p in wrt), wrt)
        for values in ((outputs, *last), (want, *want_last))
    )
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**20), st.booleans(), st.booleans())
def test_any_acyclic_graph_equals_recursion(size, seed, any_number, given_state):
    torch.manual_seed(seed)
    before = [torch.randperm(k)[: int(torch.randint(0, 3, ()))].tolist() for k in range(size)]
    graph = Graph(before, slots=None if seed % 2 else 2)
    cell = (ChildSum(3, 4) if any_number and seed % 2 else Echo(3, 4, slots=2)).double()
    x = torch.randn(size, 3, dtype=torch.double)
    state = torch.randn(1, 4, dtype=torch.double) if given_state and not seed % 2 else None

    def at(node):
        missing = cell.initial_state(1) if state is None else state
        found = [at(s)[0] for s in before[node]]
        if cell.slots == "any":
            total = cell.U(x[node : node + 1])
            return ((total + sum((total + cell.W(h)).sigmoid() * h for h in found)).tanh(),) * 2
        return cell.step((*found, *[missing] * (2 - len(found))), x[node : node + 1])

    outputs, last = unfold(cell, graph, graph.pack(x), state)
    want = torch.cat([at(node)[1] for node in range(size)])
    torch.testing.assert_close(graph.unpack(outputs), want, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(last, want[-1:], rtol=1e-12, atol=1e-13)


def test_too_many_predecessors_is_an_error():
    graph = Graph([[], [], [0, 1], [2]])
    with pytest.raises(ShapeError, match=r"takes 1 predecessor\(s\) a node, node 2 has 2"):
        unfold(Echo(3, 4), graph, torch.randn(4, 3))
    with pytest.raises(ShapeError, match="takes 1 predecessor"):
        unfold(Echo(3, 4), Sequence(2, 3, skips=(1, 2)), torch.randn(6, 3))


def test_a_sequence_is_a_chain_for_a_cell_of_any_number():
    torch.manual_seed(0)
    cell, x = ChildSum(3, 4), torch.randn(1, 5, 3)
    graph = Graph([[], [0], [1], [2], [3]])
    line = Sequence(1, 5)
    want = unfold(cell, graph, x[0])[0]
    # the chain's first node has an edge to what was given: a state of zeros adds nothing
    torch.testing.assert_close(unfold(cell, line, line.pack(x))[0], want)


def test_what_lies_past_the_end_is_never_looked_at():
    cell, x = Echo(3, 4), torch.randn(2, 5, 3)
    x[0, 2:] = float("nan")
    for reverse in (False, True):
        outputs, state = Recurrent(cell, reverse=reverse)(x, lengths=[2, 5])
        assert outputs.isfinite().all()
        assert state.isfinite().all()
        assert (outputs[0, 2:] == 0).all()


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"lengths": [1, 9]}, r"between 0 and the 3 steps there are; sequence 1 has 9"),
        ({"lengths": [1]}, r"2 whole numbers, one per sequence"),
        ({"lengths": torch.tensor([1.0, 2.0])}, r"whole numbers"),
        ({"resets": torch.zeros(2, 3)}, r"resets is a bool tensor of \[2, 3\]"),
        ({"skips": (0,)}, r"different delays of at least one step"),
        ({"skips": (1, 1)}, r"different delays of at least one step"),
    ],
)
def test_impossible_sequences_are_refused(kwargs, text):
    with pytest.raises(ShapeError, match=text):
        Sequence(2, 3, **kwargs)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda net: net(torch.randn(4, 3)), r"expects x of \[B, T, 3\], got \[4, 3\]. One step\? Use net.step"),
        (lambda net: net(torch.randn(2, 4, 5)), r"expects x of \[B, T, 3\], got \[2, 4, 5\]"),
        (lambda net: net(torch.randn(2, 4, 3, dtype=torch.double)), r"parameters of torch.float32, x is torch.float64"),
        (lambda net: net(torch.ones(2, 4, 3, dtype=torch.long)), r"expects x of a floating dtype, got torch.int64. Symbols\?"),
        (lambda net: net(torch.randn(2, 4, 3), torch.randn(3, 4)), r"expects a state of \[2, 4\] \(one row per sequence\), got \[3, 4\]"),
        (lambda net: net(torch.randn(2, 4, 3), (torch.randn(2, 4),) * 2), r"has a state of 1 part\(s\)"),
        (lambda net: net(torch.randn(2, 4, 3), context=torch.randn(2, 2)), r"gets x and context joined: expected 3 numbers in all"),
        (lambda net: net(torch.randn(2, 4, 3), context=torch.randn(5, 2)), r"context has one row per sequence, \[2, ...\]; got \[5, 2\]"),
        (lambda net: net.cell(None, torch.randn(7, 20, 3)), r"expects x of \[N, 3\], got \[7, 20, 3\]. A whole sequence\?"),
        (lambda net: net.step(None, torch.randn(7, 20, 3)), r"expects x of \[N, 3\], got \[7, 20, 3\]"),
        (lambda net: Recurrent(net.cell, backend="fastest")(torch.randn(2, 4, 3)), r"backend is \"auto\""),
        (lambda net: Recurrent(net.cell, skips=(1, 2)), r"takes 1 predecessor\(s\), skips=\(1, 2\) are 2"),
    ],
)
def test_what_does_not_fit_is_named(call, text):
    with pytest.raises((ShapeError, RuntimeError), match=text):
        call(Recurrent(Echo(3, 4)))


def test_a_step_that_breaks_its_word_is_named():
    class Wrong(Echo):
        def step(self, state, x):
            return (state, state), state

    with pytest.raises(ShapeError, match=r"Wrong\(inputs=3\).step returned a state of another form"):
        Recurrent(Wrong(3, 4))(torch.randn(2, 4, 3))


def test_a_step_that_returns_its_state_alone_is_told_what_to_return():
    class Short(Echo):
        def step(self, state, x):
            return state

    with pytest.raises(ShapeError, match=r"Short\(inputs=3\).step has to return two things, \(state, output\); it returned one Tensor"):
        Recurrent(Short(3, 4))(torch.randn(2, 4, 3))
