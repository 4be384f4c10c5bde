"""Reservoirs: the radius asked for, topologies, leaks, fixed and trained weights, many settings as one batch; what is measured of them."""

import copy

import numpy as np
import pytest
import torch

from wavefront import Bidirectional, Recurrent, cells, wrap
from wavefront.cells import Reservoir, Reservoirs, Tuning
from wavefront.engine.choose import runs
from wavefront.errors import SettingsError, ShapeError
from wavefront.inspect import echo_state_property, effective_spectral_radius, jacobian_radius, memory_capacity

D = torch.float64
TOPOLOGIES = ["random", "ring", "small_world", "block", "permutation"]


def radius(matrix):
    return float(np.abs(np.linalg.eigvals(np.asarray(matrix))).max())


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("units", "asked"), [(7, 0.5), (60, 1.2), (300, 0.9)])
def test_the_radius_asked_for_is_that_of_all_eigenvalues(topology, units, asked):
    cell = Reservoir(1, units, spectral_radius=asked, topology=topology, density=0.3, seed=3, dtype=D)
    assert radius(cell.matrix()) == pytest.approx(asked, rel=1e-10)


def test_the_radius_of_a_large_sparse_matrix_too():
    cell = Reservoir(1, 500, spectral_radius=0.8, density=0.02, seed=3, dtype=D)
    assert radius(cell.matrix()) == pytest.approx(0.8, rel=1e-10)


def test_a_matrix_given_is_scaled():
    matrix = np.random.default_rng(0).normal(size=(20, 20)) * (np.random.default_rng(1).random((20, 20)) < 0.2)
    cell = Reservoir(1, 20, topology=matrix, spectral_radius=0.7, dtype=D)
    np.testing.assert_allclose(cell.matrix(), matrix * 0.7 / radius(matrix), rtol=1e-10)


def test_the_density_and_what_every_unit_hears():
    cell = Reservoir(1, 203, density=0.1, seed=0)
    assert cell.sources.shape == (203, 20)
    assert all(len(set(heard)) == 20 for heard in cell.sources.tolist())
    times = torch.bincount(cell.sources.flatten(), minlength=203)
    assert times.min() > 0  # nobody is mute


def test_topologies_are_what_they_are_called():
    ring = Reservoir(1, 5, topology="ring", spectral_radius=0.5).matrix()
    np.testing.assert_array_equal(ring, 0.5 * np.roll(np.eye(5), 1, 0))
    line = Reservoir(1, 5, topology="delay_line", spectral_radius=0.5).matrix()
    np.testing.assert_array_equal(line, 0.5 * np.eye(5, k=-1))
    permutation = Reservoir(1, 9, topology="permutation", spectral_radius=2.0, dtype=D).matrix()
    np.testing.assert_allclose(permutation @ permutation.T, 4 * np.eye(9))
    blocks = Reservoir(1, 9, topology="block", density=1 / 3, seed=0).matrix().reshape(3, 3, 3, 3)
    assert all((blocks[i, :, j] == 0).all() == (i != j) for i in range(3) for j in range(3))


def test_a_step_is_the_equation():
    cell = Reservoir(2, 30, leak=0.3, bias=0.5, input_scaling=[0.1, 2.0], noise=0.1, seed=0, dtype=D)
    h, x, nu = (torch.randn(n, dtype=D).numpy() for n in (30, 2, 30))
    U, W, b = cell.U.numpy(), cell.matrix().numpy(), cell.b.numpy()
    wanted = 0.7 * h + 0.3 * np.tanh(U @ x + W @ h + b + 0.1 * nu)
    found, _ = cell.step(torch.from_numpy(h)[None], torch.from_numpy(x)[None], torch.from_numpy(nu)[None])
    np.testing.assert_allclose(found[0], wanted, rtol=1e-12)
    assert np.abs(U[:, 0]).max() <= 0.1 < np.abs(U[:, 1]).max() <= 2.0


def test_weights_are_fixed_unless_they_are_to_be_trained():
    assert not list(Reservoir(2, 10).parameters())
    trained = Reservoir(2, 40, spectral_radius=1.2, trainable=True, seed=0, dtype=D)
    assert {name for name, _ in trained.named_parameters()} == {"U", "W", "b"}
    x = torch.randn(3, 6, 2, dtype=D)
    before = runs["compiled"]
    Recurrent(trained)(x)[0].square().sum().backward()
    assert runs["compiled"] == before + 1
    assert all(p.grad.abs().sum() > 0 for p in trained.parameters())


def test_gradients_pass_through_a_fixed_reservoir():
    below, above = cells.Elman(2, 3).double(), Reservoir(3, 20, seed=0, dtype=D)
    Recurrent(wrap.Stack(below, above))(torch.randn(2, 5, 2, dtype=D))[0].sum().backward()
    assert below.W.weight.grad.abs().sum() > 0


