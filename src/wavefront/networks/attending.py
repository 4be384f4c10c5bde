"""A cell that attends to a memory while it runs: the decoder of an encoder."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell, Given, advance, draws_wanted, map_draws, named
from wavefront.errors import SettingsError, ShapeError
from wavefront.networks.attention import Attention, Memory, Past
from wavefront.networks.recurrent import Recurrent

__all__ = ["Attending"]


class AttendingState(NamedTuple):
    inner: Any  # of the cell
    fed: Tensor  # what is fed to the next step: the last output (asking after), or the last output of the cell, its query (asking before)
    past: Any  # a `Past`


class Attending(nn.Module):
    """A cell, unfolded over sequences, with attention at each step. Called as `Recurrent` is, with a `Memory` as context.

        asks="after"   h(t) = f(h(t-1), [x(t), o(t-1)])       c(t) = attend(h(t))       o(t) = tanh(V [c(t), h(t)])        [Luong et al. 2015, eq.
        5]
        asks="before"  c(t) = attend(h(t-1))                  h(t) = f(h(t-1), [x(t), c(t)])        o(t) = tanh(V [c(t), h(t), x(t)])
                                                                                       [Bahdanau et al. 2015; readout as in its A.2.2, without
                                                                                       maxout]

    cell       its inputs are those of x, and beside them the units (after, with input feeding) or the memory's size (before)
    attention  its query is the cell's output
    units      the size of o; by default the cell's output
    feeding    o(t-1) is an input of step t ("input feeding"). Without it, and where the attention does not look back, states do not depend on where
               it looks: all steps of the cell run at once, and all of the attention after them
    record     keep where it looked even if nothing else needs it (a coverage penalty in a beam search does)

    >>> from wavefront import cells
    >>> from wavefront.networks import Additive
    >>> attention = Additive(query=5, memory=6, units=8)
    >>> net = Attending(cells.GRU(3 + 5, 5), attention)
    >>> memory = net.memory(torch.randn(2, 9, 6), lengths=[9, 4])
    >>> o, state = net(torch.randn(2, 7, 3), context=memory)
    >>> o.shape, net.alignments(torch.randn(2, 7, 3), context=memory).shape
    (torch.Size([2, 7, 5]), torch.Size([2, 7, 9]))
    """

    def __init__(
        self,
        cell: Cell,
        attention: Attention,
        units: int | None = None,
        asks: str = "after",
        feeding: bool = True,
        record: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        if asks not in ("after", "before"):
            raise SettingsError(f'Attending asks "after" the cell\'s step or "before" it, got {asks!r}.')
        if attention.query != cell.outputs:
            raise ShapeError(
                f"Attending: the query is the output of {named(cell)}, {cell.outputs} numbers; the attention expects {attention.query}."
            )
        if cell.slots != 1 or not isinstance(cell.inputs, int):
            raise ShapeError(
                f"Attending wants a cell with one vector as input and one predecessor, got {named(cell)} with slots={cell.slots}."
            )
        self.network = Recurrent(cell, backend=backend)
        self.attention, self.asks, self.feeding, self.record = attention, asks, feeding, record
        self.outputs = units or cell.outputs
        self.fed = attention.memory if asks == "before" else self.outputs if feeding else 0
        self.inputs = cell.inputs - self.fed
        if self.inputs < 0:
            raise ShapeError(f"Attending feeds {self.fed} numbers to {named(cell)} beside x: its inputs have to be more.")
        self.V = nn.Linear(attention.memory + cell.outputs + (self.inputs if asks == "before" else 0), self.outputs)
        self.at_once = asks == "after" and not feeding and not attention.looks_back and not record

    @property
    def cell(self) -> Cell:
        return self.network.cell

    def memory(self, values: Tensor, lengths: Tensor | Many[int] | None = None, symbols: Tensor | None = None) -> Memory:
        """The memory over values [B, S, size], each row so long; its keys computed once."""
        rows, places = values.shape[:2]
        if values.dim() != 3 or values.shape[2] != self.attention.memory:
            raise ShapeError(f"Attending expects values of [B, S, {self.attention.memory}], got {list(values.shape)}.")
        mask = torch.ones(rows, places, dtype=torch.bool, device=values.device)
        if lengths is not None:
            mask = torch.arange(places, device=values.device) < torch.as_tensor(lengths, device=values.device)[:, None]
        values = values.masked_fill(~mask[..., None], 0)  # a NaN of padding times weight zero would be a NaN
        symbols = torch.full(mask.shape, -1, device=mask.device) if symbols is None else symbols.masked_fill(~mask, -1)
        return Memory(values, self.attention.keys(values), mask, symbols)

    def initial_state(self, rows: int, context: Memory, inner: Any = None) -> Any:
        """The state before the first step; `inner` is the cell's, by default its own initial one."""
        inner = self.cell.initial_state(rows) if inner is None else inner
        if self.at_once:
            return inner
        width = self.cell.outputs if self.asks == "before" else self.outputs
        return AttendingState(inner, self.V.weight.new_zeros(rows, width), self.attention.start(context))

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None, context: Any = None, start: int = 0) -> tuple[Tensor, Any]:
        o, _, state = self.run(x, state, lengths, context, start)
        return o, state

    def alignments(self, x: Tensor, state: Any = None, lengths: Any = None, context: Any = None, start: int = 0) -> Tensor:
        """Where it looks at each step, [B, T, S]; zeros past the lengths."""
        return self.run(x, state, lengths, context, start)[1]

    def run(self, x: Tensor, state: Any, lengths: Any, memory: Memory, start: int = 0) -> tuple[Tensor, Tensor, Any]:
        """-> o [B, T, outputs], where it looked at each step [B, T, S], and the final state."""
        if not isinstance(memory, Memory):
            raise ShapeError(
                f"Attending wants a Memory as context, as its `memory(values, lengths)` makes it; got {type(memory).__name__}."
            )
        rows, steps = x.shape[:2]
        state = self.initial_state(rows, memory) if state is None else state
        if not self.at_once:
            places = memory.mask.shape[1]
            # the number of places changes from batch to batch, so that no code made for one would serve the next: the loop runs as it is written
            loop = Recurrent(self.cell_over(places, show=True), backend="reference")
            shown, state = loop(x, state, lengths, context=memory, start=start)
            return shown[..., : self.outputs], shown[..., self.outputs :], state
        h, state = self.network(x, state, lengths, start=start)
        inside = None if lengths is None else torch.arange(steps, device=x.device) < torch.as_tensor(lengths, device=x.device)[:, None]
        o, a = self.look(h, memory)
        if inside is not None:
            o, a = o * inside[..., None], a * inside[..., None]
        return o, a, state

    def step(self, state: Any, x: Tensor, context: Any = None, start: int = 0) -> tuple[Any, Tensor]:
        """One step, as in a cell: x [N, inputs] -> the next state, o [N, outputs]. A context of fewer rows, N / k, is shared by k of x that follow
        one another, as the beams of a search are: where the attention does not look back."""
        state = self.initial_state(len(x), context) if state is None else state
        if not self.at_once:
            cell = self.cell_over(context.mask.shape[1])
            drawn = map_draws(lambda d: d.sample(d.shape, x), draws_wanted(cell, len(x)))
            return advance(cell, state, Given(x, context), drawn, start)
        inner, h = self.network.step(state, x, start=start)
        return inner, self.look(_by_memory(h, context), context)[0].flatten(0, 1)

    def look(self, h: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """h [B, T, ...] -> o [B, T, outputs], weights [B, T, S]: asking after, without a past."""
        a = self.attention.weights(h, memory)
        return self.V(torch.cat([a @ memory.values, h], -1)).tanh(), a

    def cell_over(self, places: int, show: bool = False) -> Cell:
        """Attention over so many places is a cell of its own: its state holds a weight for each. With `show` its outputs are [o, a]."""
        return _Over(self, places, show)


class _Over(Cell[AttendingState]):
    """One step of `Attending` over S places; see there."""

    def __init__(self, net: Attending, places: int, show: bool):
        attention = net.attention
        key = attention.keys(net.V.weight.new_zeros(1, 0, attention.memory)).shape[2]
        memory = Memory(values=(places, attention.memory), keys=(places, key), mask=(places,), symbols=(places,))  # type: ignore[arg-type]
        width = net.cell.outputs if net.asks == "before" else net.outputs
        super().__init__(
            inputs=Given(net.inputs, memory),
            state=AttendingState(net.cell.sizes, width, Past(last=places, total=places)),  # type: ignore[arg-type]
            outputs=net.outputs + (places if show else 0),
            phases=net.cell.phases,
        )
        self.net, self.show = net, show
        self.training = net.training  # this step alone: train() would reach into net

    def draws(self, rows):
        return draws_wanted(self.net.cell, rows)

    def step(self, state, x, draws=None, phase=0):
        net, (x, memory), (inner, fed, past) = self.net, x, state
        if net.asks == "before":
            a = net.attention.weights(_by_memory(fed, memory), memory, past)
            c = (a @ memory.values).flatten(0, 1)
            inner, fed = advance(net.cell, inner, torch.cat([x, c], -1), draws, phase)
            o = net.V(torch.cat([c, fed, x], -1)).tanh()
        else:
            inner, h = advance(net.cell, inner, torch.cat([x, fed], -1) if net.feeding else x, draws, phase)
            a = net.attention.weights(_by_memory(h, memory), memory, past)
            o = fed = net.V(torch.cat([(a @ memory.values).flatten(0, 1), h], -1)).tanh()
        a = a.flatten(0, 1)
        state = AttendingState(inner, fed, Past(a, past.total + a))
        return state, torch.cat([o, a], -1) if self.show else o


def _by_memory(query: Tensor, memory: Memory) -> Tensor:
    """[N, size] -> [rows of the memory, queries of each, size]."""
    rows = len(memory.mask)
    return query.reshape(rows, len(query) // max(1, rows), query.shape[1])
