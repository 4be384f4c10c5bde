"""Attention against the papers' equations written out, and its laws: no padding, one by one, step by step."""

import itertools
import math

import pytest
import torch
from torch import nn

from wavefront import Bidirectional, cells, wrap
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative import Autoregressive, Categorical, Copying, beam_search
from wavefront.networks import (
    Additive,
    Attending,
    AttentionPooled,
    Bridge,
    Dot,
    Encoder,
    EncoderDecoder,
    General,
    LastStep,
    Memory,
    Monotonic,
    Pooled,
    Recurrent,
    coverage_loss,
)

ATTENTIONS = {
    "additive": lambda: Additive(6, 6, 4),
    "location": lambda: Additive(6, 6, 4, location=(3, 3)),
    "coverage": lambda: Additive(6, 6, 4, coverage=True),
    "dot": lambda: Dot(6, 6),
    "general": lambda: General(6, 6),
    "monotonic": lambda: Monotonic(Additive(6, 6, 4)),
    "monotonic, hard": lambda: Monotonic(General(6, 6), hard=True),
}
LENGTHS = [5, 1, 3, 0]
WAYS = [("after", True), ("after", False), ("before", False)]


def make(name, asks="after", feeding=True, cell=cells.LSTM, seed=0):
    torch.manual_seed(seed)
    net = Attending(cell(3 + 6 * (asks == "before" or feeding), 6), ATTENTIONS[name](), asks=asks, feeding=feeding).double()
    values = torch.randn(4, 5, 6).double() * 2
    return net, values, torch.randn(4, 7, 3).double()


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize(("asks", "feeding"), WAYS)
def test_padding_and_batch_mates_do_not_matter(name, asks, feeding):
    net, values, x = make(name, asks, feeding)
    steps = [7, 7, 4, 2]
    wild = values.clone()
    for row, n in enumerate(LENGTHS):
        wild[row, n:] = float("nan")
    wild.requires_grad_()
    o, _ = net(x, lengths=steps, context=net.memory(wild, LENGTHS))
    (gradient,) = torch.autograd.grad(o.sum(), wild)
    for row, (places, n) in enumerate(zip(LENGTHS, steps)):
        assert (gradient[row, places:] == 0).all()
        assert (o[row, n:] == 0).all()
        if places:
            alone, _ = net(x[row : row + 1, :n], context=net.memory(values[row : row + 1, :places]))
            torch.testing.assert_close(o[row, :n], alone[0], rtol=1e-12, atol=1e-13)
    assert o.isfinite().all()


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize(("asks", "feeding"), WAYS)
def test_step_by_step_is_at_once_and_a_cut_is_the_whole(name, asks, feeding):
    net, values, x = make(name, asks, feeding)
    memory = net.memory(values, LENGTHS)
    whole, _ = net(x, context=memory)
    state, outputs = None, []
    for t in range(7):
        state, o = net.step(state, x[:, t], context=memory)
        outputs.append(o)
    torch.testing.assert_close(torch.stack(outputs, 1), whole, rtol=1e-12, atol=1e-13)
    first, state = net(x[:, :3], context=memory)
    second, _ = net(x[:, 3:], state, context=memory)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_weights_sum_to_one_over_what_is_there(name):
    net, values, x = make(name)
    memory = net.memory(values, LENGTHS)
    a = net.alignments(x, context=memory)
    assert (a * ~memory.mask[:, None] == 0).all()
    total = a.sum(-1)
    assert (total[3] == 0).all()
    if "monotonic" in name:  # it may run off the end
        assert (total <= 1 + 1e-12).all()
    else:
        torch.testing.assert_close(total[:3], torch.ones(3, 7).double())


def test_states_that_do_not_depend_on_where_it_looks_are_run_at_once_and_come_out_the_same():
    fast, values, x = make("general", feeding=False)
    slow = Attending(fast.cell, fast.attention, feeding=False, record=True).double()
    slow.V = fast.V
    assert fast.at_once
    assert not slow.at_once
    memory = fast.memory(values, LENGTHS)
    torch.testing.assert_close(fast(x, context=memory)[0], slow(x, context=memory)[0], rtol=1e-12, atol=1e-13)


