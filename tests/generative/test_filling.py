"""What is missing in the middle: by enumeration, and by sampling against it. The Markov baseline."""

import itertools
import math

import pytest
import torch
from torch import nn

import wavefront
from generative.writers import writer
from wavefront import cells
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative import Autoregressive, Categorical, Gaussian, Markov, fill_by_sampling, fill_exactly, filling


@pytest.mark.parametrize("ending", ["symbol", "halting", "length", "given"])
def test_the_probability_of_a_filling_is_that_of_the_whole_over_that_of_the_rest(ending):
    net = writer(ending, symbols=4)
    y, missing = torch.tensor([1, 0, 2, 0, 1]), torch.tensor([False, True, False, True, False])
    found = fill_exactly(net, y, missing)
    symbols = 3 if ending == "symbol" else 4
    p = {(a, b): net.log_prob(torch.tensor([[1, a, 2, b, 1]])).exp().item() for a, b in itertools.product(range(symbols), repeat=2)}
    assert len(found.y) == symbols**2
    assert found.log_evidence.exp().item() == pytest.approx(sum(p.values()), rel=1e-12)
    best = max(p, key=p.get)
    assert found.y[0].tolist() == [1, best[0], 2, best[1], 1]
    for filled, log_p in zip(found.y, found.log_prob):
        assert log_p.exp().item() == pytest.approx(p[filled[1].item(), filled[3].item()] / sum(p.values()), rel=1e-12)


@pytest.mark.parametrize("ending", ["symbol", "halting", "length", "given"])
def test_sampled_fillings_come_as_often_as_they_are_probable(ending):
    net = writer(ending, symbols=3)
    y, missing = torch.tensor([1, 0, 0, 0, 1, 1]), torch.tensor([False, True, True, False, True, False])
    exact = fill_exactly(net, y, missing)
    torch.manual_seed(1)
    drawn = fill_by_sampling(net, y, missing, particles=20000)
    assert drawn.log_prob.exp().sum().item() == pytest.approx(1)
    assert drawn.log_evidence.item() == pytest.approx(exact.log_evidence.item(), abs=0.05)
    for filled, log_p in zip(exact.y, exact.log_prob):
        share = drawn.log_prob.exp()[(drawn.y == filled).all(1)].sum().item()
        assert abs(share - log_p.exp().item()) < 0.02


def test_copies_that_carry_no_weight_are_drawn_anew_with_all_that_they_remember(monkeypatch):
    """y(t) is y(t-2) with probability 0.9: most of what is drawn does not fit what comes next, and what does has to be remembered."""
    torch.manual_seed(4)
    net = Autoregressive(OneBefore(3), Categorical(3, 3), nn.Embedding(3, 3), ending="given")
    with torch.no_grad():
        net.reader.weight.copy_(torch.eye(3))
        net.output.V.weight.copy_((torch.full((3, 3), 0.05) + 0.85 * torch.eye(3)).log())
    y, missing = torch.tensor([0, 0, 1, 0, 0, 2, 0, 0]), torch.tensor([1, 1, 0, 1, 1, 0, 1, 1]).bool()
    anew = []
    monkeypatch.setattr(filling, "_systematic", lambda share, draw=filling._systematic: anew.append(share) or draw(share))
    exact, drawn = fill_exactly(net, y, missing), fill_by_sampling(net, y, missing, particles=20000)
    assert anew
    assert drawn.log_evidence.item() == pytest.approx(exact.log_evidence.item(), abs=0.05)
    for filled, log_p in zip(exact.y[:50], exact.log_prob):
        assert abs(drawn.log_prob.exp()[(drawn.y == filled).all(1)].sum().item() - log_p.exp().item()) < 0.02


class OneBefore(wavefront.Cell):
    """Puts out what it was given one step before."""

    def __init__(self, size):
        super().__init__(size, state=size)

    def step(self, state, x):
        return x, state


def test_real_numbers_are_filled_in_as_the_gaussian_says():
    """y(t) = N(a y(t-1), σ²) written by hand: the middle of three is Gaussian with a mean that looks both ways."""
    torch.manual_seed(2)
    a, sigma = 0.8, 0.5
    net = Autoregressive(Straight(1), Gaussian(1, 1), ending="given").double()
    with torch.no_grad():
        net.output.V.weight.copy_(torch.tensor([[a], [0.0]]))
        net.output.V.bias.copy_(torch.tensor([0.0, math.log(math.expm1(sigma - 1e-4))]))
    y = torch.tensor([[1.0], [0.0], [-0.5]]).double()
    drawn = fill_by_sampling(net, y, torch.tensor([False, True, False]), particles=40000)
    weight = drawn.log_prob.exp()
    mean = (weight * drawn.y[:, 1, 0]).sum().item()
    assert mean == pytest.approx((a * 1.0 + a * -0.5) / (1 + a * a), abs=0.02)
    spread = (weight * (drawn.y[:, 1, 0] - mean) ** 2).sum().item()
    assert spread == pytest.approx(sigma**2 / (1 + a * a), rel=0.05)


class Straight(wavefront.Cell):
    """Puts out what it is given."""

    def __init__(self, size):
        super().__init__(size, state=size)

    def step(self, state, x):
        return x, x


def test_what_cannot_be_filled_is_told():
    net = writer("symbol", symbols=4)
    with pytest.raises(SettingsError, match="20 missing symbols of 3 are more than 100000"):
        fill_exactly(net, torch.zeros(20, dtype=torch.long), torch.ones(20, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"a bool for each step, \[3\]"):
        fill_exactly(net, torch.zeros(3, dtype=torch.long), torch.ones(2, dtype=torch.bool))
    with pytest.raises(SettingsError, match="use fill_by_sampling"):
        fill_exactly(Autoregressive(cells.GRU(1, 2), Gaussian(2, 1), ending="given"), torch.zeros(3, 1), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_markov_baseline_is_a_distribution(order):
    torch.manual_seed(3)
    model = Markov(order, symbols=2).fit(torch.randint(2, (30, 5)).tolist())
    model.fit([[], [0], [1, 1, 1]])
    total = sum(math.exp(model.log_prob(s)) for n in range(7) for s in itertools.product(range(2), repeat=n))
    going_on = 0.0
    for s in itertools.product(range(2), repeat=6):
        steps = model.log_prob_steps(s)
        going_on += math.exp(sum(steps[:6])) * (1 - math.exp(steps[6]))
    assert total + going_on == pytest.approx(1, rel=1e-12)


def test_the_markov_baseline_by_hand_and_its_order_helps():
    model = Markov(order=1, symbols=2, ends=False)
    model.add([0, 0, 1])
    uni = {0: (2 + 2 * 0.5) / (3 + 2), 1: (1 + 2 * 0.5) / (3 + 2)}
    after_0 = (1 + 2 * uni[1]) / (2 + 2)
    assert model.log_prob_steps([0, 1]) == pytest.approx([math.log(uni[0]), math.log(after_0)])
    cycle = [0, 0, 1, 1] * 50
    scores = [Markov(k, 2, ends=False).fit([cycle]).log_prob(cycle) / len(cycle) for k in (0, 1, 2)]
    assert scores[0] == pytest.approx(-math.log(2), abs=0.01)
    assert scores[2] > -0.1
    with pytest.raises(SettingsError, match=r"0\.\.1"):
        model.add([2])
