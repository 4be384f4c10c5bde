"""Linear recurrent units: oscillators that fade, each at its own rate and pitch; and the gated, real kind."""

from __future__ import annotations

from math import pi
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from wavefront.cells._parts import input_to_hidden
from wavefront.cells.linear import Affine, LinearRecurrence
from wavefront.errors import SettingsError

__all__ = ["LRU", "RGLRU"]


class Complex(NamedTuple):
    """Complex numbers as the engine has them: their real parts and their imaginary parts."""

    re: Any  # [N, units]
    im: Any  # [N, units]


class LRU(LinearRecurrence):
    """Linear recurrent units: a diagonal, complex recurrence.  [Orvieto et al. 2023, arXiv:2303.06349, section 3.4 and appendix A]

        s' = λ ⊙ s + γ ⊙ (B x)       λ = exp(-exp(ν) + i exp(θ))       output = Re(C s') + D x

    state s, `units` complex numbers as (re [N, units], im [N, units]), x [N, inputs] -> output [N, outputs], by default `units` of them. Rows of
    B: re, im; columns of C: re, -im. |λ| < 1 whatever ν is.

    radius   |λ| starts uniform (by area) in the ring between these two; time constants are -1/ln|λ|
    phase    the angle of λ starts uniform in [0, phase]
    gamma    γ, a parameter, √(1 - |λ|²) at the start, so that the state is as large as what comes in

    >>> cell = LRU(3, 5, radius=(0.9, 0.999))
    >>> state, output = cell(None, torch.randn(2, 3))
    >>> state.im.shape, output.shape, bool((cell.factor.re ** 2 + cell.factor.im ** 2 < 1).all())
    (torch.Size([2, 5]), torch.Size([2, 5]), True)
    """

    def __init__(
        self, inputs: int, units: int, *, outputs: int | None = None, radius: tuple[float, float] = (0.0, 1.0), phase: float = 2 * pi
    ):
        low, high = radius
        if not 0 <= low <= high <= 1 or high == 0:
            raise SettingsError(f"cells.LRU: radius is (least, greatest) of |λ|, within 0 and 1; got {radius}.")
        if not 0 < phase <= 2 * pi:
            raise SettingsError(f"cells.LRU: phase is an angle above 0, at most 2π; got {phase}.")
        super().__init__(inputs, state=Complex(units, units), outputs=units if outputs is None else outputs)
        squared = (torch.rand(units) * (high**2 - low**2) + low**2).clamp(1e-8, 1 - 1e-6)
        self.nu = nn.Parameter((-0.5 * squared.log()).log())
        self.theta = nn.Parameter((phase * torch.rand(units)).clamp(min=1e-8).log())
        self.gamma = nn.Parameter((1 - squared).sqrt())
        self.B = nn.Linear(inputs, 2 * units, bias=False)
        self.C = nn.Linear(2 * units, self.outputs, bias=False)
        self.D = input_to_hidden(inputs, self.outputs, bias=False)
        nn.init.normal_(self.B.weight, std=(2 * max(1, inputs)) ** -0.5)
        nn.init.normal_(self.C.weight, std=max(1, units) ** -0.5)

    @property
    def factor(self) -> Complex:
        """The factor of each unit: it turns by exp(θ) a step, and fades by exp(-exp(ν))."""
        size, angle = (-self.nu.exp()).exp(), self.theta.exp()
        return Complex(size * angle.cos(), size * angle.sin())

    def affine(self, x):
        re, im = self.B(x).chunk(2, -1)
        return Affine(self.factor, Complex(self.gamma * re, self.gamma * im))

    def read(self, state, x):
        return self.C(torch.cat(state, -1)) + self.D(x)

    @staticmethod
    def times(a, s):
        return Complex(a.re * s.re - a.im * s.im, a.re * s.im + a.im * s.re)


class RGLRU(LinearRecurrence):
    """Real-gated linear recurrent units, the recurrence of Griffin.  [De et al. 2024, arXiv:2402.19427, eq. 1-4]

        r, i = σ(U x + b)       ln a = -8 r ⊙ softplus(Λ)       h' = a ⊙ h + √(1 - a²) ⊙ (i ⊙ P x)

    state h [N, units], x [N, inputs] -> output h' [N, units]. r near zero keeps. Rows of U: r, i. P is the identity where inputs = units, as in the
    paper, else a matrix without bias. Λ starts so that a, at r = 1, is uniform in [0.9, 0.999].

    >>> RGLRU(3, 5)(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, 2)
        self.P = nn.Identity() if inputs == units else input_to_hidden(inputs, units, bias=False)
        rate = -torch.empty(units).uniform_(0.9, 0.999).log() / 8
        self.Lambda = nn.Parameter(rate.expm1().log())  # softplus backwards

    def affine(self, x):
        r, i = self.U(x).sigmoid().chunk(2, -1)
        log_a = -8 * r * F.softplus(self.Lambda)
        return Affine(log_a.exp(), (-(2 * log_a).expm1()).sqrt() * (i * self.P(x)))