def test_additive_is_bahdanau_s_equation_with_location_and_coverage():
    torch.manual_seed(1)
    attention = Additive(3, 2, 4, location=(2, 3), coverage=True).double()
    q, values = torch.randn(3).double(), torch.randn(5, 2).double()
    last, total = torch.rand(2, 5).double()
    memory = Memory(values[None], attention.keys(values[None]), torch.ones(1, 5, dtype=torch.bool), torch.full((1, 5), -1))
    past = type(attention.start(memory))(last[None], total[None])
    padded = torch.cat([torch.zeros(1), last, torch.zeros(1)]).double()
    scores = []
    for i in range(5):
        f = attention.location.weight[:, 0] @ padded[i : i + 3]
        hidden = attention.W(q) + attention.U.weight @ values[i] + attention.F.weight @ f + attention.coverage.weight[:, 0] * total[i]
        scores.append(attention.v.weight[0] @ hidden.tanh())
    expected = torch.stack(scores).softmax(0)
    torch.testing.assert_close(attention.weights(q[None, None], memory, past)[0, 0], expected, rtol=1e-12, atol=0)


def test_dot_and_general_are_luong_s():
    torch.manual_seed(2)
    q, values = torch.randn(4).double(), torch.randn(3, 4).double()
    for attention, scores in ((Dot(4, 4).double(), values @ q / 2), (Dot(4, 4, scaled=False).double(), values @ q)):
        memory = Memory(values[None], attention.keys(values[None]), torch.ones(1, 3, dtype=torch.bool), torch.full((1, 3), -1))
        torch.testing.assert_close(attention.weights(q[None, None], memory)[0, 0], scores.softmax(0))
    attention = General(4, 4).double()
    memory = Memory(values[None], attention.keys(values[None]), torch.ones(1, 3, dtype=torch.bool), torch.full((1, 3), -1))
    torch.testing.assert_close(attention.weights(q[None, None], memory)[0, 0], (values @ attention.W.weight.T @ q).softmax(0))


def test_monotonic_is_the_expectation_over_all_ways_of_moving_forward():
    """Brute force: from where it was, at each place stop or go on."""
    torch.manual_seed(3)
    S = 5
    attention = Monotonic(General(3, 3)).double()
    values, queries = torch.randn(S, 3).double(), torch.randn(3, 3).double()
    memory = Memory(values[None], attention.keys(values[None]), torch.ones(1, S, dtype=torch.bool), torch.full((1, S), -1))
    past, before = attention.start(memory), {0: 1.0}
    for q in queries:
        p = attention.scores(q[None, None], memory)[0, 0].sigmoid().tolist()
        after = dict.fromkeys(range(S), 0.0)
        for j, mass in before.items():
            for i in range(j, S):
                after[i] += mass * p[i] * math.prod(1 - p[k] for k in range(j, i))
        a = attention.weights(q[None, None], memory, past)[:, 0]
        assert a[0].tolist() == pytest.approx([after[i] for i in range(S)], rel=1e-12)
        past, before = type(past)(a, past.total + a), after


def test_hard_monotonic_attention_stops_at_the_first_place_that_says_so():
    attention = Monotonic(Dot(1, 1, scaled=False), hard=True).double()
    with torch.no_grad():
        attention.r.zero_()
    values = torch.tensor([[-1.0], [1.0], [-1.0], [2.0]]).double()
    memory = Memory(values[None], values[None], torch.ones(1, 4, dtype=torch.bool), torch.full((1, 4), -1))
    past = attention.start(memory)
    where = []
    for q in (1.0, 1.0, -1.0, -1.0, 1.0):  # with q = -1 the first and third places stop
        a = attention.weights(torch.tensor([[[q]]]).double(), memory, past)[:, 0]
        where.append(a[0].argmax().item() if a.sum() > 0 else None)
        past = type(past)(a, past.total + a)
    assert where == [1, 1, 2, 2, 3]


