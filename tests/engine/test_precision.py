"""Mixed precision: large products in bfloat16, all else in float32."""

import pytest
import torch

from wavefront import Bidirectional, Recurrent, cells
from wavefront.engine import runs
from wavefront.errors import BackendError


def everything(net, x):
    outputs, state = net(x)
    outputs.sum().backward()
    found = [outputs.detach(), state.c.detach(), x.grad.clone(), *(p.grad.clone() for p in net.parameters())]
    net.zero_grad()
    x.grad = None
    return found


def test_bf16_is_near_and_its_results_are_float32():
    net = Recurrent(cells.LSTM(64, 128), backend="compiled")
    x = torch.randn(16, 20, 64, requires_grad=True)
    full = everything(net, x)
    net.precision = "bf16"
    before = runs["compiled"]
    low = everything(net, x)
    assert runs["compiled"] == before + 1
    for a, b in zip(full, low):
        assert b.dtype is torch.float32
        assert 0 < (a - b).norm() <= 0.02 * a.norm()


def test_a_large_step_is_compiled_in_bf16_without_having_been_seen_before():
    net = Recurrent(cells.LSTM(160, 200), backend="compiled", precision="bf16")  # its step alone has products that are large
    net(torch.randn(4, 8, 160))


def test_autocast_is_the_same_and_takes_what_came_before_in_bfloat16():
    net, before = Recurrent(cells.LSTM(64, 128), backend="compiled"), torch.nn.Linear(64, 64)
    x = torch.randn(16, 20, 64, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours = everything(net, x)
        assert net(before(x))[0].dtype is torch.float32
        net.precision = "float32"
        exact = net(x)[0]
    net.precision = "bf16"
    for a, b in zip(ours, everything(net, x)):
        assert torch.equal(a, b)
    net.precision = None
    assert torch.equal(exact, net(x)[0])


def test_the_reference_takes_it_too_and_other_words_are_refused():
    net = Recurrent(cells.LSTM(16, 32), backend="reference", precision="bf16")
    x = torch.randn(4, 5, 16)
    assert (net(x)[0].float() - Recurrent(net.cell)(x)[0]).abs().max() < 0.1
    with pytest.raises(BackendError, match='precision is "float32", "bf16"'):
        Bidirectional(cells.GRU(3, 4), cells.GRU(3, 4), precision="half")(torch.randn(2, 5, 3))
