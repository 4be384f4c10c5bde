"""What a step uses beside states, inputs and parameters: masks, whole numbers, numbers made in the step, of whatever dtype."""

import pytest
import torch
from torch import nn

from engine.test_compiled import close, results
from wavefront import Cell, Recurrent
from wavefront.engine import runs

UNITS = 5


class Holding(Cell):
    def __init__(self, f):
        super().__init__(3, state=UNITS)
        self.U, self.W, self.f = nn.Linear(3, UNITS), nn.Linear(UNITS, UNITS), f
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.register_buffer("whole", torch.arange(UNITS))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False]))
        self.loose, self.loose_mask, self.loose_whole = torch.rand(UNITS), torch.arange(UNITS) < 2, torch.arange(UNITS)

    def step(self, h, x):
        h = (self.f(self, self.U(x), h) + self.W(h)).tanh()
        return h, h


HELD = {
    "whole numbers": lambda c, u, h: h * c.whole + u,
    "a power of two": lambda c, u, h: h / 2**c.whole + u,
    "a mask": lambda c, u, h: h * c.mask + u,
    "one less a mask": lambda c, u, h: h * (1 - c.mask.to(h)) + u,
    "chosen by a mask": lambda c, u, h: torch.where(c.mask, h, u),
    "chosen by none": lambda c, u, h: torch.where(~c.mask, h, u),
    "filled": lambda c, u, h: h.masked_fill(c.mask, 0.5) + u,
    "chosen by what is compared": lambda c, u, h: torch.where((c.whole > 2) | (c.loose > 0.5) & c.mask, h, u),
    "chosen by the input": lambda c, u, h: torch.where((u > 0) & c.mask, h, u),
    "not registered": lambda c, u, h: h * c.loose * c.loose_whole + torch.where(c.loose_mask, h, u),
    "a new number": lambda c, u, h: h * torch.tensor(1.5) + u,
    "a new whole number": lambda c, u, h: h * torch.tensor(2) + u,
    "a new double": lambda c, u, h: h * torch.tensor(1.5, dtype=torch.float64) + u,
    "a new range": lambda c, u, h: h * torch.arange(UNITS) + u,
    "one number learned": lambda c, u, h: c.scale * h.sum(-1, keepdim=True) * u,
    "one number learned, by a sum": lambda c, u, h: c.scale + (h[:, :, None] * u[:, None, :]).sum(-1),
    "hard": lambda c, u, h: nn.functional.hardsigmoid(h + u),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", HELD)
def test_what_a_step_holds_is_taken_as_torch_takes_it(name, dtype):
    torch.manual_seed(0)
    net = Recurrent(Holding(HELD[name])).to(dtype)
    x = torch.randn(3, 6, 3, dtype=dtype, requires_grad=True)
    tolerance = 1e-5 if dtype is torch.float32 else 1e-7 if name == "hard" else 1e-12  # torch rounds a gradient of hardsigmoid to float32
    truth = results(net, "reference", x)
    for backend in ("compiled", "torch"):
        before = runs[backend]
        close(results(net, backend, x), truth, tolerance)
        assert runs[backend] == before + 1
    net.backend = "auto"
    with torch.no_grad():
        state, outputs = None, []
        for t in range(6):
            state, output = net.step(state, x[:, t])
            outputs.append(output)
    close([torch.stack(outputs, 1)], truth[:1], tolerance)
