"""Leaky units: hidden units that move only part of the way at each step, each at its own rate."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.cells._parts import Activation, function, hidden_to_hidden, input_to_hidden
from wavefront.errors import SettingsError

__all__ = ["Leaky"]

LARGEST = 1 - 1e-3  # of the leaks that are learned, at the start: no finite a has σ(a) = 1


class Leaky(Cell[Tensor]):
    """Leaky integrator units.  [Mozer 1992; El Hihi & Bengio 1996; Jaeger et al. 2007; Goodfellow et al. 2016, 10.9.2]

        h' = α ⊙ h + (1 - α) ⊙ φ(U x + W h + b)       leak = 1 - α = 1/τ

    state h [N, units], x [N, inputs] -> output h' [N, units]. α near one (a small leak) remembers for about τ steps; leak 1 is `Elman`.

    leak            one number for all units, or one for each, in (0, 1]
    time_constants  in place of leak, (shortest, longest) τ in steps: one for each unit, evenly spaced in ln τ; (1, 100) if neither is given
    sampled         draw these at random, uniformly in ln τ, instead
    learned         train them: leak = σ(a), a a parameter [units]

    >>> [round(1 / leak) for leak in Leaky(3, 5, time_constants=(1, 81)).leak.tolist()]
    [1, 3, 9, 27, 81]
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        leak: float | Sequence[float] | Tensor | None = None,
        *,
        time_constants: tuple[float, float] | None = None,
        sampled: bool = False,
        learned: bool = False,
        activation: str | Activation = "tanh",
        bias: bool = True,
    ):
        super().__init__(inputs, state=units)
        self.U = input_to_hidden(inputs, units, bias=bias)
        self.W = hidden_to_hidden(units, units)
        self.activation = function(activation)
        self.leaks = Leaks("cells.Leaky", units, leak, time_constants, sampled, learned).to(self.W.weight.dtype)

    @property
    def leak(self) -> Tensor:
        """1 - α for each unit."""
        leak: Tensor = self.leaks()
        return leak

    def step(self, state, x):
        leak = self.leaks()
        h = (1 - leak) * state + leak * self.activation(self.U(x) + self.W(state))
        return h, h


class Leaks(nn.Module):
    """One leak for each of `units`, as `Leaky` describes them, fixed (a buffer) or learned (a parameter); called, it gives them, [units]."""

    fixed: Tensor

    def __init__(
        self,
        whose: str,
        units: int,
        leak: float | Sequence[float] | Tensor | None = None,
        time_constants: tuple[float, float] | None = None,
        sampled: bool = False,
        learned: bool = False,
    ):
        super().__init__()
        if leak is not None and time_constants is not None:
            raise SettingsError(
                f"{whose} wants either leak (a number or one for each unit) or time_constants=(shortest, longest), not both."
            )
        if sampled and leak is not None:
            raise SettingsError(f"{whose}: sampled draws time constants; give time_constants=(shortest, longest) in place of leak.")
        if leak is None:
            start = _spread(whose, units, time_constants or (1.0, 100.0), sampled)
        else:
            start = _given(whose, units, torch.as_tensor(leak, dtype=torch.float64).detach())
        self.learned = learned
        if learned:
            self.a = nn.Parameter(start.clamp(max=LARGEST).logit())
        else:
            self.register_buffer("fixed", start)

    def forward(self) -> Tensor:
        return self.a.sigmoid() if self.learned else self.fixed


def _given(whose: str, units: int, leaks: Tensor) -> Tensor:
    if leaks.dim() > 1 or leaks.numel() not in (1, units):
        raise SettingsError(f"{whose}: leak is one number, or one for each of the {units} units; got {list(leaks.shape)}.")
    if not bool(((leaks > 0) & (leaks <= 1)).all()):
        raise SettingsError(f"{whose}: a leak lies in (0, 1], got {leaks.tolist()}.")
    return leaks.expand(units).clone()


def _spread(whose: str, units: int, times: tuple[float, float], sampled: bool) -> Tensor:
    """1/τ with ln τ evenly spaced, or uniform at random."""
    shortest, longest = times
    if not 1 <= shortest <= longest:
        raise SettingsError(f"{whose}: time_constants are (shortest, longest) in steps, at least 1; got {(shortest, longest)}.")
    at = torch.rand(units, dtype=torch.float64) if sampled else torch.linspace(0, 1, units, dtype=torch.float64)
    return torch.exp(-(log(shortest) + at * log(longest / shortest)))
