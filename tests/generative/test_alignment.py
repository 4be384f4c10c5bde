"""CTC and the transducer against the sum over every alignment, written out."""

import itertools
import math

import pytest
import torch
from torch import nn

from wavefront import cells
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative import CTC, Transducer


def sequences(symbols, longest):
    return [s for n in range(longest + 1) for s in itertools.product(range(symbols), repeat=n)]


def padded(many):
    lengths = torch.tensor([len(s) for s in many])
    y = torch.zeros(len(many), max(map(len, many)), dtype=torch.long)
    for row, s in enumerate(many):
        y[row, : len(s)] = torch.tensor(s, dtype=torch.long)
    return y, lengths


def ctc(symbols=2, seed=0):
    torch.manual_seed(seed)
    return CTC(3, symbols).double(), torch.randn(2, 4, 3).double() * 2


def every_path(log_p, blank):
    """The probability of each sequence, path by path."""
    found = {}
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        y = tuple(s for s, _ in itertools.groupby(path) if s != blank)
        found[y] = found.get(y, 0.0) + math.exp(sum(log_p[t, s].item() for t, s in enumerate(path)))
    return found


def test_ctc_is_the_sum_over_all_paths_and_sums_to_one_over_all_sequences():
    net, o = ctc()
    expected = every_path(net(o)[0], net.blank)
    assert sum(expected.values()) == pytest.approx(1, rel=1e-12)
    y, lengths = padded(list(expected))
    log_p = net.log_prob(o[:1].expand(len(y), -1, -1), y, y_lengths=lengths)
    assert log_p.exp().tolist() == pytest.approx(list(expected.values()), rel=1e-10)


