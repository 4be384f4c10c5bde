"""Networks that write, as distributions over sequences: exact, proper, and the same however they are asked."""

import copy
import itertools
import math
import warnings

import pytest
import torch
from torch import nn

import wavefront
from generative.writers import UNITS, all_sequences, writer
from wavefront import cells, wrap
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative import (
    NADE,
    Autoregressive,
    BernoulliVector,
    Categorical,
    Gaussian,
    GaussianMixture,
    NegativeBinomial,
    OutputToHidden,
    StudentT,
    greedy,
)
from wavefront.networks import Attending, Bridge, General, Layers, Recurrent


@pytest.mark.parametrize("ending", ["symbol", "halting"])
def test_all_sequences_sum_to_one(ending):
    """Those of up to n symbols, and the chance that it is longer: what is left in the beginnings of n symbols that did not end there."""
    net, n = writer(ending), 6
    y, lengths = all_sequences(2 if ending == "symbol" else 3, n)  # one of three symbols is the end, or none
    steps = net.log_prob_steps(y, lengths)
    longest = lengths == n
    going_on = steps[longest, :n].sum(1).exp() * (1 - steps[longest, n].exp())
    ended = steps.sum(1).exp().sum()
    assert 0.3 < ended.item() < 1
    assert abs((ended + going_on.sum()).item() - 1) < 1e-12


def test_all_sequences_sum_to_one_where_the_length_comes_first():
    net = writer("length", symbols=2, longest=7)
    with torch.no_grad():
        net.ending.c.normal_()
    y, lengths = all_sequences(2, 7)
    assert abs(net.log_prob(y, lengths).exp().sum().item() - 1) < 1e-12
    with pytest.raises(ShapeError, match="sequence 0 is 8 long"):
        net.log_prob(torch.zeros(1, 8, dtype=torch.long))


def test_the_length_may_depend_on_the_context():
    net = writer("length", symbols=2, longest=5, context=3)
    y, lengths = all_sequences(2, 5)
    for c in torch.randn(2, 3).double():
        assert abs(net.log_prob(y, lengths, context=c.expand(len(y), -1)).exp().sum().item() - 1) < 1e-12


