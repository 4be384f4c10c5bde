"""A network that writes: a recurrent network as a directed graphical model over sequences."""

from __future__ import annotations

import warnings
from collections.abc import Sequence as Many
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils import _pytree as pytree

from wavefront.cell import Cell, Given
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.ending import ENDLESS, Ending, EndSymbol, GivenLength, Halting, Length, counted
from wavefront.generative.feedback import unfold_forced
from wavefront.generative.output import Output
from wavefront.generative.symbols import SymbolOutput
from wavefront.networks.attending import Attending
from wavefront.networks.attention import Memory
from wavefront.networks.bridge import Bridge
from wavefront.networks.recurrent import Recurrent
from wavefront.wrap import Forced

__all__ = ["Autoregressive", "Sample", "Writing"]


class Writing(NamedTuple):
    """How far the network has come: all that it needs to go on, whatever came before. Every part has one row per sequence."""

    inner: Any  # the state of the network
    last: Tensor  # y(t-1), [N, *event]; before the first step anything
    place: Tensor  # t - 1, the steps done, [N]
    left: Tensor  # the steps that remain, where the length is known, [N]


class Sample(NamedTuple):
    y: Tensor  # [N, T, *event]; zeros past the lengths
    lengths: Tensor  # [N]
    log_prob: Tensor  # [N], of the sequence and of its end, summed up while it was drawn
    ended: Tensor  # [N] bool: false where max_length came first (log_prob is then that of the beginning)


