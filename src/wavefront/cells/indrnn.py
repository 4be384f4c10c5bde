"""Independently recurrent units: each sees its own last value and no other's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["IndRNN"]


class IndRNN(Cell[Tensor]):
    """Independently recurrent neural network.  [Li et al. 2018, arXiv:1803.04831]

        h' = φ(U x + w ⊙ h + b)

    state h [N, units], x [N, inputs] -> output h' [N, units]. w, a vector, starts uniform in [0, 1].

    activation  φ, relu by default as in the paper
    longest     T, the length of the longest sequences: w is held within ±2^(1/T), so that no gradient grows more than twofold over it

    >>> h, output = IndRNN(3, 5, longest=100)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, activation: str | Activation = "relu", longest: int | None = None, bias: bool = True):
        super().__init__(inputs, state=units)
        if longest is not None and longest < 1:
            raise SettingsError(f"cells.IndRNN: longest is a number of steps, at least 1; got {longest}.")
        self.U = input_to_hidden(inputs, units, bias=bias)
        self.w = nn.Parameter(torch.rand(units))
        self.bound = float("inf") if longest is None else 2 ** (1 / longest)
        self.activation = function(activation)

    def step(self, state, x):
        h = self.activation(self.U(x) + self.w.clamp(-self.bound, self.bound) * state)
        return h, h