def test_ctc_gradients_are_those_of_the_sum_over_paths():
    net, o = ctc()
    o = o[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(net.log_prob(o, torch.tensor([[0, 0, 1]])).sum(), o)
    paths = [p for p in itertools.product(range(3), repeat=4) if CTC.collapse(p, net.blank) == [0, 0, 1]]
    log_p = net(o)[0]
    total = torch.stack([sum(log_p[t, s] for t, s in enumerate(p)) for p in paths]).logsumexp(0)
    torch.testing.assert_close(gradient, torch.autograd.grad(total, o)[0], rtol=1e-9, atol=1e-12)


def test_ctc_never_looks_at_padding():
    net, o = ctc()
    y = torch.tensor([[0, 1], [1, 5]])
    together = net.log_prob(o, y, [4, 2], [2, 1])
    torch.testing.assert_close(together[1], net.log_prob(o[1:, :2], y[1:, :1])[0], rtol=1e-12, atol=0)
    assert net.log_prob(o, y, [4, 0], [2, 0])[1].item() == 0
    empty = net.log_prob(o, torch.zeros(2, 0, dtype=torch.long))
    torch.testing.assert_close(empty, net(o)[..., net.blank].sum(1))


def test_ctc_says_which_target_is_too_long_to_align():
    net, o = ctc()
    with pytest.raises(ShapeError, match="Sequence 1: 3 symbols need 5 steps, repeats counted; there are 4"):
        net.log_prob(o, torch.tensor([[0, 1, 0], [0, 0, 0]]))
    with pytest.raises(ShapeError, match=r"writes symbols 0\.\.1, got 0\.\.2"):
        net.log_prob(o, torch.tensor([[0, 1], [0, 2]]))


def test_ctc_greedy_is_the_best_path_collapsed():
    net, o = ctc(symbols=3)
    best = net(o).argmax(-1)
    expected = [[s for s, _ in itertools.groupby(row[:n].tolist()) if s != net.blank] for row, n in zip(best, (4, 3))]
    assert net.greedy(o, [4, 3]) == expected


@pytest.mark.parametrize("seed", range(4))
def test_ctc_beam_search_wide_enough_finds_the_best_with_its_exact_probability(seed):
    net, o = ctc(symbols=3, seed=seed)
    found = net.beam_search(o, [4, 3], num_beams=300, n_best=10)
    for row, n in enumerate((4, 3)):
        expected = sorted(every_path(net(o)[row, :n], net.blank).items(), key=lambda item: -item[1])[:10]
        for h, (y, p) in zip(found[row], expected, strict=True):
            assert tuple(h.symbols) == y
            assert h.score == pytest.approx(math.log(p), rel=1e-9)
            assert h.log_prob == pytest.approx(math.log(p), rel=1e-9)
    narrow = net.beam_search(o, num_beams=2, symbols_per_step=2)
    for row, (h,) in enumerate(narrow):
        exact = net.log_prob(o[row : row + 1], torch.tensor([h.symbols], dtype=torch.long)).item()
        assert h.log_prob == pytest.approx(exact, rel=1e-12)
        assert h.score <= h.log_prob + 1e-9
    with pytest.raises(SettingsError, match="n_best <= num_beams"):
        net.beam_search(o, num_beams=2, n_best=3)


def test_ctc_alignments_are_the_shares_of_all_paths():
    net, o = ctc()
    y, lengths = padded([(0, 0), (1,)])
    found = net.alignments(o, y, [4, 3], lengths)
    for row, steps in enumerate([4, 3]):
        target, log_p = y[row, : lengths[row]].tolist(), net(o)[row, :steps]
        total, share = 0.0, torch.zeros(2, 4).double()
        for path in itertools.product(range(3), repeat=steps):
            if CTC.collapse(path, net.blank) == target:
                p = math.exp(sum(log_p[t, s].item() for t, s in enumerate(path)))
                total, written = total + p, -1
                for t, s in enumerate(path):
                    written += s != net.blank and (t == 0 or path[t - 1] != s)
                    if s != net.blank:
                        share[written, t] += p
        assert torch.allclose(found[row], share / total, atol=1e-12)
    assert not found.requires_grad


def transducer(seed=0, blank=0.0):
    torch.manual_seed(seed)
    net = Transducer(3, 2, cells.LSTM(4, 5), nn.Embedding(2, 4), units=6).double()
    with torch.no_grad():
        net.V.weight.mul_(3)
        net.V.bias[net.blank] += blank
    return net, torch.randn(2, 3, 3).double() * 2


def walk(net, h, y):
    """p(y | h), path by path: at each point of the lattice the next symbol, or on to the next step."""

    def predicted(u):
        state, g = None, None
        for vector in (net.start, *net.reader(torch.tensor(y[:u], dtype=torch.long))):
            state, g = net.predictor.step(state, vector[None])
        return g[0]

    def onward(t, u):
        if t == len(h):
            return 1.0 if u == len(y) else 0.0
        p = net.join(h[t], predicted(u)).exp()
        written = p[y[u]].item() * onward(t, u + 1) if u < len(y) else 0.0
        return p[net.blank].item() * onward(t + 1, u) + written

    return onward(0, 0)


def test_the_transducer_is_the_sum_over_all_paths():
    net, h = transducer()
    many = [(), (0,), (1, 1), (0, 1, 1), (1, 0, 0, 1, 0)]
    y, lengths = padded(many)
    log_p = net.log_prob(h[:1].expand(len(y), -1, -1), y, y_lengths=lengths)
    assert log_p.exp().tolist() == pytest.approx([walk(net, h[0], s) for s in many], rel=1e-10)


def test_the_transducer_sums_to_one_over_all_sequences():
    net, h = transducer(blank=9.0)
    y, lengths = padded(sequences(2, 7))
    total = net.log_prob(h[:1].expand(len(y), -1, -1), y, y_lengths=lengths).exp().sum().item()
    assert 1 - 1e-6 < total <= 1 + 1e-12


def test_the_transducer_never_looks_at_padding_and_learns_from_finite_gradients():
    net, h = transducer()
    y = torch.tensor([[0, 1, 1], [1, -5, 99]])
    h[1, 2:] = float("nan")
    together = net.log_prob(torch.nan_to_num(h, 1e3), y, [3, 2], [3, 1])
    torch.testing.assert_close(together[1], net.log_prob(h[1:, :2], y[1:, :1])[0], rtol=1e-12, atol=0)
    together.sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    with pytest.raises(ShapeError, match="sequence 1 has no steps"):
        net.log_prob(h, y, [3, 0], [3, 1])
    long = torch.randn(1, 400, 3).double()
    assert net.log_prob(long, torch.randint(2, (1, 300))).isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_transducer_beam_search_wide_enough_finds_the_best(seed):
    net, h = transducer(seed, blank=4.0)
    many = sequences(2, 6)
    y, lengths = padded(many)
    found = net.beam_search(h, num_beams=80, n_best=3, most=6)
    for row in range(2):
        log_p = net.log_prob(h[row : row + 1].expand(len(y), -1, -1), y, y_lengths=lengths)
        best = log_p.argsort(descending=True)[:3].tolist()
        assert [tuple(x.symbols) for x in found[row]] == [many[i] for i in best]
        assert [x.log_prob for x in found[row]] == pytest.approx(log_p[best].tolist(), rel=1e-12)


def test_transducer_greedy_takes_the_best_at_each_point_in_a_batch_as_alone():
    net, h = transducer(blank=1.0)
    together = net.greedy(h, [3, 2], most=4)
    for row, n in enumerate((3, 2)):
        state, g = net.predictor.step(None, net.start[None])
        expected = []
        for t in range(n):
            for _ in range(4):
                symbol = net.join(h[row, t], g[0]).argmax().item()
                if symbol == net.blank:
                    break
                expected.append(symbol)
                state, g = net.predictor.step(state, net.reader(torch.tensor([symbol])))
        assert together[row] == expected
    assert any(together)


def test_transducer_alignments_are_the_shares_of_all_paths():
    net, h = transducer()
    y, lengths = padded([(0, 1), (1,)])
    found = net.alignments(h, y, [3, 2], lengths)
    assert found.sum(2).flatten().tolist() == pytest.approx([1, 1, 1, 0])
    at_first = {}  # the share of the first row's paths that write its first symbol at step t: it is not written before, and then it is
    for t in range(3):

        def onward(step, u, t=t):
            if step == 3:
                return 1.0 if u == 2 else 0.0
            g = net.predictor(torch.cat([net.start[None], net.reader(y[0, :u])])[None])[0][0, -1]
            p = net.join(h[0, step], g).exp()
            may = u < 2 and (u == 1 or step == t)
            return p[net.blank].item() * onward(step + 1, u) + (p[y[0, u]].item() * onward(step, u + 1) if may else 0.0)

        at_first[t] = onward(0, 0)
    total = sum(at_first.values())
    assert found[0, 0].tolist() == pytest.approx([at_first[t] / total for t in range(3)], rel=1e-9)


@pytest.mark.parametrize("kind", [lambda: ctc()[0], lambda: transducer()[0]])
def test_of_no_steps_nothing_is_written_whatever_stands_beside_it(kind):
    net = kind()
    x, y = torch.randn(2, 3, 3).double(), torch.tensor([[0, 1], [0, 0]])
    together = net.log_prob(x, y, [3, 0], [2, 0])
    torch.testing.assert_close(together[:1], net.log_prob(x[:1], y[:1]), rtol=1e-12, atol=0)
    assert together[1] == 0
    assert [found[0].symbols for found in net.beam_search(x, [0, 3])] == [[], net.beam_search(x[1:])[0][0].symbols]
    nothing = x[:, :0], y[:, :0]
    assert net.log_prob(*nothing).tolist() == [0, 0]
    assert [(found[0].symbols, found[0].log_prob) for found in net.beam_search(nothing[0])] == [([], 0.0)] * 2
    assert net.greedy(nothing[0]) == [[], []]
    assert net.alignments(*nothing).shape == (2, 0, 0)
    assert net.log_prob(x[:0], y[:0]).shape == (0,)
    with pytest.raises(ShapeError, match=r"Sequence 1: 1 symbols need 1 steps|sequence 1 has no steps, and 1 symbols"):
        net.alignments(x, y, [3, 0], [2, 1])
