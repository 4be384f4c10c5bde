"""Echo state networks: a reservoir that stays as it is, and a readout that is found in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, advance, draws_wanted, named
from wavefront.errors import DataError, ShapeError
from wavefront.networks.recurrent import Recurrent
from wavefront.networks.ridge import Linear, Ridge
from wavefront.wrap import Feedback, Forced
from wavefront.wrap.wrapper import Wrapper

__all__ = ["EchoState", "Reading"]

CHUNK = 2_000_000  # numbers of states that are held at once while sums are taken


class Reading(Wrapper):
    """A cell with a linear readout of all its states, and of its input.

        h' = f(h, x)            o = V φ([h', x]) + c            φ(s) = s, or with squares [s, s²]   [Jaeger 2002, NIPS 15]

    state that of the cell, x [N, inputs] -> output o [N, outputs]. h' is every part of the state: all layers of a deep reservoir.

    direct  x is read as well as h'
    squares the squares are read too
    """

    V: Tensor  # [outputs, features]
    c: Tensor  # [outputs]

    def __init__(self, cell: Cell, outputs: int, direct: bool = True, squares: bool = False):
        if not isinstance(cell.inputs, int) or cell.slots != 1:
            raise ShapeError(f"Reading wants a cell of one predecessor whose input is one vector, got {named(cell)}.")
        super().__init__(cell, outputs=outputs)
        self.direct, self.squares = direct, squares
        width = sum(leaf.numel() for leaf in pytree.tree_leaves(cell.initial_state(1))) + (cell.inputs if direct else 0)
        self.features = width * (2 if squares else 1)
        like = pytree.tree_leaves(cell.initial_state(1))[0]
        self.register_buffer("V", like.new_zeros(outputs, self.features))
        self.register_buffer("c", like.new_zeros(outputs))

    def read(self, state: Any, x: Tensor) -> Tensor:
        """φ([h', x]), [N, features]."""
        parts = [leaf.flatten(1) for leaf in pytree.tree_leaves(state)]
        s = torch.cat([*parts, x] if self.direct else parts, -1)
        return torch.cat([s, s * s], -1) if self.squares else s

    def step(self, state, x, draws=None, phase=0):
        state, _ = advance(self.cell, state, x, draws, phase)
        return state, self.read(state, x) @ self.V.T + self.c


class Features(Wrapper):
    """A `Reading` before its readout: the output is what there is to read."""

    def __init__(self, reading: Reading):
        super().__init__(reading.cell, outputs=reading.features)
        self.reading = reading

    def draws(self, rows):
        return draws_wanted(self.cell, rows)

    def step(self, state, x, draws=None, phase=0):
        state, _ = advance(self.cell, state, x, draws, phase)
        return state, self.reading.read(state, x)


class Memory(NamedTuple):
    """What an `EchoState` carries from one call to the next."""

    inner: Any  # the reservoir's state
    output: Tensor  # the last output, or the last target where there was one


class EchoState(nn.Module):
    """An echo state network.  [Jaeger 2001; Jaeger & Haas 2004, Science 304; Lukoševičius 2012, A practical guide]

        h(t) = f(h(t-1), x(t))                       o(t) = V [h(t), x(t)] + c
        h(t) = f(h(t-1), [x(t), ō(t-1)])             with feedback: ō is the target where it is known (teacher forcing), else o

    cell      the reservoir: a `cells.Reservoir`; several in `wrap.Stack` (deep: the readout sees all layers) or `wrap.Parallel`; any other cell
    outputs   size of o
    feedback  the cell's inputs are those of x, and the outputs after them
    direct    the readout sees x too
    squares   the readout sees the squares of h and x too

    `fit` finds V and c by ridge regression; nothing else is learned. x is [B, T, inputs], targets are [B, T, outputs].

    >>> from wavefront import cells
    >>> torch.manual_seed(0); t = torch.arange(600, dtype=torch.float64)
    <torch._C.Generator object at ...>
    >>> wave = torch.sin(t / 5)[None, :, None]
    >>> net = EchoState(cells.Reservoir(0, 100, feedback=1, leak=0.5, dtype=torch.float64), outputs=1, feedback=True)
    >>> nothing = wave.new_zeros(1, 500, 0)
    >>> _ = net.fit(nothing, wave[:, :500], washout=100, penalty=1e-8)
    >>> _, memory = net(nothing, targets=wave[:, :500])         # teacher forcing
    >>> ahead, _ = net(nothing[:, :100], memory)                # free running
    >>> bool((ahead - wave[:, 500:]).abs().max() < 0.01)
    True
    """

    def __init__(self, cell: Cell, outputs: int, feedback: bool = False, direct: bool = True, squares: bool = False):
        super().__init__()
        if feedback and (not isinstance(cell.inputs, int) or cell.inputs < outputs):
            raise ShapeError(f"EchoState: with feedback the cell's inputs end with the {outputs} outputs; {named(cell)} has too few.")
        self.reading = Reading(cell, outputs, direct, squares)
        self.feedback = feedback
        self.penalty = float("nan")  # the one that `fit` took
        if feedback:
            # wrap.Feedback gives the outputs back as inputs; x is what is left of them
            self.loop = Recurrent(Feedback(self.reading, start=torch.zeros(outputs)))
        else:
            self.loop = Recurrent(self.reading)
        self.states = Recurrent(Features(self.reading))

    @property
    def inputs(self) -> int:
        """Size of x."""
        return self.reading.inputs - (self.reading.outputs if self.feedback else 0)

    @property
    def outputs(self) -> int:
        return self.reading.outputs

    def forward(
        self, x: Tensor, memory: Memory | None = None, targets: Tensor | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Memory]:
        """Outputs [B, T, outputs], and what to carry on with. With feedback, targets [B, T, outputs] are fed back in place of the outputs."""
        self._check(x, targets)
        if not self.feedback:
            outputs, inner = self.loop(x, None if memory is None else memory.inner, lengths)
            return outputs, Memory(inner, _last(outputs, lengths))
        last = x.new_zeros(len(x), self.outputs) if memory is None else memory.output
        state = None if memory is None else self._state(memory, last)
        if targets is None:
            outputs, state = self.loop(Forced.closed(x, self.outputs), state, lengths)
            return outputs, Memory(state.inner, state.output)
        before = torch.cat([last[:, None], targets[:, :-1]], 1)
        outputs, state = self.loop(Forced.teacher(x, before), state, lengths)
        return outputs, Memory(state.inner, _last(targets, lengths))

    def step(self, memory: Memory | None, x: Tensor, target: Tensor | None = None) -> tuple[Memory, Tensor]:
        """One step of a stream, in constant time and memory: x [B, inputs] -> what to carry on with, and o [B, outputs]."""
        outputs, memory = self(x[:, None], memory, None if target is None else target[:, None])
        return memory, outputs[:, 0]

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        targets: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        washout: int = 0,
        penalty: float | Sequence[float] = 1e-6,
    ) -> EchoState:
        """The readout of least squared error on these series, the first `washout` steps of each left out.

        penalty  of ridge regression, or several, of which generalised cross-validation takes one (`self.penalty`)
        """
        return self.fit_batches([(x, targets, lengths)], washout, penalty)

    @torch.no_grad()
    def fit_batches(
        self, batches: Iterable[tuple[Tensor, Tensor, Any]], washout: int = 0, penalty: float | Sequence[float] = 1e-6
    ) -> EchoState:
        """`fit` on a stream of batches (x, targets, lengths or None), of which one is in memory at a time."""
        sums = self.sums(batches, washout)
        penalties = [penalty] if isinstance(penalty, (int, float)) else list(penalty)
        self.penalty, readout = sums.best(penalties)
        self.take(readout)
        return self

    @torch.no_grad()
    def sums(self, batches: Iterable[tuple[Tensor, Tensor, Any]], washout: int = 0) -> Ridge:
        """What `fit` solves, for other penalties or targets than one. States are driven by the targets where there is feedback."""
        sums, longest = Ridge(self.reading.features, self.outputs), 0
        for x, targets, lengths in batches:
            self._check(x, targets)
            steps = torch.full((len(x),), x.shape[1]) if lengths is None else torch.as_tensor(lengths)
            longest = max(longest, int(steps.max()) if len(steps) else 0)
            for first, h in self._chunks(x, targets, steps):
                t = torch.arange(first, first + h.shape[1])
                wanted = (t >= washout) & (t < steps[:, None])
                sums.add(h[wanted], targets[:, first : first + h.shape[1]][wanted])
        if not sums.count:
            raise DataError(
                f"no step is left to learn from: the longest series has {longest} steps, of which the first {washout} are the washout."
                " Give longer series, or a shorter washout."
            )
        return sums

    def take(self, readout: Linear) -> None:
        """This readout from now on."""
        self.reading.V.copy_(readout.V)
        self.reading.c.copy_(readout.c)

    def _chunks(self, x: Tensor, targets: Tensor, steps: Tensor) -> Iterable[tuple[int, Tensor]]:
        """What there is to read, a few steps at a time: the first step, and [B, few, features]."""
        driven = x
        if self.feedback:
            driven = torch.cat([x, torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], 1)], -1)
        few = max(1, CHUNK // max(1, len(x) * self.reading.features))
        state = None
        for first in range(0, driven.shape[1], few):
            part = driven[:, first : first + few]
            h, state = self.states(part, state, (steps - first).clamp(0, part.shape[1]))
            yield first, h

    def _state(self, memory: Memory, last: Tensor) -> Any:
        cell = self.loop.cell
        fresh = cell.initial_state(0)
        return type(fresh)(memory.inner, last)

    def _check(self, x: Tensor, targets: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.inputs:
            raise ShapeError(f"EchoState expects x of [B, T, {self.inputs}], got {list(x.shape)}.")
        if targets is not None and targets.shape != (*x.shape[:2], self.outputs):
            raise ShapeError(f"EchoState expects targets of {[*x.shape[:2], self.outputs]}, got {list(targets.shape)}.")

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, outputs={self.outputs}, feedback={self.feedback}"


def _last(values: Tensor, lengths: Tensor | Sequence[int] | None) -> Tensor:
    if lengths is None:
        return values[:, -1]
    at = torch.as_tensor(lengths).sub(1).clamp(min=0)
    return values[torch.arange(len(values)), at]
