"""Echo state networks: readouts against NumPy, teacher forcing and free running, online learners, a summary of whole sequences."""

import numpy as np
import pytest
import torch

from wavefront import Recurrent, wrap
from wavefront.cells import LSTM, Reservoir
from wavefront.errors import DataError, ShapeError
from wavefront.networks import LMS, RLS, EchoState, EchoSummary, Ridge, force

D = torch.float64


def data(rows=120, features=9, targets=2, seed=0):
    random = np.random.default_rng(seed)
    f = random.normal(size=(rows, features)) @ random.normal(size=(features, features)) + 1e3
    return f, f @ random.normal(size=(features, targets)) + random.normal(size=(rows, targets))


def streamed(f, y, sizes=(1, 50, 0, 69)):
    sums = Ridge(f.shape[1], y.shape[1])
    for block in zip(torch.from_numpy(f).split(sizes), torch.from_numpy(y).split(sizes)):
        sums.add(*block)
    return sums


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 10.0])
def test_streamed_ridge_is_numpys_least_squares(penalty):
    f, y = data()
    V, c = streamed(f, y).solve(penalty)
    centred = np.vstack([f - f.mean(0), np.sqrt(penalty) * np.eye(9)])
    wanted, *_ = np.linalg.lstsq(centred, np.vstack([y - y.mean(0), np.zeros((9, 2))]), rcond=None)
    np.testing.assert_allclose(V.T, wanted, rtol=1e-6)
    np.testing.assert_allclose(c, y.mean(0) - f.mean(0) @ wanted, rtol=1e-6)


