"""The networks of the tasks: what reads symbols, words and series, and what is said of them."""

import pytest
import torch

from wavefront import cells
from wavefront.networks import Committee, Encoder, MultiScale, SequenceReadout, Series, Symbols, Tagger, Words


def test_a_rare_symbol_is_now_and_then_taken_for_an_unknown_one_in_training_only():
    reader = Symbols([0, 0, 1, 3, 10**9], size=4, rare=1.0)
    symbols = torch.tensor([[0, 1, 2, 3, 4]]).repeat(4000, 1)
    unknown = (reader(symbols) == reader.table.weight[1]).all(-1).double().mean(0)
    expected = torch.tensor([0, 1, 1 / 2, 1 / 4, 0], dtype=torch.double)  # rare / (rare + n), never padding
    torch.testing.assert_close(unknown, expected, rtol=0, atol=0.03)
    torch.testing.assert_close(reader.eval()(symbols[:1]), reader.table.weight[None])


def test_a_word_is_what_it_is_and_how_it_is_written():
    reader = Words([0, 0, 5, 5], 4, letters=9, letter_size=3, letter_units=2, cell=cells.GRU).eval()
    letters, sizes = torch.tensor([[0, 0, 0], [2, 3, 4], [2, 3, 0]]), torch.tensor([0, 3, 2])
    read = reader(torch.tensor([[2, 2, 1, 0], [1, 2, 2, 0]]), torch.tensor([[1, 2, 2, 0], [2, 2, 1, 0]]), letters, sizes)
    assert read.shape == (2, 4, reader.outputs)
    assert torch.equal(read[0, 0], read[1, 2])  # the same word, spelled the same
    assert torch.equal(read[0, 0, :4], read[0, 1, :4])  # the same word spelled differently: known by number only
    assert not torch.equal(read[0, 0, 4:], read[0, 1, 4:])
    assert torch.equal(read[0, 2, 4:], read[0, 1, 4:])  # another word, spelled the same
    assert read[0, 3].abs().sum() == 0  # padding


def test_letters_past_the_end_of_a_word_are_not_read():
    reader = Words([0, 0, 5], 4, letters=9, letter_size=3, letter_units=2, cell=cells.LSTM).eval()
    where, sizes = torch.tensor([[0, 1]]), torch.tensor([3, 1])
    one, other = (reader(torch.tensor([[2, 2]]), where, torch.tensor([[2, 3, 4], [5, *rest]]), sizes) for rest in ([0, 0], [6, 7]))
    assert torch.equal(one, other)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strides_make_series_shorter_each_by_its_own_length(stride):
    layer = MultiScale(2, 3, (3, 5), stride).double().eval()
    x, lengths = torch.randn(3, 2, 10, dtype=torch.double), torch.tensor([10, 4, 0])
    x[1, :, 4:] = x[2] = 0
    y, short = layer(x, lengths)
    assert short.tolist() == [-(-n // stride) for n in (10, 4, 0)]
    assert y.shape == (3, 6, -(-10 // stride))
    alone, _ = layer(x[1:2, :, :4], lengths[1:2])
    torch.testing.assert_close(y[1, :, : short[1]], alone[0], rtol=1e-12, atol=1e-12)
    assert y[1, :, short[1] :].abs().sum() == 0
    assert y[2].abs().sum() == 0


def test_one_layer_is_convolutions_side_by_side_and_a_shortcut():
    layer = MultiScale(1, 2, (3, 5)).double().eval()
    x = torch.randn(1, 1, 7, dtype=torch.double)
    sides = [torch.nn.functional.conv1d(x, branch.weight, padding=branch.weight.shape[2] // 2) for branch in layer.branches]
    expected = ((torch.cat(sides, 1) + layer.shortcut(x)) / (1 + layer.norm.norm.eps) ** 0.5).relu()
    torch.testing.assert_close(layer(x, torch.tensor([7]))[0], expected, rtol=1e-12, atol=1e-12)


def test_noise_and_stretch_are_for_training():
    series = Series(1, 2, (3,), (1,), noise=0.5, stretch=0.5)
    x, lengths = torch.randn(2, 5, 1), torch.tensor([5, 5])
    assert not torch.equal(series(x, lengths)[0], series(x, lengths)[0])
    series.eval()
    assert torch.equal(series(x, lengths)[0], series(x, lengths)[0])


def test_a_tagger_without_a_crf_scores_each_label_by_itself():
    tagger = Tagger(Symbols([0, 0, 1, 1], 4), Encoder(4, 3, 2, cells.GRU), labels=3)
    symbols, lengths = torch.tensor([[2, 3, 2], [3, 0, 0]]), torch.tensor([3, 1])
    scores = tagger(lengths=lengths, symbols=symbols)
    labels = torch.tensor([[0, -1, 2], [1, 0, 0]])
    likelihood, items = tagger.log_likelihood(scores, labels, lengths)
    p = scores.log_softmax(-1)
    torch.testing.assert_close(likelihood, p[0, 0, 0] + p[0, 2, 2] + p[1, 0, 1])
    assert items == 3
    assert tagger.decode(scores, lengths) == [scores[0].argmax(-1).tolist(), scores[1, :1].argmax(-1).tolist()]


def test_a_committee_asks_its_members_one_by_one():
    def member():
        return SequenceReadout(Symbols([0, 0, 1], 4), Encoder(4, 3, 1, cells.Elman), outputs=2)

    committee = Committee([member(), member()]).eval()
    given = {"lengths": torch.tensor([2, 0]), "symbols": torch.tensor([[2, 2], [0, 0]])}
    outputs = committee(**given)
    assert outputs.shape == (2, 2, 2)
    assert torch.equal(outputs[1], committee[1](**given))
    torch.testing.assert_close(outputs[0, 1], committee[0].V.bias)  # a sequence of nothing is summed up as zeros
