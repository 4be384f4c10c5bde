"""Layer normalisation around a cell."""

from __future__ import annotations

from torch import nn

from wavefront.cell import Cell, advance
from wavefront.wrap._parts import change_first, each_slot, hidden_units, vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Normed"]


class Normed(Wrapper):
    """Layer normalisation of what goes into a cell and what comes out.  [Ba et al. 2016, arXiv:1607.06450, eq. 4]

        output = LN(o)       (h', o) = f(LN(h), LN(x))       LN(a) = γ ⊙ (a - mean(a)) / √(var(a) + ε) + β

    State, x and output as the cell's. Inside an LSTM's gates: cells.LSTM(layer_norm=True).

    inputs, outputs   normalise x, o
    state             normalise the first part of the state, h, as the step sees it

    >>> import torch
    >>> from wavefront import cells
    >>> output = Normed(cells.GRU(3, 5), outputs=True)(None, torch.randn(2, 3))[1]
    >>> bool(output.mean(-1).abs().max() < 1e-6)
    True
    """

    def __init__(self, cell: Cell, inputs: bool = False, outputs: bool = False, state: bool = False):
        super().__init__(cell)
        self.norm_x = nn.LayerNorm(vector_inputs(cell, "wrap.Normed(inputs=True)")) if inputs else nn.Identity()
        self.norm_o = nn.LayerNorm(cell.outputs) if outputs else nn.Identity()
        self.norm_h = nn.LayerNorm(hidden_units(cell, "wrap.Normed(state=True)")) if state else nn.Identity()

    def step(self, state, x, draws=None, phase=0):
        state = each_slot(self.slots, state, lambda part: change_first(part, self.norm_h))
        state, output = advance(self.cell, state, self.norm_x(x), draws, phase)
        return state, self.norm_o(output)
