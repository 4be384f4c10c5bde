"""Legendre memory: the last stretch of a signal, held as the coefficients of polynomials."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["LMU"]


class LMUState(NamedTuple):
    h: Tensor  # [N, units]
    m: Tensor  # [N, order]


class LMU(Cell[LMUState]):
    """Legendre memory unit.  [Voelker et al. 2019, NeurIPS, eq. 1-7]

        u = eₓ x + eₕ h + eₘ m       m' = Ā m + B̄ u       h' = φ(Uₓ x + b + W h + Uₘ m')

    state (h [N, units], m [N, order]), x [N, inputs] -> output h' [N, units]. m holds the last `theta` steps of u as `order` Legendre polynomials;
    Ā and B̄ are their equation, (2i + 1)/θ [-1 if i < j else (-1)^(i-j+1)] and (2i + 1)(-1)^i/θ, held for a step (zero-order hold), and not learned.

    order   d, by default `units`
    theta   θ, the length of the window, in steps

    >>> cell = LMU(3, 5, order=4, theta=20)
    >>> state, output = cell(None, torch.randn(2, 3))
    >>> state.m.shape, output.shape
    (torch.Size([2, 4]), torch.Size([2, 5]))
    """

    A: Tensor
    B: Tensor

    def __init__(
        self,
        inputs: int,
        units: int,
        order: int | None = None,
        theta: float = 100.0,
        *,
        activation: str | Activation = "tanh",
        bias: bool = True,
    ):
        order = units if order is None else order
        if order < 1 or not theta > 0:
            raise SettingsError(f"cells.LMU: order is at least 1 and theta a number of steps above 0; got {order} and {theta}.")
        super().__init__(inputs, state=LMUState(h=units, m=order))  # type: ignore[arg-type]
        self.e_x, self.e_h, self.e_m = (nn.Linear(n, 1, bias=False) for n in (inputs, units, order))
        for e in (self.e_x, self.e_h):
            bound = (3 / max(1, e.in_features)) ** 0.5
            nn.init.uniform_(e.weight, -bound, bound)
        nn.init.zeros_(self.e_m.weight)
        self.U_x, self.W, self.U_m = (
            input_to_hidden(inputs, units, bias=bias),
            hidden_to_hidden(units, units),
            input_to_hidden(order, units, bias=False),
        )
        self.activation = function(activation)
        A, B = legendre(order, theta)
        dtype = self.W.weight.dtype
        self.register_buffer("A", A.to(dtype))
        self.register_buffer("B", B.to(dtype))

    def step(self, state, x):
        u = self.e_x(x) + self.e_h(state.h) + self.e_m(state.m)
        m = state.m @ self.A.T + u * self.B
        h = self.activation(self.U_x(x) + self.W(state.h) + self.U_m(m))
        return LMUState(h, m), h


def legendre(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """Ā [order, order] and B̄ [order] for one step: the exact solution of θ m' = A m + B u while u stands still, in float64."""
    i = torch.arange(order, dtype=torch.float64)
    sign = (-1.0) ** i
    A = (2 * i + 1)[:, None] * torch.where(i[:, None] < i, -1.0, -sign[:, None] * sign) / theta
    B = (2 * i + 1) * sign / theta
    # the exponential of [[A, B], [0, 0]] holds both
    both = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    both[:order, :order], both[:order, order] = A, B
    both = torch.linalg.matrix_exp(both)
    return both[:order, :order], both[:order, order]
