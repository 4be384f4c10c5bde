"""Several networks that write one sequence together: a distribution, searched and scored as one network is, trained each on its own."""

import pytest
import torch
from torch import nn

from generative.writers import all_sequences, writer
from wavefront import cells
from wavefront.errors import SettingsError
from wavefront.generative import Autoregressive, Categorical, Ensemble, beam_search, greedy, sample, smoothed_loss
from wavefront.networks import Additive, Attending, Bridge, Encoder, EncoderDecoder, EncoderDecoders, LastStep


def members(n=3, **how):
    every = [writer(seed=seed, **how).eval() for seed in range(n)]
    for member in every:
        nn.init.normal_(member.start)  # no two symbols are as probable as each other
    return every


@pytest.mark.parametrize("ending", ["symbol", "halting"])
def test_probabilities_are_the_mean_of_the_members_step_by_step(ending):
    every, y = members(ending=ending), torch.tensor([[0, 1, 1], [1, 0, 0]])
    steps = torch.stack([member.log_prob_steps(y, [3, 1]).exp() for member in every]).mean(0)
    found = Ensemble(every).log_prob_steps(y, [3, 1])
    torch.testing.assert_close(found[0], steps[0].log())
    torch.testing.assert_close(found[1, :2], steps[1, :2].log())
    assert found[1, 2:].tolist() == [0, 0]


def test_it_is_a_distribution():
    together, (y, lengths) = Ensemble(members()), all_sequences(2, 9)
    begun = together.log_prob(y, lengths).exp().sum()
    drawn = sample(together, 2000, max_length=60)
    assert bool(drawn.ended.all())
    share = (drawn.lengths <= 9).double().mean()  # of what is drawn, as much is that short as the enumeration says
    assert 0 < begun < 1
    assert abs(share - begun) < 4 * (begun * (1 - begun) / 2000) ** 0.5


@pytest.mark.parametrize("ending", ["symbol", "halting"])
def test_a_wide_search_finds_the_best_and_scores_it_exactly(ending):
    together = Ensemble(members(ending=ending))
    y, lengths = all_sequences(2 if ending == "symbol" else 3, 4)
    p = together.log_prob(y, lengths)
    best = p.argmax()
    found = beam_search(together, num_beams=243, n_best=3, max_length=4)[0]
    assert found[0].symbols == y[best, : lengths[best]].tolist()
    assert [h.log_prob for h in found] == pytest.approx(p.topk(3).values.tolist())
    written = greedy(together, max_length=4)
    assert beam_search(together, num_beams=1, max_length=4)[0][0].symbols == written.y[0, : written.lengths[0]].tolist()
    torch.testing.assert_close(written.log_prob, together.log_prob(written.y, written.lengths))


def test_one_member_is_itself():
    (alone,) = members(1)
    y = torch.tensor([[0, 1, 1]])
    torch.testing.assert_close(Ensemble([alone]).log_prob(y), alone.log_prob(y))
    assert beam_search(Ensemble([alone]), num_beams=4) == beam_search(alone, num_beams=4)


def attending(seed):
    torch.manual_seed(seed)
    attend = Attending(cells.GRU(4 + 6, 6), Additive(6, 8, 5))
    decoder = Autoregressive(attend, Categorical(attend.outputs, 5), nn.Embedding(5, 4))
    return EncoderDecoder(Encoder(3, 4, 1, cells.GRU), decoder, nn.Embedding(7, 3), LastStep(forward=4), Bridge(8, attend.cell))


def translators():
    every = [attending(seed).double().eval() for seed in range(2)]
    return every, EncoderDecoders(every, Ensemble([member.decoder for member in every]))


def test_sources_are_read_by_each_member_and_padding_by_none():
    every, together = translators()
    x, lengths, y = torch.randint(7, (3, 6)), [6, 2, 4], torch.randint(4, (3, 5))
    steps = torch.stack([member.log_prob_steps(x, y, lengths).exp() for member in every]).mean(0)
    torch.testing.assert_close(together.log_prob_steps(x, y, lengths), steps.log())
    looked = torch.stack([member.alignments(x, y, lengths) for member in every]).mean(0)
    torch.testing.assert_close(together.alignments(x, y, lengths), looked)
    batch = beam_search(together.decoder, 3, num_beams=4, n_best=2, max_length=8, **together(x, lengths)._asdict())
    for row, n in enumerate(lengths):
        alone = beam_search(together.decoder, 1, num_beams=4, n_best=2, max_length=8, **together(x[row : row + 1, :n])._asdict())
        assert [h.symbols for h in batch[row]] == [h.symbols for h in alone[0]]
        assert [h.score for h in batch[row]] == pytest.approx([h.score for h in alone[0]])


def test_members_learn_each_on_its_own():
    every, together = translators()
    x, y, lengths = torch.randint(7, (3, 6)), torch.randint(4, (3, 5)), torch.tensor([5, 3, 1])
    for smoothing in (0.0, 0.1):
        each = [smoothed_loss(m.decoder, y, lengths, smoothing, **m(x)._asdict()) for m in every]
        torch.testing.assert_close(smoothed_loss(together.train().decoder, y, lengths, smoothing, **together(x)._asdict()), sum(each) / 2)
    exact = -together.eval().log_prob(x, y, y_lengths=lengths).sum()
    torch.testing.assert_close(smoothed_loss(together.decoder, y, lengths, **together(x)._asdict()), exact)
    assert exact < sum(-m.log_prob(x, y, y_lengths=lengths).sum() for m in every) / 2  # Jensen: together they say more
    names = [name for name, _ in together.state_dict().items()]
    assert all(name.startswith("members.") for name in names)
    assert len(names) == 2 * len(every[0].state_dict())


def test_members_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match="3 symbols, EndSymbol, the end is 2; and 4 symbols"):
        Ensemble([writer(), writer(symbols=4)])
    with pytest.raises(SettingsError, match="length that comes first"):
        Ensemble([writer(ending="length")])
    with pytest.raises(SettingsError, match="at least one"):
        Ensemble([])
