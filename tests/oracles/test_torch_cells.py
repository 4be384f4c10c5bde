"""The cells that torch has, with torch's parameters in their places: steps and gradients equal."""

import pytest
import torch
from torch import nn

from wavefront import cells

D, H, ROWS = 3, 5, 4


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def transplant(cell, theirs, hidden_bias):
    """torch's weight_ih, weight_hh, bias_ih, bias_hh become U and W; where W has no bias, U's is the sum."""
    with torch.no_grad():
        cell.U.weight.copy_(theirs.weight_ih)
        cell.W.weight.copy_(theirs.weight_hh)
        if cell.U.bias is not None:
            cell.U.bias.copy_(theirs.bias_ih if hidden_bias else theirs.bias_ih + theirs.bias_hh)
        if hidden_bias and cell.W.bias is not None:
            cell.W.bias.copy_(theirs.bias_hh)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("make", "make_theirs", "hidden_bias"),
    [
        (lambda b: cells.LSTM(D, H, bias=b), lambda b: nn.LSTMCell(D, H, bias=b), False),
        (lambda b: cells.GRU(D, H, bias=b), lambda b: nn.GRUCell(D, H, bias=b), True),
        (lambda b: cells.Elman(D, H, bias=b), lambda b: nn.RNNCell(D, H, bias=b), False),
        (lambda b: cells.Elman(D, H, "relu", bias=b), lambda b: nn.RNNCell(D, H, bias=b, nonlinearity="relu"), False),
    ],
    ids=["LSTM", "GRU", "RNN tanh", "RNN relu"],
)
def test_equals_torch(make, make_theirs, hidden_bias, bias):
    cell, theirs = make(bias).double(), make_theirs(bias).double()
    transplant(cell, theirs, hidden_bias)
    parts = 2 if isinstance(theirs, nn.LSTMCell) else 1
    x, *state = (torch.randn(ROWS, n, dtype=torch.float64, requires_grad=True) for n in (D, *[H] * parts))
    ours = cell(type(cell.sizes)(*state) if parts == 2 else state[0], x)[0]
    expected = theirs(x, tuple(state) if parts == 2 else state[0])
    ours, expected = (ours, expected) if parts == 2 else ((ours,), (expected,))
    for a, b in zip(ours, expected):
        close(a, b)
    upstream = [torch.randn_like(a) for a in ours]
    got = torch.autograd.grad(ours, [x, *state, cell.U.weight, cell.W.weight], upstream)
    want = torch.autograd.grad(expected, [x, *state, theirs.weight_ih, theirs.weight_hh], upstream)
    for a, b in zip(got, want):
        close(a, b)


def test_projected_lstm_equals_torch():
    cell, theirs = cells.LSTM(D, H, projection=4).double(), nn.LSTM(D, H, proj_size=4).double()
    with torch.no_grad():
        cell.U.weight.copy_(theirs.weight_ih_l0)
        cell.U.bias.copy_(theirs.bias_ih_l0 + theirs.bias_hh_l0)
        cell.W.weight.copy_(theirs.weight_hh_l0)
        cell.V.weight.copy_(theirs.weight_hr_l0)
    x, h, c = (torch.randn(ROWS, n, dtype=torch.float64) for n in (D, 4, H))
    state, output = cell(type(cell.sizes)(h, c), x)
    outputs, (h, c) = theirs(x[None], (h[None], c[None]))
    close(output, outputs[0])
    close(state.h, h[0])
    close(state.c, c[0])
