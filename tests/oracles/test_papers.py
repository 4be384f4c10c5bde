"""Every cell against its paper, in NumPy, over a few steps from random states."""

import numpy as np
import pytest
import torch

from oracles import papers
from wavefront import cells

D, H, T, ROWS = 3, 5, 4, 2


def scrambled(cell):
    """In float64, with every parameter away from its start, so that no zero hides a mistake."""
    cell.double()
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype) * 0.6)
    return cell


def weights(cell, **names):
    """{our name or (our name, which block, of how many): paper's name} the other way round, as NumPy."""
    found = {}
    ours = dict(cell.named_parameters())
    for theirs, mine in names.items():
        name, block, blocks = mine if isinstance(mine, tuple) else (mine, 0, 1)
        found[theirs] = ours[name].detach().chunk(blocks)[block].numpy()
    return found


def check(cell, paper, inputs=D, parts=1, **draws):
    """`paper(*state parts, x, [draws])` -> new parts, the first of them the output, row by row; against ours over T steps."""
    x = torch.randn(T, ROWS, inputs, dtype=torch.float64)
    leaves = [
        torch.randn(ROWS, *([s] if isinstance(s, int) else s), dtype=torch.float64) for s in torch.utils._pytree.tree_leaves(cell.sizes)
    ]
    state = type(cell.sizes)(*leaves) if parts > 1 else leaves[0]
    expected = [[leaf[row].numpy() for leaf in leaves] for row in range(ROWS)]
    for t in range(T):
        given = {name: value[t] for name, value in draws.items()}
        with torch.no_grad():
            state, output = cell.step(state, x[t], **given)
        for row in range(ROWS):
            new = paper(*expected[row], x[t, row].numpy(), *(value[row].numpy() for value in given.values()))
            expected[row] = [new] if parts == 1 else list(new)
            for ours, theirs in zip(torch.utils._pytree.tree_leaves(state), expected[row]):
                np.testing.assert_allclose(ours[row], theirs, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(output[row], expected[row][0], rtol=1e-11, atol=1e-13)


def lstm_weights(cell, blocks="ifgo"):
    names = {"i": "i", "f": "f", "g": "z", "o": "o"}
    found = {}
    for at, block in enumerate(blocks):
        n, k = len(blocks), names[block]
        found |= weights(cell, **{f"W_{k}": ("U.weight", at, n), f"b_{k}": ("U.bias", at, n), f"R_{k}": ("W.weight", at, n)})
    for block in "ifo":
        if getattr(getattr(cell, block), "p", None) is not None:
            found |= weights(cell, **{f"p_{block}": f"{block}.p"})
    return found


@pytest.mark.parametrize(("name", "phi"), [("tanh", np.tanh), ("relu", papers.relu), ("sigmoid", papers.sigm)])
def test_elman(name, phi):
    cell = scrambled(cells.Elman(D, H, activation=name))
    W = weights(cell, U="U.weight", W="W.weight", b="U.bias")
    check(cell, lambda h, x: papers.elman(W, h, x, phi))


def test_elman_takes_any_function():
    cell = scrambled(cells.Elman(D, H, activation=torch.nn.functional.softplus))
    W = weights(cell, U="U.weight", W="W.weight", b="U.bias")
    check(cell, lambda h, x: papers.elman(W, h, x, lambda a: np.log1p(np.exp(a))))


ABLATIONS = {
    "V": ({}, "ifgo"),
    "NIG": ({"without": {"input_gate"}}, "fgo"),
    "NFG": ({"without": {"forget_gate"}}, "igo"),
    "NOG": ({"without": {"output_gate"}}, "ifg"),
    "NIAF": ({"without": {"input_activation"}}, "ifgo"),
    "NOAF": ({"without": {"output_activation"}}, "ifgo"),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_lstm_with_peepholes_and_its_ablations(name):
    options, blocks = ABLATIONS[name]
    cell = scrambled(cells.LSTM(D, H, peepholes=True, **options))
    W = lstm_weights(cell, blocks)
    check(cell, lambda y, c, x: papers.vanilla_lstm(W, y, c, x, without={name}), parts=2)


def test_lstm_without_several_parts():
    cell = scrambled(cells.LSTM(D, H, peepholes=True, without={"output_gate", "output_activation"}))
    W = lstm_weights(cell, "ifg")
    check(cell, lambda y, c, x: papers.vanilla_lstm(W, y, c, x, without={"NOG", "NOAF"}), parts=2)


@pytest.mark.parametrize("peepholes", [True, False])
def test_lstm_with_coupled_gates(peepholes):
    cell = scrambled(cells.LSTM(D, H, peepholes=peepholes, coupled=True))
    W = lstm_weights(cell, "igo")
    check(cell, lambda y, c, x: papers.vanilla_lstm(W, y, c, x, coupled=True, peepholes=peepholes), parts=2)


def test_lstm_without_peepholes():
    cell = scrambled(cells.LSTM(D, H))
    W = lstm_weights(cell)
    check(cell, lambda y, c, x: papers.vanilla_lstm(W, y, c, x, peepholes=False), parts=2)


def test_full_gate_lstm():
    cell = scrambled(cells.FullGateLSTM(D, H))
    W = lstm_weights(cell)
    for row, to in enumerate("ifo"):
        for column, source in enumerate("ifo"):
            W[f"R_{to}{source}"] = weights(cell, R=("R.weight", row, 3))["R"][:, column * H : (column + 1) * H]
    check(cell, lambda *state_and_x: papers.full_gate_lstm(W, *state_and_x), parts=5)


def test_lstm_with_a_projection():
    cell = scrambled(cells.LSTM(D, H, projection=4))
    W = lstm_weights(cell) | weights(cell, W_rm="V.weight")
    check(cell, lambda r, c, x: papers.projected_lstm(W, r, c, x), parts=2)


def test_lstm_with_layer_normalisation():
    cell = scrambled(cells.LSTM(D, H, layer_norm=True))
    W = weights(
        cell,
        W_x="U.weight",
        W_h="W.weight",
        gain_x="norm_x.weight",
        b="norm_x.bias",
        gain_h="norm_h.weight",
        gain_c="norm_c.weight",
        shift_c="norm_c.bias",
    )
    check(cell, lambda h, c, x: papers.layer_norm_lstm(W, h, c, x), parts=2)


def test_lstm_with_recurrent_dropout():
    cell = scrambled(cells.LSTM(D, H, recurrent_dropout=0.4))
    W = lstm_weights(cell)
    masks = torch.stack([cell.draws(ROWS).sample((ROWS, H), torch.empty(0, dtype=torch.float64)) for _ in range(T)])
    assert {round(v, 6) for v in masks.flatten().tolist()} == {0.0, round(1 / 0.6, 6)}
    check(cell, lambda h, c, x, mask: papers.dropped_lstm(W, h, c, x, mask), parts=2, draws=masks)


def test_gru_before_the_product():
    cell = scrambled(cells.GRUBefore(D, H))
    W = weights(
        cell,
        W_r=("U.weight", 0, 3),
        W_z=("U.weight", 1, 3),
        W=("U.weight", 2, 3),
        U_r=("W.weight", 0, 2),
        U_z=("W.weight", 1, 2),
        U="W_n.weight",
        b_r=("U.bias", 0, 3),
        b_z=("U.bias", 1, 3),
        b=("U.bias", 2, 3),
    )
    check(cell, lambda h, x: papers.gru(W, h, x))


def test_gru_of_the_book():
    cell = scrambled(cells.GRUBook(D, H))
    W = weights(
        cell,
        U_r=("U.weight", 0, 3),
        U_u=("U.weight", 1, 3),
        U=("U.weight", 2, 3),
        W_r=("W.weight", 0, 2),
        W_u=("W.weight", 1, 2),
        W="W_n.weight",
        b_r=("U.bias", 0, 3),
        b_u=("U.bias", 1, 3),
        b=("U.bias", 2, 3),
    )

    def paper(h, x_before, x):
        u, r = papers.gates_of_the_book(W, h, x_before)
        return papers.gru_of_the_book(W, h, u, r, x_before), x

    check(cell, paper, parts=2)


@pytest.mark.parametrize("options", [{"leak": 0.3}, {"leak": [0.1, 0.2, 0.5, 0.9, 1.0]}, {"time_constants": (2, 50)}])
@pytest.mark.parametrize("learned", [False, True])
def test_leaky(options, learned):
    cell = cells.Leaky(D, H, **options, learned=learned).double()
    W = weights(cell, U="U.weight", W="W.weight", b="U.bias")
    leak = cell.leak.detach().numpy()
    check(cell, lambda h, x: papers.leaky(W, h, x, leak))
    if "leak" in options:
        np.testing.assert_allclose(leak, np.broadcast_to(options["leak"], H), rtol=2e-3 if learned else 1e-6)
    else:
        np.testing.assert_allclose(1 / leak, np.geomspace(2, 50, H), rtol=1e-5)


def test_indrnn():
    cell = scrambled(cells.IndRNN(D, H))
    W = weights(cell, W="U.weight", u="w", b="U.bias")
    check(cell, lambda h, x: papers.indrnn(W, h, x))


def test_indrnn_holds_its_recurrent_weights_within_the_bound():
    cell = scrambled(cells.IndRNN(D, H, longest=10))
    with torch.no_grad():
        cell.w.copy_(torch.tensor([3.0, -3.0, 0.5, 1.0, -1.0]))
    W = weights(cell, W="U.weight", b="U.bias") | {"u": np.array([2**0.1, -(2**0.1), 0.5, 1.0, -1.0])}
    check(cell, lambda h, x: papers.indrnn(W, h, x))


def test_mgu():
    cell = scrambled(cells.MGU(D, H))
    W = weights(cell, b_f=("U.bias", 0, 2), b_h=("U.bias", 1, 2))
    parts = weights(cell, Uf=("U.weight", 0, 2), Un=("U.weight", 1, 2), Wf="W_f.weight", Wn="W_n.weight")
    W |= {"W_f": np.concatenate([parts["Wf"], parts["Uf"]], 1), "W_h": np.concatenate([parts["Wn"], parts["Un"]], 1)}
    check(cell, lambda h, x: papers.mgu(W, h, x))


MUTANTS = {
    "MUT1": {
        "W_xz": ("U.weight", 0, 2),
        "W_xr": ("U.weight", 1, 2),
        "b_z": ("U.bias", 0, 2),
        "b_r": ("U.bias", 1, 2),
        "W_hr": "W_r.weight",
        "W_hh": "W_n.weight",
        "b_h": "W_n.bias",
    },
    "MUT2": {
        "W_xz": ("U.weight", 0, 2),
        "W_xh": ("U.weight", 1, 2),
        "b_z": ("U.bias", 0, 2),
        "b_h": ("U.bias", 1, 2),
        "W_hz": ("W.weight", 0, 2),
        "W_hr": ("W.weight", 1, 2),
        "W_hh": "W_n.weight",
        "b_r": "b_r",
    },
    "MUT3": {
        "W_xz": ("U.weight", 0, 3),
        "W_xr": ("U.weight", 1, 3),
        "W_xh": ("U.weight", 2, 3),
        "b_z": ("U.bias", 0, 3),
        "b_r": ("U.bias", 1, 3),
        "b_h": ("U.bias", 2, 3),
        "W_hz": "W_z.weight",
        "W_hr": "W_r.weight",
        "W_hh": "W_n.weight",
    },
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants(name):
    cell = scrambled(getattr(cells, name)(H, H))
    W = weights(cell, **MUTANTS[name])
    assert len(list(cell.parameters())) == len({v if isinstance(v, str) else v[0] for v in MUTANTS[name].values()})
    check(cell, lambda h, x: getattr(papers, name.lower())(W, h, x), inputs=H)


@pytest.mark.parametrize("name", ["MUT1", "MUT2"])
def test_mutants_see_inputs_of_another_size_through_a_matrix(name):
    wide, own = scrambled(getattr(cells, name)(D, H)), getattr(cells, name)(H, H).double()
    x, h = torch.randn(ROWS, D, dtype=torch.float64), torch.randn(ROWS, H, dtype=torch.float64)
    seen = wide.P(x)
    back = torch.linalg.pinv(wide.P.weight)  # U seen x reads the same as U x
    own.load_state_dict({k: v @ back if k == "U.weight" else v for k, v in wide.state_dict().items() if k != "P.weight"})
    torch.testing.assert_close(wide.step(h, x)[0], own.step(h, seen)[0], rtol=1e-10, atol=1e-12)
