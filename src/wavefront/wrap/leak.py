"""Leaky units of any kind: a state that moves only part of the way at each step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, named, state_leaves
from wavefront.cells.leaky import Leaks
from wavefront.errors import ShapeError
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Leak"]


class Leak(Wrapper):
    """Any cell with a slower state.  [Jaeger et al. 2007, Neural Networks 20(3), eq. 2; Goodfellow et al. 2016, 10.9.2]

        s' = α ⊙ s + (1 - α) ⊙ s̃       (s̃, o) = f(s, x)       leak = 1 - α = 1/τ

    State, x and output as the cell's; an output that is a part of the state is the part after it has leaked. leak 1 is the cell itself. Every part
    of the state leaks, each unit at its own rate; units with a clock or a count of their own (a time, a running maximum) are better left alone. With
    several predecessors s is the first slot's.

    leak, time_constants, sampled, learned   as in `cells.Leaky`, for the last dimension of each part of the state

    >>> import torch
    >>> from wavefront import cells
    >>> slow = Leak(cells.GRU(3, 5), time_constants=(1, 1000), learned=True)
    >>> slow(None, torch.randn(2, 3))[1].shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        cell: Cell,
        leak: float | Sequence[float] | Tensor | None = None,
        *,
        time_constants: tuple[float, float] | None = None,
        sampled: bool = False,
        learned: bool = False,
    ):
        super().__init__(cell)
        if cell.slots == "any":
            raise ShapeError(f"wrap.Leak keeps a part of the old state of a node; {named(cell)} takes any number of states.")
        like = next((p for p in cell.parameters() if p.is_floating_point()), None)
        self.leaks = nn.ModuleList(
            Leaks("wrap.Leak", shape[-1], leak, time_constants, sampled, learned).to(like) for shape in state_leaves(cell.sizes)
        )

    def step(self, state, x, draws=None, phase=0):
        before = pytree.tree_leaves(state if self.slots == 1 else state[0])
        after, output = advance(self.cell, state, x, draws, phase)
        leaves, spec = pytree.tree_flatten(after)
        slow = [(1 - leak()) * old + leak() * new for leak, old, new in zip(self.leaks, before, leaves)]
        output = next((part for part, new in zip(slow, leaves) if output is new), output)
        return pytree.tree_unflatten(slow, spec), output
