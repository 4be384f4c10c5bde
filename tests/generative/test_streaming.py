"""Streams of symbols: one native call a step gives what the step in torch gives, and what is drawn has the probabilities that it should."""

import gc
from itertools import islice

import pytest
import torch
from torch import nn

from wavefront import Recurrent, cells
from wavefront.engine import runs
from wavefront.generative import AdaptiveCategorical, Autoregressive, Categorical, stream, streaming
from wavefront.networks import Layers

SYMBOLS, UNITS = 7, 6


def network(make=lambda: Recurrent(cells.LSTM(3, UNITS)), ending="given", reader=None, output=None):
    torch.manual_seed(0)
    reader = nn.Embedding(SYMBOLS, 3) if reader is None else reader()
    net = Autoregressive(make(), output() if output else Categorical(UNITS, SYMBOLS), reader, ending=ending).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    return net


def written(net, count, seed=1, **how):
    torch.manual_seed(seed)
    return list(islice(stream(net, **how), count))


def in_torch(net):
    for module in net.modules():
        if isinstance(module, Recurrent):
            module.backend = "reference"
    return net


KINDS = {
    "recurrent": {},
    "with an end": {"ending": "symbol"},
    "layers": {"make": lambda: Layers([cells.LSTM(3, 5), cells.GRU(5, UNITS)], dropout=(0.1, 0.1, 0.1))},
    "another reader": {"reader": lambda: nn.Sequential(nn.Embedding(SYMBOLS, 4), nn.Linear(4, 3))},
    "in two stages": {"output": lambda: AdaptiveCategorical(UNITS, SYMBOLS, [2, 4], shrink=1.5)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_native_call_a_symbol_writes_what_the_steps_in_torch_write(kind, monkeypatch):
    net, reference = network(**KINDS[kind]), in_torch(network(**KINDS[kind]))
    for how in ({}, {"temperature": 0.6, "without": (1, 3)}, {"temperature": 0.0, "prompt": torch.tensor([2, 5])}):
        expected = written(reference, 40, **how)
        with monkeypatch.context() as patched:
            patched.setattr(streaming, "_written", None)
            before = runs["single"]
            assert written(net, 40, **how) == expected
            assert runs["single"] >= before + len(expected)
        assert len(expected) == 40 or kind == "with an end"
        assert not set(expected) & set(how.get("without", ()))


@pytest.mark.parametrize("how", [{"top_k": 2}, {"top_p": 0.7, "temperature": 1.5}])
def test_what_cuts_off_is_the_same_for_both(how):
    assert written(network(), 30, **how) == written(in_torch(network()), 30, **how)
    if "top_k" in how:
        assert written(network(), 30, top_k=1) == written(network(), 30, temperature=0)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_symbols_come_as_often_as_is_probable(temperature):
    net, count = network(), 6000
    with torch.no_grad():
        net.output.V.weight.zero_()
        net.output.V.bias.copy_(torch.randn(SYMBOLS))
        p = (net.output.V.bias / temperature).softmax(-1)
    found = torch.bincount(torch.tensor(written(net, count, temperature=temperature)), minlength=SYMBOLS) / count
    assert ((found - p).abs() < 4.5 * (p / count).sqrt()).all()


def test_the_same_seed_writes_the_same_and_another_something_else():
    net = network()
    assert written(net, 50) == written(net, 50)
    assert written(net, 50) != written(net, 50, seed=2)


def test_weights_that_change_while_it_writes_are_seen():
    net = network()
    torch.manual_seed(1)
    writing = stream(net)
    list(islice(writing, 10))
    with torch.no_grad():
        net.output.V.bias.copy_(torch.arange(SYMBOLS) * 100.0)
    assert list(islice(writing, 10)) == [SYMBOLS - 1] * 10
    net.output = Categorical(UNITS, SYMBOLS).double()
    with torch.no_grad():
        net.output.V.bias[2] = 100
    assert written(net, 5) == [2] * 5


def test_gradients_are_on_between_symbols_and_numbers_that_are_none_are_refused():
    net = network()
    writing = stream(net)
    next(writing)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        net.output.V.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="no numbers"):
        next(writing)
    assert torch.is_grad_enabled()


def test_a_network_that_is_gone_is_forgotten():
    net = network()
    written(net, 2)
    assert net in streaming._known
    del net
    gc.collect()
    assert not [parts for parts in streaming._known.values() if parts[0][0].features == UNITS]
