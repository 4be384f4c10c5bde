"""A clockwork over sequences, group by group: the slowest first, each over the steps at which it ticks."""

from __future__ import annotations

from collections.abc import Sequence as Many
from itertools import pairwise
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
        self.units, self.period = units, whole.periods[number]
        self.U: Any = whole.U[number]
        W: Any = whole.W
        self.W = W[number]
        self.activation = whole.activation
        self.heard = [(W[i], sum(whole.groups[i:number])) for i in range(number)]  # by whom, and from which column of their W on

    def step(self, state, x):
        h = self.activation(x + F.linear(state, self.W.weight[:, : self.units]))
        return h, h

    def say(self, states: Tensor) -> Tensor:
        """What these states say to each faster group: Wⱼᵢ hᵢ, side by side."""
        weights = [W.weight[:, first : first + self.units] for W, first in self.heard]
        return F.linear(states, torch.cat(weights) if weights else states.new_zeros(0, self.units))


class Clockwork(nn.Module):
    """Clockwork RNN: `Recurrent(cells.Clockwork(...))`, done group by group.  [Koutnik et al. 2014, arXiv:1402.3511]

    A group hears itself and the slower ones, never a faster one. So the slowest is unfolded first, over every Tᵢ-th step alone; what it says to the
    faster ones is then known for all steps, once for each of its ticks. The arithmetic is that of the ticks, and of each group only its own square of
    W is left in a loop, which has T/Tᵢ steps.

    cell     a `cells.Clockwork`, or its inputs, units and periods
    reverse  from the end of each sequence to its start

    Called, equal and streamed as `Recurrent(cell)`: x [B, T, inputs], state, lengths, resets, start -> outputs [B, T, units], final state.

    >>> net = Clockwork(3, 8, periods=(1, 2, 4, 8))
    >>> x = torch.randn(2, 20, 3)
    >>> torch.allclose(net(x, lengths=[20, 7])[0], Recurrent(net.cell, backend="reference")(x, lengths=[20, 7])[0], atol=1e-6)
    True
    """

    def __init__(
        self,
        inputs: int | cells.Clockwork,
        units: int = 0,
        periods: Many[int] = (1, 2, 4, 8),
        reverse: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        self.cell = inputs if isinstance(inputs, cells.Clockwork) else cells.Clockwork(inputs, units, periods)
        self.reverse, self.backend = reverse, backend
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
        given = cell.initial_state(B) if state is None else state
        if T == 0:
            return x.new_zeros(B, 0, cell.outputs), given
        steps, left = torch.arange(T), torch.full((B,), T) if lengths is None else torch.as_tensor(lengths)
        inside = steps[:, None] < left  # [T, B]
        anew = None if resets is None else resets.T & inside
        x = x.transpose(0, 1)
        if self.reverse:
            back = torch.where(inside, left - 1 - steps[:, None], steps[:, None])  # its own inverse
            x = _turned(x, back)
            if anew is not None:  # what lies before t lies after it in the other direction
                anew = torch.cat([torch.zeros_like(anew[:1]), anew.gather(0, back)[:-1]]) & inside
        if lengths is not None:
            x = torch.where(inside[..., None], x, 0.0)
        states = self._unfold(x, given, None if lengths is None else left, anew, start)
        outputs, end = states, states[-1]
        if lengths is not None:
            end = states.gather(0, (left - 1).clamp(min=0).view(1, B, 1).expand(1, B, cell.outputs))[0]
            end = torch.where((left > 0)[:, None], end, given)
            outputs = torch.where(inside[..., None], states, 0.0)
        return (_turned(outputs, back) if self.reverse else outputs).transpose(0, 1), end

    def _unfold(self, x: Tensor, given: Tensor, left: Tensor | None, anew: Tensor | None, start: int) -> Tensor:
        """x [T, B, inputs], `anew` [T, B] where a row begins anew -> the state after each step, [T, B, units]."""
        steps, groups = torch.arange(len(x)), given.split(self.cell.groups, -1)
        begins = steps[:0] if anew is None else steps[anew.any(1)]
        latest = None if anew is None else torch.where(anew, steps[:, None], -1).cummax(0).values  # the last time of it, up to each step
        done: list[Held] = []  # the slower groups, the next first
        said = first_said = x.new_zeros(0)  # by them to the faster ones, at the moments of the next
        for i in reversed(range(len(groups))):
            cell: Any = self._groups[i].cell
            ticks = torch.arange(-start % cell.period, len(x), cell.period)
            a, moments = cell.U(x[-start % cell.period :: cell.period]), torch.cat([ticks, begins]).unique()
            if done:
                sizes = [sum(self.cell.groups[:i]), cell.units]
                (said, here), (first_said, first_here) = said.split(sizes, -1), first_said.split(sizes, -1)
                heard = Held(done[0].moments, here, first_here).at(ticks - 1)
                a = a + (heard if anew is None else torch.where(anew[ticks, :, None], 0.0, heard))
                moments = torch.cat([ticks, done[0].moments]).unique()
            new = None if latest is None else (latest[ticks] > (ticks - cell.period).clamp(min=-1)[:, None]).T
            counts = None if left is None else torch.searchsorted(ticks, left)
            states, _ = self._groups[i](a.transpose(0, 1), groups[i], counts, new)
            this = Held(ticks, states.transpose(0, 1), groups[i]).changing(moments, latest)
            if i:
                words, first_words = cell.say(this.states), cell.say(this.first)
                before = Held(done[0].moments, said, first_said).at(moments) if done else 0.0
                said, first_said = words + before, first_words + (first_said if done else 0.0)
            done.insert(0, this)
        periods = self.cell.periods
        if anew is None and start % periods[-1] == 0 and not any(b % a for a, b in pairwise(periods)):
            return self._aligned([group.states for group in done], len(x))
        return torch.cat([group.at(steps) for group in done], -1)

    def _aligned(self, states: list[Tensor], steps: int) -> Tensor:
        """[ticks, B, units] of each group -> [steps, B, units of all], where every clock divides the next.

        All are written once: a step is a number whose digits are a tick of the slowest, the tick of the next within it, and so on.
        """
        periods = self.cell.periods
        digits = [-(-steps // periods[-1]), *(b // a for a, b in reversed(list(zip((1, *periods), periods))))]
        views = []
        for i, h in enumerate(states):
            ticks = digits[0] * periods[-1] // periods[i]
            h = F.pad(h, (0, 0, 0, 0, 0, ticks - len(h))) if ticks > len(h) else h
            own = digits[: len(periods) - i]
            h = h.reshape(*own, *[1] * (len(digits) - len(own)), *h.shape[1:])
            views.append(h.expand(*digits, *h.shape[-2:]))
        whole = torch.cat(views, -1).flatten(0, len(digits) - 1)
        return whole if len(whole) == steps else whole[:steps]  # a slice, of all even, costs a copy on the way back

    def step(self, state: Tensor | None, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """One step of a stream, number `start`, state first as in a cell."""
        return Recurrent(self.cell, reverse=self.reverse, backend=self.backend).step(state, x, start=start)


class Held(NamedTuple):
    """States that change at some moments, and stay in between."""

    moments: Tensor  # steps, ascending
    states: Tensor  # after each of them, [moments, B, units]
    first: Tensor  # before all of them, [B, units]

    def number(self, steps: Tensor) -> Tensor:
        """Of moments at or before each step."""
        return torch.searchsorted(self.moments, steps, right=True)

    def changing(self, moments: Tensor, latest: Tensor | None) -> Held:
        """The same, at more moments; nothing where a row began anew since the last of its own, as `latest` [T, B] says."""
        states = self.at(moments)
        if latest is not None:
            since = torch.cat([self.moments.new_full((1,), -1), self.moments])[self.number(moments)]
            states = torch.where((latest[moments] > since[:, None])[..., None], 0.0, states)
        return Held(moments, states, self.first)

    def at(self, steps: Tensor) -> Tensor:
        """The state after each step, [steps, B, units]; ascending steps, of which -1 is before all."""
        if torch.equal(steps, self.moments):
            return self.states
        lead, *times = torch.bincount(self.number(steps), minlength=len(self.moments) + 1).tolist()
        most = max(times, default=0)
        if times and all(n == most for n in times[:-1]):  # clocks that divide each other: a view, and cheap to go back through
            held = self.states[:, None].expand(-1, most, -1, -1).flatten(0, 1)[: sum(times)]
            return torch.cat([self.first.expand(lead, -1, -1), held]) if lead else held
        whole = torch.cat([self.first[None], self.states])
        return whole.repeat_interleave(torch.tensor([lead, *times]), 0)


def _turned(x: Tensor, back: Tensor) -> Tensor:
    """x [T, B, ...] with the steps of each row in the order that `back` [T, B] says."""
    return x.gather(0, back[..., None].expand_as(x))
