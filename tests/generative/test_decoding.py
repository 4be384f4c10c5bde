"""Decoding: searches against each other, against brute force, and against the probabilities that the network itself gives."""

import itertools

import pytest
import torch
from torch import nn

from generative.writers import UNITS, all_sequences, writer
from wavefront import cells
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative import Autoregressive, Categorical, beam_search, greedy, sample, stream, truncated
from wavefront.networks import Attending, General

ENDINGS = ["symbol", "halting", "length"]


def contexted(ending="symbol", rows=3, seed=0):
    """A network that writes something else for each row."""
    net = writer(ending, symbols=4, context=5, seed=seed, longest=5)
    with torch.no_grad():
        for p in net.network.parameters():
            p.mul_(2)
    return net, torch.randn(rows, 5).double()


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_beam_is_greedy(ending):
    for seed in range(5):
        net, context = contexted(ending, seed=seed)
        lengths = torch.tensor([3, 1, 5]) if ending == "length" else None
        best = beam_search(net, 3, num_beams=1, max_length=9, context=context, lengths=lengths)
        straight = greedy(net, 3, max_length=9, context=context, lengths=lengths)
        assert straight.ended.all()
        for (hypothesis,), y, n, log_p in zip(best, straight.y, straight.lengths, straight.log_prob):
            assert hypothesis.symbols == y[:n].tolist()
            assert hypothesis.log_prob == pytest.approx(log_p.item(), rel=1e-12)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("length_penalty", [0.0, 0.8, -0.5])
def test_a_beam_as_wide_as_the_language_finds_the_true_best(ending, length_penalty):
    net, context = contexted(ending)
    longest = 5 if ending == "length" else 4
    y, lengths = all_sequences(3 if ending == "symbol" else 4, longest)
    found = beam_search(net, 3, num_beams=len(y) + 1, n_best=20, max_length=longest, length_penalty=length_penalty, context=context)
    for row in range(3):
        log_p = net.log_prob(y, lengths, context=context[row].expand(len(y), -1))
        score = log_p / ((5 + lengths.double() + 1) / 6) ** length_penalty
        order = score.argsort(descending=True)[:20]
        for hypothesis, at in zip(found[row], order):
            assert hypothesis.symbols == y[at, : lengths[at]].tolist()
            assert hypothesis.log_prob == pytest.approx(log_p[at].item(), rel=1e-12)
            assert hypothesis.score == pytest.approx(score[at].item(), rel=1e-12)


@pytest.mark.parametrize("ending", ENDINGS)
def test_scores_are_log_prob_and_the_batch_is_one_by_one(ending):
    net, context = contexted(ending, rows=4)
    how = {"num_beams": 3, "n_best": 3, "max_length": 7, "min_length": 2, "length_penalty": 0.6}
    together = beam_search(net, 4, context=context, **how)
    for row, hypotheses in enumerate(together):
        assert len(hypotheses) == 3
        for h in hypotheses:
            exact = net.log_prob(torch.tensor([h.symbols], dtype=torch.long), context=context[row : row + 1]).item()
            assert h.log_prob == pytest.approx(exact, rel=1e-12)
            assert ending == "length" or 2 <= len(h.symbols) <= 7
        (alone,) = beam_search(net, 1, context=context[row : row + 1], **how)
        assert [h.symbols for h in alone] == [h.symbols for h in hypotheses]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_drawn_is_scored_exactly_whatever_the_temperature(ending):
    net, context = contexted(ending, rows=40)
    torch.manual_seed(1)
    drawn = sample(net, 40, temperature=1.5, top_k=3, top_p=0.9, max_length=6, min_length=1, context=context)
    assert drawn.ended.all()
    torch.testing.assert_close(net.log_prob(drawn.y, drawn.lengths, context=context), drawn.log_prob, rtol=1e-12, atol=1e-12)
    if ending != "length":
        assert drawn.lengths.max() <= 6
        assert drawn.lengths.min() >= 1


