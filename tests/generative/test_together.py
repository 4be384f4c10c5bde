"""CTCs and transducers that write one sequence together: the mean of probabilities point by point, searched and scored as one, trained apart."""

import itertools

import pytest
import torch
from torch import nn

from wavefront import cells
from wavefront.errors import SettingsError
from wavefront.generative import CTC, CTCs, Transcriber, Transcribers, Transducer, Transducers
from wavefront.networks import Encoder, Symbols


def transducer(features, seed, cell=cells.LSTM, units=5, symbols=2):
    torch.manual_seed(seed)
    net = Transducer(features, symbols, cell(4, units), nn.Embedding(symbols, 4), units=6).double()
    with torch.no_grad():
        net.V.weight.mul_(3)
        net.V.bias[net.blank] += 4
    return net


def two():
    every = [transducer(3, 0), transducer(2, 1, cells.GRU, units=7)]
    torch.manual_seed(2)
    return every, Transducers(every), 2 * torch.randn(2, 3, 5).double()


def sequences(longest):
    many = [s for n in range(longest + 1) for s in itertools.product(range(2), repeat=n)]
    return many, nn.utils.rnn.pad_sequence([torch.tensor(s, dtype=torch.long) for s in many], batch_first=True), [len(s) for s in many]


def walk(every, h, y):
    """p(y | h), path by path, in the mean of the members' probabilities at each point."""

    def onward(t, u):
        if t == len(h):
            return float(u == len(y))
        said = [m.join(part[t], m.remember(torch.tensor([y], dtype=torch.long))[0, u]).exp() for m, part in zip(every, h.split([3, 2], -1))]
        p = torch.stack(said).mean(0)
        return p[2].item() * onward(t + 1, u) + (p[y[u]].item() * onward(t, u + 1) if u < len(y) else 0.0)

    return onward(0, 0)


def test_transducers_together_are_the_sum_over_paths_of_mean_probabilities():
    every, together, h = two()
    for y in ((), (0,), (1, 0, 1)):
        log_p = together.log_prob(h[:1], torch.tensor([y], dtype=torch.long))
        assert log_p.exp().item() == pytest.approx(walk(every, h[0], list(y)), rel=1e-10)
    _, y, lengths = sequences(7)
    total = together.log_prob(h[:1].expand(len(y), -1, -1), y, y_lengths=lengths).exp().sum().item()
    assert 0.99 < total <= 1 + 1e-12


def test_a_wide_search_of_transducers_finds_the_best_and_greedy_is_the_same_in_a_batch():
    _, together, h = two()
    many, y, lengths = sequences(6)
    for found, one in zip(together.beam_search(h, num_beams=80, n_best=3, most=6), h):
        log_p = together.log_prob(one.expand(len(y), -1, -1), y, y_lengths=lengths)
        best = log_p.argsort(descending=True)[:3].tolist()
        assert [tuple(x.symbols) for x in found] == [many[k] for k in best]
        assert [x.log_prob for x in found] == pytest.approx(log_p[best].tolist(), rel=1e-12)
    assert together.greedy(h, [3, 2]) == [together.greedy(h[:1])[0], together.greedy(h[1:, :2])[0]]


def test_one_member_is_itself():
    (alone, _), _, h = two()
    y = torch.tensor([[0, 1], [1, 1]])
    torch.testing.assert_close(Transducers([alone]).log_prob(h[..., :3], y), alone.log_prob(h[..., :3], y))
    one = CTC(3, 2).double()
    torch.testing.assert_close(CTCs([one]).log_prob(h[..., :3], y), one.log_prob(h[..., :3], y))


def test_ctcs_together_write_each_step_in_the_mean_of_their_probabilities():
    torch.manual_seed(0)
    every, o = [CTC(3, 2).double(), CTC(2, 2).double()], torch.randn(2, 4, 5).double()
    together = CTCs(every)
    mean = (every[0](o[..., :3]).exp() + every[1](o[..., 3:]).exp()) / 2
    torch.testing.assert_close(together(o).exp(), mean)
    total = {}
    for path in itertools.product(range(3), repeat=4):
        y = tuple(CTC.collapse(path, 2))
        total[y] = total.get(y, 0.0) + torch.stack([mean[0, t, k] for t, k in enumerate(path)]).prod().item()
    best = max(total, key=total.__getitem__)
    (found,) = together.beam_search(o[:1], num_beams=40)[0]
    assert (tuple(found.symbols), found.log_prob) == (best, pytest.approx(torch.tensor(total[best]).log().item()))


@pytest.mark.parametrize("writer", [lambda: CTC(6, 4), lambda: transducer(6, 0, symbols=4).float()])
def test_members_read_each_on_their_own_and_are_kept_once(writer):
    every = [Transcriber(Symbols([1] * 9, 5), Encoder(5, 3, 1, cells.GRU), writer(), widen=2) for _ in range(2)]
    together = Transcribers(every).eval()
    x, lengths = torch.randint(2, 9, (3, 6)), torch.tensor([6, 2, 4])
    read = together(x, lengths)
    for (_, part), member in zip(together.writer.each(read.h), every):
        torch.testing.assert_close(part, member(x, lengths).h)
    assert read.lengths.tolist() == [12, 4, 8]
    assert together.steps(6) == 12
    assert len(together.state_dict()) == 2 * len(every[0].state_dict())


def test_members_of_different_symbols_are_refused():
    with pytest.raises(SettingsError, match=r"same symbols; here they have \[2, 4\]"):
        CTCs([CTC(3, 2), CTC(3, 4)])
    with pytest.raises(SettingsError, match="no member"):
        Transducers([])
