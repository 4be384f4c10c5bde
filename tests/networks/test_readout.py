"""Readouts: what lies past a length never matters, and each is its equation."""

import numpy as np
import pytest
import torch

from wavefront import ShapeError
from wavefront.errors import SettingsError
from wavefront.networks.readout import AttentionPooled, EveryStep, LastStep, Pooled

H, T, LENGTHS = 4, 6, [6, 3, 1, 0]
READOUTS = {
    "every": lambda: EveryStep(H, 3),
    "last": lambda: LastStep(),
    "both ends": lambda: LastStep(forward=3),
    "mean": lambda: Pooled("mean"),
    "max": lambda: Pooled("max"),
    "sum": lambda: Pooled("sum"),
    "min": lambda: Pooled("min"),
    "attention": lambda: AttentionPooled(H, 5),
}


@pytest.fixture(params=sorted(READOUTS))
def readout(request):
    torch.manual_seed(0)
    return READOUTS[request.param]().double()


def states(rows=4):
    return torch.randn(rows, T, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_padding_never_matters(readout):
    """Not its value (infinite and NaN included), not its amount, not in the gradient."""
    h = states().requires_grad_()
    want = readout(h, LENGTHS)
    gradient, *of_parameters = torch.autograd.grad(want.square().sum(), [h, *readout.parameters()])
    past = torch.arange(T)[None] >= torch.tensor(LENGTHS)[:, None]
    for junk in (torch.nan, torch.inf, 1e300):
        other = h.detach().clone()
        other[past] = junk
        other = torch.cat([other, torch.full((len(LENGTHS), 2, H), junk, dtype=torch.float64)], 1).requires_grad_()
        got = readout(other, LENGTHS)
        torch.testing.assert_close(got[:, :T] if got.dim() == 3 else got, want, rtol=1e-12, atol=1e-12)
        g, *found = torch.autograd.grad(got.square().sum(), [other, *readout.parameters()])
        torch.testing.assert_close(found, of_parameters, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(g[:, :T], gradient, rtol=1e-12, atol=1e-12)
        assert (g[:, T:] == 0).all()
        assert (g[:, :T][past] == 0).all()


def test_each_row_alone_is_its_row_in_the_batch(readout):
    h = states()
    together = readout(h, LENGTHS)
    for row, n in enumerate(LENGTHS):
        alone = readout(h[row : row + 1, :n])
        torch.testing.assert_close(together[row, :n] if together.dim() == 3 else together[row], alone[0], rtol=1e-12, atol=1e-12)


def test_nothing_reads_as_zeros(readout):
    assert (readout(states(), LENGTHS)[3] == 0).all()
    assert readout(torch.zeros(0, T, H, dtype=torch.float64)).shape[0] == 0
    assert (readout(torch.zeros(2, 0, H, dtype=torch.float64)) == 0).all()


def test_gradcheck(readout):
    h = states().requires_grad_()
    assert torch.autograd.gradcheck(lambda h, *p: readout(h, LENGTHS), (h, *readout.parameters()))


def test_they_are_their_equations():
    h = states(1)
    rows = h[0].numpy()
    expected = {"mean": rows.mean(0), "max": rows.max(0), "sum": rows.sum(0), "min": rows.min(0)}
    for how, want in expected.items():
        np.testing.assert_allclose(Pooled(how)(h)[0].numpy(), want, rtol=1e-12)
    np.testing.assert_array_equal(LastStep()(h, [4])[0].numpy(), rows[3])
    np.testing.assert_array_equal(LastStep(forward=1)(h, [4])[0].numpy(), [rows[3, 0], *rows[0, 1:]])
    pool = AttentionPooled(H, 5).double()
    W, b, v = (p.detach().numpy() for p in (pool.W.weight, pool.W.bias, pool.v.weight))
    alpha = np.exp(np.tanh(rows[:4] @ W.T + b) @ v[0])
    alpha /= alpha.sum()
    np.testing.assert_allclose(pool.weights(h, [4])[0, :4].detach().numpy(), alpha, rtol=1e-12)
    np.testing.assert_allclose(pool(h, [4])[0].detach().numpy(), alpha @ rows[:4], rtol=1e-12)


def test_what_does_not_fit_is_refused(readout):
    name = type(readout).__name__
    with pytest.raises(ShapeError, match=rf"{name} expects h of \[B, T, (H|4)\].*got \[6, 4\]"):
        readout(states()[0])
    with pytest.raises(ShapeError, match=rf"{name} expects lengths of \[4\]"):
        readout(states(), [1, 2])
    with pytest.raises(ShapeError, match="between 0 and the 6 steps there are; got 0 to 7"):
        readout(states(), [7, 3, 1, 0])
    with pytest.raises(SettingsError, match="median"):
        Pooled("median")
    with pytest.raises(ShapeError, match="forward=9"):
        LastStep(forward=9)(states())
