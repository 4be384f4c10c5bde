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
    time_constants  in place of leak, (shortest, longest) τ in steps: one for each unit, evenly spaced in ln τ
    sampled         draw these at random, uniformly in ln τ, instead
    learned         train them: leak = σ(a), a a parameter [units]

    >>> [round(1 / leak) for leak in Leaky(3, 5, time_constants=(1, 81)).leak.tolist()]
    [1, 3, 9, 27, 81]
    """

    fixed: Tensor

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
        start = _leaks(units, leak, time_constants, sampled, learned)
        self.learned = learned
        if learned:
            self.a = nn.Parameter(start.logit().to(self.W.weight.dtype))
        else:
            self.register_buffer("fixed", start.to(self.W.weight.dtype))

    @property
    def leak(self) -> Tensor:
        """1 - α for each unit."""
        return self.a.sigmoid() if self.learned else self.fixed

    def step(self, state, x):
        leak = self.leak
        h = (1 - leak) * state + leak * self.activation(self.U(x) + self.W(state))
        return h, h


def _leaks(
    units: int, leak: float | Sequence[float] | Tensor | None, times: tuple[float, float] | None, sampled: bool, learned: bool
) -> Tensor:
    if (leak is None) == (times is None):
        raise SettingsError("cells.Leaky wants either leak (a number or one for each unit) or time_constants=(shortest, longest).")
    if sampled and times is None:
        raise SettingsError("cells.Leaky: sampled draws time constants; give time_constants=(shortest, longest).")
    if times is not None:
        return _spread(units, *times, sampled).clamp(max=LARGEST if learned else 1.0)
    leaks = torch.as_tensor(leak, dtype=torch.float64).detach()
    if leaks.dim() > 1 or leaks.numel() not in (1, units):
        raise SettingsError(f"cells.Leaky: leak is one number, or one for each of the {units} units; got {list(leaks.shape)}.")
    if not bool(((leaks > 0) & (leaks <= 1)).all()):
        raise SettingsError(f"cells.Leaky: a leak lies in (0, 1], got {leak}.")
    return leaks.expand(units).clamp(max=LARGEST if learned else 1.0)


def _spread(units: int, shortest: float, longest: float, sampled: bool) -> Tensor:
    """1/τ with ln τ evenly spaced, or uniform at random."""
    if not 1 <= shortest <= longest:
        raise SettingsError(f"cells.Leaky: time_constants are (shortest, longest) in steps, at least 1; got {(shortest, longest)}.")
    at = torch.rand(units, dtype=torch.float64) if sampled else torch.linspace(0, 1, units, dtype=torch.float64)
    return torch.exp(-(log(shortest) + at * log(longest / shortest)))
