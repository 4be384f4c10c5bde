"""Cells of many time scales against their papers, in NumPy, from random states; nothing of the package is used in the equations."""

import numpy as np
import pytest
import scipy.signal
import torch
from torch.utils import _pytree as pytree

from wavefront import cells
from wavefront.cells import Irregular

D, H, T, ROWS = 3, 4, 6, 2


def sigm(a):
    return 1 / (1 + np.exp(-a))


def softplus(a):
    return np.log1p(np.exp(a))


def scrambled(cell):
    """In float64, with every parameter away from its start, so that no zero hides a mistake."""
    cell.double()
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype) * 0.6)
    return cell


def arrays(cell):
    return {name: p.detach().numpy() for name, p in cell.named_parameters()}


def follow(cell, paper, x, state=None, output=0):
    """`paper(*state parts, *x parts, t)` -> (new parts, output), row by row over T steps, against ours."""
    if state is None:
        state = pytree.tree_map(torch.randn_like, cell.initial_state(ROWS))
    leaves, spec = pytree.tree_flatten(state)
    theirs = [[leaf[row].numpy() for leaf in leaves] for row in range(ROWS)]
    for t in range(T):
        now = pytree.tree_map(lambda part, t=t: part[t], x)
        with torch.no_grad():
            state, out = cell.step(state, now)
        for row in range(ROWS):
            new, expected = paper(*theirs[row], *(part[row].numpy() for part in pytree.tree_leaves(now)))
            theirs[row] = list(new)
            for mine, his in zip(pytree.tree_leaves(state), theirs[row], strict=True):
                np.testing.assert_allclose(mine[row].numpy(), his, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(out[row].numpy(), expected, rtol=1e-10, atol=1e-12)
    assert pytree.tree_structure(state) == spec


def series(*sizes):
    return torch.randn(T, ROWS, *sizes, dtype=torch.float64)


def irregular():
    return Irregular(series(D), series(1).abs(), (series(D) > 0).double())


def blocks(W, *names):
    return dict(zip(names, np.split(W, len(names))))


def test_min_gru():
    """Feng et al. 2024, 3.1.3: h_t = (1 - z_t) h_{t-1} + z_t h~_t, both linear in x alone."""
    cell = scrambled(cells.MinGRU(D, H))
    p = arrays(cell)
    W, b = blocks(p["U.weight"], "z", "h"), blocks(p["U.bias"], "z", "h")

    def paper(h, x):
        z = sigm(W["z"] @ x + b["z"])
        h = (1 - z) * h + z * (W["h"] @ x + b["h"])
        return [h], h

    follow(cell, paper, series(D))


def test_min_lstm():
    """Feng et al. 2024, 3.2.4: f' = f / (f + i), i' = i / (f + i)."""
    cell = scrambled(cells.MinLSTM(D, H))
    p = arrays(cell)
    W, b = blocks(p["U.weight"], "i", "f", "h"), blocks(p["U.bias"], "i", "f", "h")

    def paper(h, x):
        i, f = sigm(W["i"] @ x + b["i"]), sigm(W["f"] @ x + b["f"])
        h = f / (f + i) * h + i / (f + i) * (W["h"] @ x + b["h"])
        return [h], h

    follow(cell, paper, series(D))


@pytest.mark.parametrize("inputs", [D, H])
def test_sru(inputs):
    """Lei et al. 2018, eq. 1-4."""
    cell = scrambled(cells.SRU(inputs, H))
    p = arrays(cell)
    W, v, b = blocks(p["U.weight"], "c", "f", "r"), blocks(p["v"], "f", "r"), blocks(p["b"], "f", "r")

    def paper(c, x):
        f = sigm(W["f"] @ x + v["f"] * c + b["f"])
        r = sigm(W["r"] @ x + v["r"] * c + b["r"])
        c = f * c + (1 - f) * (W["c"] @ x)
        return [c], r * c + (1 - r) * (x if inputs == H else p["P.weight"] @ x)

    follow(cell, paper, series(inputs))


def test_qrnn():
    """Bradbury et al. 2017, eq. 3 and 5: a masked convolution of width k, W = [W^1, ..., W^k], the last being of x_t."""
    cell = scrambled(cells.QRNN(D, H, width=3))
    p = arrays(cell)
    W, b = blocks(p["U.weight"], "z", "f", "o"), blocks(p["U.bias"], "z", "f", "o")

    def convolved(name, x):
        return sum(W[name][:, at * D : (at + 1) * D] @ x[at] for at in range(3)) + b[name]

    def paper(c, past, x):
        window = [*past, x]
        z, f, o = np.tanh(convolved("z", window)), sigm(convolved("f", window)), sigm(convolved("o", window))
        c = f * c + (1 - f) * z
        return [c, np.array(window[1:])], o * c

    follow(cell, paper, series(D))


def test_lru_in_complex_numbers():
    """Orvieto et al. 2023, eq. 1 and 6-7: x_k = diag(λ) x_{k-1} + γ B u_k, y_k = Re(C x_k) + D u_k."""
    cell = scrambled(cells.LRU(D, H, outputs=2))
    p = arrays(cell)
    lam = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    B = p["B.weight"][:H] + 1j * p["B.weight"][H:]
    C = p["C.weight"][:, :H] - 1j * p["C.weight"][:, H:]

    def paper(re, im, u):
        x = lam * (re + 1j * im) + p["gamma"] * (B @ u)
        return [x.real, x.imag], (C @ x).real + p["D.weight"] @ u

    follow(cell, paper, series(D))


def test_lru_starts_in_its_ring():
    cell = cells.LRU(2, 4000, radius=(0.8, 0.99), phase=0.5)
    size = torch.hypot(*cell.factor)
    angle = torch.atan2(cell.factor.im, cell.factor.re)
    assert 0.8 - 1e-5 < size.min() < 0.81
    assert 0.98 < size.max() < 0.99 + 1e-5
    assert abs((size**2).mean() - (0.8**2 + 0.99**2) / 2) < 0.01  # uniform in the square: standard error 0.0016
    assert 0 <= angle.min() < 0.01
    assert 0.49 < angle.max() <= 0.5 + 1e-5
    torch.testing.assert_close(cell.gamma.detach(), (1 - size**2).sqrt().detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("inputs", [D, H])
def test_rg_lru(inputs):
    """De et al. 2024, eq. 1-4, a_t = a^(c r_t) with a = exp(-softplus(Λ)) and c = 8."""
    cell = scrambled(cells.RGLRU(inputs, H))
    p = arrays(cell)
    W, b = blocks(p["U.weight"], "a", "x"), blocks(p["U.bias"], "a", "x")

    def paper(h, x):
        r, i = sigm(W["a"] @ x + b["a"]), sigm(W["x"] @ x + b["x"])
        a = np.exp(-softplus(p["Lambda"])) ** (8 * r)
        h = a * h + np.sqrt(1 - a**2) * (i * (x if inputs == H else p["P.weight"] @ x))
        return [h], h

    follow(cell, paper, series(inputs))


def test_rg_lru_starts_between_its_bounds():
    a = (-8 * torch.nn.functional.softplus(cells.RGLRU(2, 2000).Lambda)).exp()
    assert 0.9 - 1e-3 < a.min() < 0.901
    assert 0.998 < a.max() < 0.9991
    assert abs(a.mean() - 0.9495) < 0.003  # standard error 0.0006


def test_clockwork_as_one_masked_matrix():
    """Koutnik et al. 2014, eq. 4 and figure 1: W_H is block-upper triangular, and only rows of groups whose period divides t are computed."""
    periods, sizes = (1, 2, 3), (2, 1, 1)
    cell = scrambled(cells.Clockwork(D, H, periods, sizes=sizes))
    p = arrays(cell)
    starts = np.cumsum([0, *sizes])
    W_in = np.concatenate([p[f"U.{i}.weight"] for i in range(3)])
    bias = np.concatenate([p[f"U.{i}.bias"] for i in range(3)])
    W = np.zeros((H, H))
    for i in range(3):
        W[starts[i] : starts[i + 1], starts[i] :] = p[f"W.{i}.weight"]
    period = np.repeat(periods, sizes)
    h, x = torch.randn(ROWS, H, dtype=torch.float64), torch.randn(12, ROWS, D, dtype=torch.float64)
    expected = h.numpy()
    assert cell.phases == 6
    for t in range(12):
        with torch.no_grad():
            h, output = cell.step(h, x[t], phase=t % 6)
        expected = np.where(t % period == 0, np.tanh(expected @ W.T + x[t].numpy() @ W_in.T + bias), expected)
        np.testing.assert_allclose(output, expected, rtol=1e-11, atol=1e-13)
        assert output is h


def test_legendre_memory_unit():
    """Voelker et al. 2019, eq. 1-2 and 5-7; the memory's equation as scipy discretises it (zero-order hold)."""
    order, theta = 5, 7.0
    cell = scrambled(cells.LMU(D, H, order=order, theta=theta))
    A = np.array([[(2 * i + 1) * (-1.0 if i < j else (-1.0) ** (i - j + 1)) for j in range(order)] for i in range(order)]) / theta
    B = np.array([[(2 * i + 1) * (-1.0) ** i] for i in range(order)]) / theta
    A, B, *_ = scipy.signal.cont2discrete((A, B, np.zeros((1, order)), np.zeros((1, 1))), dt=1.0, method="zoh")
    # held in float32 until .double()
    np.testing.assert_allclose(cell.A, A, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(cell.B, B[:, 0], rtol=1e-5, atol=1e-7)
    A, B, p = cell.A.numpy(), cell.B.numpy(), arrays(cell)

    def paper(h, m, x):
        u = p["e_x.weight"] @ x + p["e_h.weight"] @ h + p["e_m.weight"] @ m
        m = A @ m + B * u
        h = np.tanh(p["U_x.weight"] @ x + p["U_x.bias"] + p["W.weight"] @ h + p["U_m.weight"] @ m)
        return [h, m], h

    follow(cell, paper, series(D))


def test_legendre_memory_holds_a_window():
    """Voelker et al. 2019, eq. 3: u(t - r θ) = Σ P_i(2 r - 1) m_i(t), the P shifted Legendre polynomials."""
    order, theta = 12, 60
    A, B = cells.legendre.legendre(order, theta)
    signal = np.sin(np.arange(400) / 15) + 0.3 * np.cos(np.arange(400) / 7)
    m = np.zeros(order)
    for u in signal:
        m = A.numpy() @ m + B.numpy() * u
    for r in (0.1, 0.35, 0.6, 0.9):
        decoded = np.polynomial.legendre.Legendre(m)(2 * r - 1)
        # the hold delays by half a step
        at = 399 - r * theta + 0.5
        assert abs(decoded - (np.sin(at / 15) + 0.3 * np.cos(at / 7))) < 0.02


def test_phased_lstm():
    """Neil et al. 2016, eq. 6-11, without peepholes."""
    cell = scrambled(cells.PhasedLSTM(D, H, open=0.4, leak=0.01, gaps=True))
    with torch.no_grad():
        cell.period.copy_(torch.tensor([1.5, 3.0, 7.0, 20.0]))
    p = arrays(cell)
    names = ("i", "f", "c", "o")
    W, R, b = blocks(p["U.weight"], *names), blocks(p["W.weight"], *names), blocks(p["U.bias"], *names)

    def paper(h, c, t, x, gap, observed):
        t = t + gap
        x = np.where(observed == 1, x, 0)
        phi = np.mod(t - p["shift"], p["period"]) / p["period"]
        k = np.where(phi < 0.2, 2 * phi / 0.4, np.where(phi < 0.4, 2 - 2 * phi / 0.4, 0.01 * phi))
        i, f, o = (sigm(W[g] @ x + R[g] @ h + b[g]) for g in "ifo")
        new_c = f * c + i * np.tanh(W["c"] @ x + R["c"] @ h + b["c"])
        new_h = o * np.tanh(new_c)
        h, c = k * new_h + (1 - k) * h, k * new_c + (1 - k) * c
        return [h, c, t], h

    follow(cell, paper, irregular())


def test_phased_lstm_counts_its_steps_and_lets_nothing_through_when_it_is_closed():
    cell = cells.PhasedLSTM(D, H, (5, 50), open=0.1).eval()
    state, output = cell.step(cell.initial_state(1)._replace(t=torch.tensor([[41.0]])), torch.randn(1, D))
    assert state.t.item() == 42
    phase = ((42 - cell.shift) / cell.period) % 1
    assert torch.equal(output[0] != 0, phase < 0.1)


def test_slstm_is_the_equation_without_the_running_maximum():
    """Beck et al. 2024, eq. 8-14: no m at all, exponentials as they are."""
    cell = scrambled(cells.SLSTM(D, H))
    p = arrays(cell)
    names = ("i", "f", "z", "o")
    W, R, b = blocks(p["U.weight"], *names), blocks(p["W.weight"], *names), blocks(p["U.bias"], *names)
    x, state = series(D), cell.initial_state(ROWS)
    for row in range(ROWS):
        h = c = n = np.zeros(H)
        mine = pytree.tree_map(lambda leaf, row=row: leaf[row : row + 1], state)
        for t in range(T):
            a = {g: W[g] @ x[t, row].numpy() + R[g] @ h + b[g] for g in names}
            i, f = np.exp(a["i"]), sigm(a["f"])
            c, n = f * c + i * np.tanh(a["z"]), f * n + i
            h = sigm(a["o"]) * c / n
            with torch.no_grad():
                mine, out = cell.step(mine, x[t, row : row + 1])
            np.testing.assert_allclose(out[0], h, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(mine.c[0] * mine.m[0].exp(), c, rtol=1e-10, atol=1e-12)


def test_exponential_gates_stay_in_range():
    for cell in (cells.SLSTM(1, 2), cells.MLSTM(1, 2)):
        with torch.no_grad():
            for p in cell.parameters():
                p.fill_(3.0)
        state = cell.initial_state(1)
        for x in (200.0, -300.0, 100.0, 0.0, -500.0):  # e^600 and more
            state, output = cell.step(state, torch.full((1, 1), x))
            assert all(leaf.isfinite().all() for leaf in pytree.tree_leaves(state))
            assert output.isfinite().all()


def test_mlstm_is_a_weighted_sum_over_all_steps():
    """Beck et al. 2024, eq. 19-27 without the running maximum, as one sum over the past for each step (their parallel form)."""
    heads, width = 2, 2
    cell = scrambled(cells.MLSTM(D, H, heads=heads))
    p = arrays(cell)
    x, state, outputs = series(D), cell.initial_state(ROWS), []
    for t in range(T):
        with torch.no_grad():
            state, out = cell.step(state, x[t])
        outputs.append(out.numpy())
    U, b = blocks(p["U.weight"], "q", "k", "v", "o"), blocks(p["U.bias"], "q", "k", "v", "o")
    gates, g_b = blocks(p["gates.weight"], "i", "f"), blocks(p["gates.bias"], "i", "f")
    for row in range(ROWS):
        xs = x[:, row].numpy()
        of = {g: (xs @ U[g].T + b[g]).reshape(T, heads, width) for g in "qkvo"}
        i, f = np.exp(xs @ gates["i"].T + g_b["i"]), sigm(xs @ gates["f"].T + g_b["f"])
        for t in range(T):
            for head in range(heads):
                read, size = np.zeros(width), 0.0
                for s in range(t + 1):
                    weight = i[s, head] * np.prod(f[s + 1 : t + 1, head]) * (of["k"][s, head] @ of["q"][t, head]) / np.sqrt(width)
                    read, size = read + weight * of["v"][s, head], size + weight
                expected = sigm(of["o"][t, head]) * read / max(abs(size), 1)
                np.testing.assert_allclose(outputs[t][row, head * width : (head + 1) * width], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gated", [False, True])
def test_delta_rules_as_products_of_matrices(gated):
    """Yang et al. 2025, eq. 10: S_t = S_{t-1} (α_t (I - β_t k_t k_tᵀ)) + β_t v_t k_tᵀ; α = 1: Schlag et al. 2021."""
    heads, width = 2, 2
    cell = scrambled((cells.GatedDeltaRule if gated else cells.DeltaRule)(D, H, heads=heads))
    p = arrays(cell)
    U, b = blocks(p["U.weight"], "q", "k", "v"), blocks(p["U.bias"], "q", "k", "v")

    def paper(S, x):
        of = {g: (U[g] @ x + b[g]).reshape(heads, width) for g in "qkv"}
        if gated:
            rate, fade = np.split(p["gates.weight"] @ x + p["gates.bias"], 2)
            alpha = np.exp(-np.exp(p["a"]) * softplus(fade))
        else:
            rate, alpha = p["rate.weight"] @ x + p["rate.bias"], np.ones(heads)
        new, read = [], []
        for head in range(heads):
            q, k = (of[g][head] / np.sqrt(of[g][head] @ of[g][head] + 1e-6) for g in "qk")
            beta = sigm(rate[head])
            S_t = S[head] @ (alpha[head] * (np.eye(width) - beta * np.outer(k, k))) + beta * np.outer(of["v"][head], k)
            new.append(S_t)
            read.append(S_t @ q)
        return [np.array(new)], np.concatenate(read)

    follow(cell, paper, series(D))


def test_gru_d():
    """Che et al. 2018, eq. 1, 3-5 and 6-10, in the paper's z_t."""
    cell = scrambled(cells.GRUD(D, H, mean=torch.tensor([0.5, -1.0, 2.0])))
    p, mean = arrays(cell), cell.mean.numpy()
    names = ("r", "z", "h")
    W, b = blocks(p["U.weight"], *names), blocks(p["U.bias"], *names)
    U = {**blocks(p["W.weight"], "r", "z"), "h": p["W_n.weight"]}

    def paper(h, last, since, x, gap, m):
        delta = since + gap  # since: 0 where the last step was observed
        decay_x = np.exp(-np.maximum(0, p["w_x"] * delta + p["b_x"]))
        decay_h = np.exp(-np.maximum(0, p["fade.weight"] @ delta + p["fade.bias"]))
        seen = np.concatenate([m * x + (1 - m) * (decay_x * last + (1 - decay_x) * mean), m])
        h = decay_h * h
        z, r = sigm(W["z"] @ seen + U["z"] @ h + b["z"]), sigm(W["r"] @ seen + U["r"] @ h + b["r"])
        new = np.tanh(W["h"] @ seen + U["h"] @ (r * h) + b["h"])
        h = (1 - z) * h + z * new
        return [h, np.where(m == 1, x, last), np.where(m == 1, 0, delta)], h

    follow(cell, paper, irregular())
    assert torch.equal(cell.initial_state(1).last[0], cell.mean)


def test_cfc():
    """Hasani et al. 2022, eq. 4, with the authors' backbone (1.7159 tanh(2/3 a)) and offset."""
    cell = scrambled(cells.CfC(D, H, backbone=5))
    p = arrays(cell)
    V, c = blocks(p["V.weight"], "g", "h", "f", "b"), blocks(p["V.bias"], "g", "h", "f", "b")

    def paper(h, x, gap, m):
        z = 1.7159 * np.tanh(0.666666666666666666 * (p["U.weight"] @ np.concatenate([m * x, m]) + p["U.bias"] + p["W.weight"] @ h))
        head = {k: V[k] @ z + c[k] for k in V}
        s = sigm(-head["f"] * gap + head["b"])
        h = s * np.tanh(head["g"]) + (1 - s) * np.tanh(head["h"])
        return [h], h

    follow(cell, paper, irregular())


@pytest.mark.parametrize("make", [cells.GRUD, cells.CfC, lambda inputs, units: cells.PhasedLSTM(inputs, units, gaps=True)])
def test_what_was_not_observed_is_never_looked_at(make):
    cell, x, state = make(D, H), torch.randn(ROWS, D), None
    observed = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    spoiled = torch.where(observed == 1, x, torch.nan)
    first = [cell(state, Irregular(value, torch.ones(ROWS, 1), observed))[1] for value in (x, spoiled)]
    assert torch.equal(*first)
