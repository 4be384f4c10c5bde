"""Output-to-hidden recurrence: the output of one step is an input of the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given, advance, named
from wavefront.errors import ShapeError
from wavefront.wrap._parts import each_slot, vector_inputs
from wavefront.wrap.wrapper import Wrapper

__all__ = ["Feedback", "Forced"]


class Forced(NamedTuple):
    """The input of a `Feedback`: x, and what stands in for the last output, y(t-1), where the coin is not 0.

    Closed loop: coin 0. Teacher forcing: coin 1. Scheduled sampling: a coin thrown for each step.
    """

    x: Any  # [N, inputs]
    target: Any  # [N, outputs]
    coin: Any  # [N, 1]

    @staticmethod
    def closed(x: Tensor, outputs: int) -> Forced:
        """x [..., inputs] in closed loop: no targets, no coin."""
        return Forced(x, x.new_zeros(*x.shape[:-1], outputs), x.new_zeros(*x.shape[:-1], 1))

    @staticmethod
    def teacher(x: Tensor, target: Tensor) -> Forced:
        """x [..., inputs] with the target [..., outputs] at every step in place of the last output."""
        return Forced(x, target, x.new_ones(*x.shape[:-1], 1))


class FeedbackState(NamedTuple):
    inner: Any
    output: Any  # [N, outputs]


class Feedback(Wrapper):
    """A cell that is given its last output as well.  [Jordan 1986; Goodfellow et al. 2016, figures 10.4 and 10.6, section 10.2.1]

        (h', o') = f(h, [x, ō, context])       ō = target where coin ≠ 0, else o

    state (inner h, output o [N, outputs]), x a `Forced(x, target, coin)` -> output o'. The inner cell's inputs are those of x, its own outputs, and
    the context, joined in this order. With a cell without memory of its own this is the book's network of output-to-hidden connections only.

    start     o before the first step, [outputs]; default zeros. A learned one: LearnedStart(Feedback(...))
    cut       no gradient passes through a fed-back output (it does by default, as the equation says)
    context   the size of what is given once per sequence: inputs are then Given(x=Forced(...), context=...)

    >>> from wavefront import Recurrent, cells
    >>> net = Recurrent(Feedback(cells.GRU(3 + 5, 5)))
    >>> x, y = torch.randn(2, 7, 3), torch.randn(2, 7, 5)
    >>> before = torch.cat([torch.zeros(2, 1, 5), y[:, :-1]], 1)      # y(t-1) at t
    >>> net(Forced.teacher(x, before))[0].shape, net(Forced.closed(x, 5))[0].shape
    (torch.Size([2, 7, 5]), torch.Size([2, 7, 5]))
    """

    start: Tensor

    def __init__(self, cell: Cell, start: Tensor | None = None, cut: bool = False, context: int = 0):
        own = vector_inputs(cell, "wrap.Feedback") - cell.outputs - context
        if own < 0 or cell.slots == "any":
            raise ShapeError(
                f"wrap.Feedback wants a cell that takes x, its own {cell.outputs} outputs and a context of {context}, joined, and a fixed"
                f" number of predecessors; got {named(cell)} with slots={cell.slots}."
            )
        forced = Forced(x=own, target=cell.outputs, coin=1)
        super().__init__(
            cell,
            inputs=Given(forced, context) if context else forced,
            state=FeedbackState(cell.sizes, cell.outputs),
        )
        self.cut = cut
        like = next(iter([*cell.parameters(), *pytree.tree_leaves(cell.initial_state(0))]), torch.empty(0))
        first = like.new_zeros(cell.outputs) if start is None else torch.as_tensor(start).detach().to(like).clone()
        if tuple(first.shape) != (cell.outputs,):
            raise ShapeError(f"wrap.Feedback: start is an output, [{cell.outputs}]; got {list(first.shape)}.")
        self.register_buffer("start", first)

    def initial_state(self, rows):
        return FeedbackState(self.cell.initial_state(rows), self.start.expand(rows, -1))

    def step(self, state, x, draws=None, phase=0):
        (x, target, coin), *context = x if isinstance(x, Given) else (x,)
        last = (state if self.slots == 1 else state[0]).output
        fed = torch.where(coin != 0, target, last.detach() if self.cut else last)
        inner = each_slot(self.slots, state, lambda part: part.inner)
        inner, output = advance(self.cell, inner, torch.cat([x, fed, *context], -1), draws, phase)
        return FeedbackState(inner, output), output
