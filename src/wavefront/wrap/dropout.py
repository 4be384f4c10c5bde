"""Dropout around a cell: of its inputs, its outputs and the state that it sees."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Draw, advance, draws_wanted, is_size
from wavefront.wrap._parts import change_first, each_slot, hidden_units, probability
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Dropout"]


class DropoutDraws(NamedTuple):
    cell: Any = None
    inputs: Any = None
    outputs: Any = None
    states: Any = None


class Dropout(Wrapper):
    """Units dropped at random, the rest scaled up.  [Zaremba et al. 2014, arXiv:1409.2329; variational: Gal & Ghahramani 2016, arXiv:1512.05287]

        output = m_o ⊙ o       (h', o) = f(m_h ⊙ h, m_x ⊙ x)       each m is 1/(1-p) with probability 1-p, else 0

    State, x and output as the cell's. In eval mode nothing is dropped.

    inputs, outputs, states   the probabilities p. `states` drops the first part of the state, h, as the step sees it; an LSTM's memory c stays
                              whole. A cell that copies h to the next state, as GRUs do, copies it scaled: for these rather `Zoneout`
    variational               one draw for the whole sequence in place of one for each step

    >>> import torch
    >>> from wavefront import cells
    >>> state, output = Dropout(cells.LSTM(3, 5), inputs=0.1, outputs=0.5)(None, torch.randn(2, 3))
    >>> bool(((output == 0) | (output == 2 * state.h)).all())
    True
    """

    def __init__(self, cell: Cell, inputs: float = 0.0, outputs: float = 0.0, states: float = 0.0, variational: bool = False):
        super().__init__(cell)
        self.of_inputs = probability(inputs, "wrap.Dropout", "inputs")
        self.of_outputs = probability(outputs, "wrap.Dropout", "outputs")
        self.of_states = probability(states, "wrap.Dropout", "states")
        self.hidden = hidden_units(cell, "wrap.Dropout(states=...)") if states else 0
        self.per = "unfolding" if variational else "step"

    def draws(self, rows):
        def keep(p: float, size: int | tuple[int, ...]) -> Draw:
            return Draw((rows, size) if isinstance(size, int) else (rows, *size), "keep", p, self.per)

        wanted = DropoutDraws(
            draws_wanted(self.cell, rows),
            pytree.tree_map(lambda size: keep(self.of_inputs, size), self.inputs, is_leaf=is_size) if self.of_inputs else None,
            keep(self.of_outputs, self.outputs) if self.of_outputs else None,
            keep(self.of_states, self.hidden) if self.of_states else None,
        )
        return wanted if any(draw is not None for draw in wanted) else None

    def step(self, state, x, draws=None, phase=0):
        of_cell, m_x, m_o, m_h = DropoutDraws() if draws is None else draws
        if m_h is not None:
            mask = state.expand(m_h) if self.slots == "any" else m_h
            state = each_slot(self.slots, state, lambda part: change_first(part, lambda h: mask * h))
        state, output = advance(self.cell, state, _masked(m_x, x), of_cell, phase)
        return state, _masked(m_o, output)


def _masked(mask: Any, values: Any) -> Any:
    return values if mask is None else pytree.tree_map(Tensor.mul, values, mask)
