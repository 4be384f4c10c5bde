"""The recurrent transducer: one network reads, one remembers what was written, and a third decides at each point whether to write or to read on."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wavefront.cell import Cell
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.autoregressive import select
from wavefront.generative.beam import Hypothesis
from wavefront.generative.ctc import _lengths, log_add
from wavefront.generative.symbols import log_softmax
from wavefront.networks.recurrent import Recurrent

__all__ = ["Transducer"]


class Transducer(nn.Module):
    """p(y | x) = Σ over all paths through the lattice of steps t and symbols written u.  [Graves 2012, arXiv:1211.3711, section 2]

        g(u) = predictor(y(1), .., y(u))        p(k | t, u) = softmax(V tanh(W h(t) + U g(u)))_k

    At (t, u) a symbol moves to (t, u + 1), the blank to (t + 1, u); the last blank ends it. Unlike with CTC, y may be longer than x, and what is
    written depends on what was written before.

    features   the size of h(t), what a network puts out at each step of x
    symbols    K, numbered from 0; the blank is K
    predictor  a cell; it reads symbols through `reader`, `nn.Embedding(symbols, cell.inputs)`
    units      of the hidden layer where both meet

    h [B, T, features] with lengths [B]; y [B, U] with y_lengths [B]. From no steps nothing is written, for certain.
    Memory of `log_prob`: B T (U + 1) (units + K) numbers.

    >>> from wavefront import cells
    >>> net = Transducer(5, 3, cells.GRU(4, 6), nn.Embedding(3, 4), units=8)
    >>> net.log_prob(torch.randn(2, 7, 5), torch.tensor([[0, 0, 2], [1, 0, 0]]), lengths=[7, 4], y_lengths=[3, 1]).shape
    torch.Size([2])
    """

    def __init__(self, features: int, symbols: int, predictor: Cell, reader: nn.Embedding, units: int):
        super().__init__()
        if reader.num_embeddings != symbols or reader.embedding_dim != predictor.inputs:
            raise ShapeError(
                f"Transducer expects a reader of [{symbols}, {predictor.inputs}] (symbols, the predictor's inputs), "
                f"got {list(reader.weight.shape)}."
            )
        self.symbols, self.blank = symbols, symbols
        self.predictor, self.reader = Recurrent(predictor), reader
        self.start = nn.Parameter(torch.zeros(reader.embedding_dim))
        self.W, self.U = nn.Linear(features, units), nn.Linear(predictor.outputs, units, bias=False)
        self.V = nn.Linear(units, symbols + 1)

    def each(self, h: Tensor) -> list[tuple[Transducer, Tensor]]:
        """What learns, each on its own, and what of h it is given: one transducer all of it."""
        return [(self, h)]

    def join(self, h: Tensor, g: Tensor) -> Tensor:
        """h [..., features] and g [..., predictor's outputs] -> log p of each symbol and the blank, [..., symbols + 1]."""
        return log_softmax(self.V((self.W(h) + self.U(g)).tanh()))

    def log_prob(self, h: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None) -> Tensor:
        """log p(y | x), exact, [B].

            α(t, u) = log(exp(α(t-1, u) + log p(blank | t-1, u)) + exp(α(t, u-1) + log p(y(u) | t, u-1)))

        Each row t of it is one cumulated log-sum over u, so that only the steps of x are done one after the other.
        """
        blank, written, lengths, y_lengths = self._lattice(h, y, lengths, y_lengths)
        return _total(blank, written, lengths, y_lengths) if h.shape[1] else h.new_zeros(len(h))

    def alignments(self, h: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None) -> Tensor:
        """p(the u-th symbol is written at step t | x, y), over all paths: [B, U, T]. Sums to one over t.

        The gradient of log p(y | x) with respect to log p(y(u) | t, u - 1).
        """
        blank, written, lengths, y_lengths = self._lattice(h.detach(), y, lengths, y_lengths)
        with torch.enable_grad():
            written = written.detach().requires_grad_()
            if not h.shape[1]:
                return written.detach().transpose(1, 2)
            (posterior,) = torch.autograd.grad(_total(blank.detach(), written, lengths, y_lengths).sum(), written)
        return posterior.transpose(1, 2)

    def _lattice(self, h: Tensor, y: Tensor, lengths: Any, y_lengths: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log p(blank | t, u) [B, T, U + 1], log p(y(u + 1) | t, u) [B, T, U], and the lengths."""
        lengths, y_lengths = _lengths(h, lengths), _lengths(y, y_lengths)
        if bool(((lengths == 0) & (y_lengths > 0)).any()):
            row = int(((lengths == 0) & (y_lengths > 0)).nonzero()[0])
            raise ShapeError(
                f"Transducer: sequence {row} has no steps, and {int(y_lengths[row])} symbols to write; there has to be a step to write from."
            )
        inside = torch.arange(y.shape[1], device=y.device) < y_lengths[:, None]
        if bool((inside & ((y < 0) | (y >= self.symbols))).any()):
            raise ShapeError(f"Transducer writes symbols 0..{self.symbols - 1}, got {y[inside].min()}..{y[inside].max()}.")
        y = y.masked_fill(~inside, 0)
        log_p = self.join(h[:, :, None], self.remember(y)[:, None])  # [B, T, U + 1, K + 1]
        blank = log_p[..., self.blank]
        written = log_p[:, :, :-1].gather(3, y[:, None, :, None].expand(-1, h.shape[1], -1, 1)).squeeze(3)  # [B, T, U]
        return blank, written, lengths, y_lengths

    def remember(self, y: Tensor) -> Tensor:
        """y [B, U] -> g(0), .., g(U), [B, U + 1, predictor's outputs]; past its length a row's are of no meaning."""
        read = torch.cat([self.start.expand(len(y), 1, -1), self.reader(y)], 1)
        return self.predictor(read)[0]

    def _read(self, state: Any, symbols: Tensor | None, rows: int) -> tuple[Any, Tensor]:
        vector = self.start.expand(rows, -1) if symbols is None else self.reader(symbols)
        return self.predictor.step(state, vector)

    @torch.no_grad()
    def greedy(self, h: Tensor, lengths: Any = None, most: int = 10) -> list[list[int]]:
        """The most probable choice at each point, for each row; at most so many symbols from one step."""
        lengths = _lengths(h, lengths)
        state, g = self._read(None, None, len(h))
        written: list[list[int]] = [[] for _ in range(len(h))]
        for t in range(h.shape[1]):
            going = t < lengths
            for _ in range(most):
                symbol = self.join(h[:, t], g).argmax(-1)
                going = going & (symbol != self.blank)
                at = going.nonzero().squeeze(1)
                if not len(at):
                    break
                new, g_new = self._read(select(state, at), symbol[at], len(at))
                state, g = _put(state, new, at), g.index_copy(0, at, g_new)
                for row in at.tolist():
                    written[row].append(int(symbol[row]))
        return written

    @torch.no_grad()
    def beam_search(self, h: Tensor, lengths: Any = None, *, num_beams: int = 5, n_best: int = 1, most: int = 10) -> list[list[Hypothesis]]:
        """The sequences of highest probability that a search over beginnings finds, step by step of x.

        At each step, every beginning may be extended up to `most` times before its blank; beginnings that are the same are added up, and the
        `num_beams` best
        are kept. `score` is the sum over the paths kept, `log_prob` is exact.
        """
        if not 1 <= n_best <= num_beams or most < 1:
            raise SettingsError(f"1 <= n_best <= num_beams and 1 <= most; got {n_best}, {num_beams}, {most}.")
        lengths, results = _lengths(h, lengths), []
        for row, n in enumerate(lengths.tolist()):
            found = self._search(h[row, :n], num_beams, most)[:n_best]
            y = nn.utils.rnn.pad_sequence(
                [torch.tensor(prefix, dtype=torch.long, device=h.device) for prefix, _ in found], batch_first=True
            )
            sizes = torch.tensor([len(prefix) for prefix, _ in found], device=h.device)
            exact = self.log_prob(h[row : row + 1, :n].expand(len(found), -1, -1), y, y_lengths=sizes).tolist()
            results.append([Hypothesis(list(prefix), p, score) for (prefix, score), p in zip(found, exact)])
        return results

    def _search(self, h: Tensor, num_beams: int, most: int) -> list[tuple[tuple[int, ...], float]]:
        state, g = self._read(None, None, 1)
        beams: dict[tuple[int, ...], _Beginning] = {(): _Beginning(0.0, state, g)}
        for step in h:
            after: dict[tuple[int, ...], _Beginning] = {}
            for _ in range(most + 1):
                prefixes, heads = list(beams), list(beams.values())
                log_p = self.join(step, torch.cat([b.g for b in heads])).tolist()
                options = []
                for prefix, b, p in zip(prefixes, heads, log_p):
                    before = after[prefix].log_p if prefix in after else -inf
                    after[prefix] = b._replace(log_p=log_add(before, b.log_p + p[self.blank]))
                    options += [(b.log_p + p[s], prefix, s) for s in range(self.symbols)]
                # an extension that is already worse than num_beams finished ones is left
                bar = sorted((b.log_p for b in after.values()), reverse=True)[num_beams - 1 : num_beams]
                best = [o for o in sorted(options, key=lambda o: -o[0])[:num_beams] if not bar or o[0] > bar[0]]
                if not best:
                    break
                parents = [beams[prefix] for _, prefix, _ in best]
                beams = {}
                for (log_p_new, prefix, s), b in zip(best, parents):
                    new, g_new = self._read(b.state, torch.tensor([s], device=h.device), 1)
                    beams[(*prefix, s)] = _Beginning(log_p_new, new, g_new)
            kept = sorted(after.items(), key=lambda item: -item[1].log_p)[:num_beams]
            beams = dict(kept)
        return [(prefix, b.log_p) for prefix, b in beams.items()]


class _Beginning(NamedTuple):
    log_p: float
    state: Any  # of the predictor
    g: Tensor  # [1, ...]


def _total(blank: Tensor, written: Tensor, lengths: Tensor, y_lengths: Tensor) -> Tensor:
    """log p(y | x) from the log-probabilities of the lattice, [B]."""
    along = F.pad(written.cumsum(2), (1, 0))  # Σ_{u' < u} log p(y(u') | t, u')
    alpha = [along[:, 0]]
    for t in range(1, written.shape[1]):
        from_left = alpha[-1] + blank[:, t - 1]
        alpha.append(along[:, t] + (from_left - along[:, t]).logcumsumexp(1))
    ends = (torch.stack(alpha, 1) + blank)[torch.arange(len(lengths), device=lengths.device), (lengths - 1).clamp(min=0)]
    return torch.where(lengths > 0, ends.gather(1, y_lengths[:, None]).squeeze(1), 0)  # nothing from nothing is certain


def _put(state: Any, new: Any, rows: Tensor) -> Any:
    """New values in these rows of every part of a state."""
    return pytree.tree_map(lambda part, value: part.index_copy(0, rows, value), state, new)
