"""Gated recurrent units: the reset gate after the product, before it, and as the book writes them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, chrono, function, hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["GRU", "GRUBefore", "GRUBook"]


class GRU(Cell[Tensor]):
    """Gated recurrent units; the reset gate applies after the product, as in cuDNN.  [Cho et al. 2014, arXiv:1406.1078v1]

        r = σ(Uᵣ x + Wᵣ h + b)       z = σ(U_z x + W_z h + b)       n = φ(Uₙ x + b + r ⊙ (Wₙ h + b'))
        h' = (1 - z) ⊙ n + z ⊙ h

    state h [N, units], x [N, inputs] -> output h'. z near one keeps. Rows of U and W, both with biases: r, z, n, as torch.nn.GRU.

    activation  φ
    tau_max     the longest time to remember: b_z = ln u, u uniform in [1, tau_max - 1]  [Tallec & Ollivier 2018, arXiv:1804.11188]

    >>> h, output = GRU(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True, activation: str | Activation = "tanh", tau_max: float | None = None):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 3, bias)
        self.W = hidden_to_hidden(units, units, 3, bias)
        self.activation = function(activation)
        _start_update(self.U, tau_max)

    def step(self, state, x):
        x_r, x_z, x_n = self.U(x).chunk(3, -1)
        h_r, h_z, h_n = self.W(state).chunk(3, -1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = self.activation(x_n + r * h_n)
        h = (1 - z) * n + z * state
        return h, h


class GRUBefore(Cell[Tensor]):
    """Gated recurrent units; the reset gate applies before the product.  [Cho et al. 2014, arXiv:1406.1078v3, eq. 5-8]

        r = σ(Uᵣ x + Wᵣ h + b)       z = σ(U_z x + W_z h + b)       n = φ(Uₙ x + b + Wₙ (r ⊙ h))
        h' = (1 - z) ⊙ n + z ⊙ h

    state h [N, units], x [N, inputs] -> output h'. z near one keeps. Rows of U (with the biases): r, z, n; of W: r, z.
    Options as `GRU`'s.

    >>> h, output = GRUBefore(3, 5)(None, torch.randn(2, 3))
    >>> output.shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True, activation: str | Activation = "tanh", tau_max: float | None = None):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 3, bias)
        self.W, self.W_n = hidden_to_hidden(units, units, 2), hidden_to_hidden(units, units)
        self.activation = function(activation)
        _start_update(self.U, tau_max)

    def step(self, state, x):
        x_r, x_z, x_n = self.U(x).chunk(3, -1)
        h_r, h_z = self.W(state).chunk(2, -1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = self.activation(x_n + self.W_n(r * state))
        h = (1 - z) * n + z * state
        return h, h


class BookState(NamedTuple):
    h: Tensor  # h(t), [N, units]
    x: Tensor  # x(t), [N, inputs]


class GRUBook(Cell[BookState]):
    """Gated recurrent units with the indices of the book.  [Goodfellow et al. 2016, eq. 10.45-10.47]

        h(t) = u(t-1) ⊙ h(t-1) + (1 - u(t-1)) ⊙ σ(b + U x(t-1) + W (r(t-1) ⊙ h(t-1)))
        u(t) = σ(bᵘ + Uᵘ x(t) + Wᵘ h(t))       r(t) = σ(bʳ + Uʳ x(t) + Wʳ h(t))

    state (h(t-1) [N, units], x(t-1) [N, inputs]), x(t) [N, inputs] -> output h(t), which x(t) has not reached yet: this is `GRUBefore` with
    φ = σ, one step later. Parameters as `GRUBefore`'s, u for z, so that one's state_dict loads into the other.

    >>> state, output = GRUBook(3, 5)(None, torch.randn(2, 3))
    >>> state.h.shape, state.x.shape
    (torch.Size([2, 5]), torch.Size([2, 3]))
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True):
        super().__init__(inputs, state=BookState(h=units, x=inputs))  # type: ignore[arg-type]
        self.U = input_to_hidden(inputs, units, 3, bias)
        self.W, self.W_n = hidden_to_hidden(units, units, 2), hidden_to_hidden(units, units)

    def step(self, state, x):
        h, before = state
        x_r, x_u, x_n = self.U(before).chunk(3, -1)
        h_r, h_u = self.W(h).chunk(2, -1)
        r, u = (x_r + h_r).sigmoid(), (x_u + h_u).sigmoid()
        h = u * h + (1 - u) * (x_n + self.W_n(r * h)).sigmoid()
        return BookState(h, x), h


@torch.no_grad()
def _start_update(U: nn.Linear, tau_max: float | None) -> None:
    if tau_max is None:
        return
    if U.bias is None:
        raise SettingsError("tau_max sets the start of the update gate's bias; with bias=False there is none.")
    z = U.bias.chunk(3)[1]
    z.copy_(chrono(len(z), tau_max))
