"""Gated units with fewer gates than the GRU's, by design and by evolution."""

from __future__ import annotations

from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import hidden_to_hidden, input_to_hidden

__all__ = ["MGU", "MUT1", "MUT2", "MUT3"]


class MGU(Cell[Tensor]):
    """Minimal gated unit: one gate.  [Zhou et al. 2016, arXiv:1603.09420]

        f = σ(U_f x + W_f h + b)       n = tanh(Uₙ x + Wₙ (f ⊙ h) + b)       h' = (1 - f) ⊙ h + f ⊙ n

    state h [N, units], x [N, inputs] -> output h' [N, units]. f near one replaces. Rows of U: f, n.

    >>> import torch
    >>> h, output = MGU(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 2, bias)
        self.W_f, self.W_n = hidden_to_hidden(units, units), hidden_to_hidden(units, units)

    def step(self, state, x):
        x_f, x_n = self.U(x).chunk(2, -1)
        f = (x_f + self.W_f(state)).sigmoid()
        n = (x_n + self.W_n(f * state)).tanh()
        h = (1 - f) * state + f * n
        return h, h


class MUT1(Cell[Tensor]):
    """The first of the three best of ten thousand evolved cells.  [Jozefowicz et al. 2015, ICML, MUT1]

        z = σ(U_z x + b)       r = σ(Uᵣ x + Wᵣ h + b)       n = tanh(Wₙ (r ⊙ h) + tanh(P x) + b)
        h' = z ⊙ n + (1 - z) ⊙ h

    state h [N, units], x [N, inputs] -> output h' [N, units]. z near one replaces. Rows of U: z, r. P is the identity where inputs = units,
    as in the paper, else a matrix without bias.

    >>> import torch
    >>> h, output = MUT1(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.P = input_to_hidden(inputs, units, 2), _fit(inputs, units)
        self.W_r, self.W_n = hidden_to_hidden(units, units), hidden_to_hidden(units, units, bias=True)

    def step(self, state, x):
        x_z, x_r = self.U(x).chunk(2, -1)
        z, r = x_z.sigmoid(), (x_r + self.W_r(state)).sigmoid()
        n = (self.W_n(r * state) + self.P(x).tanh()).tanh()
        h = z * n + (1 - z) * state
        return h, h


class MUT2(Cell[Tensor]):
    """The second of the three best of ten thousand evolved cells.  [Jozefowicz et al. 2015, ICML, MUT2]

        z = σ(U_z x + W_z h + b)       r = σ(P x + Wᵣ h + b)       n = tanh(Uₙ x + Wₙ (r ⊙ h) + b)
        h' = z ⊙ n + (1 - z) ⊙ h

    state h [N, units], x [N, inputs] -> output h' [N, units]. z near one replaces. Rows of U: z, n; of W: z, r. P as in `MUT1`.

    >>> import torch
    >>> h, output = MUT2(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.P = input_to_hidden(inputs, units, 2), _fit(inputs, units)
        self.W, self.W_n = hidden_to_hidden(units, units, 2), hidden_to_hidden(units, units)
        self.b_r = nn.Parameter(self.U.bias.new_zeros(units))

    def step(self, state, x):
        x_z, x_n = self.U(x).chunk(2, -1)
        h_z, h_r = self.W(state).chunk(2, -1)
        z, r = (x_z + h_z).sigmoid(), (self.P(x) + h_r + self.b_r).sigmoid()
        n = (x_n + self.W_n(r * state)).tanh()
        h = z * n + (1 - z) * state
        return h, h


class MUT3(Cell[Tensor]):
    """The third of the three best of ten thousand evolved cells.  [Jozefowicz et al. 2015, ICML, MUT3]

        z = σ(U_z x + W_z tanh(h) + b)       r = σ(Uᵣ x + Wᵣ h + b)       n = tanh(Uₙ x + Wₙ (r ⊙ h) + b)
        h' = z ⊙ n + (1 - z) ⊙ h

    state h [N, units], x [N, inputs] -> output h' [N, units]. z near one replaces. Rows of U: z, r, n.

    >>> import torch
    >>> h, output = MUT3(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 3)
        self.W_z, self.W_r, self.W_n = (hidden_to_hidden(units, units) for _ in "zrn")

    def step(self, state, x):
        x_z, x_r, x_n = self.U(x).chunk(3, -1)
        z, r = (x_z + self.W_z(state.tanh())).sigmoid(), (x_r + self.W_r(state)).sigmoid()
        n = (x_n + self.W_n(r * state)).tanh()
        h = z * n + (1 - z) * state
        return h, h


def _fit(inputs: int, units: int) -> nn.Module:
    return nn.Identity() if inputs == units else input_to_hidden(inputs, units, bias=False)
