"""The decisions about cells and unfolding, sentence by sentence, where no law over the table says it already."""

import inspect

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import wavefront
from laws import sample_cells as samples
from wavefront import Bidirectional, Cell, Given, Recurrent, ShapeError, cells, wrap
from wavefront.cell import Children, Draw
from wavefront.wrap import Forced

D, H, B, T = 3, 5, 4, 7


def close(a, b):
    a, b = pytree.tree_leaves(a), pytree.tree_leaves(b)
    assert len(a) == len(b)
    for ours, theirs in zip(a, b):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def xs(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# --- where names live


def test_cells_and_modules_live_apart():
    assert wavefront.cells.LSTM is not wavefront.LSTM
    assert issubclass(wavefront.cells.LSTM, Cell)
    assert not issubclass(wavefront.LSTM, Cell)


def test_every_cell_and_wrapper_is_in_the_table_of_laws():
    from laws.table import CELLS

    def kinds(cell):
        return {type(part) for part in cell.modules() if isinstance(part, Cell)}

    there = set().union(*(kinds(row.make()) for row in CELLS))
    public = [getattr(package, name) for package in (cells, wrap) for name in package.__all__]
    exported = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Cell) and not inspect.isabstract(kind)}
    assert exported <= there, exported - there
    assert len({row.name for row in CELLS}) == len(CELLS)


# --- state, inputs, outputs


def test_a_size_is_a_vector_a_tuple_of_sizes_a_matrix():
    first = samples.Matrix(D, H).initial_state(2)
    assert first.h.shape == (2, H)
    assert first.M.shape == (2, 4, H)


def test_states_nest_as_needed():
    nested = wrap.Stack(wrap.Feedback(wrap.Stack(cells.LSTM(D + 2, H), samples.Matrix(H, 2))), cells.Elman(2, H)).double()
    x = Forced.closed(xs(B, T, D), 2)
    outputs, state = Recurrent(nested)(x)
    (inner, output), h = state
    assert inner[1].M.shape == (B, 4, 2)
    assert (output.shape, h.shape, outputs.shape) == ((B, 2), (B, H), (B, T, H))


def test_the_output_size_is_that_of_the_first_state_part_unless_declared():
    assert cells.LSTM(D, H, projection=2).outputs == 2
    assert samples.Matrix(D, H).outputs == H
    assert samples.Decaying(D, H).outputs == 2
    assert wrap.Stack(cells.GRU(D, H), samples.Skipping(H, 2, slots=1)).outputs == 2


def test_the_initial_state_is_zeros_like_the_first_parameter():
    cell = cells.LSTM(D, H)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        state = cell.to(dtype).initial_state(3)
        assert state.c.dtype == dtype
        assert (state.c == 0).all()
    assert cell.to("meta").initial_state(3).h.device.type == "meta"


def test_a_cell_stores_nothing_on_itself():
    cell = cells.LSTM(D, H).double()
    x = xs(B, D)
    first = cell(None, x)
    cell(None, xs(B, D))
    close(cell(None, x), first)


# --- context


def test_a_vector_cell_gets_x_and_context_joined():
    net = Recurrent(cells.GRU(D + 2, H)).double()
    x, context = xs(B, T, D), xs(B, 2)
    close(net(x, context=context), net(torch.cat([x, context[:, None].expand(B, T, 2)], -1)))


def test_a_cell_that_declares_it_gets_x_and_context_apart():
    net = Recurrent(samples.Conditioned(D, H)).double()
    x, context = xs(B, T, D), xs(B, 2)
    cell = net.cell
    h = cell.initial_state(B)
    outputs, _ = net(x, context=context, lengths=[T, 2, 0, 5])
    for t in range(T):
        h, _ = cell.step(h, Given(x[:, t], context))
        alive = torch.tensor([T, 2, 0, 5]) > t
        close(outputs[alive, t], h[alive])


