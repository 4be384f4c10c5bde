"""`wavefront.convert`: somebody's model, the same numbers, the same parameters, Wavefront's modules."""

import copy

import pytest
import torch
from torch import nn

import wavefront


class Tagger(nn.Module):
    """A model as people write them: an embedding, two recurrent modules, one of them used twice under two names."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.encoder = nn.ModuleDict({"gru": nn.GRU(6, 5, bidirectional=True, batch_first=True)})
        self.lstm = nn.LSTM(10, 7, num_layers=2, batch_first=True)
        self.again = self.lstm
        self.out = nn.Linear(7, 3)

    def forward(self, x):
        y, _ = self.encoder["gru"](self.embedding(x))
        return self.out(self.lstm(y)[0] + self.again(y)[0])


def test_the_same_numbers_gradients_names_and_parameters(capsys):
    torch.manual_seed(0)
    model = Tagger().double()
    original = copy.deepcopy(model)
    parameters, names = list(model.parameters()), list(model.state_dict())
    seen = []
    model.lstm.register_forward_hook(lambda *_: seen.append(1))
    assert wavefront.convert(model) is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert list(model.state_dict()) == names
    assert isinstance(model.lstm, wavefront.LSTM)
    assert isinstance(model.encoder["gru"], wavefront.GRU)
    assert model.again is model.lstm
    x = torch.randint(20, (4, 9))
    model(x).sum().backward()
    original(x).sum().backward()
    torch.testing.assert_close(model(x), original(x), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(model.parameters(), original.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    assert len(seen) == 4  # hooks came along
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "encoder.gru: torch.nn.GRU(6, 5, batch_first=True, bidirectional=True) is now Wavefront's",
        "lstm: torch.nn.LSTM(10, 7, num_layers=2, batch_first=True) is now Wavefront's",
        "again: torch.nn.LSTM(10, 7, num_layers=2, batch_first=True) is now Wavefront's",
    ]
    wavefront.convert(model)  # a second time there is nothing to do
    assert "no torch.nn.LSTM" in capsys.readouterr().err


def test_what_is_a_class_of_its_own_is_left_and_said(capsys):
    class Mine(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    weighted = nn.utils.parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0")
    model = nn.ModuleList([Mine(3, 4), weighted])
    wavefront.convert(model)
    assert type(model[0]) is Mine
    assert not isinstance(model[1], wavefront.GRU)
    assert "0: left alone" in (said := capsys.readouterr().err)
    assert "1: left alone" in said


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_model_that_is_one_module(kind):
    theirs = getattr(nn, kind)(3, 4)
    ours = wavefront.convert(theirs, quiet=True)
    assert isinstance(ours, getattr(wavefront, kind))
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    ours.weight_hh_l0.data.zero_()  # one weight for both
    torch.testing.assert_close(ours(x), theirs(x))
    assert copy.deepcopy(ours)(x)[0].shape == (5, 2, 4)


def test_an_optimiser_goes_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.RNN(3, 4))
    optimizer = torch.optim.Adam(model.parameters())
    wavefront.convert(model, quiet=True)
    before = model[0].weight_hh_l0.clone()
    model[0](torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight_hh_l0, before)
