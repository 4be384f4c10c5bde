"""Shortcuts past a layer: its inputs, added to its outputs or mixed with them."""

from __future__ import annotations

from torch import nn

from wavefront.cell import Cell, advance, named
from wavefront.cells._parts import input_to_hidden
from wavefront.errors import ShapeError
from wavefront.wrap._parts import vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Highway", "Residual"]


class Residual(Wrapper):
    """A cell whose inputs are added to its outputs.  [He et al. 2016, arXiv:1512.03385, eq. 1; Wu et al. 2016, arXiv:1609.08144]

        output = x + o       (h', o) = f(h, x)

    State as the cell's; x and output of one size.

    >>> import torch
    >>> from wavefront import cells
    >>> state, output = Residual(cells.GRU(4, 4))(None, x := torch.randn(2, 4))
    >>> bool((output == x + state).all())
    True
    """

    def __init__(self, cell: Cell):
        _check(cell, "wrap.Residual")
        super().__init__(cell)

    def step(self, state, x, draws=None, phase=0):
        state, output = advance(self.cell, state, x, draws, phase)
        return state, x + output


class Highway(Wrapper):
    """A cell whose inputs pass it by as far as a gate lets them.  [Srivastava et al. 2015, arXiv:1505.00387, eq. 3]

        output = g ⊙ o + (1 - g) ⊙ x       g = σ(U x + b)       (h', o) = f(h, x)

    State as the cell's; x and output of one size. b starts at `bias`: below zero, so that at first inputs pass by.

    >>> import torch
    >>> from wavefront import cells
    >>> Highway(cells.GRU(4, 4))(None, torch.randn(2, 4))[1].shape
    torch.Size([2, 4])
    """

    def __init__(self, cell: Cell, bias: float = -1.0):
        _check(cell, "wrap.Highway")
        super().__init__(cell)
        self.U = input_to_hidden(cell.inputs, cell.outputs)
        nn.init.constant_(self.U.bias, bias)

    def step(self, state, x, draws=None, phase=0):
        state, output = advance(self.cell, state, x, draws, phase)
        g = self.U(x).sigmoid()
        return state, g * output + (1 - g) * x


def _check(cell: Cell, who: str) -> None:
    if vector_inputs(cell, who) != cell.outputs:
        raise ShapeError(f"{who} joins inputs and outputs, which have to be of one size; {named(cell)} has outputs={cell.outputs}.")
