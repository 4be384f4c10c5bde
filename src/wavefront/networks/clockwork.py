"""A clockwork over sequences, group by group: the slowest first, each over the steps at which it ticks."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront import cells
from wavefront.cell import Cell
from wavefront.errors import ShapeError
from wavefront.networks.recurrent import Recurrent

__all__ = ["Clockwork"]


class Heard(NamedTuple):
    """What a group hears: x, and the slower groups as they were before the step."""

    x: Any
    slower: Any


class Group(Cell[Tensor]):
    """hᵢ' = φ(Uᵢ x + Wᵢ [hᵢ, slower] + bᵢ), with the weights of one group of a `cells.Clockwork`."""

    def __init__(self, whole: cells.Clockwork, number: int):
        units = whole.groups[number]
        super().__init__(Heard(whole.inputs, sum(whole.groups[number + 1 :])), state=units)
        self.units, self.U, self.W, self.activation = units, whole.U[number], whole.W[number], whole.activation

    def step(self, state, x):
        own, slower = self.W.weight.split([self.units, self.W.in_features - self.units], 1)
        h = self.activation(self.U(x.x) + F.linear(x.slower, slower) + F.linear(state, own))
        return h, h


class Clockwork(nn.Module):
    """Clockwork RNN: `Recurrent(cells.Clockwork(...))`, done group by group.  [Koutnik et al. 2014, arXiv:1402.3511]

    A group hears itself and the slower ones, never a faster one. So the slowest is unfolded first, over every Tᵢ-th step alone; what it was at every
    step is then an input of the next faster one, known for all steps at once. The arithmetic is that of the ticks, and of each group only its own
    square of W is left in a loop, which has T/Tᵢ steps.

    cell     a `cells.Clockwork`, or its inputs, units and periods

    Called, equal and streamed as `Recurrent(cell)`: x [B, T, inputs], state, lengths, resets, start -> outputs [B, T, units], final state.

    >>> net = Clockwork(3, 8, periods=(1, 2, 4, 8))
    >>> x = torch.randn(2, 20, 3)
    >>> torch.allclose(net(x, lengths=[20, 7])[0], Recurrent(net.cell, backend="reference")(x, lengths=[20, 7])[0], atol=1e-6)
    True
    """

    def __init__(self, inputs: int | cells.Clockwork, units: int = 0, periods: Many[int] = (1, 2, 4, 8), backend: str = "auto"):
        super().__init__()
        self.cell = inputs if isinstance(inputs, cells.Clockwork) else cells.Clockwork(inputs, units, periods)
        self.backend = backend
        # they share the cell's weights, which are in its own place in the state_dict already
        self._groups = [Recurrent(Group(self.cell, i), backend=backend) for i in range(len(self.cell.groups))]

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Tensor | Many[int] | None = None,
        resets: Tensor | None = None,
        start: int = 0,
    ) -> tuple[Tensor, Tensor]:
        cell = self.cell
        if x.dim() != 3 or x.shape[2] != cell.inputs:
            raise ShapeError(f"Clockwork of inputs={cell.inputs} expects x of [B, T, {cell.inputs}], got {list(x.shape)}.")
        B, T, _ = x.shape
        left = torch.full((B,), T) if lengths is None else torch.as_tensor(lengths)
        given = (cell.initial_state(B) if state is None else state).split(cell.groups, -1)
        if resets is not None:
            place = torch.arange(T)
            resets = resets & (place < left[:, None])
            latest = torch.where(resets, place, -1).cummax(1).values if T else resets.long()  # the last reset at or before each step
        slower, outputs, ends = x.new_zeros(B, T, 0), [], []
        for i in reversed(range(len(cell.groups))):
            period, h = cell.periods[i], given[i]
            first = -start % period
            ticks = torch.arange(first, T, period)
            number = torch.div(torch.arange(T) - first, period, rounding_mode="floor")  # of the last tick at or before each step; -1: none
            new = None
            if resets is not None:
                before = torch.cat([torch.full((1,), -1), ticks[:-1]])[: len(ticks)]
                new = latest[:, ticks] > before
            heard = Heard(x[:, ticks], slower[:, ticks])
            counts = (-((first - left) // period)).clamp(min=0)
            states, end = self._groups[i](heard, h, counts, new)
            held = torch.cat([h[:, None], states], 1)[:, number + 1]  # after each step
            if resets is not None:  # begun anew since the last tick: still as it begins
                at = torch.cat([torch.full((1,), -1), ticks])[number + 1]
                held = torch.where((latest > at)[..., None], 0.0, held)
                stale = latest.gather(1, (left - 1).clamp(min=0)[:, None])[:, 0] > _last(ticks, counts) if T else left < 0
                end = torch.where((stale & (left > 0))[:, None], 0.0, end)
            outputs.append(held)
            ends.append(end)
            was = torch.cat([h[:, None], held], 1)[:, :T]  # before each step
            if resets is not None:
                was = torch.where(resets[..., None], 0.0, was)
            slower = torch.cat([was, slower], -1)
        whole = torch.cat(outputs[::-1], -1)
        if lengths is not None:
            whole = torch.where((torch.arange(T) < left[:, None])[..., None], whole, 0.0)
        return whole, torch.cat(ends[::-1], -1)

    def step(self, state: Tensor | None, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """One step of a stream, number `start`, state first as in a cell."""
        return Recurrent(self.cell, backend=self.backend).step(state, x, start=start)


def _last(ticks: Tensor, counts: Tensor) -> Tensor:
    """The place of each row's last tick, -1 where it has none."""
    return torch.cat([torch.full((1,), -1), ticks])[counts]
