"""Memories that are matrices, written by outer products of values and keys; and the exponential gates that came with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.cells._parts import hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["MLSTM", "SLSTM", "DeltaRule", "GatedDeltaRule"]

NOTHING_YET = -1e4  # the running maximum before the first step: far below any gate, so that the first input gate is the maximum


class SLSTMState(NamedTuple):
    h: Tensor  # [N, units]
    c: Tensor  # [N, units]
    n: Tensor  # the normaliser, [N, units]
    m: Tensor  # the running maximum of the gates' logarithms, [N, units]


class SLSTM(Cell[SLSTMState]):
    """The LSTM with exponential gates, kept in range by a running maximum.  [Beck et al. 2024, arXiv:2405.04517, eq. 8-17]

        z = tanh(a_z)       o = σ(aₒ)       ln f = ln σ(a_f)       ln i = aᵢ       a = U x + W h + b
        m' = max(ln f + m, ln i)       f̄ = exp(ln f + m - m')       ī = exp(ln i - m')
        c' = f̄ ⊙ c + ī ⊙ z       n' = f̄ ⊙ n + ī       h' = o ⊙ c' / n'

    state (h, c, n, m), [N, units] each, x [N, inputs] -> output h' [N, units]. Rows of U and W: i, f, z, o. m changes nothing but the range: it
    cancels in c'/n'.

    forget_bias   b_f at the start

    >>> SLSTM(3, 5)(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int, *, forget_bias: float = 3.0):
        super().__init__(inputs, state=SLSTMState(units, units, units, units))  # type: ignore[arg-type]
        self.U, self.W = input_to_hidden(inputs, units, 4), hidden_to_hidden(units, units, 4)
        with torch.no_grad():
            self.U.bias.chunk(4)[1].fill_(forget_bias)

    def initial_state(self, rows):
        zeros = super().initial_state(rows)
        return zeros._replace(m=zeros.m + NOTHING_YET)

    def step(self, state, x):
        log_i, f, z, o = (self.U(x) + self.W(state.h)).chunk(4, -1)
        faded = F.logsigmoid(f) + state.m
        m = torch.maximum(faded, log_i)
        f, i = (faded - m).exp(), (log_i - m).exp()
        c = f * state.c + i * z.tanh()
        n = f * state.n + i
        h = o.sigmoid() * c / n
        return SLSTMState(h, c, n, m), h


class MLSTMState(NamedTuple):
    C: Tensor  # [N, heads, width, width]: values by keys
    n: Tensor  # the normaliser, [N, heads, width]
    m: Tensor  # the running maximum of the gates' logarithms, [N, heads]


class MLSTM(Cell[MLSTMState]):
    """The LSTM whose memory is a matrix, and whose gates see x alone.  [Beck et al. 2024, arXiv:2405.04517, eq. 19-27]

        q, k, v = U x       k = k/√width       ln i = uᵢ x + bᵢ       ln f = ln σ(u_f x + b_f)       o = σ(Uₒ x + bₒ)
        m' = max(ln f + m, ln i)       f̄ = exp(ln f + m - m')       ī = exp(ln i - m')
        C' = f̄ C + ī v kᵀ       n' = f̄ n + ī k       output = o ⊙ C' q / max(|n' · q|, exp(-m'))

    state (C [N, heads, width, width], n [N, heads, width], m [N, heads]), x [N, inputs] -> output [N, units], units = heads × width, the heads side
    by side. Rows of U: q, k, v, o; of `gates`: i, f, one for each head.

    >>> state, output = MLSTM(3, 8, heads=2)(None, torch.randn(5, 3))
    >>> state.C.shape, output.shape
    (torch.Size([5, 2, 4, 4]), torch.Size([5, 8]))
    """

    def __init__(self, inputs: int, units: int, heads: int = 1, *, forget_bias: float = 3.0):
        self.heads, self.width = heads, _width(units, heads, "cells.MLSTM")
        state = MLSTMState((heads, self.width, self.width), (heads, self.width), (heads,))  # type: ignore[arg-type]
        super().__init__(inputs, state=state, outputs=units)
        self.U, self.gates = input_to_hidden(inputs, units, 4), input_to_hidden(inputs, heads, 2)
        with torch.no_grad():
            self.gates.bias.chunk(2)[1].fill_(forget_bias)

    def initial_state(self, rows):
        zeros = super().initial_state(rows)
        return zeros._replace(m=zeros.m + NOTHING_YET)

    def step(self, state, x):
        q, k, v, o = self.U(x).unflatten(-1, (4, self.heads, self.width)).unbind(1)
        log_i, f = self.gates(x).chunk(2, -1)
        k = k * self.width**-0.5
        faded = F.logsigmoid(f) + state.m
        m = torch.maximum(faded, log_i)
        f, i = (faded - m).exp()[..., None], (log_i - m).exp()[..., None]
        C = f[..., None] * state.C + (i * v)[..., None] * k[..., None, :]
        n = f * state.n + i * k
        size = torch.maximum((n * q).sum(-1).abs(), (-m).exp())
        read = (C * q[..., None, :]).sum(-1) / size[..., None]
        return MLSTMState(C, n, m), (o.sigmoid() * read).flatten(1)


class DeltaRule(Cell[tuple[Tensor]]):
    """A matrix that learns, step by step, to give the value v for the key k.  [Schlag et al. 2021, arXiv:2102.11174, eq. 24; Widrow & Hoff 1960]

        q, k, v = U x       k = k/|k|       q = q/|q|       β = σ(u x + b)
        S' = S + β (v - S k) kᵀ       output = S' q

    state S [N, heads, width, width], x [N, inputs] -> output [N, units], units = heads × width, the heads side by side. β = 1 puts v in the place of
    what was stored under k; β = 0 writes nothing. Rows of U: q, k, v. As the papers use it, it stands between projections and a norm: these are
    wrappers' and layers' work.

    >>> state, output = DeltaRule(3, 8, heads=2)(None, torch.randn(5, 3))
    >>> state[0].shape, output.shape
    (torch.Size([5, 2, 4, 4]), torch.Size([5, 8]))
    """

    def __init__(self, inputs: int, units: int, heads: int = 1):
        self.heads, self.width = heads, _width(units, heads, "cells.DeltaRule")
        super().__init__(inputs, state=((heads, self.width, self.width),), outputs=units)
        self.U, self.rate = input_to_hidden(inputs, units, 3), input_to_hidden(inputs, heads)

    def step(self, state, x):
        q, k, v = self.U(x).unflatten(-1, (3, self.heads, self.width)).unbind(1)
        S, read = _delta(state[0], unit(q), unit(k), v, self.rate(x).sigmoid())
        return (S,), read


class GatedDeltaRule(Cell[tuple[Tensor]]):
    """The delta rule over a memory that fades.  [Yang et al. 2025, arXiv:2412.06464, eq. 10; α as in Dao & Gu 2024, arXiv:2405.21060]

        q, k, v = U x       k = k/|k|       q = q/|q|       β = σ(u x + b)       ln α = -exp(a) softplus(u' x + b')
        S' = α S + β (v - α S k) kᵀ       output = S' q

    State, x and output as `DeltaRule`'s; α = 1 is the same. Rows of U: q, k, v; of `gates`: β, α, one for each head.

    >>> GatedDeltaRule(3, 8, heads=2)(None, torch.randn(5, 3))[1].shape
    torch.Size([5, 8])
    """

    def __init__(self, inputs: int, units: int, heads: int = 1):
        self.heads, self.width = heads, _width(units, heads, "cells.GatedDeltaRule")
        super().__init__(inputs, state=((heads, self.width, self.width),), outputs=units)
        self.U, self.gates = input_to_hidden(inputs, units, 3), input_to_hidden(inputs, heads, 2)
        self.a = nn.Parameter(torch.zeros(heads))
        with torch.no_grad():  # time constants of 10 to 1000 steps, evenly spaced in their logarithm, at x = 0
            fades = torch.logspace(-1, -3, heads) if heads > 1 else torch.full((1,), 0.01)
            self.gates.bias.chunk(2)[1].copy_(fades.expm1().log())  # softplus backwards

    def step(self, state, x):
        q, k, v = self.U(x).unflatten(-1, (3, self.heads, self.width)).unbind(1)
        rate, fade = self.gates(x).chunk(2, -1)
        alpha = (-self.a.exp() * F.softplus(fade)).exp()
        S, read = _delta(alpha[..., None, None] * state[0], unit(q), unit(k), v, rate.sigmoid())
        return (S,), read


def _delta(S: Tensor, q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """S + β (v - S k) kᵀ, and what it gives for q: S [N, heads, width, width], β [N, heads]."""
    missing = v - (S * k[..., None, :]).sum(-1)
    S = S + (rate[..., None] * missing)[..., None] * k[..., None, :]
    return S, (S * q[..., None, :]).sum(-1).flatten(1)


def unit(a: Tensor, eps: float = 1e-6) -> Tensor:
    """a/|a|, by rows; zero stays zero."""
    return a * ((a * a).sum(-1, keepdim=True) + eps).rsqrt()


def _width(units: int, heads: int, who: str) -> int:
    if heads < 1 or units % heads:
        raise SettingsError(f"{who}: units are shared out among the heads, which have to divide them; got {units} units, {heads} heads.")
    return units // heads