def test_plain_sampling_of_symbols_has_the_frequencies_of_the_model():
    net = writer("halting")
    torch.manual_seed(2)
    drawn = sample(net, 20000, max_length=80)
    y, lengths = all_sequences(3, 2)
    for s, n, p in zip(y, lengths, net.log_prob(y, lengths).exp().tolist()):
        share = ((drawn.lengths == n) & (drawn.y[:, :2] == s).all(1)).double().mean().item()
        assert abs(share - p) < 4.5 * (p / 20000) ** 0.5


def test_truncation_by_hand():
    p = torch.tensor([0.1, 0.4, 0.2, 0.3])
    never = float("-inf")
    assert truncated(p.log(), top_k=2).exp().tolist() == pytest.approx([0, 0.4, 0, 0.3])
    assert (truncated(p.log(), top_p=0.69) > never).tolist() == [False, True, False, True]
    assert (truncated(p.log(), top_p=0.71) > never).tolist() == [False, True, True, True]
    assert (truncated(p.log(), top_p=1e-9) > never).tolist() == [False, True, False, False]
    torch.testing.assert_close(truncated(p.log(), temperature=0.5).softmax(-1), p**2 / (p**2).sum())
    for bad in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(SettingsError, match="temperature is above 0"):
            truncated(p.log(), **bad)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_comes_twice(n):
    net, context = contexted("halting", rows=6)
    with torch.no_grad():
        net.ending.w.bias.fill_(-9.0)
    torch.manual_seed(3)
    rows = [h.symbols for hs in beam_search(net, 6, num_beams=3, n_best=3, max_length=12, no_repeat_ngram=n, context=context) for h in hs]
    drawn = sample(net, 6, max_length=12, no_repeat_ngram=n, context=context)
    rows += [y[:m].tolist() for y, m in zip(drawn.y, drawn.lengths)]
    assert max(map(len, rows)) > n
    for row in rows:
        grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
        assert len(set(grams)) == len(grams)


def test_a_row_whose_limits_leave_nothing_says_so():
    net, context = contexted("symbol", rows=2)
    assert beam_search(net, 2, num_beams=2, min_length=5, max_length=9, no_repeat_ngram=1, context=context) == [[], []]
    assert not greedy(net, 2, min_length=5, max_length=9, no_repeat_ngram=1, context=context).ended.any()


def test_a_stream_is_what_is_written_at_once_and_goes_on_from_a_prompt():
    net = writer("halting", symbols=5)
    straight = greedy(net, max_length=30)
    n = int(straight.lengths)
    assert list(itertools.islice(stream(net, temperature=0), 30)) == straight.y[0, :n].tolist()
    prompt = torch.tensor([3, 1, 4])
    _, w = net.run(prompt[None])
    torch.manual_seed(4)
    drawn = list(itertools.islice(stream(net, prompt, top_p=0.8), 20))
    torch.manual_seed(4)
    assert list(itertools.islice(stream(net, state=w, top_p=0.8), 20)) == drawn


def attending(coverage=False):
    torch.manual_seed(5)
    network = Attending(cells.GRU(4 + UNITS, UNITS), General(UNITS, 3), record=coverage)
    net = Autoregressive(network, Categorical(UNITS, 4), nn.Embedding(4, 4)).double()
    with torch.no_grad():
        net.output.V.weight.mul_(4)
    memory = network.memory(torch.randn(3, 5, 3).double() * 2, [5, 2, 3])
    return net, memory


def test_beams_over_a_memory_are_those_of_each_source_alone_without_its_padding():
    net, memory = attending()
    together = beam_search(net, 3, num_beams=4, n_best=4, max_length=6, context=memory)
    for row, n in enumerate([5, 2, 3]):
        alone = type(memory)(*(part[row : row + 1, :n] for part in memory))
        (found,) = beam_search(net, 1, num_beams=4, n_best=4, max_length=6, context=alone)
        assert [h.symbols for h in found] == [h.symbols for h in together[row]]
        for h in found:
            assert h.log_prob == pytest.approx(net.log_prob(torch.tensor([h.symbols], dtype=torch.long), context=alone).item(), rel=1e-12)


