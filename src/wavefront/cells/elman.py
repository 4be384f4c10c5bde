"""The simple recurrent network of the book: one layer of hidden units that see their own last values."""

from __future__ import annotations

from torch import Tensor

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, hidden_to_hidden, input_to_hidden

__all__ = ["Elman"]


class Elman(Cell[Tensor]):
    """Simple recurrent units.  [Elman 1990, Cognitive Science 14(2); Goodfellow et al. 2016, eq. 10.8-10.9]

        h' = φ(U x + W h + b)

    state h [N, units], x [N, inputs] -> output h' [N, units]. φ, the activation: tanh, relu, any function. The bias is U's.

    >>> import torch
    >>> h, output = Elman(3, 5, activation="relu")(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, activation: str | Activation = "tanh", bias: bool = True):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, bias=bias)
        self.W = hidden_to_hidden(units, units)
        self.activation = function(activation)

    def step(self, state, x):
        h = self.activation(self.U(x) + self.W(state))
        return h, h