@pytest.mark.parametrize("ending", ["symbol", "halting", "length", "given"])
@pytest.mark.parametrize("cell", [cells.Elman, cells.LSTM])
def test_all_at_once_is_one_step_after_the_other(ending, cell):
    net = writer(ending, cell=cell)
    torch.manual_seed(1)
    y, lengths = torch.randint(2, (4, 5)), torch.tensor([5, 0, 3, 1])
    steps = net.log_prob_steps(y, lengths)
    w, first = net.begin(4, lengths if ending in ("length", "given") else None)
    total = torch.zeros(4, 6).double()
    for t in range(6):
        w, log_p = net.next(w)
        what = torch.where(t < lengths, y[:, min(t, 4)], net.end)
        total[:, t] = torch.where(t <= lengths, log_p.gather(1, what[:, None]).squeeze(1), 0) + torch.where(t == lengths, first, 0)
        w = net.write(w, y[:, min(t, 4)])
    torch.testing.assert_close(steps, total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ending", ["symbol", "halting", "length", "given"])
def test_what_was_summed_up_while_sampling_is_log_prob(ending):
    net = writer(ending, symbols=4)
    torch.manual_seed(2)
    drawn = net.sample(50, max_length=100, lengths=torch.arange(50) % 7 if ending == "given" else None)
    assert drawn.ended.all()
    assert len(set(drawn.lengths.tolist())) > 3
    torch.testing.assert_close(net.log_prob(drawn.y, drawn.lengths), drawn.log_prob, rtol=1e-12, atol=1e-12)


OUTPUTS = {
    "bernoulli": lambda: BernoulliVector(UNITS, 3),
    "nade": lambda: NADE(UNITS, 3, units=4),
    "gaussian": lambda: Gaussian(UNITS, 3),
    "mixture": lambda: GaussianMixture(UNITS, 3, components=2),
    "student": lambda: StudentT(UNITS, 3),
    "counts": lambda: NegativeBinomial(UNITS, 3),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("ending", ["halting", "length"])
def test_vectors_of_numbers_end_too_and_are_scored_as_they_were_sampled(name, ending):
    torch.manual_seed(3)
    net = Autoregressive(cells.GRU(3 + 2 * (ending == "length"), UNITS), OUTPUTS[name](), ending=ending, longest=6).double()
    drawn = net.sample(30, max_length=200)
    assert drawn.ended.all()
    assert drawn.y.shape[2:] == (3,)
    torch.testing.assert_close(net.log_prob(drawn.y, drawn.lengths), drawn.log_prob, rtol=1e-10, atol=1e-10)
    with pytest.raises(SettingsError, match="no symbol to end with"):
        Autoregressive(cells.GRU(3, UNITS), OUTPUTS[name]())


def test_the_frequencies_of_samples_are_the_probabilities():
    net = writer("symbol")
    torch.manual_seed(4)
    drawn = net.sample(20000, max_length=60)
    y, lengths = all_sequences(2, 2)
    p = net.log_prob(y, lengths).exp()
    for sequence, length, expected in zip(y, lengths, p):
        same = (drawn.lengths == length) & (drawn.y[:, :2] == sequence).all(1)
        spread = math.sqrt(expected.item() / len(same))
        assert abs(same.double().mean().item() - expected.item()) < 4.5 * spread


@pytest.mark.parametrize("ending", ["symbol", "halting", "length"])
def test_padding_batch_mates_and_order_do_not_matter(ending):
    net = writer(ending)
    y, lengths = torch.randint(2, (4, 5)), torch.tensor([2, 5, 0, 3])
    steps = net.log_prob_steps(y, lengths)
    wild = y.masked_fill(torch.arange(5) >= lengths[:, None], -7)
    torch.testing.assert_close(net.log_prob_steps(wild, lengths), steps, rtol=1e-12, atol=0)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(net.log_prob_steps(y[row : row + 1, :n])[0], steps[row, : n + 1], rtol=1e-12, atol=1e-13)


def test_nothing_in_the_padding_of_numbers_is_looked_at():
    torch.manual_seed(0)
    net = Autoregressive(cells.GRU(3, UNITS), Gaussian(UNITS, 3), ending="halting")
    y = torch.randn(2, 4, 3)
    y[1, 2:] = float("nan")
    log_p = net.log_prob(y, [4, 2])
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("skips", [(1,), (1, 3)])
def test_a_stream_cut_anywhere_and_carried_on_is_the_whole(skips):
    torch.manual_seed(5)
    cell = cells.LSTM(4, UNITS) if skips == (1,) else TwoBack(4, UNITS)
    net = Autoregressive(Recurrent(cell, skips=skips), Categorical(UNITS, 3), nn.Embedding(3, 4), ending="given").double()
    y = torch.randint(3, (2, 9))
    whole = net.log_prob_steps(y)[:, :9]
    for cut in range(10):
        _, w = net.run(y[:, :cut])
        torch.testing.assert_close(whole[:, cut:], net.log_prob_steps(y[:, cut:], state=w)[:, : 9 - cut], rtol=1e-12, atol=1e-13)


class TwoBack(wavefront.Cell):
    """A cell that sees two earlier states."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, slots=2)
        self.U, self.W = nn.Linear(inputs, units), nn.Linear(2 * units, units)

    def step(self, state, x):
        h = (self.U(x) + self.W(torch.cat(state, -1))).tanh()
        return h, h


def test_a_beginning_is_read_and_then_carried_on_by_sampling():
    net = writer("symbol", symbols=4)
    y, lengths = torch.randint(3, (3, 4)), torch.tensor([4, 2, 0])
    _, w = net.run(y, lengths)
    torch.manual_seed(6)
    drawn = net.sample(3, max_length=100, state=w)
    whole = [torch.cat([y[b, : lengths[b]], drawn.y[b, : drawn.lengths[b]]]) for b in range(3)]
    beginning = net.log_prob_steps(y, lengths)[:, :4] * (torch.arange(4) < lengths[:, None])
    for b in range(3):
        torch.testing.assert_close(net.log_prob(whole[b][None])[0], beginning[b].sum() + drawn.log_prob[b], rtol=1e-12, atol=1e-12)


CLOCKED = {
    "recurrent": lambda: cells.Clockwork(4, UNITS, periods=(1, 2, 3)),
    "layers": lambda: Layers([cells.Clockwork(4, UNITS, periods=(1, 2, 3)), cells.GRU(UNITS, UNITS)]),
    "attending": lambda: Attending(cells.Clockwork(4 + UNITS, UNITS, periods=(1, 2, 3)), General(UNITS, 3)),
    "attending at once": lambda: Attending(cells.Clockwork(4, UNITS, periods=(1, 2, 3)), General(UNITS, 3), feeding=False),
}


@pytest.mark.parametrize("make", CLOCKED)
def test_a_clock_goes_on_where_a_sequence_was_cut_and_step_by_step(make):
    torch.manual_seed(10)
    network = CLOCKED[make]()
    net = Autoregressive(network, Categorical(UNITS, 3), nn.Embedding(3, 4), ending="given").double()
    context = network.memory(torch.randn(2, 4, 3).double(), [4, 2]) if isinstance(network, Attending) else None
    y = torch.randint(3, (2, 9))
    whole = net.log_prob_steps(y, context=context)
    for cut in (1, 4):
        _, w = net.run(y[:, :cut], context=context)
        rest = net.log_prob_steps(y[:, cut:], context=context, state=w)
        torch.testing.assert_close(rest, whole[:, cut:], rtol=1e-12, atol=1e-13)
        forced = net.forced(y[:, cut:], torch.ones(2, 9 - cut), context=context, state=w)
        torch.testing.assert_close(forced, whole[:, cut:], rtol=1e-12, atol=1e-13)
        for t in range(cut, 9):
            w, o = net.step(w, context=context)
            torch.testing.assert_close(net.output.log_prob(o, y[:, t]), whole[:, t], rtol=1e-12, atol=1e-13)
            w = net.write(w, y[:, t])
    _, w = net.run(y[:, :3], [3, 2], context=context)
    with pytest.raises(ShapeError, match=r"repeats every 6 steps, and the rows have come to different places, \[3, 2\]"):
        net.step(w, context=context)


def test_a_length_that_came_first_counts_once():
    net = writer("length", longest=6)
    with torch.no_grad():
        net.ending.c.normal_()
    y, lengths = torch.randint(3, (2, 5)), torch.tensor([5, 4])
    begun, of_length = net.begin(2, lengths)
    steps = [net.log_prob_steps(y[:, :2], state=begun)]
    _, w = net.run(y[:, :2], state=begun)
    steps.append(net.log_prob_steps(y[:, 2:], lengths - 2, state=w))
    torch.testing.assert_close(of_length + sum(part.sum(1) for part in steps), net.log_prob(y, lengths), rtol=1e-12, atol=1e-12)
    written = greedy(net, 2, state=w)
    torch.testing.assert_close(net.log_prob(written.y, written.lengths, state=w), written.log_prob, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context_as", ["input", "state", "both"])
def test_layers_take_a_context_as_a_stack_of_the_same_cells_does(context_as):
    torch.manual_seed(11)
    cell = cells.LSTM(4 + 3 * (context_as != "state"), 5), cells.GRU(5, UNITS)
    how = {"context": 3, "context_as": context_as}
    layers = Autoregressive(Layers(cell), Categorical(UNITS, 3), nn.Embedding(3, 4), **how).double()
    stack = Autoregressive(wrap.Stack(*copy.deepcopy(cell)), Categorical(UNITS, 3), nn.Embedding(3, 4), **how).double()
    for name in ("output", "reader", "bridge"):
        if getattr(layers, name) is not None:
            getattr(stack, name).load_state_dict(getattr(layers, name).state_dict())
    y, context = torch.randint(2, (2, 5)), torch.randn(2, 3).double()
    torch.testing.assert_close(layers.log_prob(y, context=context), stack.log_prob(y, context=context), rtol=1e-12, atol=1e-12)
    drawn = layers.sample(2, 50, context=context)
    torch.testing.assert_close(layers.log_prob(drawn.y, drawn.lengths, context=context), drawn.log_prob, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("context_as", ["input", "state", "both"])
def test_a_context_comes_in_as_input_as_first_state_or_both(context_as):
    net = writer("symbol", cell=cells.LSTM, context=3, context_as=context_as)
    context = torch.randn(4, 3).double().requires_grad_()
    y = torch.randint(2, (4, 5))
    log_p = net.log_prob(y, context=context)
    (gradient,) = torch.autograd.grad(log_p.sum(), context)
    assert (gradient.abs().sum(1) > 0).all()
    drawn = net.sample(4, context=context.detach(), max_length=100)
    torch.testing.assert_close(net.log_prob(drawn.y, drawn.lengths, context=context), drawn.log_prob, rtol=1e-12, atol=1e-12)
    with pytest.raises(ShapeError, match=r"expects a context of \[4, 3\], got NoneType"):
        net.log_prob(y)
    if context_as == "state":  # by hand: the context as first state, and nowhere else
        inner = net.bridge(context)
        bare = writer("symbol", cell=cells.LSTM)
        bare.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("bridge")})
        torch.testing.assert_close(bare.log_prob(y, state=inner), log_p, rtol=1e-12, atol=0)


def test_the_time_index_makes_the_process_depend_on_time_and_warns_beyond_training():
    net = writer("given", time_index=10.0).train()
    y = torch.zeros(1, 6, dtype=torch.long)
    with torch.no_grad():
        net.start.copy_(net.reader.weight[0])
        for p in net.network.cell.W.parameters():
            p.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = net.log_prob_steps(y)[0, :6]
        net.eval()
        net.log_prob_steps(y)
    assert len(set(steps.tolist())) == 6
    with pytest.warns(UserWarning, match="beyond the 6 steps that training saw") as found:
        net.sample(1, 12)
    assert len({str(one.message) for one in found}) == 1  # which is shown once, not once for each number of steps


def test_output_to_hidden_is_trained_at_once_and_is_the_book_s_recurrence():
    """[Goodfellow et al. 2016, figure 10.4]: h(t) depends on the past through y(t-1) alone."""
    torch.manual_seed(7)
    net = Autoregressive(OutputToHidden(4 + 2, UNITS), Categorical(UNITS, 3), nn.Embedding(3, 4), inputs=2, ending="given").double()
    y, x = torch.randint(3, (2, 5)), torch.randn(2, 5, 2).double()
    steps = net.log_prob_steps(y, x=x)
    for b, t in itertools.product(range(2), range(5)):
        before = net.start if t == 0 else net.reader(y[b, t - 1])
        h = net.network.hidden(torch.cat([before, x[b, t]])).tanh()
        torch.testing.assert_close(steps[b, t], net.output.log_prob(h, y[b, t]), rtol=1e-12, atol=0)
    drawn = net.sample(2, x=x)
    torch.testing.assert_close(net.log_prob(drawn.y, x=x), drawn.log_prob, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", ["gru", "stack", "layers", "attending", "attending at once", "output to hidden"])
@pytest.mark.parametrize("feed", ["sample", "mode", "expected"])
@pytest.mark.parametrize("ending", ["symbol", "length"])
def test_teacher_forcing_through_the_closed_loop_is_teacher_forcing_at_once(make, feed, ending):
    net, context = closed(make, ending)
    y, lengths = torch.randint(2, (3, 5)), torch.tensor([3, 5, 0])
    at_once = net.log_prob_steps(y, lengths, context=context)
    forced = net.forced(y, torch.ones(3, 5), lengths, context=context, feed=feed)
    torch.testing.assert_close(forced, at_once, rtol=1e-12, atol=1e-13)


def closed(make, ending="symbol"):
    torch.manual_seed(8)
    size, memory = 4 + 2 * (ending == "length"), None
    network = {
        "gru": lambda: cells.GRU(size, UNITS),
        "stack": lambda: wrap.Stack(cells.LSTM(size, 5), cells.GRU(5, UNITS)),
        "layers": lambda: Layers([cells.LSTM(size, 5), cells.GRU(5, UNITS)]),
        "attending": lambda: Attending(cells.GRU(size + UNITS, UNITS), General(UNITS, 3)),
        "attending at once": lambda: Attending(cells.GRU(size, UNITS), General(UNITS, 3), feeding=False),
        "output to hidden": lambda: OutputToHidden(size, UNITS),
    }[make]()
    net = Autoregressive(network, Categorical(UNITS, 3), nn.Embedding(3, 4), ending=ending, longest=5).double()
    if isinstance(network, Attending):
        memory = network.memory(torch.randn(3, 4, 3).double(), [4, 1, 2])
    return net, memory


@pytest.mark.parametrize("make", ["gru", "layers", "attending", "attending at once", "output to hidden"])
@pytest.mark.parametrize("feed", ["mode", "expected"])
def test_open_loop_is_the_network_reading_what_it_wrote(make, feed):
    net, context = closed(make)
    y = torch.randint(2, (3, 5))
    w, _ = net.begin(3, context=context)
    vector, expected = net.start.expand(3, -1), []
    inner = w.inner
    for _ in range(6):
        inner, o = net.network.step(inner, vector, context=context)
        expected.append(net.output.log_probs(o))
        vector = net.reader(net.output.mode(o)) if feed == "mode" else net.output.expected(o) @ net.reader.weight
    log_p = net.forced(y, torch.zeros(3, 5), context=context, feed=feed)
    what = torch.cat([y, torch.full((3, 1), net.end)], 1)
    torch.testing.assert_close(log_p, torch.stack(expected, 1).gather(2, what[..., None]).squeeze(2), rtol=1e-12, atol=1e-13)


def test_gradients_pass_through_what_is_fed_back_unless_cut():
    torch.manual_seed(9)
    net = Autoregressive(cells.GRU(2, UNITS), Gaussian(UNITS, 2), ending="given").double()
    y, coins = torch.randn(2, 4, 2).double(), torch.zeros(2, 4)

    def gradient(**how):
        last = net.forced(y, coins, feed="expected", **how)[:, 3].sum()
        return torch.autograd.grad(last, net.output.V.weight)[0]

    whole, cut = gradient(), gradient(cut=True)
    assert (whole - cut).abs().max() > 1e-4
    torch.testing.assert_close(net.forced(y, coins, feed="expected"), net.forced(y, coins, feed="expected", cut=True))


@pytest.mark.parametrize("ending", ["symbol", "halting"])
def test_the_coins_of_padding_do_not_matter(ending):
    net, _ = closed("gru", ending)
    y, lengths, coins = torch.randint(2, (3, 5)), torch.tensor([3, 5, 0]), torch.rand(3, 5).round()
    once = net.forced(y, coins, lengths, feed="expected")
    flipped = torch.where(torch.arange(5) < lengths[:, None], coins, 1 - coins)
    assert torch.equal(net.forced(y, flipped, lengths, feed="expected"), once)
    alone = net.forced(y[:1, :3], coins[:1, :3], feed="expected")
    torch.testing.assert_close(once[:1, :4], alone, rtol=1e-12, atol=1e-13)


def test_scheduled_coins_choose_step_by_step_and_row_by_row():
    net, _ = closed("gru")
    y, coins = torch.randint(2, (3, 5)), torch.tensor([[1.0, 1, 0, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    steps = net.forced(y, coins, feed="mode")
    w, _ = net.begin(3)
    inner, vector = w.inner, net.start.expand(3, -1)
    for t in range(6):
        inner, o = net.network.step(inner, vector)
        what = y[:, t] if t < 5 else torch.full((3,), net.end)
        torch.testing.assert_close(steps[:, t], net.output.log_prob(o, what), rtol=1e-12, atol=1e-13)
        if t < 5:
            coin = coins[:, t + 1] if t < 4 else coins[:, 4]
            vector = net.reader(torch.where(coin > 0, y[:, t], net.output.mode(o)))


def test_a_first_state_can_be_made_from_a_vector_for_any_cell():
    state = Bridge(3, wrap.Stack(cells.LSTM(2, 5), cells.GRU(5, 4)))(torch.randn(7, 3))
    assert state[0].h.shape == state[0].c.shape == (7, 5)
    assert state[1].shape == (7, 4)


@pytest.mark.parametrize("make", ["gru", "attending", "attending at once"])
def test_saved_and_loaded_and_copied_it_is_the_same(make):
    net, context = closed(make)
    y = torch.randint(2, (3, 5))
    expected = net.log_prob(y, context=context)
    other, _ = closed(make)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert len(net.state_dict()) == len(list(net.parameters()))  # nothing is held twice, nothing but what is learned
    other.load_state_dict(net.state_dict())
    for same in (other, copy.deepcopy(net)):
        assert torch.equal(same.log_prob(y, context=context), expected)


def test_an_empty_batch_and_empty_sequences_are_no_special_case():
    net = writer("symbol")
    assert net.log_prob(torch.zeros(0, 4, dtype=torch.long)).shape == (0,)
    nothing = net.log_prob(torch.zeros(2, 0, dtype=torch.long))
    torch.testing.assert_close(nothing, net.log_prob(torch.zeros(2, 3, dtype=torch.long), [0, 0]))
    forced = net.forced(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0))
    torch.testing.assert_close(forced.sum(1), nothing)


def test_wrong_sizes_are_told_with_what_the_network_is_given():
    with pytest.raises(ShapeError, match=r"takes 5 inputs, but is given 6: 4 of y\(t-1\), 2 of x\(t\)"):
        Autoregressive(cells.GRU(5, UNITS), Categorical(UNITS, 3), nn.Embedding(3, 4), inputs=2)
    with pytest.raises(ShapeError, match="puts out 5 numbers, Categorical expects 6"):
        Autoregressive(cells.GRU(4, 5), Categorical(UNITS, 3), nn.Embedding(3, 4))
    with pytest.raises(ShapeError, match=r"Symbols are 0\.\.2; sequence 1 has 7 at step 2"):
        writer("halting").log_prob(torch.tensor([[0, 1], [0, 7]]))
    for output, value, said in [
        (BernoulliVector(5, 1), 2.0, r"Elements are 0 or 1; sequence 0 has \[2\.0\] at step 1"),
        (NADE(5, 1, units=3), 0.5, r"Elements are 0 or 1; sequence 0 has \[0\.5\] at step 1"),
        (NegativeBinomial(5, 1), 1.5, r"Counts are whole numbers from 0; sequence 0 has \[1\.5\]"),
    ]:
        net = Autoregressive(cells.GRU(1, 5), output, ending="given")
        with pytest.raises(ShapeError, match=said):
            net.log_prob(torch.full((1, 2, 1), value))
        assert net.log_prob(torch.tensor([[[1.0], [value]]]), [1]).isfinite().all()  # nothing past a length matters
    with pytest.raises(ShapeError, match="its context is a Memory"):
        closed("attending")[0].log_prob(torch.tensor([[0, 1]]))
    with pytest.raises(ShapeError, match=r"a coin for each step, \[1, 2\]"):
        writer("halting").forced(torch.tensor([[0, 1]]), torch.ones(1, 3))
    twice = Recurrent(cells.GRU(4, UNITS), skips=(2,))
    with pytest.raises(ShapeError, match=r"a network of skips=\(2,\) is trained by log_prob"):
        Autoregressive(twice, Categorical(UNITS, 3), nn.Embedding(3, 4)).forced(torch.tensor([[0, 1]]), torch.ones(1, 2))
    with pytest.raises(SettingsError, match="OutputToHidden has no state to make of a context"):
        Autoregressive(OutputToHidden(4, UNITS), Categorical(UNITS, 3), nn.Embedding(3, 4), context=3, context_as="state")
    attends = Attending(cells.GRU(4, UNITS), General(UNITS, 3), feeding=False)
    with pytest.raises(SettingsError, match="is its Memory; leave context= out"):
        Autoregressive(attends, Categorical(UNITS, 3), nn.Embedding(3, 4), context=3)
    with pytest.raises(SettingsError, match="reader=nn"):
        Autoregressive(cells.GRU(4, UNITS), Categorical(UNITS, 3))
    with pytest.raises(ShapeError, match="Sequence 1 has the end symbol 2 within its length"):
        writer("symbol").log_prob(torch.tensor([[0, 1], [2, 0]]))
    with pytest.raises(SettingsError, match='"symbol", "halting", "length" or "given", got \'eos\''):
        writer("eos")


def test_feedback_represents_outputs_that_belong_together_as_no_feedback_can():
    """x says nothing, y is all zeros or all ones. Each y(t) on its own costs ln 2; given those before, only the first does.
    [Goodfellow et al. 2016, 10.2.4, figure 10.10: conditional independence of the outputs given x, and how feedback removes it]"""
    torch.manual_seed(0)
    y, x = torch.tensor([[0] * 6, [1] * 6]), torch.zeros(2, 6, 1)

    def learned(feedback):
        reader = nn.Embedding(2, 2) if feedback else Blind()
        net = Autoregressive(cells.Elman(3, UNITS), Categorical(UNITS, 2), reader, inputs=1, ending="given")
        optimiser = torch.optim.Adam(net.parameters(), 0.05)
        for _ in range(120):
            optimiser.zero_grad()
            loss = -net.log_prob(y, x=x).mean()
            loss.backward()
            optimiser.step()
        return loss.item()

    assert learned(feedback=False) > 6 * math.log(2) - 1e-3  # no network without feedback does better
    assert learned(feedback=True) < math.log(2) + 0.1


class Blind(nn.Module):
    """The reader of a network without feedback: it sees nothing of y."""

    def forward(self, y):
        return torch.zeros(*y.shape, 2)
