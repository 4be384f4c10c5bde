"""Every cell over trees and grids against its paper: one node with its children, in NumPy, column vectors."""

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from wavefront import Children, cells

D, H = 3, 4


def sigm(a):
    return 1 / (1 + np.exp(-a))


def scrambled(cell):
    cell.double()
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype) * 0.6)
    return cell


def random_states(cell, count):
    """One row each."""
    return [pytree.tree_map(torch.randn_like, cell.initial_state(1)) for _ in range(count)]


def blocks(cell, name, count, columns=1):
    """A parameter cut into `count` blocks of rows, and each into blocks of columns, one per child."""
    whole = dict(cell.named_parameters())[name].detach().numpy()
    rows = np.split(whole, count)
    return rows if columns == 1 else [np.split(row, columns, axis=1) for row in rows]


def run(cell, states, x):
    if cell.slots == "any":
        joined = (
            pytree.tree_map(lambda *leaves: torch.cat(leaves), *states)
            if states
            else pytree.tree_map(lambda t: t[:0], cell.initial_state(1))
        )
        states = Children(joined, torch.zeros(len(states), dtype=torch.long), 1)
    elif cell.slots == 1:
        (states,) = states
    with torch.no_grad():
        new, output = cell.step(states, x)
    return [leaf[0].numpy() for leaf in pytree.tree_leaves(new)], output[0].numpy()


def parts(states, name=None):
    return [(s if name is None else getattr(s, name))[0].numpy() for s in states]


def same(mine, theirs):
    np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("make", [cells.TreeRNN, cells.MDRNN])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_recursive_network(make, slots):
    torch.manual_seed(0)
    cell = scrambled(make(D, H, **{"slots" if make is cells.TreeRNN else "directions": slots}))
    states, x = random_states(cell, slots), torch.randn(1, D, dtype=torch.double)
    (U,), (b,), (W,) = blocks(cell, "U.weight", 1), blocks(cell, "U.bias", 1), blocks(cell, "W.weight", 1)
    a = U @ x[0].numpy() + b
    for k, h in enumerate(parts(states)):
        a = a + W[:, k * H : (k + 1) * H] @ h
    new, output = run(cell, states, x)
    same(new[0], np.tanh(a))
    same(output, np.tanh(a))


def test_tensor_network():
    """Socher et al. 2013: p = f([b; c]ᵀ V^{[1:d]} [b; c] + W [b; c]), slice by slice."""
    torch.manual_seed(1)
    cell = scrambled(cells.RNTN(D, H))
    states, x = random_states(cell, 2), torch.randn(1, D, dtype=torch.double)
    (U,), (b,), (W,) = blocks(cell, "U.weight", 1), blocks(cell, "U.bias", 1), blocks(cell, "W.weight", 1)
    slices = blocks(cell, "T.weight", H)
    both = np.concatenate(parts(states))
    quadratic = np.array([both @ V @ both for V in slices])
    new, _ = run(cell, states, x)
    same(new[0], np.tanh(quadratic + W @ both + U @ x[0].numpy() + b))


def test_matrix_vector_network():
    """Socher et al. 2012: p = g(W [B a; A b]), P = W_M [A; B]; with A = I + what the state holds, transposed."""
    torch.manual_seed(2)
    cell = scrambled(cells.MVRNN(D, H))
    states, x = random_states(cell, 2), torch.randn(1, D, dtype=torch.double)
    (U,), (b,), (W,) = blocks(cell, "U.weight", 1), blocks(cell, "U.bias", 1), blocks(cell, "W.weight", 1)
    (U_M,), (W_M,) = blocks(cell, "U_M.weight", 1), blocks(cell, "W_M.weight", 1)
    eye = np.eye(H)
    (a, c), (A, C) = parts(states, "h"), [eye + M.T for M in parts(states, "M")]
    p = np.tanh(U @ x[0].numpy() + b + W @ np.concatenate([C @ a, A @ c]))
    P = W_M @ np.concatenate([A - eye, C - eye]) + (U_M @ x[0].numpy()).reshape(H, H).T + eye
    new, _ = run(cell, states, x)
    same(new[0], p)
    same(new[1], (P - eye).T)