def test_fewer_rows_than_features_are_the_same_problem():
    f, y = data(rows=7)
    few, summed = streamed(f, y, (3, 4)), streamed(f, y, (3, 4))
    assert summed.ff.shape == (9, 9)  # asked for: from here on sums
    for penalty in (1e-3, 2.0):
        torch.testing.assert_close(few.solve(penalty).V, summed.solve(penalty).V, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(few.solve(penalty).c, summed.solve(penalty).c, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(few.gcv([0.5, 5.0]), summed.gcv([0.5, 5.0]), rtol=1e-6, atol=0)
    few.add(*(torch.from_numpy(a) for a in data(rows=50, seed=1)))
    summed.add(*(torch.from_numpy(a) for a in data(rows=50, seed=1)))
    torch.testing.assert_close(few.solve(0.1).V, summed.solve(0.1).V, rtol=1e-9, atol=0)


def test_several_penalties_are_one_decomposition():
    f, y = data()
    sums = streamed(f, y)
    for penalty, (V, c) in zip([1e-2, 1.0], sums.path([1e-2, 1.0])):
        torch.testing.assert_close(V, sums.solve(penalty).V, rtol=1e-7, atol=0)
        torch.testing.assert_close(c, sums.solve(penalty).c, rtol=1e-7, atol=0)


def test_generalised_cross_validation_by_the_hat_matrix():
    f, y = data(rows=40)
    sums = streamed(f, y, (40,))
    for penalty, score in zip([1e-2, 3.0, 1e4], sums.gcv([1e-2, 3.0, 1e4]).tolist()):
        g = f - f.mean(0)
        hat = 1 / 40 + g @ np.linalg.solve(g.T @ g + penalty * np.eye(9), g.T)
        rss = ((y - hat @ y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
        assert score == pytest.approx(rss.mean() / 40 / (1 - np.trace(hat) / 40) ** 2, rel=1e-6)


def test_numbers_that_are_none_are_counted_and_found():
    sums = Ridge(3, 1)
    sums.add(torch.zeros(5, 3), torch.zeros(5, 1))
    bad = torch.zeros(4, 3)
    bad[2, 1], bad[3, 0] = torch.nan, torch.inf
    with pytest.raises(DataError, match="2 of the features are NaN or infinite, the first in row 7"):
        sums.add(bad, torch.zeros(4, 1))
    with pytest.raises(ShapeError, match=r"f \[N, 3\] and y \[N, 1\]"):
        sums.add(torch.zeros(4, 2), torch.zeros(4, 1))


def test_a_constant_target_is_its_readouts_bias():
    net = EchoState(Reservoir(1, 20, seed=0, dtype=D), 1)
    net.fit(torch.randn(1, 50, 1, dtype=D), torch.full((1, 50, 1), 3.0, dtype=D))
    torch.testing.assert_close(net(torch.randn(1, 9, 1, dtype=D))[0], torch.full((1, 9, 1), 3.0, dtype=D))


def test_a_series_shorter_than_the_washout_is_an_error():
    net = EchoState(Reservoir(1, 20, seed=0, dtype=D), 1)
    with pytest.raises(DataError, match="longest series has 30 steps, of which the first 40 are the washout"):
        net.fit(torch.randn(2, 30, 1, dtype=D), torch.randn(2, 30, 1, dtype=D), washout=40)


@pytest.mark.parametrize("feedback", [False, True])
def test_the_readout_is_least_squares_of_states(feedback, monkeypatch):
    monkeypatch.setattr("wavefront.networks.echo_state.CHUNK", 2 * 32 * 4)  # sums over a few steps at a time
    cell = Reservoir(1, 30, feedback=2 if feedback else 0, leak=0.5, seed=0, dtype=D)
    net = EchoState(cell, 2, feedback=feedback)
    x, y = torch.randn(2, 25, 1, dtype=D), torch.randn(2, 25, 2, dtype=D)
    net.fit(x, y, lengths=[25, 18], washout=5, penalty=0.3)
    heard = torch.cat([x, torch.cat([torch.zeros(2, 1, 2, dtype=D), y[:, :-1]], 1)], -1) if feedback else x
    h = torch.cat([Recurrent(cell)(heard)[0], heard], -1)
    sums = Ridge(h.shape[2], 2)
    sums.add(torch.cat([h[0, 5:], h[1, 5:18]]), torch.cat([y[0, 5:], y[1, 5:18]]))
    V, c = sums.solve(0.3)
    torch.testing.assert_close(net.reading.V, V, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(net.reading.c, c, rtol=1e-9, atol=1e-11)


def test_free_running_is_feeding_the_output_back_by_hand():
    cell = Reservoir(1, 20, feedback=1, seed=0, dtype=D)
    net = EchoState(cell, 1, feedback=True, squares=True)
    net.reading.V.normal_(std=0.05)
    x, y = torch.randn(1, 12, 1, dtype=D), torch.randn(1, 12, 1, dtype=D)
    _, memory = net(x, targets=y)
    found, after = net(x, memory)
    h, o = memory.inner, y[:, -1]
    for t in range(12):
        inputs = torch.cat([x[:, t], o], 1)
        h, _ = cell.step(h, inputs)
        o = net.reading.read(h, inputs) @ net.reading.V.T + net.reading.c
        torch.testing.assert_close(found[:, t], o)
    torch.testing.assert_close(after.output, o)


def test_cut_anywhere_and_step_by_step_it_is_the_same():
    net = EchoState(wrap.Stack(Reservoir(1, 15, seed=0, dtype=D), Reservoir(15, 10, seed=1, dtype=D)), 1)
    assert net.reading.features == 26  # both layers and the input
    net.reading.V.normal_()
    x = torch.randn(2, 10, 1, dtype=D)
    whole, _ = net(x)
    first, memory = net(x[:, :4])
    second, _ = net(x[:, 4:], memory)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    memory = None
    for t in range(10):
        memory, o = net.step(memory, x[:, t])
        torch.testing.assert_close(o, whole[:, t])


def test_any_cell_can_be_the_reservoir():
    torch.manual_seed(0)
    net = EchoState(LSTM(1, 30).double(), 1).fit(torch.randn(1, 80, 1, dtype=D), torch.randn(1, 80, 1, dtype=D))
    assert net.reading.features == 61  # h, c and the input


def test_inputs_of_another_size_are_refused():
    net = EchoState(Reservoir(1, 20, feedback=2, seed=0, dtype=D), 2, feedback=True)
    with pytest.raises(ShapeError, match=r"x of \[B, T, 1\]"):
        net(torch.zeros(1, 5, 3, dtype=D))
    with pytest.raises(ShapeError, match=r"targets of \[1, 5, 2\]"):
        net(torch.zeros(1, 5, 1, dtype=D), targets=torch.zeros(1, 4, 2, dtype=D))
    with pytest.raises(ShapeError, match="too few"):
        EchoState(Reservoir(1, 20), 2, feedback=True)


# learners


def test_recursive_least_squares_is_ridge_with_a_penalised_bias():
    f, y = data(rows=30, features=4)
    f = (f - 1e3) / 10
    learner = RLS(4, 2, penalty=0.5)
    for row, target in zip(torch.from_numpy(f), torch.from_numpy(y)):
        learner.update(row, target)
    g = np.hstack([f, np.ones((30, 1))])
    wanted = np.linalg.solve(g.T @ g + 0.5 * np.eye(5), g.T @ y)
    np.testing.assert_allclose(learner.weights.T, wanted, rtol=1e-8)


def test_forgetting_weighs_what_is_long_ago_less():
    f, y = data(rows=40, features=3, targets=1)
    f = (f - 1e3) / 10
    learner = RLS(3, 1, forgetting=0.9, penalty=1e-9)
    for row, target in zip(torch.from_numpy(f), torch.from_numpy(y)):
        learner.update(row, target)
    g, w = np.hstack([f, np.ones((40, 1))]), 0.9 ** np.arange(39, -1, -1.0)
    wanted = np.linalg.solve(g.T * w @ g + 1e-9 * 0.9**40 * np.eye(4), g.T * w @ y)
    np.testing.assert_allclose(learner.weights.T, wanted, rtol=1e-5)


def test_least_mean_squares_steps_down_the_last_error():
    learner = LMS(2, 1, rate=0.5)
    f, y = torch.tensor([3.0, 4.0], dtype=D), torch.tensor([2.0], dtype=D)
    assert float(learner.update(f, y)) == 2.0
    torch.testing.assert_close(learner.weights, torch.tensor([[3.0, 4.0, 1.0]], dtype=D) * 0.5 * 2 / 26)
    with pytest.raises(ValueError, match="rate"):
        LMS(2, 1, rate=2)


def test_force_keeps_the_output_right_while_it_is_fed_back():
    wave = torch.sin(torch.arange(600, dtype=D) / 5)[:, None]
    net = EchoState(Reservoir(0, 80, spectral_radius=1.2, leak=0.3, feedback=1, seed=0, dtype=D), 1, feedback=True)
    errors = []
    fed = force(net, wave[:, :0], wave, listen=lambda t, error: errors.append(float(error.abs())))
    assert max(errors[-50:]) < 0.05 < max(errors[:50])
    assert float((fed[-50:] - wave[-50:]).abs().max()) < 0.05


# whole sequences


def test_a_summary_is_the_means_of_the_parts():
    cell, back = Reservoir(2, 11, seed=0, dtype=D), Reservoir(2, 11, seed=1, dtype=D)
    net = EchoSummary(cell, 3, parts=3, reverse=back)
    x = torch.randn(3, 10, 2, dtype=D)
    lengths = [10, 7, 2]
    found = net.summary(x, lengths)
    for row, n in enumerate(lengths):
        one = x[row : row + 1, :n]
        h = torch.cat([Recurrent(cell)(one)[0], one], -1)[0]
        g = Recurrent(back, reverse=True)(one)[0][0]
        cut = [(p * n // 3, max(p * n // 3 + 1, (p + 1) * n // 3)) for p in range(3)]
        wanted = torch.cat([*(h[a:b].mean(0) for a, b in cut), *(g[a:b].mean(0) for a, b in cut)])
        torch.testing.assert_close(found[row], wanted)
