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


class Group(Cell[Tensor]):
    """hᵢ' = φ(a + Wᵢᵢ hᵢ), with the weights of one group of a `cells.Clockwork`; a is what x and the slower groups say."""

    def __init__(self, whole: cells.Clockwork, number: int):
        units = whole.groups[number]
        super().__init__(units, state=units)
        self.units, self.later = units, whole.groups[number + 1 :]
        self.U: Any = whole.U[number]
        self.W: Any = whole.W[number]
        self.activation = whole.activation

    def step(self, state, x):
        h = self.activation(x + F.linear(state, self.W.weight[:, : self.units]))
        return h, h

    def slower(self) -> tuple[Tensor, ...]:
        """Wᵢⱼ of each slower group, the next first."""
        return self.W.weight[:, self.units :].split(self.later, 1)


class Clockwork(nn.Module):
    """Clockwork RNN: `Recurrent(cells.Clockwork(...))`, done group by group.  [Koutnik et al. 2014, arXiv:1402.3511]

    A group hears itself and the slower ones, never a faster one. So the slowest is unfolded first, over every Tᵢ-th step alone; what it says to the
    faster ones is then known for all steps, once for each of its ticks. The arithmetic is that of the ticks, and of each group only its own square of
    W is left in a loop, which has T/Tᵢ steps.

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
        steps, latest = torch.arange(T), None  # the last reset of each row at or before each step, [T, B]
        if resets is not None and T:
            latest = torch.where((resets & (steps < left[:, None])).T, steps[:, None], -1).cummax(0).values
        x = x.transpose(0, 1)
        done: list[Held] = []  # the slower groups, the next first
        ends: list[Tensor] = []
        for i in reversed(range(len(cell.groups))):
            group: Any = self._groups[i].cell
            period = cell.periods[i]
            ticks = torch.arange(-start % period, T, period)
            a = group.U(x[ticks])
            for slow, W in zip(done, group.slower()):
                a = a + slow.before(ticks, F.linear(slow.states, W), latest)
            new = None
            if latest is not None:
                new = (latest[ticks] > torch.cat([ticks.new_full((1,), -1), ticks[:-1]])[: len(ticks), None]).T
            counts = torch.searchsorted(ticks, left)
            states, end = self._groups[i](a.transpose(0, 1), given[i], None if lengths is None else counts, new)
            done.insert(0, Held(ticks, torch.cat([given[i][None], states.transpose(0, 1)])))
            if latest is not None:  # begun anew after its last tick
                last = torch.cat([ticks.new_full((1,), -1), ticks])[counts]
                end = torch.where((latest[(left - 1).clamp(min=0), torch.arange(B)] > last)[:, None] & (left > 0)[:, None], 0.0, end)
            ends.insert(0, end)
        whole = torch.cat([group.after(steps, latest) for group in done], -1).transpose(0, 1)
        if lengths is not None:
            whole = torch.where((steps < left[:, None])[..., None], whole, 0.0)
        return whole, torch.cat(ends, -1)

    def step(self, state: Tensor | None, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """One step of a stream, number `start`, state first as in a cell."""
        return Recurrent(self.cell, backend=self.backend).step(state, x, start=start)


class Held(NamedTuple):
    """What a group was, from tick to tick."""

    ticks: Tensor  # the steps at which it ticked
    states: Tensor  # before the first tick, and after each, [ticks + 1, B, units]

    def after(self, steps: Tensor, latest: Tensor | None) -> Tensor:
        """The group's states after some steps, [steps, B, units]."""
        return self._at(steps, self.states, None if latest is None else latest[steps])

    def before(self, steps: Tensor, said: Tensor, latest: Tensor | None) -> Tensor:
        """Of what it `said` in each state, [ticks + 1, B, n], what stood when some steps began: nothing where the step begins anew."""
        return self._at(steps - 1, said, None if latest is None else latest[steps])

    def _at(self, steps: Tensor, values: Tensor, reset: Tensor | None) -> Tensor:
        number = torch.searchsorted(self.ticks, steps, right=True)  # of ticks at or before each step
        if values.requires_grad and torch.is_grad_enabled():  # a gather is quicker, its gradient much slower
            held = _repeated(values, torch.bincount(number, minlength=len(values)))
        else:
            held = values.index_select(0, number)
        if reset is None:
            return held
        since = torch.cat([self.ticks.new_full((1,), -1), self.ticks])[number]
        return torch.where((reset > since[:, None])[..., None], 0.0, held)


def _repeated(values: Tensor, times: Tensor) -> Tensor:
    """Each value [n, ...] so many times, one after the other. Clocks that divide each other repeat all alike, which is a view, and cheap to go back
    through."""
    lead, *middle = times.tolist()
    most = max(middle, default=0)
    if not middle or any(n != most for n in middle[:-1]):
        return values.repeat_interleave(times, 0)
    alike = values[1:, None].expand(-1, most, *values.shape[1:]).flatten(0, 1)[: sum(middle)]
    return torch.cat([values[:1].expand(lead, *values.shape[1:]), alike]) if lead else alike