def test_it_stacks_and_runs_in_parallel_and_in_both_directions():
    x = torch.randn(2, 9, 2, dtype=D)
    a, b = (Reservoir(2, 12, leak=leak, seed=seed, dtype=D) for leak, seed in ((0.1, 0), (1.0, 1)))
    side = Recurrent(wrap.Parallel(copy.deepcopy(a), copy.deepcopy(b)))(x)[0]
    torch.testing.assert_close(side, torch.cat([Recurrent(a)(x)[0], Recurrent(b)(x)[0]], -1))
    deep = Recurrent(wrap.Stack(a, Reservoir(12, 8, seed=2, dtype=D)))(x)[0]
    assert deep.shape == (2, 9, 8)
    both, _ = Bidirectional(a, b)(x, lengths=[9, 4])
    torch.testing.assert_close(both[..., 12:][:1], Recurrent(b, reverse=True)(x[:1])[0])


def test_many_settings_are_one_batch():
    x = torch.randn(1, 8, 3, dtype=D).expand(3, -1, -1)
    settings = [(0.5, 1.0, 0.3, 0.0), (0.9, 0.2, 1.0, 0.5), (1.3, 0.7, 2.0, 1.0)]
    tuning = Tuning(*(torch.tensor([[s[k]] for s in settings], dtype=D) for k in range(4)))
    many = Recurrent(Reservoirs(3, 25, seed=5, dtype=D))(x, context=tuning)[0]
    for row, (rho, leak, scale, bias) in zip(many, settings):
        one = Reservoir(3, 25, spectral_radius=rho, leak=leak, input_scaling=scale, bias=bias, seed=5, dtype=D)
        torch.testing.assert_close(row, Recurrent(one)(x[:1])[0][0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_series_is_the_same_to_the_bit_alone_and_among_others(dtype):
    net = Recurrent(Reservoir(2, 133, leak=0.7, seed=1, dtype=dtype))
    x = torch.randn(21, 12, 2, dtype=dtype)
    together = net(x)[0]
    assert torch.equal(together, torch.cat([net(one[None])[0] for one in x]))


def test_the_same_seed_is_the_same_reservoir():
    assert torch.equal(Reservoir(2, 30, seed=7).W, Reservoir(2, 30, seed=7).W)
    torch.manual_seed(1)
    first = Reservoir(2, 30).W
    torch.manual_seed(1)
    assert torch.equal(first, Reservoir(2, 30).W)
    assert not torch.equal(first, Reservoir(2, 30).W)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spectral_radius": -1.0}, "at least 0, got -1"),
        ({"density": 0.0}, r"in \(0, 1\]; got 0"),
        ({"leak": 0.0}, r"in \(0, 1\]"),
        ({"leak": [0.5, 0.5]}, "one for each of the 10 units"),
        ({"topology": "star"}, "'star'"),
        ({"topology": np.zeros((3, 3))}, r"\[10, 10\]; got one of \[3, 3\]"),
        ({"topology": np.eye(10, k=1)}, "nilpotent"),
        ({"input_scaling": [1.0, 2.0, 3.0]}, "input_scaling is one finite number, or one for each of 2"),
        ({"input_density": 2.0}, "input_density"),
        ({"noise": -1.0}, "noise is a deviation"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(SettingsError, match=message):
        Reservoir(2, 10, **settings)


# what is measured


def test_a_delay_line_remembers_as_many_steps_as_it_has_units():
    line = Reservoir(1, 10, topology="delay_line", spectral_radius=1.0, activation="identity", input_density=0.1, seed=0, dtype=D)
    line.U.zero_()[0] = 1.0  # only its first unit hears
    total, parts = memory_capacity(line, longest=20, steps=500, penalty=1e-9)
    assert total == pytest.approx(9, abs=0.7)  # unit k holds x(t - k), the first the newest input, which does not count
    assert parts[:9].min() > 0.999
    assert parts[9:].max() < 0.1
    with pytest.raises(ShapeError, match="one number a step"):
        memory_capacity(Reservoir(2, 10))


def test_the_effective_radius_is_that_of_the_leaky_step():
    cell = Reservoir(1, 40, spectral_radius=0.8, leak=0.3, seed=0, dtype=D)
    assert effective_spectral_radius(cell) == pytest.approx(radius(0.7 * np.eye(40) + 0.3 * cell.matrix().numpy()), rel=1e-10)


def test_the_jacobian_along_a_trajectory():
    cell = Reservoir(1, 70, spectral_radius=1.1, leak=0.6, seed=0, dtype=D)
    x = torch.randn(12, 1, dtype=D)
    h, _ = Recurrent(cell)(x[None])
    found = jacobian_radius(cell, x, points=3)
    t = [1, 6, 11][-1]
    a = cell.U @ x[t] + cell.matrix() @ h[0, t - 1] + cell.b
    wanted = 0.4 * np.eye(70) + 0.6 * np.diag(1 - np.tanh(a.numpy()) ** 2) @ cell.matrix().numpy()
    assert found.shape == (3,)
    assert float(found[-1]) == pytest.approx(radius(wanted), rel=1e-9)


def test_the_echo_state_property_holds_or_does_not():
    x = torch.rand(200, 1, dtype=D)
    fine = echo_state_property(Reservoir(1, 40, spectral_radius=0.6, seed=0, dtype=D), x)
    assert fine.holds
    assert fine.rate < np.log(0.75)  # no slower than the radius, but for the start
    wild = echo_state_property(Reservoir(1, 40, spectral_radius=4.0, input_scaling=0.1, seed=0, dtype=D), x)
    assert not wild.holds
    assert wild.left > 0.1