def test_the_coverage_loss_is_what_is_looked_at_again():
    a = torch.tensor([[[0.7, 0.3], [0.4, 0.6]]])
    assert coverage_loss(a).item() == pytest.approx(0.4 + 0.3)
    assert coverage_loss(torch.eye(3)[None]).item() == 0


def pairs(summary=None, attends=True, cell=cells.GRU, copying=False):
    torch.manual_seed(4)
    encoder = Encoder(5, 3, layers=2, cell=cell)
    output = Copying(8, 4, memory=6) if copying else Categorical(8, 4)
    summaries = {"last": LastStep(forward=3), "pooled": Pooled(), "learned": AttentionPooled(6, 4)}
    if attends:
        network = Attending(cell(4 + 8, 8), Additive(8, 6, 4))
        decoder = Autoregressive(network, output, nn.Embedding(4, 4))
        bridge = Bridge(6, network.cell) if summary else None
    else:
        decoder = Autoregressive(cell(4 + 6, 8), output, nn.Embedding(4, 4), context=6, context_as="both")
        bridge = None
    return EncoderDecoder(encoder, decoder, nn.Embedding(9, 5), summaries.get(summary), bridge).double()


@pytest.mark.parametrize("summary", [None, "last", "pooled", "learned"])
@pytest.mark.parametrize("attends", [True, False])
@pytest.mark.parametrize("cell", [cells.GRU, cells.LSTM])
def test_pairs_in_a_batch_are_scored_as_each_alone(summary, attends, cell):
    if not attends and summary is None:
        with pytest.raises(SettingsError, match="needs the source in one vector"):
            pairs(summary, attends)
        return
    net = pairs(summary, attends, cell)
    x, lengths = torch.randint(9, (4, 6)), torch.tensor([6, 2, 4, 1])
    y, y_lengths = torch.randint(3, (4, 5)), torch.tensor([0, 5, 2, 3])
    together = net.log_prob(x, y, lengths, y_lengths)
    for row in range(4):
        n, m = int(lengths[row]), int(y_lengths[row])
        alone = net.log_prob(x[row : row + 1, :n], y[row : row + 1, :m])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=0)
    together.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.encoder.parameters())


@pytest.mark.parametrize("copying", [False, True])
def test_the_targets_of_a_source_sum_to_one_and_a_wide_beam_finds_the_best(copying):
    net = pairs("last", copying=copying)
    x, symbols = torch.tensor([[1, 2, 3]]), torch.tensor([[0, -1, 2]])
    with torch.no_grad():
        net.decoder.output.V.bias[3] = 4.0  # the end is likely
    sequences = [s for n in range(6) for s in itertools.product(range(3), repeat=n)]
    y = torch.tensor([[*s, *[0] * (5 - len(s))] for s in sequences])
    lengths = torch.tensor([len(s) for s in sequences])
    many = len(sequences)
    steps = net.log_prob_steps(x.expand(many, -1), y, None, lengths, symbols.expand(many, -1))
    going_on = (steps[lengths == 5, :5].sum(1).exp() * (1 - steps[lengths == 5, 5].exp())).sum()
    assert abs((steps.sum(1).exp().sum() + going_on).item() - 1) < 1e-12
    encoded = net.encode(x, symbols=symbols)
    (found,) = beam_search(net.decoder, 1, num_beams=many, n_best=3, max_length=5, **encoded._asdict())
    best = steps.sum(1).argsort(descending=True)[:3]
    assert [h.symbols for h in found] == [list(sequences[i]) for i in best.tolist()]