def test_a_matrix_without_words_is_the_papers():
    """With W_M = [I/2, I/2], where it starts, differences from the identity combine as the matrices do."""
    torch.manual_seed(2)
    cell = cells.MVRNN(D, H).double()
    states = random_states(cell, 2)
    A, C = (np.eye(H) + M.T for M in parts(states, "M"))
    new, _ = run(cell, states, torch.zeros(1, D, dtype=torch.double))
    same(np.eye(H) + new[1].T, cell.W_M.weight.detach().numpy() @ np.concatenate([A, C]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_child_sum_tree_lstm(count):
    """Tai et al. 2015, eq. 2-8 (their W is our U, their U our W)."""
    torch.manual_seed(3)
    cell = scrambled(cells.ChildSumTreeLSTM(D, H))
    states, x = random_states(cell, count), torch.randn(1, D, dtype=torch.double)
    (Wi, Wf, Wu, Wo), (bi, bf, bu, bo) = blocks(cell, "U.weight", 4), blocks(cell, "U.bias", 4)
    (Ui, Uu, Uo), (Uf,) = blocks(cell, "W.weight", 3), blocks(cell, "W_f.weight", 1)
    xj = x[0].numpy()
    h_tilde = sum(parts(states, "h"), np.zeros(H))
    i = sigm(Wi @ xj + Ui @ h_tilde + bi)
    o = sigm(Wo @ xj + Uo @ h_tilde + bo)
    u = np.tanh(Wu @ xj + Uu @ h_tilde + bu)
    c = i * u
    for h_k, c_k in zip(parts(states, "h"), parts(states, "c")):
        c = c + sigm(Wf @ xj + Uf @ h_k + bf) * c_k
    new, output = run(cell, states, x)
    same(new[0], o * np.tanh(c))
    same(new[1], c)
    same(output, o * np.tanh(c))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_n_ary_tree_lstm(slots):
    """Tai et al. 2015, eq. 9-14: U^{(f)}_{kl} for each pair of children."""
    torch.manual_seed(4)
    cell = scrambled(cells.TreeLSTM(D, H, slots=slots))
    states, x = random_states(cell, slots), torch.randn(1, D, dtype=torch.double)
    (Wi, Wf, Wu, Wo), (bi, bf, bu, bo) = blocks(cell, "U.weight", 4), blocks(cell, "U.bias", 4)
    rows = [np.split(row, slots, axis=1) for row in blocks(cell, "W.weight", 3 + slots)]
    Ui, Uf, Uu, Uo = rows[0], rows[1 : 1 + slots], rows[1 + slots], rows[2 + slots]
    xj, h, c_l = x[0].numpy(), parts(states, "h"), parts(states, "c")
    i = sigm(Wi @ xj + sum(Ui[m] @ h[m] for m in range(slots)) + bi)
    f = [sigm(Wf @ xj + sum(Uf[k][m] @ h[m] for m in range(slots)) + bf) for k in range(slots)]
    o = sigm(Wo @ xj + sum(Uo[m] @ h[m] for m in range(slots)) + bo)
    u = np.tanh(Wu @ xj + sum(Uu[m] @ h[m] for m in range(slots)) + bu)
    c = i * u + sum(f[m] * c_l[m] for m in range(slots))
    new, _ = run(cell, states, x)
    same(new[0], o * np.tanh(c))
    same(new[1], c)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_tree_gru(count):
    """Jin et al. 2018, eq. 4-8 (their W is our U, their U our W)."""
    torch.manual_seed(5)
    cell = scrambled(cells.TreeGRU(D, H))
    states, x = random_states(cell, count), torch.randn(1, D, dtype=torch.double)
    (Wr, Wz, Wn), (br, bz, bn) = blocks(cell, "U.weight", 3), blocks(cell, "U.bias", 3)
    Ur, Uz, Un = (blocks(cell, f"W_{name}.weight", 1)[0] for name in "rzn")
    xi, messages = x[0].numpy(), parts(states)
    s = sum(messages, np.zeros(H))
    z = sigm(Wz @ xi + Uz @ s + bz)
    r = [sigm(Wr @ xi + Ur @ m + br) for m in messages]
    m_tilde = np.tanh(Wn @ xi + Un @ sum((r_k * m for r_k, m in zip(r, messages)), np.zeros(H)) + bn)
    new, _ = run(cell, states, x)
    same(new[0], (1 - z) * s + z * m_tilde)


@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 0)])
def test_recursive_autoencoder(present):
    """Socher et al. 2011, eq. 1-3, and the normalisation of section 2.3."""
    torch.manual_seed(6)
    cell = scrambled(cells.RecursiveAutoencoder(D, H))
    states, x = random_states(cell, 2), torch.randn(1, D, dtype=torch.double)
    states = [s._replace(h=there * s.h / s.h.norm()) for s, there in zip(states, present)]
    (U,), (b,), (W,) = blocks(cell, "U.weight", 1), blocks(cell, "U.bias", 1), blocks(cell, "W.weight", 1)
    (V,), (c,) = blocks(cell, "V.weight", 1), blocks(cell, "V.bias", 1)
    both = np.concatenate(parts(states, "h"))
    p = np.tanh(U @ x[0].numpy() + b + W @ both)
    p = p / np.linalg.norm(p)
    rebuilt = np.split(V @ p + c, 2)
    error = sum(e[0] for e in parts(states, "error"))
    for h, r, there in zip(parts(states, "h"), rebuilt, present):
        error += there * 0.5 * np.linalg.norm(h - r) ** 2
    new, _ = run(cell, states, x)
    np.testing.assert_allclose(new[0], p, rtol=1e-7)  # the norm is kept from zero by 1e-8
    np.testing.assert_allclose(new[1], [error], rtol=1e-7)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("directions", [1, 2, 3])