def test_context_gets_its_gradient_from_every_step_of_its_own_sequence():
    net = Recurrent(samples.Conditioned(D, H)).double()
    x, context = xs(B, T, D), xs(B, 2).requires_grad_()
    outputs, _ = net(x, context=context, lengths=[T, 2, 0, 5])
    outputs[0].sum().backward()
    assert (context.grad[0] != 0).all()
    assert (context.grad[1:] == 0).all()


def test_context_is_not_repeated_over_time_in_memory():
    class Wide(Cell):
        seen: list = []  # noqa: RUF012

        def __init__(self):
            super().__init__(inputs=Given(x=1, context=1000), state=2)
            self.U = nn.Linear(1, 2)

        def step(self, state, given):
            Wide.seen.append(given.context.untyped_storage().data_ptr())
            h = self.U(given.x) + given.context[:, :2] + state
            return h, h

    context = torch.randn(B, 1000)
    Recurrent(Wide(), backend="reference")(torch.randn(B, T, 1), context=context)
    assert set(Wide.seen) == {context.untyped_storage().data_ptr()}


# --- slots and skips


def by_hand(cell, skips, x, past):
    """h(t) from h(t-d) for each d of skips, with the history at hand in `past`, latest first."""
    outputs = []
    for t in range(x.shape[1]):
        new, output = cell.step(tuple(past[d - 1] for d in skips), x[:, t])
        past = [new, *past[:-1]]
        outputs.append(output)
    return torch.stack(outputs, 1), tuple(past)


@pytest.mark.parametrize("skips", [(1, 2), (1, 5), (3, 2), (9, 1)])
def test_skips_see_the_states_so_many_steps_back(skips):
    net = Recurrent(samples.SkippingTwoParts(D, H), skips).double()
    x = xs(B, T, D)
    start = [samples.TwoParts(xs(B, H), xs(B, H + 1)) for _ in range(max(skips))]
    close(net(x, tuple(start)), by_hand(net.cell, skips, x, start))


@pytest.mark.parametrize("cut", range(T + 1))
def test_the_history_carries_a_cut_on_even_when_it_is_longer_than_the_part(cut):
    net = Recurrent(samples.SkippingTwoParts(D, H), (2, 6)).double()
    x = xs(B, T, D)
    whole, last = net(x)
    first, middle = net(x[:, :cut])
    assert isinstance(middle, tuple)
    assert len(middle) == 6
    second, end = net(x[:, cut:], middle)
    close((torch.cat([first, second], 1), end), (whole, last))


def test_a_skip_over_a_reset_sees_the_initial_state():
    net = Recurrent(wrap.LearnedStart(samples.Skipping(D, H)), (1, 3)).double()
    with torch.no_grad():
        net.cell.start[0].normal_()
    x = xs(1, T, D)
    resets = (torch.arange(T) == 4)[None]
    outputs, history = net(x, (xs(1, H), xs(1, H), xs(1, H)), None, resets)
    start = net.cell.initial_state(1)
    expected, _ = by_hand(net.cell, (1, 3), x[:, 4:], [start] * 3)
    close(outputs[:, 4:], expected)
    assert len(history) == 3


def test_a_missing_predecessor_is_the_initial_state():
    cell = wrap.LearnedStart(samples.Skipping(D, H)).double()
    with torch.no_grad():
        cell.start[0].normal_()
    x, state = xs(B, T, D), cell.initial_state(B)
    outputs, _ = Recurrent(cell)(x)  # one predecessor for two slots
    for t in range(T):
        state, output = cell.step((state, cell.initial_state(B)), x[:, t])
        close(outputs[:, t], output)


def test_too_many_predecessors_are_an_error():
    with pytest.raises(ShapeError, match=r"takes 2 predecessor\(s\), skips=\(1, 2, 3\) are 3"):
        Recurrent(samples.Skipping(D, H), (1, 2, 3))


