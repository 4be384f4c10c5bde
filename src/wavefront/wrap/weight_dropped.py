"""DropConnect: at random, weights are zero for a whole unfolding."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, NamedTuple

from torch import nn
from torch.func import functional_call

from wavefront.cell import Cell, Draw, advance, draws_wanted, named
from wavefront.errors import SettingsError
from wavefront.wrap._parts import probability
from wavefront.wrap.wrapper import Wrapper

__all__ = ["WeightDropped"]


class WeightDraws(NamedTuple):
    cell: Any
    weights: dict[str, Any]


class WeightDropped(Wrapper):
    """Hidden-to-hidden weights dropped at random, the same ones at every step and for every sequence.  [Merity et al. 2018, arXiv:1708.02182, 2]

        (h', o) = f(h, x; m ⊙ W)       m is 1/(1-p) with probability 1-p, else 0, drawn once per unfolding

    State, x and output as the cell's. In eval mode nothing is dropped.

    weights   the names of the parameters; by default all hidden-to-hidden matrices: those of modules called W, W_n, ...

    >>> import torch
    >>> from wavefront import Recurrent, cells
    >>> Recurrent(WeightDropped(cells.LSTM(3, 5), 0.5))(torch.randn(2, 7, 3))[0].shape
    torch.Size([2, 7, 5])
    """

    def __init__(self, cell: Cell, p: float = 0.5, weights: Iterable[str] | None = None):
        super().__init__(cell)
        there = dict(cell.named_parameters())
        self.weights = tuple(filter(_hidden_to_hidden, there) if weights is None else weights)
        if not self.weights or not set(self.weights) <= set(there):
            raise SettingsError(f"wrap.WeightDropped: weights names parameters of {named(cell)}: {', '.join(there)}; got {weights}.")
        self.p = probability(p, "wrap.WeightDropped", "p")

    def draws(self, rows):
        def keep(name: str) -> Draw:
            return Draw(tuple(attrgetter(name)(self.cell).shape), "keep", self.p, per="unfolding", per_row=False)

        return WeightDraws(draws_wanted(self.cell, rows), {name: keep(name) for name in self.weights})

    def step(self, state, x, draws=None, phase=0):
        if draws is None:
            return advance(self.cell, state, x, None, phase)
        dropped = {f"cell.{name}": mask * attrgetter(name)(self.cell) for name, mask in draws.weights.items()}
        return functional_call(_Bare(self.cell), dropped, (state, x, draws.cell, phase))


class _Bare(nn.Module):
    """A cell's step as a module's call, which is what `functional_call` calls; a cell's own call checks and draws."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.cell = cell

    def forward(self, state: Any, x: Any, draws: Any, phase: int) -> Any:
        return advance(self.cell, state, x, draws, phase)


def _hidden_to_hidden(name: str) -> bool:
    *_, module, parameter = ("", *name.split("."))
    return module.split("_")[0] == "W" and parameter == "weight"
