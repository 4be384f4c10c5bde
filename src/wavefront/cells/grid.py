"""Cells with a state before them in each of several directions: above and beside in a grid, or one per slot of any structure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import hidden_to_hidden, input_to_hidden
from wavefront.cells.lstm import LSTMState
from wavefront.cells.tree import children_of

__all__ = ["MDGRU", "MDLSTM", "MDRNN", "StableMDLSTM"]


class MDRNN(Cell[Tensor]):
    """Multi-dimensional recurrent network.  [Graves et al. 2007, arXiv:0705.2011, section 2]

        h' = tanh(U x + b + Σ_d W_d h_d)

    states h_d [N, units], one for each of `directions`, x [N, inputs] -> output h' [N, units]. W holds the W_d side by side.

    >>> import torch
    >>> from wavefront import Grid, unfold
    >>> grid = Grid(4, 6, batch=2)
    >>> outputs, last = unfold(MDRNN(3, 5), grid, grid.pack(torch.randn(2, 4, 6, 3)))
    >>> grid.unpack(outputs).shape
    torch.Size([2, 4, 6, 5])
    """

    def __init__(self, inputs: int, units: int, *, directions: int = 2):
        super().__init__(inputs, state=units, slots=directions)
        self.U, self.W = input_to_hidden(inputs, units), hidden_to_hidden(directions * units, units)

    def step(self, state, x):
        h = (self.U(x) + self.W(torch.cat([*children_of(self, state)], -1))).tanh()
        return h, h


class MDLSTM(Cell[LSTMState]):
    """Multi-dimensional LSTM: a forget gate for each direction.  [Graves et al. 2007, arXiv:0705.2011, section 3]

        i = σ(Uᵢ x + Σ_d Wᵢᵈ h_d + b [+ Σ_d pᵢᵈ ⊙ c_d])       f_d = σ(U_fᵈ x + Σ_e W_fᵈᵉ h_e + b [+ p_fᵈ ⊙ c_d])
        g = tanh(U_g x + Σ_d W_gᵈ h_d + b)                    c' = i ⊙ g + Σ_d f_d ⊙ c_d
        o = σ(Uₒ x + Σ_d Wₒᵈ h_d + b [+ pₒ ⊙ c'])             h' = o ⊙ tanh(c')

    states (h_d, c_d) [N, units] each, one for each of `directions`, x [N, inputs] -> output h' [N, units]. Rows of U and W: i, f₁, f₂, ..., g, o;
    columns of W: the directions. Two open forget gates add up to more than one: over large grids c can grow without bound, which `StableMDLSTM`'s
    cannot; forget_bias=0 starts at their mean. `peepholes`: the gates see the memories.

    >>> import torch
    >>> state, output = MDLSTM(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, directions: int = 2, peepholes: bool = False, forget_bias: float = 0.0):
        super().__init__(inputs, state=LSTMState(h=units, c=units), slots=directions)  # type: ignore[arg-type]
        blocks = 3 + directions
        self.U, self.W = input_to_hidden(inputs, units, blocks), hidden_to_hidden(directions * units, units, blocks)
        nn.init.constant_(self.U.bias[units : (1 + directions) * units], forget_bias)
        self.peepholes = peepholes
        if peepholes:
            self.p_i, self.p_f = (nn.Parameter(torch.empty(directions * units).uniform_(-0.1, 0.1)) for _ in "if")
            self.p_o = nn.Parameter(torch.empty(units).uniform_(-0.1, 0.1))

    def step(self, state, x):
        before = children_of(self, state)
        i, *f, g, o = (self.U(x) + self.W(torch.cat([s.h for s in before], -1))).chunk(3 + len(before), -1)
        if self.peepholes:
            for s, p in zip(before, self.p_i.chunk(len(before))):
                i = i + p * s.c
            f = [f_d + p * s.c for f_d, s, p in zip(f, before, self.p_f.chunk(len(before)))]
        c = i.sigmoid() * g.tanh()
        for f_d, s in zip(f, before):
            c = c + f_d.sigmoid() * s.c
        h = (o + self.p_o * c if self.peepholes else o).sigmoid() * c.tanh()
        return LSTMState(h, c), h


class StableMDLSTM(Cell[LSTMState]):
    """Two-dimensional LSTM whose memory cannot grow by itself.  [Leifert et al. 2016, JMLR 17(97); Voigtlaender et al. 2016, section 2]

        m = λ ⊙ c₁ + (1 - λ) ⊙ c₂       c' = f ⊙ m + i ⊙ g       h' = o ⊙ tanh(c')
        i, f, λ, o = σ(U x + W₁ h₁ + W₂ h₂ + b)       g = tanh(U_g x + W_g¹ h₁ + W_g² h₂ + b)

    states (h₁, c₁), (h₂, c₂), [N, units] each, x [N, inputs] -> output h' [N, units]. The forget gates of the two directions are f ⊙ λ and
    f ⊙ (1 - λ), which together stay below one. Rows of U and W: i, f, λ, g, o; columns of W: the directions.

    >>> import torch
    >>> state, output = StableMDLSTM(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, forget_bias: float = 1.0):
        super().__init__(inputs, state=LSTMState(h=units, c=units), slots=2)  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units, 5), hidden_to_hidden(2 * units, units, 5)
        nn.init.constant_(self.U.bias.chunk(5)[1], forget_bias)

    def step(self, state, x):
        first, second = state
        i, f, mix, g, o = (self.U(x) + self.W(torch.cat([first.h, second.h], -1))).chunk(5, -1)
        mix = mix.sigmoid()
        c = f.sigmoid() * (mix * first.c + (1 - mix) * second.c) + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return LSTMState(h, c), h


class MDGRU(Cell[Tensor]):
    """Two-dimensional gated recurrent units: `GRU` after the two states before are mixed, as in `StableMDLSTM`.

        m = λ ⊙ h₁ + (1 - λ) ⊙ h₂       h' = (1 - z) ⊙ n + z ⊙ m
        λ, r, z = σ(U x + W₁ h₁ + W₂ h₂ + b)       n = tanh(Uₙ x + b + r ⊙ (Wₙ¹ h₁ + Wₙ² h₂ + b'))

    states h₁, h₂ [N, units], x [N, inputs] -> output h' [N, units]. What is kept of the two directions is z ⊙ λ and z ⊙ (1 - λ), a gate each, and h'
    lies between n, h₁ and h₂: it cannot grow. Rows of U and W, both with biases: λ, r, z, n; columns of W: the directions.

    >>> import torch
    >>> h, output = MDGRU(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units, slots=2)
        self.U, self.W = input_to_hidden(inputs, units, 4), hidden_to_hidden(2 * units, units, 4, bias=True)

    def step(self, state, x):
        first, second = state
        x_m, x_r, x_z, x_n = self.U(x).chunk(4, -1)
        h_m, h_r, h_z, h_n = self.W(torch.cat([first, second], -1)).chunk(4, -1)
        mix, r, z = (x_m + h_m).sigmoid(), (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + r * h_n).tanh()
        h = (1 - z) * n + z * (mix * first + (1 - mix) * second)
        return h, h
