"""Any cell over a series with gaps: its state fades while time passes, and moves where something was observed."""

from __future__ import annotations

from math import log

import torch
from torch import nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, state_leaves
from wavefront.cells.irregular import Irregular, there
from wavefront.errors import SettingsError, ShapeError
from wavefront.wrap._parts import vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Decayed"]


class Decayed(Wrapper):
    """A cell between whose observations the state decays exponentially.

    [Mozer et al. 2017, arXiv:1710.04110; Rubanova et al. 2019, arXiv:1907.03907, section 2]

        ŝ = s ⊙ exp(-gap/τ)       (s', o) = f(ŝ, [m ⊙ x, m])   where anything was observed,   else s' = ŝ

    This is s(t) of ds/dt = -s/τ, in closed form: a gap of k is k unobserved steps of gap 1. State as the cell's; x an `Irregular(value, gap,
    observed)`, observed being m; output as the cell's: where nothing was observed the part of ŝ that it is, or, where it is no part of the state,
    what the cell says to an x of zeros.

    time_constants   (shortest, longest): τ, learned, starts evenly spaced in its logarithm between these, in the unit of the gaps

    >>> from wavefront import Recurrent, cells
    >>> net = Recurrent(Decayed(cells.GRU(2 * 3, 5)))
    >>> x, gap = torch.randn(2, 7, 3), torch.rand(2, 7, 1)
    >>> net(cells.Irregular(x, gap, torch.ones(2, 7, 3)))[0].shape
    torch.Size([2, 7, 5])
    """

    def __init__(self, cell: Cell, time_constants: tuple[float, float] = (1.0, 100.0)):
        inputs, odd = divmod(vector_inputs(cell, "wrap.Decayed"), 2)
        if odd or cell.slots != 1:
            raise ShapeError(
                "wrap.Decayed gives its cell the values and what was observed of them, side by side: a cell of 2 × inputs and one predecessor;"
                f" got inputs={cell.inputs}, slots={cell.slots}."
            )
        shortest, longest = time_constants
        if not 0 < shortest <= longest:
            raise SettingsError(f"wrap.Decayed: time_constants are (shortest, longest), above 0; got {time_constants}.")
        super().__init__(cell, inputs=Irregular(inputs, 1, inputs))
        self.log_tau = nn.ParameterList(torch.linspace(log(shortest), log(longest), shape[-1]) for shape in state_leaves(cell.sizes))

    def step(self, state, x, draws=None, phase=0):
        leaves, spec = pytree.tree_flatten(state)
        faded = [s * (-x.gap.unflatten(-1, (1,) * (s.dim() - 1)) * (-log_tau).exp()).exp() for s, log_tau in zip(leaves, self.log_tau)]
        value = torch.cat([there(x), x.observed], -1)
        after, output = advance(self.cell, pytree.tree_unflatten(faded, spec), value, draws, phase)
        seen = x.observed.abs().sum(-1, keepdim=True) > 0
        new = [torch.where(seen.unflatten(-1, (1,) * (s.dim() - 1)), a, s) for s, a in zip(faded, pytree.tree_leaves(after))]
        output = next((mine for mine, a in zip(new, pytree.tree_leaves(after)) if output is a), output)
        return pytree.tree_unflatten(new, spec), output
