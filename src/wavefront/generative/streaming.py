"""Symbols as a stream: one row, step by step, each step as one native call where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from wavefront.cell import Cell, advance, draws_wanted
from wavefront.engine.single import single
from wavefront.generative.autoregressive import Autoregressive, Writing
from wavefront.generative.decoding import NEVER, truncated
from wavefront.generative.symbols import SymbolOutput
from wavefront.networks.layers import Layers
from wavefront.networks.recurrent import Recurrent
from wavefront.wrap import Stack

__all__ = ["stream"]

BLOCK = 1 << 14  # random numbers drawn at once


def stream(
    model: Autoregressive,
    prompt: Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    without: tuple[int, ...] = (),
    context: Any = None,
    state: Any = None,
) -> Iterator[int]:
    """Symbols one by one, as they are written, until the end: constant time and memory for each.

        y = argmax log p(y) + T g        g = -log e, e ~ Exp(1): a symbol with probability p^(1/T), up to a factor  [Gumbel 1954]

    prompt       [T], read first
    temperature  T; 0 takes the most probable; top_k, top_p as in `truncated`
    without      symbols that are never written
    state        of the network, or a `Writing` to go on from

    >>> from wavefront import cells
    >>> from wavefront.generative import Autoregressive, Categorical
    >>> net = Autoregressive(cells.GRU(4, 8), Categorical(8, symbols=3), nn.Embedding(3, 4), ending="given")
    >>> written = stream(net, torch.tensor([0, 2, 1]))
    >>> next(written) in (0, 1, 2)
    True
    """
    if temperature:
        truncated(torch.zeros(1), temperature, top_k, top_p)  # refuses what cannot be before anything is written
    with torch.no_grad():
        w, _ = model.open(1, None, None, context, state)
        if prompt is not None and len(prompt):
            _, w = model.run(prompt[None], context=context, state=w)
    counts, cut = model.counts(w), temperature > 0 and (top_k > 0 or top_p < 1)
    cell = None if counts or cut else _choosing(model, context)
    if cell is not None:
        return _chosen(model, cell, w, _noise(model.start, cell.output.symbols, temperature, without))
    how = (temperature, top_k, top_p) if cut else None
    choices = max(model.symbols, model.end + 1) if counts else model.symbols
    return _written(model, w, counts, how, _noise(model.start, choices, 1.0 if cut else temperature, without), context)


def _noise(like: Tensor, choices: int, temperature: float, without: tuple[int, ...]) -> Iterator[Tensor]:
    """T g for each choice, [1, choices], and -inf for those that may not be."""
    many = max(1, BLOCK // choices)
    while True:
        block = like.new_zeros(many, choices)
        if temperature:
            block.exponential_().log_().mul_(-temperature)
        block[:, without] = NEVER
        yield from block.split(1)


@torch.no_grad()
def _written(
    model: Autoregressive, w: Writing, counts: bool, how: tuple[float, int, float] | None, noise: Iterator[Tensor], context: Any
) -> Iterator[int]:
    """Step by step, in torch: `how` symbols are cut off that are not among the best."""
    following: Callable[..., tuple[Writing, Tensor]] = model.next
    for given in noise:
        w, log_p = following(w, context=context)
        log_p = log_p[:, : given.shape[-1]]  # in the first step of a stream the end, which cannot be, is among the choices
        if how is not None:
            log_p = truncated(log_p.where(given > NEVER, NEVER), *how)
        symbol = (log_p + given).argmax(-1)
        number = int(symbol)
        if number == model.end:
            return
        w = model.write(w, symbol) if counts else w._replace(last=symbol)
        following = model.next if counts else model.next_of_stream
        yield number


class Asked(NamedTuple):
    x: Any
    noise: Any


class Choosing(Cell):
    """A step of a network that writes, and the choice of a symbol y; what is drawn at random is given.

    h, o = cell(h, x)        y = argmax log p(y | o) + noise, the first of equal ones, or the number of symbols + 1 if these are no numbers
    """

    def __init__(self, cell: Cell, output: SymbolOutput):
        super().__init__(Asked(cell.inputs, output.symbols), state=cell.sizes, outputs=1)
        self.cell, self.output = cell, output

    def step(self, state: Any, x: Asked) -> tuple[Any, Tensor]:
        state, o = advance(self.cell, state, x.x)
        score = self.output.log_probs(o) + x.noise
        numbers = torch.arange(self.output.symbols, dtype=score.dtype, device=score.device)
        best = torch.where(score == score.amax(-1, keepdim=True), numbers, self.output.symbols + 1.0)
        return state, -(-best).amax(-1, keepdim=True)


def _chosen(model: Autoregressive, cell: Choosing, w: Writing, noise: Iterator[Tensor]) -> Iterator[int]:
    """Step by step, each one native call where the cell has such a step."""
    symbols, end, state, switch = cell.output.symbols, model.end, w.inner, torch._C._set_grad_enabled
    table = (
        model.reader if type(model.reader) is nn.Embedding and model.reader.max_norm is None and not model.reader._forward_hooks else None
    )
    with torch.no_grad():
        x, rows = model.vectors(w), dict[int, Tensor]()
    for given in noise:
        before, _ = torch.is_grad_enabled(), switch(False)  # `torch.no_grad` around each step would take a tenth of it
        try:
            asked = Asked(x, given)
            state, choice = single(cell, state, asked) or cell.step(state, asked)
            number = int(choice)
            if number > symbols:
                raise FloatingPointError("The network's probabilities are no numbers (NaN): there is nothing to choose from.")
            if number == end:
                return
            if table is None:
                x = model.vectors(w._replace(last=torch.tensor([number], device=given.device), place=w.place + 1))
            elif number in rows:
                x = rows[number]
            else:
                x = rows[number] = table.weight[number : number + 1]  # a view: what changes the numbers changes it
        finally:
            switch(before)
        yield number


_known: WeakKeyDictionary[Autoregressive, tuple[Any, Choosing]] = WeakKeyDictionary()  # so that it is planned once


def _choosing(model: Autoregressive, context: Any) -> Choosing | None:
    """The model's step as one cell; None where it is more than that."""
    network, output = model.network, model.output
    layers = network.layers if isinstance(network, Layers) else [network]
    if not all(isinstance(layer, Recurrent) and _plain(layer) for layer in layers):
        return None
    if not isinstance(output, SymbolOutput) or output.given(context) is not output or (context is not None and model.context_as != "state"):
        return None
    parts = (output, *(layer.cell for layer in layers))
    known, found = _known.get(model, ((), None))
    if found is None or known != parts:
        found = Choosing(parts[1] if network is layers[0] else Stack(*parts[1:]), output)
        _known[model] = parts, found
    return found


def _plain(layer: Recurrent) -> bool:
    """Whether a layer's step is its cell's, from the one state before."""
    cell = layer.cell
    straight = layer.skips == (1,) and not layer.reverse and layer.backend != "reference"
    return straight and cell.slots == 1 and cell.phases == 1 and draws_wanted(cell, 1) is None
