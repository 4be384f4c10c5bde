"""Symbols out of a network that writes: the most probable at each step, or drawn; a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavefront.errors import SettingsError
from wavefront.generative.autoregressive import Sample, Writing, step_of
from wavefront.generative.ending import ENDLESS
from wavefront.generative.ensemble import Writer
from wavefront.generative.symbols import draw_symbols

__all__ = ["NEVER", "Limits", "greedy", "sample", "truncated"]

NEVER = float("-inf")


class Limits(NamedTuple):
    """What may not be written. The log-probabilities of the rest stay what they are.

    min_length       no end before so many symbols
    max_length       after so many symbols only the end; where the length comes first or is given, that is the limit
    no_repeat_ngram  no sequence of so many symbols twice; 0: no such rule
    without          symbols that are never written, such as the unknown one
    """

    min_length: int = 0
    max_length: int = 1000
    no_repeat_ngram: int = 0
    without: tuple[int, ...] = ()

    def checked(self) -> Limits:
        if not 0 <= self.min_length <= self.max_length or self.no_repeat_ngram < 0:
            raise SettingsError(f"Lengths are 0 <= min_length <= max_length, no_repeat_ngram is at least 0; got {self}.")
        return self

    def apply(self, log_p: Tensor, history: Tensor, end: int, known: bool) -> Tensor:
        """log_p [N, choices], history [N, t] -> log_p with -inf where nothing may come. known: the length is, and limits itself."""
        t = history.shape[1]
        if self.without:
            log_p = log_p.index_fill(1, torch.tensor(self.without, device=log_p.device), NEVER)
        if not known and t < self.min_length:
            log_p = log_p.index_fill(1, torch.tensor([end], device=log_p.device), NEVER)
        if not known and t >= self.max_length:
            only = torch.full_like(log_p, NEVER)
            only[:, end] = log_p[:, end]
            log_p = only
        n = self.no_repeat_ngram
        if n and t >= n:
            grams = history.unfold(1, n, 1)  # [N, t - n + 1, n]
            again = (grams[..., : n - 1] == history[:, None, t - n + 1 :]).all(-1)
            banned = torch.zeros_like(log_p).scatter_add_(1, grams[..., -1], again.to(log_p))
            log_p = log_p.masked_fill(banned > 0, NEVER)
        return log_p


def truncated(log_p: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """log_p [..., K], flattened or sharpened, with -inf for what is not among the best: weights to draw from, not summing to one.

    temperature  log_p / temperature
    top_k        the k most probable; 0: all  [Fan et al. 2018]
    top_p        the fewest that together have this probability  [Holtzman et al. 2020, arXiv:1904.09751]

    >>> truncated(torch.tensor([0.5, 0.25, 0.25]).log(), top_k=1).exp().tolist()
    [0.5, 0.0, 0.0]
    """
    if not temperature > 0 or top_k < 0 or not 0 < top_p <= 1:
        raise SettingsError(
            f"temperature is above 0 (greedy is 0 of it), top_k at least 0, top_p in (0, 1]; got {temperature}, {top_k}, {top_p}."
        )
    log_p = log_p / temperature
    if 0 < top_k < log_p.shape[-1]:
        log_p = log_p.masked_fill(log_p < log_p.topk(top_k).values[..., -1:], NEVER)
    if top_p < 1:
        p, order = log_p.softmax(-1).sort(-1, descending=True)
        beyond = (p.cumsum(-1) - p) >= top_p
        log_p = log_p.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), NEVER)
    return log_p


def greedy(model: Writer, rows: int = 1, **how: Any) -> Sample:
    """The most probable symbol at each step, [rows, T]; options as `sample`'s, without those of chance. Its `log_prob` is exact.

    >>> from torch import nn
    >>> from wavefront import cells
    >>> from wavefront.generative import Autoregressive, Categorical
    >>> net = Autoregressive(cells.GRU(4, 8), Categorical(8, symbols=3), reader=nn.Embedding(3, 4))
    >>> written = greedy(net, rows=2, max_length=10)
    >>> torch.allclose(written.log_prob, net.log_prob(written.y, written.lengths), atol=1e-5)
    True
    """
    return _write(model, rows, lambda log_p: log_p.argmax(-1), **how)


def sample(model: Writer, rows: int = 1, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, **how: Any) -> Sample:
    """Symbols drawn at each step, by `truncated` log-probabilities.

    max_length, min_length, no_repeat_ngram, without  as in `Limits`
    lengths, x, context, state                        as in `Autoregressive.sample`

    The `log_prob` returned is the model's own of what was written, whatever the temperature and the limits. A row where nothing may come any more
    stops there,
    with `ended` false.
    """
    truncated(torch.zeros(1), temperature, top_k, top_p)  # refuses what cannot be before anything is written

    def choose(log_p: Tensor) -> Tensor:
        return draw_symbols(truncated(log_p, temperature, top_k, top_p), torch.rand(len(log_p), 1, device=log_p.device))

    return _write(model, rows, choose, **how)


@torch.no_grad()
def _write(
    model: Writer,
    rows: int,
    choose: Callable[[Tensor], Tensor],
    *,
    min_length: int = 0,
    max_length: int = 1000,
    no_repeat_ngram: int = 0,
    without: tuple[int, ...] = (),
    lengths: Any = None,
    x: Tensor | None = None,
    context: Any = None,
    state: Any = None,
) -> Sample:
    limits, known = Limits(min_length, max_length, no_repeat_ngram, without).checked(), model.ending.closing == 0
    w, total = start(model, rows, lengths, x, context, state)
    history = torch.zeros(rows, 0, dtype=torch.long, device=total.device)
    running, stuck = (torch.full((rows,), value, device=total.device) for value in (True, False))
    length = torch.zeros_like(w.place)
    while bool(running.any()):
        w, log_p = model.next(w, given_at(x, history.shape[1], w, known), context)
        allowed = limits.apply(log_p, history, model.end, known)
        stuck |= running & (allowed.amax(-1) == NEVER)
        running = running & ~stuck
        symbol = choose(allowed.masked_fill(~running[:, None], 0))
        total = total + torch.where(running, log_p.gather(1, symbol[:, None]).squeeze(1), 0)
        running = running & (symbol != model.end)
        if not bool(running.any()):
            break
        length += running
        symbol = symbol.masked_fill(~running, 0)
        history = torch.cat([history, symbol[:, None]], 1)
        w = model.write(w, symbol)
    return Sample(history, length, total, ~stuck)


def given_at(x: Tensor | None, t: int, w: Writing, known: bool) -> Tensor | None:
    """x(t). One step past a length that is known is of no meaning, and reads what the last one did."""
    over = x is not None and known and t == x.shape[1] and int(w.left.max()) <= 0
    return step_of(x, t - over)


def start(model: Writer, rows: int, lengths: Any, x: Tensor | None, context: Any, state: Any) -> tuple[Writing, Tensor]:
    """Where writing begins, and the log-probability of what was decided there; a `Writing` is gone on from."""
    if isinstance(state, Writing) and state.place.shape != (rows,):
        raise SettingsError(f"The state to go on from has {len(state.place)} rows, asked for are {rows}.")
    w, log_p = model.open(rows, lengths, x, context, state)
    if len(w.left) and int(w.left.max()) > ENDLESS // 2:
        raise SettingsError("Nothing says where this ends: give lengths=, how many symbols to write.")
    return w, log_p
