"""Zoneout: at random, units keep the value that they had."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Draw, advance, draws_wanted, named, state_leaves
from wavefront.errors import SettingsError, ShapeError
from wavefront.wrap._parts import probability
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Zoneout"]


class ZoneoutDraws(NamedTuple):
    cell: Any
    old: tuple[Any, ...]  # for each part of the state


class Zoneout(Wrapper):
    """Each unit of the state keeps its old value with probability p, at every step anew.  [Krueger et al. 2017, arXiv:1606.01305]

        s' = m ⊙ s + (1 - m) ⊙ s̃       (s̃, o) = f(s, x)       m is 1 with probability p, else 0;  in eval mode m = p

    State, x and output as the cell's; an output that is a part of the state is the part after zoneout. With several predecessors the old value is
    the first slot's.

    p   one probability for all parts of the state, or a nest of them like the state: LSTMState(h=0.05, c=0.5)

    >>> import torch
    >>> from wavefront import cells
    >>> state, output = Zoneout(cells.LSTM(3, 5), 0.1)(None, torch.randn(2, 3))
    >>> output is state.h
    True
    """

    def __init__(self, cell: Cell, p: Any = 0.1):
        super().__init__(cell)
        if cell.slots == "any":
            raise ShapeError(f"wrap.Zoneout keeps the old state of a node; {named(cell)} takes any number of states.")
        parts = len(state_leaves(cell.sizes))
        each = [p] * parts if isinstance(p, (int, float)) else pytree.tree_leaves(p)
        if len(each) != parts:
            raise SettingsError(f"wrap.Zoneout: p is one probability, or one for each of the {parts} parts of the state; got {p!r}.")
        self.p = [probability(q, "wrap.Zoneout", "p") for q in each]

    def draws(self, rows):
        shapes = state_leaves(self.sizes)
        old = tuple(Draw((rows, *shape), "bernoulli", p) if p else None for p, shape in zip(self.p, shapes))
        return ZoneoutDraws(draws_wanted(self.cell, rows), old)

    def step(self, state, x, draws=None, phase=0):
        of_cell, masks = (None, self.p) if draws is None else draws
        before = pytree.tree_leaves(state if self.slots == 1 else state[0])
        after, output = advance(self.cell, state, x, of_cell, phase)
        leaves, spec = pytree.tree_flatten(after)
        zoned = [_mixed(p, m, old, new) for p, m, old, new in zip(self.p, masks, before, leaves)]
        output = next((part for part, new in zip(zoned, leaves) if output is new), output)
        return pytree.tree_unflatten(zoned, spec), output


def _mixed(p: float, m: Tensor | float, old: Tensor, new: Tensor) -> Tensor:
    return m * old + (1 - m) * new if p else new
