"""Outputs as distributions: each sums to one, and its samples are of the distribution that it says."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from wavefront.errors import ShapeError
from wavefront.generative import (
    NADE,
    AdaptiveCategorical,
    BernoulliVector,
    Categorical,
    Gaussian,
    GaussianMixture,
    Halting,
    NegativeBinomial,
    StudentT,
)

FEATURES = 5
DISCRETE = {
    "categorical": (lambda: Categorical(FEATURES, 6), [torch.tensor(k) for k in range(6)]),
    "adaptive": (lambda: AdaptiveCategorical(FEATURES, 9, cutoffs=[3, 5]), [torch.tensor(k) for k in range(9)]),
    "bernoulli": (lambda: BernoulliVector(FEATURES, 4), [torch.tensor(v) for v in itertools.product([0.0, 1.0], repeat=4)]),
    "nade": (lambda: NADE(FEATURES, 4, units=3), [torch.tensor(v) for v in itertools.product([0.0, 1.0], repeat=4)]),
    "negative binomial": (lambda: NegativeBinomial(FEATURES, 1), [torch.tensor([float(k)]) for k in range(400)]),
}
REAL = {
    "gaussian": lambda: Gaussian(FEATURES, 1),
    "mixture": lambda: GaussianMixture(FEATURES, 1, components=3),
    "student": lambda: StudentT(FEATURES, 1),
}
ALL = {**{name: make for name, (make, _) in DISCRETE.items()}, **REAL}


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_of_all_values_sum_to_one_and_samples_follow_them(name):
    torch.manual_seed(3)
    make, values = DISCRETE[name]
    output, o = make().double(), torch.randn(FEATURES).double()
    y = torch.stack(values)
    y = y.double() if y.is_floating_point() else y
    p = output.log_prob(o.expand(len(y), -1), y).exp()
    assert abs(p.sum().item() - 1) < 1e-9
    drawn = output.sample(o.expand(20000, -1))
    counts = torch.stack([(drawn == v).flatten(1).all(1).sum() if drawn.dim() > 1 else (drawn == v).sum() for v in y])
    kept = p * len(drawn) >= 5
    observed = [*counts[kept].tolist(), len(drawn) - counts[kept].sum().item()]
    expected = [*(p[kept] * len(drawn)).tolist(), max(len(drawn) * (1 - p[kept].sum().item()), 1e-9)]
    chi2 = sum((a - b) ** 2 / b for a, b in zip(observed, expected) if b >= 5)
    assert stats.chi2.sf(chi2, len(observed) - 1) > 1e-3
    assert p[(y == output.mode(o[None])).flatten(1).all(1) if y.dim() > 1 else y == output.mode(o[None])].item() > p.mean().item()


@torch.no_grad()
def cumulated_density(output, o):
    grid = torch.linspace(-300, 300, 600_001, dtype=torch.float64)[:, None]
    density = output.log_prob(o.expand(len(grid), -1), grid).exp()
    return grid.flatten(), density, torch.cumulative_trapezoid(density, grid.flatten())


@pytest.mark.parametrize("name", REAL)
def test_densities_integrate_to_one_and_samples_follow_them(name):
    torch.manual_seed(5)
    output, o = REAL[name]().double(), torch.randn(FEATURES).double()
    grid, density, cumulated = cumulated_density(output, o)
    assert abs(cumulated[-1].item() - 1) < 1e-4  # the tails of Student's t
    drawn = output.sample(o.expand(5000, -1)).flatten().detach().numpy()
    assert stats.kstest(drawn, lambda v: np.interp(v, grid[1:].numpy(), cumulated.numpy())).pvalue > 1e-3
    assert np.isclose(output.expected(o[None]).item(), (grid * density).sum().item() * 1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ALL)
def test_all_steps_at_once_are_one_by_one(name):
    torch.manual_seed(1)
    output, o = ALL[name](), torch.randn(2, 3, FEATURES)
    y = output.sample(o)
    assert y.shape == (2, 3, *output.event)
    one_by_one = torch.stack([output.log_prob(o[b, t], y[b, t]) for b in range(2) for t in range(3)]).view(2, 3)
    torch.testing.assert_close(output.log_prob(o, y), one_by_one)
    assert output.mode(o).shape == y.shape


@pytest.mark.parametrize("name", ["categorical", "adaptive"])
def test_in_mixed_precision_log_probabilities_are_float32(name):
    torch.manual_seed(3)
    output, o = ALL[name](), torch.randn(50, FEATURES)
    y = output.sample(o)
    with torch.autocast("cpu", torch.bfloat16):
        low, every = output.log_prob(o, y), output.log_probs(o)
    torch.testing.assert_close(low, output.log_prob(o, y), atol=0.05, rtol=0)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(50), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(ALL) - {"negative binomial"}))
def test_the_same_noise_gives_the_same_sample(name):
    torch.manual_seed(2)
    output, o = ALL[name](), torch.randn(7, FEATURES)
    noise = output.noise(7)
    drawn = (
        tuple(d.sample(d.shape, o) for d in noise)
        if isinstance(noise, tuple) and not hasattr(noise, "distribution")
        else noise.sample(noise.shape, o)
    )
    assert torch.equal(output.sample(o, drawn), output.sample(o, drawn))


def test_nade_is_the_chain_rule_written_out():
    torch.manual_seed(4)
    nade, o = NADE(FEATURES, 4, units=3).double(), torch.randn(FEATURES).double()
    y = torch.tensor([1.0, 0.0, 1.0, 1.0]).double()
    a, b, log_p = nade.a(o), nade.b(o), 0.0
    for i in range(4):
        p = torch.sigmoid(b[i] + nade.R[i] @ torch.sigmoid(a + y[:i] @ nade.W[:i]))
        log_p = log_p + torch.log(p if y[i] else 1 - p)
    torch.testing.assert_close(nade.log_prob(o, y), log_p)


def test_nade_can_say_what_independent_notes_cannot():
    """Two notes, always both or neither: independent ones lose ln 2 a step, NADE nothing."""
    y, o = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.ones(2, FEATURES)
    torch.manual_seed(0)
    losses = []
    for output in (BernoulliVector(FEATURES, 2), NADE(FEATURES, 2, units=4)):
        optimiser = torch.optim.Adam(output.parameters(), 0.1)
        for _ in range(200):
            optimiser.zero_grad()
            loss = -output.log_prob(o, y).mean()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 2 * np.log(2) - 1e-3
    assert losses[1] < np.log(2) + 0.05


def test_student_and_negative_binomial_are_those_of_scipy():
    torch.manual_seed(6)
    o = torch.randn(FEATURES).double()
    t = StudentT(FEATURES, 1).double()
    d = t(o).base_dist
    assert np.isclose(t.log_prob(o, torch.tensor([0.7]).double()).item(), stats.t.logpdf(0.7, d.df.item(), d.loc.item(), d.scale.item()))
    nb = NegativeBinomial(FEATURES, 1).double()
    d = nb(o).base_dist
    mean, variance = d.mean.item(), d.variance.item()
    r = mean**2 / (variance - mean)
    assert np.isclose(nb.log_prob(o, torch.tensor([3.0]).double()).item(), stats.nbinom.logpmf(3, r, r / (r + mean)))


def test_tied_weights_are_one_and_wrong_sizes_are_refused():
    table = nn.Embedding(4, FEATURES)
    assert Categorical(FEATURES, 4, tied=table).V.weight is table.weight
    with pytest.raises(ShapeError, match=r"tied is a table of \[4, 5\].*got \[4, 3\]"):
        Categorical(FEATURES, 4, tied=nn.Embedding(4, 3))
    with pytest.raises(ShapeError, match="whole numbers"):
        Categorical(FEATURES, 4).check(torch.zeros(2, 3), (2, 3))


def test_a_symbol_of_probability_zero_is_never_drawn():
    from wavefront.generative.symbols import draw_symbols

    log_p = torch.tensor([float("-inf"), -1.0, float("-inf"), -2.0, float("-inf")])
    u = torch.cat([torch.linspace(0, 1, 1001)[:-1], torch.tensor([1 - 2**-24])])[:, None]
    assert set(draw_symbols(log_p.expand(len(u), -1), u).tolist()) == {1, 3}


def test_small_dispersion_loses_nothing_in_float32():
    nb = NegativeBinomial(FEATURES, 1)
    with torch.no_grad():
        nb.V.weight.zero_()
        nb.V.bias.copy_(torch.tensor([50.0, -30.0]))  # as good as Poisson's
    o, y = torch.zeros(100, FEATURES, requires_grad=True), torch.arange(100.0)[:, None]
    log_p = nb.log_prob(o, y)
    np.testing.assert_allclose(log_p.detach().numpy(), stats.poisson.logpmf(y.squeeze(1).numpy(), 50), atol=2e-3)
    exact = NegativeBinomial(FEATURES, 1).double()
    exact.load_state_dict(nb.state_dict())
    torch.testing.assert_close(log_p.double(), exact.log_prob(o.double(), y.double()), rtol=1e-6, atol=1e-6)


def test_in_half_precision_what_is_rare_is_still_drawn():
    torch.manual_seed(7)
    output = Categorical(FEATURES, 1000).bfloat16()
    with torch.no_grad():
        output.V.weight.zero_()
    assert len(output.sample(torch.zeros(20_000, FEATURES, dtype=torch.bfloat16)).unique()) == 1000
    halting = Halting(FEATURES).bfloat16()
    with torch.no_grad():
        halting.w.weight.zero_()
        halting.w.bias.fill_(-9.0)  # one in 8000
    o = torch.zeros(400_000, FEATURES, dtype=torch.bfloat16)
    _, stopped, _ = halting.draw(output, o, torch.zeros(len(o)))
    assert 20 < int(stopped.sum()) < 80
