"""Gradients clipped inside the backward loop: in the plan, compiled, and as the reference has them."""

import pytest
import torch

from engine.test_compiled import close, results
from wavefront import Cell, Recurrent, cells, clip_gradient, wrap
from wavefront.engine import runs
from wavefront.errors import SettingsError


def test_the_state_is_clipped_at_every_step_compiled_as_in_the_reference():
    for limit in (1e-3, 0.1, 1e3):
        net = Recurrent(wrap.ClippedGradient(cells.LSTM(3, 5), limit)).double()
        x = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
        before = runs["compiled"]
        ours = results(net, "compiled", x, lengths=[9, 4])
        assert runs["compiled"] == before + 1
        close(ours, results(net, "reference", x, lengths=[9, 4]))
        plain = results(Recurrent(net.cell.cell), "compiled", x, lengths=[9, 4])
        assert torch.equal(plain[0], ours[0])
        assert torch.allclose(plain[3], ours[3]) == (limit == 1e3)


def test_by_hand():
    """h' = 3 h + x: the gradient of x(t) is 1 at the end, and then 3 cut to 2."""

    class Growing(Cell):
        def __init__(self):
            super().__init__(1, state=1)

        def step(self, h, x):
            h = 3 * clip_gradient(h, 2.0) + x
            return h, h

    net, x = Recurrent(Growing(), backend="compiled"), torch.zeros(1, 5, 1, requires_grad=True)
    net(x)[1].sum().backward()
    assert x.grad.flatten().tolist() == [2.0, 2.0, 2.0, 2.0, 1.0]


def test_before_the_gates_as_graves_has_it():
    class Gated(Cell):
        def __init__(self):
            super().__init__(3, state=4)
            self.U, self.W = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)

        def step(self, h, x):
            h = h + clip_gradient(self.U(x) + self.W(h), 0.05).tanh()
            return h, h

    net = Recurrent(Gated()).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    close(results(net, "compiled", x), results(net, "reference", x))


def test_a_limit_is_above_0():
    with pytest.raises(SettingsError, match="above 0; got 0"):
        wrap.ClippedGradient(cells.GRU(3, 4), 0)