def test_multi_dimensional_lstm(directions, peepholes):
    """Graves et al. 2007, section 3: the equations of the extended block, one forget gate per dimension."""
    torch.manual_seed(7)
    cell = scrambled(cells.MDLSTM(D, H, directions=directions, peepholes=peepholes))
    states, x = random_states(cell, directions), torch.randn(1, D, dtype=torch.double)
    U, b = blocks(cell, "U.weight", 3 + directions), blocks(cell, "U.bias", 3 + directions)
    W = [np.split(row, directions, axis=1) for row in blocks(cell, "W.weight", 3 + directions)]
    h, s = parts(states, "h"), parts(states, "c")
    a = [U[k] @ x[0].numpy() + b[k] + sum(W[k][d] @ h[d] for d in range(directions)) for k in range(3 + directions)]
    if peepholes:
        p_i, p_f, p_o = blocks(cell, "p_i", directions), blocks(cell, "p_f", directions), cell.p_o.detach().numpy()
        a[0] = a[0] + sum(p_i[d] * s[d] for d in range(directions))
        for d in range(directions):
            a[1 + d] = a[1 + d] + p_f[d] * s[d]
    new_s = sigm(a[0]) * np.tanh(a[-2]) + sum(sigm(a[1 + d]) * s[d] for d in range(directions))
    new_h = sigm(a[-1] + (p_o * new_s if peepholes else 0)) * np.tanh(new_s)
    new, _ = run(cell, states, x)
    same(new[0], new_h)
    same(new[1], new_s)


def test_stable_multi_dimensional_lstm():
    """Voigtlaender et al. 2016, section 2: s = (λ s₁ + (1 - λ) s₂) f + n i."""
    torch.manual_seed(8)
    cell = scrambled(cells.StableMDLSTM(D, H))
    states, x = random_states(cell, 2), torch.randn(1, D, dtype=torch.double)
    U, b = blocks(cell, "U.weight", 5), blocks(cell, "U.bias", 5)
    W = [np.split(row, 2, axis=1) for row in blocks(cell, "W.weight", 5)]
    h, s = parts(states, "h"), parts(states, "c")
    i, f, mix, n, o = (U[k] @ x[0].numpy() + b[k] + W[k][0] @ h[0] + W[k][1] @ h[1] for k in range(5))
    new_s = (sigm(mix) * s[0] + (1 - sigm(mix)) * s[1]) * sigm(f) + np.tanh(n) * sigm(i)
    new, _ = run(cell, states, x)
    same(new[0], sigm(o) * np.tanh(new_s))
    same(new[1], new_s)


