"""Beam search: the sequences of highest probability that a search of given width finds, a batch at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavefront.errors import SettingsError
from wavefront.generative.autoregressive import Writing, select
from wavefront.generative.decoding import NEVER, Limits, given_at, start
from wavefront.generative.ending import Length
from wavefront.generative.ensemble import Ensemble, Writer

__all__ = ["Hypothesis", "beam_search"]


class Hypothesis(NamedTuple):
    symbols: list[int]
    log_prob: float  # exact, of the whole sequence and of its end
    score: float  # what it was ranked by


@torch.no_grad()
def beam_search(
    model: Writer,
    rows: int = 1,
    *,
    num_beams: int = 5,
    n_best: int = 1,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    min_length: int = 0,
    max_length: int = 1000,
    no_repeat_ngram: int = 0,
    without: tuple[int, ...] = (),
    lengths: Any = None,
    x: Tensor | None = None,
    context: Any = None,
    state: Any = None,
) -> list[list[Hypothesis]]:
    """The `n_best` sequences found for each row, best first. At each step the `num_beams` best beginnings go on; one that ends steps aside.

        score(y) = log p(y) / ((5 + |y|) / 6)^length_penalty + coverage_penalty Σ_i log min(Σ_t a(t, i), 1)        [Wu et al. 2016,
        arXiv:1609.08144, eq. 14]

    |y| counts the end. The coverage of the source's places i needs a network that keeps where it looked: Attending(record=True), or attention
    that looks back. A row is done when nothing that still goes on can come to score more than what it has. With one beam this is `greedy`; with as
    many as there are sequences it is exhaustive. Where the length comes first, the search begins with the most probable lengths.

    min_length, max_length, no_repeat_ngram, without  as in `Limits`
    lengths, x, context, state                        as in `Autoregressive.sample`

    A row for which the limits leave nothing gets fewer hypotheses, or none.

    >>> from torch import nn
    >>> from wavefront import cells
    >>> from wavefront.generative import Autoregressive, Categorical
    >>> net = Autoregressive(cells.GRU(4, 8), Categorical(8, symbols=3), reader=nn.Embedding(3, 4))
    >>> (best, second), = beam_search(net, num_beams=4, n_best=2, max_length=10)
    >>> best.score >= second.score
    True
    """
    if not 1 <= n_best <= num_beams:
        raise SettingsError(f"A search of {num_beams} beams gives 1 to {num_beams} hypotheses, not n_best={n_best}.")
    if coverage_penalty < 0:
        raise SettingsError(f"coverage_penalty is at least 0, got {coverage_penalty}.")
    limits, known, end, k = (
        Limits(min_length, max_length, no_repeat_ngram, without).checked(),
        model.ending.closing == 0,
        model.end,
        num_beams,
    )
    w, scores = _open(model, rows, k, lengths, x, context, state)
    if coverage_penalty and _coverage(w) is None:
        raise SettingsError("coverage_penalty needs a network that keeps where it looked: Attending(..., record=True).")
    history = torch.zeros(len(w.place), 0, dtype=torch.long, device=scores.device)
    found = Found.none(rows, k, like=scores)
    longest = int(w.left.max()) if known and len(w.left) else max_length
    results: list[list[Hypothesis]] = [[] for _ in range(rows)]
    going, seen = torch.arange(rows, device=scores.device), _Sources(model, context)
    while len(going):
        width = scores.shape[1]  # beams of each row: one at first, since one beginning has all there are
        alive = (scores > NEVER).any(1)
        if 2 * int(alive.sum()) <= len(going):  # rows that are done cost as much as others: leave them behind
            for row, hypotheses in zip(going[~alive].tolist(), select(found, (~alive).nonzero().squeeze(1)).hypotheses(n_best)):
                results[row] = hypotheses
            rest = alive.nonzero().squeeze(1)
            going, scores, found = going[rest], scores[rest], select(found, rest)
            beams = (rest[:, None] * width + torch.arange(width, device=rest.device)).flatten()
            w, history = select(w, beams), history[beams]
            continue
        t = history.shape[1]
        context = seen.context(going, width)
        w, log_p = model.next(w, select(given_at(x, t, w, known), going.repeat_interleave(width)), context)
        log_p = limits.apply(log_p, history, end, known)
        choices = log_p.shape[1]
        best, at = (scores[:, :, None] + log_p.view(len(going), width, choices)).flatten(1).topk(min(k, width * choices))
        first = torch.arange(len(going), device=scores.device)[:, None] * width
        symbol, source = at % choices, (first + at // choices).flatten()
        over = symbol == end
        w, history = select(w, source), history.index_select(0, source)
        if bool(over.any()):
            score = best / _penalty(t + 1, length_penalty)
            if coverage_penalty:
                score = score + coverage_penalty * _covered(w, seen.context(going, 1).mask)
            found = found.joined(score.masked_fill(~over, NEVER), best, history.view(*best.shape, t))
        symbol = symbol.masked_fill(over, 0).flatten()
        w, history = model.write(w, symbol), torch.cat([history, symbol[:, None]], 1)
        # what goes on only loses probability: this is the most that it can come to
        hope = torch.maximum(best / _penalty(t + 2, length_penalty), best / _penalty(longest + 1, length_penalty))
        scores = best.masked_fill(over | (hope <= found.score[:, n_best - 1 : n_best]), NEVER)
    return results


class _Sources:
    """The context of the rows that still go on and of their beams. One memory serves all beams of a row, unless the attention looks back."""

    def __init__(self, model: Writer, context: Any):
        self._context, self._known = context, (torch.empty(0), 0, context)
        self._shared = model.shares_context

    def context(self, going: Tensor, width: int) -> Any:
        if self._context is None:
            return None
        width = 1 if self._shared else width
        if self._known[0] is not going or self._known[1] != width:
            self._known = going, width, select(self._context, going.repeat_interleave(width))
        return self._known[2]


def _penalty(length: int, alpha: float) -> float:
    return ((5 + length) / 6) ** alpha


def _coverage(w: Writing) -> Any:
    past = getattr(w.inner, "past", None)
    return None if past is None else past.total


def _covered(w: Writing, mask: Tensor) -> Tensor:
    """Σ_i log min(Σ_t a(t, i), 1) of each beam, [B, k]; the padding of the source is not looked at and counts as covered."""
    total = _coverage(w).view(len(mask), -1, mask.shape[1])
    return torch.where(mask[:, None], total.clamp(min=torch.finfo(total.dtype).tiny, max=1).log(), 0).sum(2)


def _open(model: Writer, rows: int, k: int, lengths: Any, x: Any, context: Any, state: Any) -> tuple[Writing, Tensor]:
    """The beams to begin with, and their scores: [rows, 1]; where lengths come first, one for each of the k most probable."""
    if isinstance(model, Ensemble) or not isinstance(model.ending, Length) or lengths is not None or isinstance(state, Writing):
        w, total = start(model, rows, lengths, x, context, state)
        return w, total[:, None]
    scores, length = model.ending.log_probs(rows, context).topk(min(k, model.ending.longest + 1))
    copies = torch.arange(rows, device=scores.device).repeat_interleave(scores.shape[1])
    context, state = (None if part is None else select(part, copies) for part in (context, state))
    return model.begin(len(copies), length.flatten(), context, state)[0], scores


class Found(NamedTuple):
    """The best sequences that have ended, k for each row, best first; -inf where there is none yet."""

    score: Tensor  # [B, k]
    log_prob: Tensor  # [B, k]
    length: Tensor  # [B, k]
    y: Tensor  # [B, k, t]

    @staticmethod
    def none(rows: int, k: int, like: Tensor) -> Found:
        worst = torch.full((rows, k), NEVER, dtype=like.dtype, device=like.device)
        return Found(
            worst, worst, torch.zeros_like(worst, dtype=torch.long), torch.zeros((rows, k, 0), dtype=torch.long, device=like.device)
        )

    def joined(self, score: Tensor, log_prob: Tensor, y: Tensor) -> Found:
        """With others [B, k], of one length t."""
        t = y.shape[2]
        score, at = torch.cat([self.score, score], 1).topk(self.score.shape[1])
        log_prob = torch.cat([self.log_prob, log_prob], 1).gather(1, at)
        length = torch.cat([self.length, torch.full_like(self.length, t)], 1).gather(1, at)
        y = torch.cat([torch.nn.functional.pad(self.y, (0, t - self.y.shape[2])), y], 1)
        return Found(score, log_prob, length, y.gather(1, at[..., None].expand(-1, -1, t)))

    def hypotheses(self, n: int) -> list[list[Hypothesis]]:
        rows = zip(self.score.tolist(), self.log_prob.tolist(), self.length.tolist(), self.y.tolist())
        return [[Hypothesis(y[:m], p, s) for s, p, m, y in list(zip(*row))[:n] if s > NEVER] for row in rows]
