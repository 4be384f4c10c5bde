"""Connectionist temporal classification: a sequence written by one that is longer, without being told which part goes with which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Many
from math import exp, inf, log1p
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.beam import Hypothesis
from wavefront.generative.symbols import log_softmax

__all__ = ["CTC", "log_add"]

NEVER = -1e30  # as good as -inf, and without its NaN in gradients


def log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))


class CTC(nn.Module):
    """p(y | x) = Σ Π_t p(π(t) | o(t)) over all paths π that become y: repeats merged, then blanks dropped.  [Graves et al. 2006, ICML, eq. 3]

    features  the size of o(t), what a network (in both directions, as a rule) puts out at each step of x
    symbols   K, numbered from 0; the blank is K

    o [B, T, features] with lengths [B], y [B, U] with y_lengths [B]. A y needs a step for each symbol, and one between two that are alike.

    >>> ctc = CTC(5, symbols=3)
    >>> o, y = torch.randn(2, 7, 5), torch.tensor([[0, 0, 2], [1, 0, 0]])
    >>> ctc.log_prob(o, y, lengths=[7, 4], y_lengths=[3, 1]).shape
    torch.Size([2])
    >>> CTC.collapse([3, 0, 0, 3, 0, 2, 2], blank=3)
    [0, 0, 2]
    """

    def __init__(self, features: int, symbols: int):
        super().__init__()
        self.symbols, self.blank = symbols, symbols
        self.V = nn.Linear(features, symbols + 1)

    def each(self, o: Tensor) -> list[tuple[CTC, Tensor]]:
        """What learns, each on its own, and what of o it is given: one CTC all of it."""
        return [(self, o)]

    def forward(self, o: Tensor) -> Tensor:
        """log p of each symbol and the blank at each step, [B, T, symbols + 1]."""
        return log_softmax(self.V(o))

    def log_prob(self, o: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None) -> Tensor:
        """log p(y | x), [B]. Raises ShapeError where a y is longer than its x can write."""
        lengths, y_lengths = self._fitting(o, y, lengths, y_lengths)
        if not o.shape[:2].numel():  # nothing from nothing is certain
            return o.new_zeros(len(o))
        y = y.masked_fill(torch.arange(y.shape[1], device=y.device) >= y_lengths[:, None], 0)
        loss = F.ctc_loss(self(o).transpose(0, 1), y, lengths, y_lengths, blank=self.blank, reduction="none")
        return torch.where(lengths > 0, -loss, 0)

    def _fitting(self, o: Tensor, y: Tensor, lengths: Any, y_lengths: Any) -> tuple[Tensor, Tensor]:
        """The lengths, where each x can write its y."""
        lengths, y_lengths = _lengths(o, lengths), _lengths(y, y_lengths)
        inside = torch.arange(y.shape[1], device=y.device) < y_lengths[:, None]
        if bool((inside & ((y < 0) | (y >= self.symbols))).any()):
            raise ShapeError(f"CTC(symbols={self.symbols}) writes symbols 0..{self.symbols - 1}, got {y[inside].min()}..{y[inside].max()}.")
        needed = self.needed(y, y_lengths)
        if bool((needed > lengths).any()):
            row = int((needed > lengths).nonzero()[0])
            raise ShapeError(
                f"Sequence {row}: {int(y_lengths[row])} symbols need {int(needed[row])} steps, repeats counted; there are {int(lengths[row])}."
                " Leave it out, or take longer inputs (upsample them)."
            )
        return lengths, y_lengths

    def alignments(self, o: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None) -> Tensor:
        """p(step t writes the u-th symbol | x, y), over all paths that become y: [B, U, T]. Sums over t to how many steps a symbol lasts.

        The gradient of log p(y | x) with respect to the log-probability that a state of the lattice emits.  [Graves et al. 2006, eq. 14-15]
        """
        lengths, y_lengths = self._fitting(o, y, lengths, y_lengths)
        rows, steps, size = len(o), o.shape[1], y.shape[1]
        if not rows * steps:
            return o.new_zeros(rows, size, steps)
        states = y.new_full((rows, 2 * size + 1), self.blank)  # a blank before each symbol and after the last
        states[:, 1::2] = y
        # from two states before, where neither is a blank nor the same symbol
        skip = torch.zeros_like(states, dtype=torch.bool)
        skip[:, 3::2] = y[:, 1:] != y[:, :-1]
        with torch.enable_grad():
            emitted = self(o.detach()).detach().gather(2, states.clamp(0, self.blank)[:, None].expand(-1, steps, -1)).requires_grad_()
            alpha = emitted.new_full(states.shape, NEVER)
            alpha = torch.cat([emitted[:, 0, :2], alpha[:, 2:]], 1)
            ends = [alpha]
            for t in range(1, steps):
                one = F.pad(alpha, (1, 0), value=NEVER)[:, :-1]
                two = F.pad(alpha, (2, 0), value=NEVER)[:, :-2].masked_fill(~skip, NEVER)
                alpha = torch.stack([alpha, one, two]).logsumexp(0) + emitted[:, t]
                ends.append(alpha)
            last = torch.stack(ends, 1)[torch.arange(rows, device=o.device), (lengths - 1).clamp(min=0)]
            final = (2 * y_lengths)[:, None]
            total = torch.cat(
                [last.gather(1, final), last.gather(1, (final - 1).clamp(min=0)).masked_fill(final == 0, NEVER)], 1
            ).logsumexp(1)
            (posterior,) = torch.autograd.grad(total.sum(), emitted)
        return posterior[:, :, 1::2].transpose(1, 2)

    @staticmethod
    def needed(y: Tensor, y_lengths: Tensor) -> Tensor:
        """The fewest steps that can write each y, [B]: one a symbol, and a blank between two that are alike."""
        place = torch.arange(y.shape[1], device=y.device)[1:]
        return y_lengths + ((y[:, 1:] == y[:, :-1]) & (place < y_lengths[:, None])).sum(1)

    @staticmethod
    def collapse(path: Many[int], blank: int) -> list[int]:
        """The sequence that a path writes."""
        return [s for before, s in zip([None, *path], path) if s not in (before, blank)]

    @torch.no_grad()
    def greedy(self, o: Tensor, lengths: Any = None) -> list[list[int]]:
        """What the most probable path writes, for each row."""
        lengths = _lengths(o, lengths)
        return [self.collapse(path[:n], self.blank) for path, n in zip(self(o).argmax(-1).tolist(), lengths.tolist())]

    @torch.no_grad()
    def beam_search(
        self, o: Tensor, lengths: Any = None, *, num_beams: int = 10, n_best: int = 1, symbols_per_step: int = 20
    ) -> list[list[Hypothesis]]:
        """The sequences of highest probability, summed over their paths, that a search over beginnings finds.  [Graves 2012; Hannun et al. 2014,
        arXiv:1408.2873]

        At each step the `num_beams` best beginnings are kept, each extended by the `symbols_per_step` most probable symbols. `score` is the sum
        over the paths that the search kept, `log_prob` is exact.
        """
        if not 1 <= n_best <= num_beams or symbols_per_step < 1:
            raise SettingsError(f"1 <= n_best <= num_beams and 1 <= symbols_per_step; got {n_best}, {num_beams}, {symbols_per_step}.")
        lengths, log_p = _lengths(o, lengths), self(o)
        results = []
        for row, n in enumerate(lengths.tolist()):
            found = _prefixes(log_p[row, :n], self.blank, num_beams, min(symbols_per_step, self.symbols))[:n_best]
            y = nn.utils.rnn.pad_sequence(
                [torch.tensor(prefix, dtype=torch.long, device=o.device) for prefix, _ in found], batch_first=True
            )
            sizes = torch.tensor([len(prefix) for prefix, _ in found], device=o.device)
            exact = self.log_prob(o[row : row + 1, :n].expand(len(found), -1, -1), y, y_lengths=sizes).tolist()
            results.append([Hypothesis(list(prefix), p, score) for (prefix, score), p in zip(found, exact)])
        return results


def _prefixes(log_p: Tensor, blank: int, num_beams: int, width: int) -> list[tuple[tuple[int, ...], float]]:
    """log_p [T, K + 1] -> beginnings and their log-probabilities, best first.

    Of each beginning, the paths that end in a blank and those that end in its last symbol are summed apart: only after a blank can that symbol
    come again.
    """
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -inf)}
    likely = log_p[:, :blank].topk(width).indices.tolist()
    for p, symbols in zip(log_p.tolist(), likely):
        after: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-inf, -inf])
        for prefix, (in_blank, in_symbol) in beams.items():
            either = log_add(in_blank, in_symbol)
            same = after[prefix]
            same[0] = log_add(same[0], either + p[blank])
            if prefix:
                same[1] = log_add(same[1], in_symbol + p[prefix[-1]])
            for s in symbols:
                longer = after[(*prefix, s)]
                longer[1] = log_add(longer[1], (in_blank if prefix and s == prefix[-1] else either) + p[s])
        best = sorted(after.items(), key=lambda item: -log_add(*item[1]))[:num_beams]
        beams = {prefix: (a, b) for prefix, (a, b) in best if log_add(a, b) > -inf}
    return sorted(((prefix, log_add(*ends)) for prefix, ends in beams.items()), key=lambda item: -item[1])


def _lengths(x: Tensor, lengths: Any) -> Tensor:
    if lengths is None:
        return torch.full((x.shape[0],), x.shape[1], device=x.device)
    found = torch.as_tensor(lengths, device=x.device)
    if found.shape != x.shape[:1] or (len(found) and not 0 <= int(found.min()) <= int(found.max()) <= x.shape[1]):
        raise ShapeError(f"lengths are {x.shape[0]} whole numbers between 0 and {x.shape[1]}, got {found.tolist()}.")
    return found