def test_stable_cells_cannot_grow():
    """Whatever the weights: |c'| <= max |c| + 1 for the LSTM, |h'| <= max(|h|, 1) for the GRU; the plain one has no such bound."""
    torch.manual_seed(9)
    large = 50 * torch.ones(1, H, dtype=torch.double)
    for _ in range(20):
        x = 10 * torch.randn(1, D, dtype=torch.double)
        lstm, gru = scrambled(cells.StableMDLSTM(D, H)), scrambled(cells.MDGRU(D, H))
        state = lstm.sizes._replace(h=large, c=large)
        assert run(lstm, [state, state], x)[0][1].max() <= 51
        assert np.abs(run(gru, [large, large], x)[0][0]).max() <= 50
    plain = cells.MDLSTM(D, H, forget_bias=20.0).double()
    assert run(plain, [state._replace(h=0 * large)] * 2, 0 * x)[0][1].min() > 90


def test_multi_dimensional_gru():
    """As the docstring says; there is no paper with this cell."""
    torch.manual_seed(10)
    cell = scrambled(cells.MDGRU(D, H))
    states, x = random_states(cell, 2), torch.randn(1, D, dtype=torch.double)
    U, b, b2 = blocks(cell, "U.weight", 4), blocks(cell, "U.bias", 4), blocks(cell, "W.bias", 4)
    W = [np.split(row, 2, axis=1) for row in blocks(cell, "W.weight", 4)]
    h = parts(states)
    given = [U[k] @ x[0].numpy() + b[k] for k in range(4)]
    before = [W[k][0] @ h[0] + W[k][1] @ h[1] + b2[k] for k in range(4)]
    mix, r, z = (sigm(given[k] + before[k]) for k in range(3))
    n = np.tanh(given[3] + r * before[3])
    new, _ = run(cell, states, x)
    same(new[0], (1 - z) * n + z * (mix * h[0] + (1 - mix) * h[1]))


def test_with_one_child_they_are_the_cells_of_sequences():
    torch.manual_seed(11)
    x = torch.randn(1, D, dtype=torch.double)
    elman, lstm, gru = (scrambled(make(D, H)) for make in (cells.Elman, cells.LSTM, cells.GRUBefore))
    tree_rnn, tree_lstm, md_lstm = (
        make(D, H, slots=1) for make in (cells.TreeRNN, cells.TreeLSTM, lambda *a, slots: cells.MDLSTM(*a, directions=slots))
    )
    tree_rnn.double().load_state_dict(elman.state_dict())
    for other in (tree_lstm, md_lstm):
        other.double().load_state_dict(lstm.state_dict())
    child_sum, tree_gru = cells.ChildSumTreeLSTM(D, H).double(), cells.TreeGRU(D, H).double()
    W_i, W_f, W_g, W_o = lstm.W.weight.chunk(4)
    child_sum.load_state_dict({"U.weight": lstm.U.weight, "U.bias": lstm.U.bias, "W.weight": torch.cat([W_i, W_g, W_o]), "W_f.weight": W_f})
    turned = torch.ones(3 * H, dtype=torch.double)
    turned[H : 2 * H] = -1  # Jin et al.'s z replaces, Cho et al.'s keeps
    W_r, W_z = gru.W.weight.chunk(2)
    tree_gru.load_state_dict(
        {
            "U.weight": gru.U.weight * turned[:, None],
            "U.bias": gru.U.bias * turned,
            "W_r.weight": W_r,
            "W_z.weight": -W_z,
            "W_n.weight": gru.W_n.weight,
        }
    )
    for one, many in ((elman, [tree_rnn]), (lstm, [tree_lstm, md_lstm, child_sum]), (gru, [tree_gru])):
        (state,) = random_states(one, 1)
        want, _ = run(one, [state], x)
        for cell in many:
            for mine, theirs in zip(run(cell, [state], x)[0], want):
                same(mine, theirs)