def test_copying_gives_what_stands_in_the_source_its_weight_and_nothing_where_there_is_none():
    torch.manual_seed(5)
    output = Copying(3, 5, memory=2).double()
    values, o = torch.randn(2, 4, 2).double(), torch.randn(2, 3, 3).double()
    symbols = torch.tensor([[1, 3, 1, -1], [-1, -1, -1, -1]])
    memory = Memory(values, values, torch.ones(2, 4, dtype=torch.bool), symbols)
    p = output.given(memory).log_probs(o).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 3).double())
    for t in range(3):
        g, a = output.w(o[0, t]).sigmoid(), (values[0, :3] @ output.U(o[0, t])).softmax(0)
        expected = g * output.V(o[0, t]).softmax(0) + (1 - g) * torch.stack([a[0] * 0, a[0] + a[2], a[0] * 0, a[1], a[0] * 0])
        torch.testing.assert_close(p[0, t], expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(p[1], output.V(o[1]).softmax(-1))
    with pytest.raises(SettingsError, match="from a Memory"):
        output.given(None)


def test_alignments_are_those_of_the_scores():
    net = pairs("last")
    x, y = torch.randint(9, (2, 6)), torch.randint(3, (2, 4))
    a = net.alignments(x, y, [6, 3], [4, 2])
    assert a.shape == (2, 5, 6)
    torch.testing.assert_close(a.sum(-1)[0], torch.ones(5).double())
    assert (a[1, 3:] == 0).all()
    assert (a[1, :, 3:] == 0).all()
    steps, same = net.decoder.aligned(y, [4, 2], **net.encode(x, [6, 3])._asdict())
    torch.testing.assert_close(steps, net.log_prob_steps(x, y, [6, 3], [4, 2]))
    torch.testing.assert_close(same, a)


def test_any_encoder_and_any_cell_goes():
    torch.manual_seed(6)
    stack = wrap.Stack(cells.LSTM(4 + 8, 5), cells.GRU(5, 8))
    network = Attending(stack, General(8, 7))
    for encoder in (Recurrent(cells.Elman(5, 7)), Bidirectional(cells.GRU(5, 3), cells.LSTM(5, 4))):
        net = EncoderDecoder(
            encoder, Autoregressive(network, Categorical(8, 4), nn.Embedding(4, 4)), nn.Embedding(9, 5), Pooled(), Bridge(7, stack)
        )
        assert net.log_prob(torch.randint(9, (2, 6)), torch.randint(3, (2, 4)), lengths=[3, 6]).isfinite().all()


def test_wrong_sizes_are_told():
    with pytest.raises(ShapeError, match="the attention expects 5"):
        Attending(cells.GRU(10, 6), General(5, 4))
    with pytest.raises(ShapeError, match=r"values of \[B, S, 4\], got \[2, 3, 5\]"):
        Attending(cells.GRU(10, 6), General(6, 4)).memory(torch.zeros(2, 3, 5))
    with pytest.raises(SettingsError, match="odd width"):
        Additive(3, 3, 3, location=(2, 4))
    with pytest.raises(ShapeError, match="wants a Memory as context"):
        Attending(cells.GRU(10, 6), General(6, 4))(torch.zeros(2, 3, 4))


@pytest.mark.learning
def test_attention_learns_to_reverse_what_it_never_saw():
    torch.manual_seed(0)
    attend = Attending(cells.GRU(16 + 32, 32), Additive(32, 48, 32))
    net = EncoderDecoder(
        Bidirectional(cells.GRU(16, 24), cells.GRU(16, 24)),
        Autoregressive(attend, Categorical(32, 9), nn.Embedding(9, 16)),
        nn.Embedding(8, 16),
        LastStep(forward=24),
        Bridge(48, attend.cell),
    )
    optimiser = torch.optim.Adam(net.parameters(), 4e-3)

    def batch(rows):
        lengths = torch.randint(1, 9, (rows,))
        x = torch.randint(8, (rows, 8))
        at = (lengths[:, None] - 1 - torch.arange(8)).clamp(min=0)
        return x, x.gather(1, at), lengths

    for _ in range(500):
        x, y, lengths = batch(32)
        optimiser.zero_grad()
        (-net.log_prob(x, y, lengths, lengths).mean()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    x, y, lengths = batch(200)
    found = beam_search(net.decoder, 200, num_beams=3, max_length=10, **net.encode(x, lengths)._asdict())
    right = sum(h.symbols == y[row, : lengths[row]].tolist() for row, (h,) in enumerate(found))
    assert right >= 180