class Autoregressive(nn.Module):
    """p(y) = Π_t p(y(t) | y(1), .., y(t-1) [, x, context])  [Goodfellow et al. 2016, 10.2.3, figures 10.6-10.10]

        o(t), state = network(state, [y(t-1), x(t), time, steps that remain])        y(t) ~ output(o(t))

    network     a cell, or a network called like `Recurrent`: `Recurrent`, `Attending` (its context is a `Memory`), `OutputToHidden`
    output      the distribution of y(t) given o(t)
    reader      how y is read: a module from y to vectors. Symbols need one, `nn.Embedding(symbols, size)`; vectors are read as the output says
    ending      how a sequence ends: "symbol" (one of the output's symbols, `end`, by default the last), "halting", "length" (at most `longest`),
                "given",
                or an `Ending`
    inputs      the size of x(t), what every step is given beside its past: a sequence of the same length
    context     the size of a vector given once per sequence, and `context_as`: "input" of every step, the first "state", or "both"
    time_index  the number of the step as two extra inputs, in units of this many steps, so that the process need not be stationary. Beyond the
                longest sequence of training it warns

    All lengths may differ: y [B, T, *event] with lengths [B], and nothing past a length matters.

        log_prob(y, lengths)             exact, [B]
        log_prob_steps(y, lengths)       [B, T + 1]: of each y(t), and in column τ that of ending there
        sample(rows)                     ancestral sampling
        run(y)                           reads a beginning: features, and a state to go on from
        begin, step, write, next         one step at a time: what decoders are made of

    >>> from wavefront import cells
    >>> from wavefront.generative import Autoregressive, Categorical
    >>> net = Autoregressive(cells.GRU(4, 8), Categorical(8, symbols=3), reader=nn.Embedding(3, 4))   # symbol 2 is the end
    >>> drawn = net.sample(5, max_length=20)
    >>> log_p = net.log_prob(drawn.y, drawn.lengths)
    >>> torch.allclose(log_p[drawn.ended], drawn.log_prob[drawn.ended], atol=1e-5)
    True
    """

    seen: Tensor

    def __init__(
        self,
        network: Cell | nn.Module,
        output: Output,
        reader: nn.Module | None = None,
        *,
        ending: str | Ending = "symbol",
        end: int | None = None,
        longest: int | None = None,
        inputs: int = 0,
        context: int = 0,
        context_as: str = "input",
        time_index: float | None = None,
    ):
        super().__init__()
        self.network: Any = Recurrent(network) if isinstance(network, Cell) else network
        self.output, self.reader = output, reader
        self.ending = ending if isinstance(ending, Ending) else _ending(ending, output, end, longest, context)
        self.inputs, self.context, self.context_as, self.time_index = inputs, context, context_as, time_index
        self.read_size = output.read_size if reader is None else _read_size(reader, output)
        self.start = nn.Parameter(torch.zeros(self.read_size))  # what is read before the first step
        self.register_buffer("seen", torch.tensor(0), persistent=time_index is not None)
        if context_as not in ("input", "state", "both"):
            raise SettingsError(f'A context comes in as "input", as first "state", or as "both", got {context_as!r}.')
        if context and isinstance(self.network, Attending):
            raise SettingsError("Autoregressive: the context of a network that attends is its Memory; leave context= out.")
        if context and context_as != "input" and not hasattr(self.network, "cell"):
            raise SettingsError(f'{type(self.network).__name__} has no state to make of a context: context_as="input".')
        inner: Any = self.network.cell if context and context_as != "input" else None
        self.bridge = None if inner is None else Bridge(context, inner)
        takes, features = _sizes(self.network)
        gives = {
            "of y(t-1)": self.read_size,
            "of x(t)": inputs,
            "of time": 2 if time_index is not None else 0,
            "of the steps that remain": self.ending.reads,
            "of the context": context if context_as != "state" else 0,
        }
        if takes != sum(gives.values()):
            parts = ", ".join(f"{n} {what}" for what, n in gives.items() if n)
            raise ShapeError(f"Autoregressive: the network takes {takes} inputs, but is given {sum(gives.values())}: {parts}.")
        if features != output.features:
            raise ShapeError(f"Autoregressive: the network puts out {features} numbers, {type(output).__name__} expects {output.features}.")

    # What the network is given

    def _vectors(self, last: Tensor, place: Tensor, left: Tensor, x: Tensor | None) -> Tensor:
        """The input of steps, [..., network inputs]: last y [..., *event], place and left [...], x [..., inputs]."""
        if (x is None) != (self.inputs == 0) or (x is not None and tuple(x.shape) != (*place.shape, self.inputs)):
            got = "none" if x is None else list(x.shape)
            raise ShapeError(f"Autoregressive(inputs={self.inputs}) expects x of {[*place.shape, self.inputs]}, got {got}.")
        if self.time_index is not None and place.numel():
            self._watch(int(place.max()) + 1)
        parts = [torch.where((place == 0)[..., None], self.start, self._read(last))]
        parts += [x] if x is not None else []
        parts += [] if self.time_index is None else [counted(place, self.time_index).to(self.start.dtype)]
        parts += [part.to(self.start.dtype) for part in self.ending.inputs(left)]
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

    def _read(self, y: Tensor) -> Tensor:
        return self.output.read(y) if self.reader is None else self.reader(y)

    def _context(self, context: Any) -> Any:
        """What each step of the network gets of the context."""
        return None if self.context_as == "state" else context

    def _clock(self, w: Writing) -> dict[str, int]:
        """The number of the step, for a network that tells steps apart by it."""
        phases, places = _phases(self.network), w.place
        if phases == 1 or not len(places):
            return {}
        if bool(((places - places[0]) % phases).any()):
            raise ShapeError(
                f"The network's clock repeats every {phases} steps, and the rows have come to different places, {places.tolist()}:"
                " go on with rows of one place."
            )
        return {"start": int(places[0])}

    # One step at a time

    def begin(self, rows: int, lengths: Any = None, context: Any = None, state: Any = None) -> tuple[Writing, Tensor]:
        """Before the first step; and the log-probability [rows] of what is decided there: the length, where it comes first.

        lengths  where the length is known or comes first (it is drawn if not given); state: the network's, default its initial one
        """
        self._check_context(context, rows)
        device = self.start.device
        lengths = None if lengths is None else torch.as_tensor(lengths, device=device)
        left, log_p = self.ending.begin(rows, lengths, context)
        if state is None and self.bridge is not None:
            state = self.bridge(context)
        last = torch.zeros((rows, *self.output.event), device=device, dtype=self.start.dtype if self.output.event else torch.long)
        inner = _first_state(self.network, rows, context, state)
        return Writing(inner, last, torch.zeros(rows, dtype=torch.long, device=device), left.to(device)), log_p.to(self.start)

    def open(self, rows: int, lengths: Any, x: Tensor | None, context: Any, state: Any) -> tuple[Writing, Tensor]:
        """`begin`, or go on: where state is a `Writing`, lengths are of what is still to come. Where nothing says how long, as long as x."""
        if lengths is None and x is not None and type(self.ending) is GivenLength:
            lengths = torch.full((rows,), x.shape[1])
        if not isinstance(state, Writing):
            return self.begin(rows, lengths, context, state)
        if lengths is not None:
            state = state._replace(left=torch.as_tensor(lengths, device=self.start.device))
        return state, self.start.new_zeros(rows)

    def step(self, w: Writing, x: Tensor | None = None, context: Any = None) -> tuple[Writing, Tensor]:
        """One step -> the new state, whose `last` is still to be written, and o(t) [N, features]."""
        vector = self._vectors(w.last, w.place, w.left, x)
        inner, o = self.network.step(w.inner, vector, context=self._context(context), **self._clock(w))
        return Writing(inner, w.last, w.place + 1, w.left), o

    def write(self, w: Writing, y: Tensor) -> Writing:
        """y(t) is what was written: [N, *event]."""
        return w._replace(last=y, left=w.left - 1)

    def next(self, w: Writing, x: Tensor | None = None, context: Any = None) -> tuple[Writing, Tensor]:
        """One step of a network that writes symbols -> the new state, and log p of what may come next, [N, choices]: symbols, and `end`."""
        w, o = self.step(w, x, context)
        return w, self.ending.next(self._symbols().given(context), o, w.left)  # type: ignore[arg-type]

    def counts(self, w: Writing) -> bool:
        """Whether what a step is given, or what may come next, depends on how many steps are done or remain: if not, this is a stream."""
        known = type(self.ending) is GivenLength and not bool((w.left > ENDLESS // 2).all())
        counted = self.inputs or self.time_index is not None or _phases(self.network) > 1
        return bool(counted) or known or type(self.ending) not in (GivenLength, EndSymbol)

    def next_of_stream(self, w: Writing, context: Any = None) -> tuple[Writing, Tensor]:
        """As `next`, of a stream beyond its first step: steps are no longer counted, nor is an end other than a symbol among the choices."""
        inner, o = self.network.step(w.inner, self._read(w.last), context=self._context(context))
        return w._replace(inner=inner), self._symbols().given(context).log_probs(o)  # type: ignore[operator]

    def vectors(self, w: Writing) -> Tensor:
        """What the network reads in its next step, [N, network inputs], where that is nothing beside what was written."""
        return self._vectors(w.last, w.place, w.left, None)

    @property
    def shares_context(self) -> bool:
        """Whether one context serves several beginnings of its row: a memory that is looked at afresh in each step."""
        return isinstance(self.network, Attending) and not self.network.attention.looks_back

    @property
    def symbols(self) -> int:
        """How many symbols it writes."""
        return self._symbols().symbols

    @property
    def end(self) -> int:
        """The number of the end among the choices of `next`."""
        return self.ending.end(self.symbols)

    def _symbols(self) -> SymbolOutput:
        if not isinstance(self.output, SymbolOutput):
            raise SettingsError(f"This asks for a network that writes symbols; {type(self.output).__name__} does not. Use sample.")
        return self.output

    # All steps at once

    def run(
        self,
        y: Tensor,
        lengths: Any = None,
        x: Tensor | None = None,
        context: Any = None,
        state: Writing | None = None,
        close: bool = False,
    ) -> tuple[Tensor, Writing]:
        """Teacher forcing, all steps at once: y [B, T, *event] -> o(1..T) [B, T, features], and the state after it, from which to go on.

        close  one step more, which sees all of y: o [B, T + 1, features]. The state then has done that step too.
        """
        if state is None:
            if isinstance(self.ending, Length):
                raise SettingsError("The length comes first: begin(rows, lengths=<of the whole>) and read from there, state=.")
            state, _ = self.begin(y.shape[0], context=context)
        y, lengths, w = self._prepare(y, lengths, context, state)
        rows, steps = y.shape[:2]
        total = steps + close
        vectors = self._vectors(*self._before(y, lengths, w, total), x)
        given = None if bool((lengths == steps).all()) else lengths + close
        o, inner = self.network(vectors, w.inner, given, context=self._context(context), **self._clock(w))
        at = (lengths - 1).clamp(min=0)
        last = y[torch.arange(rows, device=y.device), at] if steps else w.last
        none = (lengths == 0).view(-1, *[1] * (last.dim() - 1))
        return o, Writing(inner, torch.where(none, w.last, last), w.place + lengths + close, w.left - lengths)

    def _before(self, y: Tensor, lengths: Tensor, w: Writing, total: int) -> tuple[Tensor, Tensor, Tensor]:
        """y(t-1), the place and the steps that remain, for each of `total` steps: [B, total, ...]."""
        before = torch.cat([w.last[:, None].to(y.dtype), y], 1)[:, :total]
        t = torch.arange(total, device=y.device)
        return before, w.place[:, None] + t, w.left[:, None] - t

    def log_prob_steps(self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None) -> Tensor:
        """log p(y(t) | y(<t)), exact, and at t = length the log-probability of ending there: [B, T + 1]; zeros past that.

        Where the length comes first, its log-probability stands at t = length; gone on from a `Writing`, it was decided before and counts nothing.
        """
        decided = isinstance(state, Writing)
        y, lengths, w = self._prepare(y, lengths, context, state)
        o, _ = self.run(y, lengths, x, context, w, close=bool(self.ending.closing))
        return self._scored(o, y, lengths, context, decided)

    def _scored(self, o: Tensor, y: Tensor, lengths: Tensor, context: Any, decided: bool) -> Tensor:
        ending = GivenLength() if decided and isinstance(self.ending, Length) else self.ending
        return ending.log_prob(self.output.given(context), o, y, lengths, context)

    def forward(self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None) -> Tensor:
        """As `log_prob_steps`."""
        return self.log_prob_steps(y, lengths, x, context, state)

    def log_prob(self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None) -> Tensor:
        """log p(y), exact, [B]."""
        return self.log_prob_steps(y, lengths, x, context, state).sum(1)

    def aligned(
        self, y: Tensor, lengths: Any = None, x: Tensor | None = None, context: Any = None, state: Any = None
    ) -> tuple[Tensor, Tensor]:
        """`log_prob_steps`, and where the network looked at each step, [B, T + 1, S] (T where the length is known): of a network that attends."""
        if not isinstance(self.network, Attending):
            raise SettingsError(f"Only a network that attends looks somewhere: {type(self.network).__name__} does not.")
        decided = isinstance(state, Writing)
        y, lengths, w = self._prepare(y, lengths, context, state)
        vectors = self._vectors(*self._before(y, lengths, w, y.shape[1] + self.ending.closing), x)
        o, a, _ = self.network.run(vectors, w.inner, lengths + self.ending.closing, context, **self._clock(w))
        return self._scored(o, y, lengths, context, decided), a

    def forced(
        self,
        y: Tensor,
        coins: Tensor,
        lengths: Any = None,
        x: Tensor | None = None,
        context: Any = None,
        state: Any = None,
        feed: str = "sample",
        cut: bool = False,
    ) -> Tensor:
        """As `log_prob_steps`, but the network reads the true y(t-1) only where the coin [B, T] of step t is 1, and what it put out itself
        elsewhere: open loop and scheduled sampling, by the loop that is teacher forcing when all coins are 1. Where y ends is where it ends.

        feed  what it puts out: a "sample", the "mode", or the "expected" y, through which gradients pass (for symbols the mean of their vectors)
        cut   no gradient passes through what is fed back
        """
        decided = isinstance(state, Writing)
        y, lengths, w = self._prepare(y, lengths, context, state)
        if tuple(coins.shape) != tuple(y.shape[:2]):
            raise ShapeError(f"There is a coin for each step, {list(y.shape[:2])}; got {list(coins.shape)}.")
        steps = y.shape[1] + self.ending.closing
        before, place, left = self._before(y, lengths, w, steps)
        vectors = self._vectors(before, place, left, x)
        true, beside = vectors[..., : self.read_size], vectors[..., self.read_size :]
        # the first step has nothing to read but the start; the closing one, at t = length, reads as the last does
        t = torch.arange(steps, device=y.device).clamp(max=(lengths - 1).clamp(min=0)[:, None])
        coin = pad(coins.to(true), (0, 1)).gather(1, t)
        coin[:, :1] = 1
        o = unfold_forced(
            self,
            Forced(beside, true, coin[..., None]),
            lengths + self.ending.closing,
            self._context(context),
            w.inner,
            feed,
            cut,
            self._clock(w),
        )
        return self._scored(o, y, lengths, context, decided)

    def _prepare(self, y: Tensor, lengths: Any, context: Any, state: Any) -> tuple[Tensor, Tensor, Writing]:
        """y with zeros past the lengths, the lengths, and the state to start from."""
        rows, steps = y.shape[:2]
        self.output.check(y, (rows, steps))
        lengths = self._lengths(y, lengths)
        if not isinstance(state, Writing):
            state, _ = self.begin(rows, self._known(lengths), context, state)
        inside = torch.arange(steps, device=y.device) < lengths[:, None]
        y = y.masked_fill(~inside.view(*inside.shape, *[1] * (y.dim() - 2)), 0)
        wrong = self.output.impossible(y)
        if wrong is not None and bool(wrong.any()):
            row, t = wrong.nonzero()[0].tolist()
            raise ShapeError(f"{self.output.values}; sequence {row} has {y[row, t].tolist()} at step {t + 1}.")
        return y, lengths, state

    def _known(self, lengths: Tensor) -> Tensor | None:
        return lengths if isinstance(self.ending, GivenLength) else None

    def _lengths(self, y: Tensor, lengths: Tensor | Many[int] | None) -> Tensor:
        if lengths is None:
            return torch.full((y.shape[0],), y.shape[1], device=y.device)
        found = torch.as_tensor(lengths, device=y.device)
        if found.shape != y.shape[:1] or (len(found) and not 0 <= int(found.min()) <= int(found.max()) <= y.shape[1]):
            raise ShapeError(f"lengths are {y.shape[0]} whole numbers between 0 and {y.shape[1]}, got {found.tolist()}.")
        return found

    def _check_context(self, context: Any, rows: int) -> None:
        if self.context and (not isinstance(context, Tensor) or tuple(context.shape) != (rows, self.context)):
            got = list(context.shape) if isinstance(context, Tensor) else type(context).__name__
            raise ShapeError(f"Autoregressive(context={self.context}) expects a context of [{rows}, {self.context}], got {got}.")
        if isinstance(self.network, Attending) and not isinstance(context, Memory):
            raise ShapeError(
                f"This network attends: its context is a Memory, network.memory(values, lengths); got {type(context).__name__}."
            )
        if context is not None and not self.context and not isinstance(self.network, Attending):
            raise ShapeError("Autoregressive was given a context, but made without one: say context=<its size>.")

    def _watch(self, steps: int) -> None:
        if self.training:
            self.seen.clamp_(min=steps)
        elif steps > int(self.seen):
            warnings.warn(
                f"The time index goes beyond the {int(self.seen)} steps that training saw: what the network does there is a guess.",
                stacklevel=5,
            )

    # Sampling

    @torch.no_grad()
    def sample(
        self,
        rows: int,
        max_length: int = 1000,
        lengths: Any = None,
        x: Tensor | None = None,
        context: Any = None,
        state: Any = None,
    ) -> Sample:
        """Ancestral sampling: each y(t) from its distribution given those before.  [Goodfellow et al. 2016, 10.2.3]

        lengths  [rows], where the length is given (or to fix it where it comes first); x [rows, T, inputs]; state: the network's, or a `Writing`
                 to go on from
        """
        w, log_p = self.open(rows, lengths, x, context, state)
        head = self.output.given(context)
        running = torch.ones(rows, dtype=torch.bool, device=self.start.device)
        ys, length = [], torch.zeros(rows, dtype=torch.long, device=self.start.device)
        closing = self.ending.closing
        for t in range(max_length + closing):
            running = running if closing else running & (w.left > 0)
            if not bool(running.any()):
                break
            w, o = self.step(w, step_of(x, t), context)
            y, stopped, gained = self.ending.draw(head, o, w.left)
            happened = running & stopped if t == max_length else running  # after so many, only the end can still be told
            log_p = log_p + torch.where(happened, gained, 0)
            running = running & ~stopped
            if t < max_length:
                length += running
                ys.append(y.masked_fill(~running.view(-1, *[1] * (y.dim() - 1)), 0))
                w = self.write(w, ys[-1])
        ended = ~running if closing else w.left <= 0
        steps = int(length.max()) if rows else 0
        y = torch.stack(ys, 1)[:, :steps] if ys else w.last.new_zeros((rows, 0, *self.output.event))
        return Sample(y, length, log_p, ended)


def _ending(name: str, output: Output, end: int | None, longest: int | None, context: int) -> Ending:
    if name == "symbol":
        if not isinstance(output, SymbolOutput):
            raise SettingsError(f'{type(output).__name__} has no symbol to end with: ending="halting" or "length".')
        return EndSymbol(output.symbols - 1 if end is None else end)
    if name == "halting":
        return Halting(output.features)
    if name == "length":
        if longest is None:
            raise SettingsError('ending="length" wants longest=, the longest sequence there can be.')
        return Length(longest, context)
    if name == "given":
        return GivenLength()
    raise SettingsError(f'ending is "symbol", "halting", "length" or "given", got {name!r}.')


def _read_size(reader: nn.Module, output: Output) -> int:
    """The size of what a reader makes of one y."""
    if isinstance(reader, nn.Embedding):
        if isinstance(output, SymbolOutput) and reader.num_embeddings != output.symbols:
            raise ShapeError(f"The reader has vectors for {reader.num_embeddings} symbols, the output writes {output.symbols}.")
        return reader.embedding_dim
    like = next(reader.parameters(), torch.empty(0))
    with torch.no_grad():
        return reader(torch.zeros((1, *output.event), dtype=like.dtype if output.event else torch.long, device=like.device)).shape[-1]


def _sizes(network: Any) -> tuple[int, int]:
    """What a network takes and puts out at each step."""
    if not isinstance(network, Recurrent):
        return network.inputs, network.outputs
    sizes = network.cell.inputs
    if isinstance(sizes, Given) or not isinstance(sizes, int) or network.reverse:
        raise ShapeError(f"Autoregressive wants a network that looks backward only, with one vector as input; got inputs {sizes}.")
    return sizes, network.cell.outputs


def _first_state(network: Any, rows: int, context: Any, inner: Any) -> Any:
    if not isinstance(network, Recurrent):
        return network.initial_state(rows, context, inner)
    history = max(network.skips)
    state = network.cell.initial_state(rows) if inner is None else inner
    return (state,) * history if history > 1 and inner is None else state


def step_of(x: Tensor | None, t: int) -> Tensor | None:
    """x(t) [B, inputs], of x [B, T, inputs]."""
    if x is not None and t >= x.shape[1]:
        raise ShapeError(
            f"x has {x.shape[1]} steps, and what is written comes to step {t + 1}: give x a step for each that may be written, and one for the"
            " end where there is one; or a smaller max_length."
        )
    return None if x is None else x[:, t]


def _phases(network: Any) -> int:
    return network.cell.phases if isinstance(network, Recurrent | Attending) else getattr(network, "phases", 1)


def select(state: Any, rows: Tensor) -> Any:
    """These rows of every part of a state or context; None stays None."""
    return pytree.tree_map(lambda part: None if part is None else part.index_select(0, rows), state)
