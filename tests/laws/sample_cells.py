"""Cells that use every freedom of the contract, as a user might write them: what the package's own cells do not happen to use yet."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront import Cell, Draw, Given, cells


class Skipping(Cell[Tensor]):
    """k predecessors, each with weights of its own."""

    def __init__(self, inputs, units, slots=2):
        super().__init__(inputs, state=units, slots=slots)
        self.U = nn.Linear(inputs, units)
        self.W = nn.ModuleList(nn.Linear(units, units, bias=False) for _ in range(slots))

    def step(self, state, x):
        h = (self.U(x) + sum(W(before) for W, before in zip(self.W, state))).tanh()
        return h, h


class TwoParts(NamedTuple):
    h: Any
    c: Any


class SkippingTwoParts(Cell[TwoParts]):
    """Two predecessors, of two parts each."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=TwoParts(h=units, c=units + 1), slots=2)
        self.U, self.W, self.C = nn.Linear(inputs, units), nn.Linear(2 * units, units), nn.Linear(units, units + 1)

    def step(self, state, x):
        a, b = state
        h = (self.U(x) + self.W(torch.cat([a.h, b.h], -1))).tanh()
        c = 0.5 * a.c + 0.3 * b.c + self.C(h)
        return TwoParts(h, c), h


class Gathering(Cell[Tensor]):
    """Any number of predecessors, each with a forget gate of its own."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, slots="any")
        self.U, self.W, self.F = nn.Linear(inputs, units), nn.Linear(units, units), nn.Linear(inputs + units, units)

    def step(self, children, x):
        f = self.F(torch.cat([children.expand(x), children.states], -1)).sigmoid()
        h = (self.U(x) + self.W(children.sum(f * children.states))).tanh()
        return h, h


class Clocked(Cell[Tensor]):
    """A third of the weights at a time: another equation at each of three phases."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units, phases=3)
        self.U = nn.Linear(inputs, units)
        self.W = nn.ModuleList(nn.Linear(units, units, bias=False) for _ in range(3))

    def step(self, state, x, phase):
        h = (self.U(x) + self.W[phase](state)).tanh() + phase * 0.1 * state
        return h, h


class Timed(NamedTuple):
    value: Any
    elapsed: Any


class Decaying(Cell[Tensor]):
    """x with the time since the last one: the state decays meanwhile."""

    def __init__(self, inputs, units):
        super().__init__(inputs=Timed(value=inputs, elapsed=1), state=units, outputs=2)
        self.U, self.W, self.V = nn.Linear(inputs, units), nn.Linear(units, units, bias=False), nn.Linear(units, 2)
        self.rate = nn.Parameter(torch.rand(units))

    def step(self, state, x):
        h = (self.U(x.value) + self.W(state * torch.exp(-self.rate * x.elapsed.abs()))).tanh()
        return h, self.V(h)


class Memory(NamedTuple):
    h: Any
    M: Any


class Matrix(Cell[Memory]):
    """A vector and a matrix as state: an outer product is written, a read vector comes back."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=Memory(h=units, M=(4, units)))
        self.U, self.W, self.key = nn.Linear(inputs, units), nn.Linear(2 * units, units), nn.Linear(units, 4)

    def step(self, state, x):
        key = self.key(state.h).softmax(-1)
        read = torch.einsum("nk,nku->nu", key, state.M)
        h = (self.U(x) + self.W(torch.cat([state.h, read], -1))).tanh()
        return Memory(h, 0.9 * state.M + key[:, :, None] * h[:, None, :]), h


class Conditioned(Cell[Tensor]):
    """A context apart from x."""

    def __init__(self, inputs, units):
        super().__init__(inputs=Given(x=inputs, context=2), state=units)
        self.U, self.W, self.R = nn.Linear(inputs, units), nn.Linear(units, units, bias=False), nn.Linear(2, units, bias=False)

    def step(self, state, given):
        h = (self.U(given.x) + self.W(state) + self.R(given.context)).tanh()
        return h, h


class Tuned(Cell[Tensor]):
    """One reservoir under settings that come as one vector for each sequence, and a readout."""

    def __init__(self, inputs, units):
        inner = cells.Reservoirs(inputs, units, density=0.5, seed=1)
        super().__init__(inputs=Given(x=inputs, context=4), state=units, outputs=2)
        self.inner, self.V = inner, nn.Linear(units, 2)

    def step(self, state, given):
        h, output = self.inner.step(state, Given(given.x, cells.Tuning(*given.context.split(1, -1))))
        return h, self.V(output)


class Noises(NamedTuple):
    uniform: Any
    normal: Any


class Noisy(Cell[Tensor]):
    """A nest of draws: one per step, one per unfolding."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units)
        self.U, self.W = nn.Linear(inputs, units), nn.Linear(units, units, bias=False)

    def draws(self, rows):
        size = (rows, self.outputs)
        return Noises(Draw(size, "uniform"), Draw(size, "normal", per="unfolding"))

    def step(self, state, x, draws):
        a = self.U(x) + self.W(state)
        h = (a if draws is None else a * draws.uniform + 0.1 * draws.normal).tanh()
        return h, h


class NoisyWhole(Cell[Tensor]):
    """A draw without rows at each step: one for all sequences."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=units)
        self.U, self.W = nn.Linear(inputs, units), nn.Linear(units, units, bias=False)
        self.scale = nn.Parameter(torch.rand(units))

    def draws(self, rows):
        return Draw((self.outputs,), "normal", per_row=False)

    def step(self, state, x, draws=None):
        h = (self.U(x) + self.W(state) + (0 if draws is None else draws.tanh() * self.scale)).tanh()
        return h, h