def test_a_node_may_have_any_number_of_children():
    children = Children(xs(5, H), owner=torch.tensor([0, 0, 0, 2, 2]), nodes=3)
    close(children.sum(children.states), torch.stack([children.states[:3].sum(0), torch.zeros(H).double(), children.states[3:].sum(0)]))
    nodes = xs(3, H)
    close(children.expand(nodes), nodes[[0, 0, 0, 2, 2]])
    state, _ = samples.Gathering(D, H).double()(children, x := xs(3, D))
    alone, _ = samples.Gathering(D, H).double()(None, x)
    assert state.shape == alone.shape == (3, H)


def test_any_number_over_skips_is_their_sum():
    net = Recurrent(samples.Gathering(D, H), (1, 2)).double()
    x, past = xs(B, T, D), [xs(B, H), xs(B, H)]
    outputs, _ = net(x, tuple(past))
    for t in range(T):
        edges = Children(torch.stack(past, 1).flatten(0, 1), torch.arange(B).repeat_interleave(2), B)
        new, output = net.cell.step(edges, x[:, t])
        past = [new, past[0]]
        close(outputs[:, t], output)


# --- ends, resets


def test_a_reset_marks_the_boundary_between_two_steps_in_both_directions():
    net = Bidirectional(cells.LSTM(D, H), cells.GRU(D, H)).double()
    x = xs(1, T, D)
    outputs, _ = net(x, resets=(torch.arange(T) == 3)[None])
    close(outputs, torch.cat([net(x[:, :3])[0], net(x[:, 3:])[0]], 1))


def test_a_reset_before_the_first_step_drops_the_given_state():
    net = Recurrent(cells.LSTM(D, H)).double()
    x, state = xs(1, T, D), net.cell.sizes._replace(h=xs(1, H), c=xs(1, H))
    close(net(x, state, resets=(torch.arange(T) == 0)[None]), net(x))


def test_a_reset_past_the_length_is_never_looked_at():
    net = Recurrent(cells.LSTM(D, H)).double()
    x = xs(1, T, D)
    for reverse in (False, True):
        net.reverse = reverse
        close(net(x, lengths=[4], resets=(torch.arange(T) >= 4)[None]), net(x, lengths=[4]))


def test_the_backward_direction_starts_at_the_end_of_each_sequence():
    net = Recurrent(cells.GRU(D, H), reverse=True).double()
    x, state = xs(2, T, D), xs(2, H)
    outputs, last = net(x, state, lengths=[3, T])
    h = state[:1]
    for t in (2, 1, 0):
        h, _ = net.cell.step(h, x[:1, t])
        close(outputs[:1, t], h)
    close(last[:1], h)
    assert (outputs[0, 3:] == 0).all()


# --- randomness


def test_one_draw_per_step_and_one_per_unfolding_are_what_they_say():
    net = Recurrent(samples.Noisy(D, H)).double()
    drawn = net.draws(xs(B, T, D))
    assert drawn.uniform.shape == (B, T, H)
    assert drawn.normal.shape == (B, H)
    assert 0 <= drawn.uniform.min() <= drawn.uniform.max() < 1


@pytest.mark.parametrize(
    ("distribution", "p", "mean", "variance"),
    [
        ("keep", 0.2, 1.0, 0.25),
        ("bernoulli", 0.2, 0.2, 0.16),
        ("uniform", 0.0, 0.5, 1 / 12),
        ("normal", 0.0, 0.0, 1.0),
        ("keep", 1.0, 0.0, 0.0),
    ],
)
def test_distributions_have_their_moments(distribution, p, mean, variance):
    sample = Draw((1,), distribution, p).sample((200_000,), torch.empty(0, dtype=torch.float64))
    assert abs(sample.mean() - mean) < 0.01
    assert abs(sample.var() - variance) < 0.01