def test_the_coverage_penalty_is_that_of_where_it_looked():
    net, memory = attending(coverage=True)
    found = beam_search(net, 3, num_beams=4, n_best=4, max_length=6, length_penalty=0.5, coverage_penalty=0.3, context=memory)
    for row in range(3):
        alone = type(memory)(*(part[row : row + 1] for part in memory))
        for h in found[row]:
            y = torch.tensor([h.symbols], dtype=torch.long)
            before = torch.cat([net.start[None], net.reader(y[0])])[None]
            a = net.network.alignments(before, context=alone)[0].sum(0)
            covered = a[alone.mask[0]].clamp(max=1).log().sum().item()
            assert h.score == pytest.approx(h.log_prob / ((5 + len(h.symbols) + 1) / 6) ** 0.5 + 0.3 * covered, rel=1e-10)
    with pytest.raises(SettingsError, match="record=True"):
        beam_search(writer("symbol"), 1, coverage_penalty=0.3)


def test_a_beginning_of_given_length_is_read_and_gone_on_from():
    net = writer("given")
    prompt = torch.tensor([[0, 1, 2]])
    _, w = net.run(prompt)
    with pytest.raises(SettingsError, match="give lengths="):
        greedy(net, 1, state=w)
    more = greedy(net, 1, state=w, lengths=[4])
    whole = torch.cat([prompt, more.y], 1)
    torch.testing.assert_close(net.log_prob_steps(whole)[:, 3:7].sum(1), more.log_prob, rtol=1e-12, atol=0)
    assert [h.symbols for h in beam_search(net, 1, num_beams=1, state=w, lengths=[4])[0]] == more.y.tolist()


def test_a_given_length_is_kept():
    net = writer("given", inputs=2)
    x = torch.randn(2, 4, 2).double()
    for (h,) in beam_search(net, 2, x=x, num_beams=3):
        assert len(h.symbols) == 4
    straight = greedy(net, 2, x=x)
    torch.testing.assert_close(net.log_prob(straight.y, straight.lengths, x=x), straight.log_prob, rtol=1e-12, atol=0)


@pytest.mark.parametrize("feeding", [False, True])
def test_a_search_finds_the_same_with_the_compiled_step_as_with_the_reference(feeding):
    found = []
    for backend in ("auto", "reference"):
        torch.manual_seed(3)
        attend = Attending(cells.LSTM(4 + 6 * feeding, 6), General(6, 5), feeding=feeding, backend=backend)
        net = Autoregressive(attend, Categorical(6, symbols=5), reader=nn.Embedding(5, 4)).eval()
        memory = attend.memory(torch.randn(3, 4, 5), lengths=[4, 2, 3])
        found.append(beam_search(net, rows=3, num_beams=3, n_best=2, max_length=6, context=memory))
    for one, other in zip(*found):
        assert [h.symbols for h in one] == [h.symbols for h in other]
        assert [h.log_prob for h in one] == pytest.approx([h.log_prob for h in other], rel=1e-5)


def test_an_input_that_is_too_short_is_told_and_not_repeated():
    net = writer("symbol", inputs=2)
    with torch.no_grad():
        net.output.V.bias[2] = -50  # it does not end by itself
    x = torch.randn(1, 3, 2).double()
    for write in (lambda: net.sample(1, 6, x=x), lambda: greedy(net, 1, max_length=6, x=x), lambda: beam_search(net, 1, max_length=6, x=x)):
        with pytest.raises(ShapeError, match="x has 3 steps, and what is written comes to step 4"):
            write()
    assert greedy(net, 1, max_length=2, x=x).lengths.tolist() == [2]
    known = writer("given", inputs=2)
    assert greedy(known, 1, x=x).lengths.tolist() == [3]
    assert len(beam_search(known, 1, x=x)[0][0].symbols) == 3
    with pytest.raises(ShapeError, match="comes to step 4"):
        greedy(known, 1, lengths=[4], x=x)
