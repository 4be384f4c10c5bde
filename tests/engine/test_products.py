"""Large products and their gradients, against torch's own in float64."""

import copy

import pytest
import torch

from wavefront import Recurrent, cells
from wavefront.engine.backends.compiled.contract import contract
from wavefront.engine.products import product


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (129, 25, 65), (300, 64, 128), (257, 13, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_contraction_over_rows(shape, dtype):
    n, m, k = shape
    d, x = torch.randn(n, m, dtype=dtype), torch.randn(n, k + 3, dtype=dtype)[:, :k]
    truth = d.double().t() @ x.double()
    limit = 8 * torch.finfo(dtype).eps * n**0.5 * truth.abs().max().clamp_min(1)
    total, both, other = contract(d, [x, x[:, : k - 1]], contract(d, [x, x[:, : k - 1]]))
    assert (both[:, :k] - 2 * truth).abs().max() <= 2 * limit
    assert (other[:, : k - 1] - 2 * truth[:, : k - 1]).numel() == 0 or (other[:, : k - 1] - 2 * truth[:, : k - 1]).abs().max() <= 2 * limit
    assert (total - 2 * d.double().sum(0)).abs().max() <= 2 * limit


def test_a_contraction_on_several_threads():
    d, x = torch.randn(500, 100), torch.randn(500, 70)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = contract(d, [x])
        torch.set_num_threads(4)
        assert all(map(torch.equal, contract(d, [x]), one))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("turned", [False, True], ids=["as it is", "a transpose"])
def test_a_large_product_and_its_derivatives(turned):
    x, bias = torch.randn(400, 60, requires_grad=True), torch.randn(50, requires_grad=True)
    w = torch.randn(50, 60, requires_grad=True) if turned else torch.randn(60, 50, requires_grad=True)

    def both(f):
        y = f(x, w.t() if turned else w, bias)
        first = torch.autograd.grad(y.square().sum(), (x, w, bias), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, w, bias))
        return [y, *first, *second]

    for a, b in zip(both(product), both(lambda x, w, bias: torch.addmm(bias, x, w))):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU])
def test_gradients_that_one_delta_gives(make):
    net, x = Recurrent(make(40, 70), backend="compiled"), torch.randn(16, 30, 40)
    truth = Recurrent(copy.deepcopy(net.cell).double(), backend="reference")

    def gradients(net, x):
        return torch.autograd.grad(net(x)[0].square().sum(), list(net.parameters()))

    for a, b in zip(gradients(net, x), gradients(truth, x.double()), strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()