def test_an_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match='one of "keep", "bernoulli", "uniform", "normal", got \'poisson\''):
        Draw((1,), "poisson").sample((1,), torch.empty(0))


def test_the_draws_of_the_package_are_those_of_the_seed():
    net = Recurrent(wrap.Dropout(cells.LSTM(D, H, recurrent_dropout=0.3), inputs=0.5)).double()
    x = xs(B, T, D)
    torch.manual_seed(5)
    first = net(x)
    torch.manual_seed(5)
    drawn = net.draws(x)
    close(net(x, draws=drawn), first)


# --- phases


def test_front_t_carries_t_modulo_k_and_resets_do_not_restart_the_clock():
    class Told(Cell):
        def __init__(self):
            super().__init__(inputs=1, state=1, phases=3)

        def step(self, state, x, phase):
            assert isinstance(phase, int)
            return state + 0 * x, x * 0 + phase

    net = Recurrent(Told())
    x = torch.zeros(1, 7, 1)
    assert net(x)[0].flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert net(x, resets=(torch.arange(7) == 4)[None])[0].flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert net(x, start=5)[0].flatten().tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert net.step(None, x[:, 0], start=4)[1].item() == 1


# --- errors


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: cells.GRU(D, H)(None, torch.randn(7, 20, D)),
            r"cells.GRU\(inputs=3\) expects x of \[N, 3\], got \[7, 20, 3\]. A whole sequence\?",
        ),
        (lambda: cells.GRU(D, H)(None, torch.randn(7, 4)), r"expects x of \[N, 3\], got \[7, 4\]"),
        (lambda: cells.GRU(D, H)(None, torch.ones(7, D).long()), r"floating dtype, got torch.int64. Symbols\?"),
        (lambda: cells.GRU(D, H)(None, torch.randn(7, D).double()), r"parameters of torch.float32, x is torch.float64"),
        (lambda: cells.GRU(D, H)(torch.randn(2, H), torch.randn(7, D)), r"expects a state of \[7, 5\] .*got \[2, 5\]"),
        (lambda: cells.LSTM(D, H)(torch.randn(7, H), torch.randn(7, D)), r"has a state of 2 part\(s\)"),
        (
            lambda: cells.GRU(D, H)(torch.zeros(7, H).double(), torch.randn(7, D)),
            r"state of torch.float32 on cpu, got torch.float64 .*Convert",
        ),
        (
            lambda: Recurrent(cells.GRU(D, H))(torch.randn(2, 5, D), torch.zeros(2, H).long()),
            r"state of torch.float32 on cpu, got torch.int64",
        ),
        (lambda: Recurrent(cells.GRU(D, H))(torch.randn(2, 1, D), resets=[[True]] * 2), r"resets is a bool tensor of \[2, 1\], got a list"),
        (
            lambda: Recurrent(cells.GRU(D, H), skips=(3,)).step((torch.zeros(2, H),), torch.randn(2, D)),
            r"a tuple of 3 states, latest first; got 1",
        ),
        (
            lambda: Bidirectional(cells.GRU(D, H), cells.GRU(D, H))(torch.randn(2, 5, D), torch.zeros(2, H)),
            r"a pair of states, .*got a Tensor",
        ),
        (lambda: samples.Decaying(D, H)(None, torch.randn(7, D)), r"expects x to be a Timed of 2 tensors, got one tensor"),
        (lambda: samples.Decaying(D, H)(None, samples.Timed(torch.randn(7, D), torch.randn(6, 1))), r"different numbers of rows"),
        (lambda: cells.GRU(D, -1), "whole numbers of at least 0; got -1"),
        (lambda: cells.GRU(2.0, H), "whole numbers of at least 0; got 2.0"),
    ],
)
def test_what_does_not_fit_a_cell_is_named(call, text):
    with pytest.raises(ShapeError, match=text):
        call()


def test_a_shape_error_is_a_value_error_and_a_runtime_error():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, RuntimeError)
