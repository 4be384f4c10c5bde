"""How a sequence ends: by a symbol, by a choice at each step, or at a length that was chosen first.  [Goodfellow et al. 2016, 10.2.3]

Each makes a proper distribution over sequences of all lengths of what the network says at each step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.output import Output
from wavefront.generative.symbols import SymbolOutput, draw_symbols

__all__ = ["EndSymbol", "Ending", "GivenLength", "Halting", "Length", "counted"]

NEVER = float("-inf")
ENDLESS = torch.iinfo(torch.long).max  # steps that remain where nothing says how many


def counted(n: Tensor, scale: float) -> Tensor:
    """A number of steps as two inputs, n / scale and 1 / (1 + n): one tells far counts apart, the other near ones. [...] -> [..., 2]"""
    return torch.stack([n / scale, 1 / (1 + n.clamp(min=0))], -1)


class Ending(nn.Module, ABC):
    """One way to end. The network has written y(1..t-1); its features o(t) and `left`, the steps that remain where that is known, say what comes.

    reads    how many numbers it adds to the input of each step
    closing  the steps that the network takes after the last y: 1 where it says itself that the sequence is over
    """

    reads = 0
    closing = 1

    def begin(self, rows: int, lengths: Tensor | None, context: Any) -> tuple[Tensor, Tensor]:
        """Before the first step: the steps that will remain [rows], and the log-probability of that [rows]."""
        like = next(self.parameters(), torch.empty(0))
        if lengths is not None:
            raise SettingsError(f"{type(self).__name__}: the sequence itself says where it ends; lengths cannot be given beforehand.")
        return torch.zeros(rows, dtype=torch.long, device=like.device), like.new_zeros(rows)

    def inputs(self, left: Tensor) -> list[Tensor]:
        """What each step is told, [..., reads]."""
        return []

    @abstractmethod
    def log_prob(self, head: Output, o: Tensor, y: Tensor, lengths: Tensor, context: Any) -> Tensor:
        """o [B, T + closing, features], y [B, T], lengths [B] -> [B, T + 1]: the log-probability of each y, and at T = length of ending there."""

    @abstractmethod
    def draw(self, head: Output, o: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """o [N, features] -> y drawn, whether the sequence ended instead [N], and the log-probability of what happened [N]."""

    @abstractmethod
    def next(self, head: SymbolOutput, o: Tensor, left: Tensor) -> Tensor:
        """o [N, features] -> log p of all symbols that may come next, [N, choices]; the end is one of them (see `end`)."""

    def end(self, symbols: int) -> int:
        """The number of the end among the choices of `next`."""
        return symbols


def _place(lengths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """[B, steps]: before the end; at the end."""
    t = torch.arange(steps, device=lengths.device)
    return t < lengths[:, None], t == lengths[:, None]


class EndSymbol(Ending):
    """One of the output's symbols means that the sequence is over.

        p(y) = Π_t p(y(t) | y(<t)) · p(end | y)

    symbol  its number; it never occurs within a sequence
    """

    def __init__(self, symbol: int):
        super().__init__()
        self.symbol = symbol

    def log_prob(self, head: Output, o: Tensor, y: Tensor, lengths: Tensor, context: Any) -> Tensor:
        before, at = _place(lengths, o.shape[1])
        if bool((before[:, :-1] & (y == self.symbol)).any()):
            row = int((before[:, :-1] & (y == self.symbol)).any(1).nonzero()[0])
            raise ShapeError(
                f"Sequence {row} has the end symbol {self.symbol} within its length. It ends by its length: leave the symbol out."
            )
        y = F.pad(y, (0, 1)).masked_fill(at, self.symbol)
        return torch.where(before | at, head.log_prob(o, y), 0)

    def draw(self, head: Output, o: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = head.sample(o)
        return y, y == self.symbol, head.log_prob(o, y)

    def next(self, head: SymbolOutput, o: Tensor, left: Tensor) -> Tensor:
        return head.log_probs(o)

    def end(self, symbols: int) -> int:
        return self.symbol


class Halting(Ending):
    """Before each y the network decides whether to go on: any kind of y, real numbers too.

        p(halt at t) = σ(w · o(t) + b)        p(y) = Π_t (1 - p(halt at t)) p(y(t) | y(<t)) · p(halt at τ + 1)

    b starts at -2: a sequence goes on for about eight steps before anything is learned.
    """

    def __init__(self, features: int):
        super().__init__()
        self.w = nn.Linear(features, 1)
        nn.init.constant_(self.w.bias, -2.0)

    def halt(self, o: Tensor) -> Tensor:
        return self.w(o).squeeze(-1)

    def log_prob(self, head: Output, o: Tensor, y: Tensor, lengths: Tensor, context: Any) -> Tensor:
        before, at = _place(lengths, o.shape[1])
        halt = self.halt(o)
        written = F.pad(head.log_prob(o[:, :-1], y), (0, 1)) + F.logsigmoid(-halt)
        return torch.where(before, written, 0) + torch.where(at, F.logsigmoid(halt), 0)

    def draw(self, head: Output, o: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        halt, y = self.halt(o), head.sample(o)
        stop = torch.empty_like(halt, dtype=torch.promote_types(halt.dtype, torch.float32)).uniform_() < halt.sigmoid()
        return y, stop, torch.where(stop, F.logsigmoid(halt), F.logsigmoid(-halt) + head.log_prob(o, y))

    def next(self, head: SymbolOutput, o: Tensor, left: Tensor) -> Tensor:
        halt = self.w(o)
        return torch.cat([head.log_probs(o) + F.logsigmoid(-halt), F.logsigmoid(halt)], -1)


class GivenLength(Ending):
    """The length is known and no part of what is modelled: streams, forecasts, a sequence as long as another."""

    closing = 0

    def begin(self, rows: int, lengths: Tensor | None, context: Any) -> tuple[Tensor, Tensor]:
        left = torch.full((rows,), ENDLESS) if lengths is None else lengths.long()
        return left, torch.zeros(rows)

    def log_prob(self, head: Output, o: Tensor, y: Tensor, lengths: Tensor, context: Any) -> Tensor:
        before, _ = _place(lengths, o.shape[1])
        return F.pad(torch.where(before, head.log_prob(o, y), 0), (0, 1))

    def draw(self, head: Output, o: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = head.sample(o)
        return y, left <= 0, torch.where(left <= 0, 0, head.log_prob(o, y))

    def next(self, head: SymbolOutput, o: Tensor, left: Tensor) -> Tensor:
        over = (left <= 0)[:, None]
        end = torch.where(over, 0, NEVER).to(o.dtype)
        return torch.cat([head.log_probs(o).masked_fill(over, NEVER), end], -1)


class Length(GivenLength):
    """The length τ comes first, and each step is told how many remain, so that a sentence is not cut off in its middle.

        p(y) = p(τ | context) Π_t p(y(t) | y(<t), τ - t)        p(τ | context) = softmax(V context + c), τ = 0..longest

    context  the size of the vector that τ depends on (0: nothing); over a `Memory`, its values are averaged
    """

    reads = 2

    def __init__(self, longest: int, context: int = 0):
        super().__init__()
        self.longest, self.context = longest, context
        self.V = nn.Linear(context, longest + 1) if context else None
        self.c = nn.Parameter(torch.zeros(longest + 1)) if not context else None

    def log_probs(self, rows: int, context: Any) -> Tensor:
        """log p(τ) for τ = 0..longest, [rows, longest + 1]."""
        if self.V is None:
            assert self.c is not None
            return self.c.log_softmax(-1).expand(rows, -1)
        return self.V(_summary(context)).log_softmax(-1)

    def begin(self, rows: int, lengths: Tensor | None, context: Any) -> tuple[Tensor, Tensor]:
        log_p = self.log_probs(rows, context)
        left = draw_symbols(log_p, torch.rand(rows, 1, device=log_p.device)) if lengths is None else self._check(lengths)
        return left, log_p.gather(1, left[:, None]).squeeze(1)

    def inputs(self, left: Tensor) -> list[Tensor]:
        return [counted(left, self.longest)]

    def log_prob(self, head: Output, o: Tensor, y: Tensor, lengths: Tensor, context: Any) -> Tensor:
        _, at = _place(lengths, o.shape[1] + 1)
        length = self.log_probs(len(lengths), context).gather(1, self._check(lengths)[:, None])
        return super().log_prob(head, o, y, lengths, context) + torch.where(at, length, 0)

    def _check(self, lengths: Tensor) -> Tensor:
        if len(lengths) and int(lengths.max()) > self.longest:
            raise ShapeError(f"Length(longest={self.longest}): sequence {int(lengths.argmax())} is {int(lengths.max())} long.")
        return lengths.long()


def _summary(context: Any) -> Tensor:
    """A vector for each row: the context itself, or the mean of a memory's values."""
    if isinstance(context, Tensor):
        return context
    weight = context.mask / context.mask.sum(1, keepdim=True).clamp(min=1)
    return (weight[..., None] * context.values).sum(1)
