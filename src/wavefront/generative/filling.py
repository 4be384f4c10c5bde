"""Filling in what is missing in the middle of a sequence, given what stands before it and after it.  [Goodfellow et al. 2016, 10.2.3]"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.autoregressive import Autoregressive, select
from wavefront.generative.ending import EndSymbol, GivenLength
from wavefront.generative.symbols import SymbolOutput, draw_symbols

__all__ = ["Fillings", "fill_by_sampling", "fill_exactly"]


class Fillings(NamedTuple):
    y: Tensor  # [n, T, *event]: the sequence, filled in, most probable first
    log_prob: Tensor  # [n]: log p(filling | the rest); of samples, their weights: they sum to one
    log_evidence: Tensor  # log p(the rest), summed over all fillings; of samples, an estimate whose exponential is unbiased


@torch.no_grad()
def fill_exactly(
    model: Autoregressive, y: Tensor, missing: Tensor, *, x: Tensor | None = None, context: Any = None, at_most: int = 100_000
) -> Fillings:
    """Every filling of one sequence of symbols and its probability given the rest.

        p(filling | rest) = p(y) / Σ p(y')        over all y' that agree with the rest

    y [T], missing [T] bool; x [T, inputs] and context [1, ...] as the model takes them. All fillings are scored, symbols^(number missing) of
    them: SettingsError
    if these are more than `at_most`.
    """
    _check(model, y, missing)
    if not isinstance(model.output, SymbolOutput):
        raise SettingsError(f"{type(model.output).__name__} has no list of values to try: use fill_by_sampling.")
    end = model.ending.symbol if isinstance(model.ending, EndSymbol) else None
    symbols = torch.tensor([s for s in range(model.output.symbols) if s != end], device=y.device)
    holes = int(missing.sum())
    if len(symbols) ** holes > at_most:
        raise SettingsError(f"{holes} missing symbols of {len(symbols)} are more than {at_most} fillings: use fill_by_sampling.")
    tried = torch.cartesian_prod(*[symbols] * holes).view(-1, holes) if holes else symbols.new_zeros(1, 0)
    whole = y.masked_fill(missing, 0).expand(len(tried), -1).clone()
    whole[:, missing] = tried
    rows = torch.zeros(len(tried), dtype=torch.long, device=y.device)
    x, context = (None if part is None else select(part, rows) for part in (None if x is None else x[None], context))
    log_p = model.log_prob(whole, x=x, context=context)
    order = log_p.argsort(descending=True)
    evidence = log_p.logsumexp(0)
    return Fillings(whole[order], log_p[order] - evidence, evidence)


@torch.no_grad()
def fill_by_sampling(
    model: Autoregressive, y: Tensor, missing: Tensor, *, particles: int = 1000, x: Tensor | None = None, context: Any = None
) -> Fillings:
    """Weighted samples of the fillings of one sequence, of any kind of output: a particle filter.  [Gordon et al. 1993; Doucet & Johansen 2009,
    3.5]

    Many copies of the sequence are written forward. Where a value is missing each draws its own; where it is known, the copy's weight is
    multiplied by its probability. When few carry all the weight, they are drawn anew by their weights. Right in the limit of many particles, and
    only there.

    y [T, *event], missing [T] bool; x [T, inputs] and context [1, ...] as the model takes them.
    """
    _check(model, y, missing)
    rows = torch.zeros(particles, dtype=torch.long, device=y.device)
    x = None if x is None else select(x[None], rows)
    context = None if context is None else select(context, rows)
    lengths = torch.full((particles,), len(y), device=y.device)
    w, weight = model.begin(particles, lengths if isinstance(model.ending, GivenLength) else None, context)
    head: Any = model.output.given(context)
    ending = model.ending
    one, written = torch.ones_like(lengths), []
    evidence = weight.new_zeros(())
    for t in range(len(y)):
        w, o = model.step(w, None if x is None else x[:, t], context)
        steps = o[:, None].expand(-1, 1 + ending.closing, -1)
        if bool(missing[t]):
            if isinstance(ending, EndSymbol):
                log_p = head.log_probs(o)
                log_p[:, ending.symbol] = float("-inf")
                value = draw_symbols(log_p, torch.rand(particles, 1, device=y.device))
                weight = weight + log_p.logsumexp(1)  # it did not end here
            else:
                value = head.sample(o)
                weight = weight + ending.log_prob(head, steps, value[:, None], one, context)[:, 0] - head.log_prob(o, value)
        else:
            value = y[t].expand(particles, *y.shape[1:])
            weight = weight + ending.log_prob(head, steps, value[:, None], one, context)[:, 0]
        w = model.write(w, value)
        written.append(value)
        share = weight.softmax(0)
        if 1 / share.square().sum() < particles / 2:
            evidence = evidence + weight.logsumexp(0) - torch.tensor(particles, dtype=weight.dtype).log()
            chosen = _systematic(share)
            w, weight = select(w, chosen), torch.zeros_like(weight)
            written = [part[chosen] for part in written]
    if ending.closing:
        w, o = model.step(w, None if x is None else x[:, len(y)], context)
        none = y.new_zeros((particles, 0, *y.shape[1:]))
        weight = weight + ending.log_prob(head, o[:, None], none, torch.zeros_like(one), context)[:, 0]
    evidence = evidence + weight.logsumexp(0) - torch.tensor(particles, dtype=weight.dtype).log()
    whole = torch.stack(written, 1) if written else y.new_zeros((particles, 0, *y.shape[1:]))
    order = weight.argsort(descending=True)
    return Fillings(whole[order], weight.log_softmax(0)[order], evidence)


def _systematic(share: Tensor) -> Tensor:
    """As many rows as there are, each about as often as its share says, with one random number."""
    n = len(share)
    at = (torch.arange(n, device=share.device) + torch.rand(1, device=share.device)) / n
    return torch.searchsorted(share.cumsum(0), at.to(share), right=True).clamp(max=n - 1)


def _check(model: Autoregressive, y: Tensor, missing: Tensor) -> None:
    model.output.check(y, y.shape[:1])
    if missing.dtype != torch.bool or missing.shape != y.shape[:1]:
        raise ShapeError(f"missing is a bool for each step, [{len(y)}]; got {missing.dtype} of {list(missing.shape)}.")
