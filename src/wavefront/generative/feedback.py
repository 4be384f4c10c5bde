"""The network that reads what it wrote itself: its output, as a distribution, fed back within an unfolding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.cell import Cell, Given, advance, draws_wanted, named
from wavefront.errors import SettingsError, ShapeError
from wavefront.generative.symbols import SymbolOutput
from wavefront.networks.attending import Attending
from wavefront.networks.layers import Layers
from wavefront.networks.recurrent import Recurrent
from wavefront.wrap import Forced

if TYPE_CHECKING:
    from wavefront.generative.autoregressive import Autoregressive

__all__ = ["Written", "unfold_forced"]


class WrittenState(NamedTuple):
    inner: Any
    read: Tensor  # what was put out last, as it is read: [N, read size]


class WrittenDraws(NamedTuple):
    inner: Any
    noise: Any  # of the output


class Written(Cell[WrittenState]):
    """The cell of a network that writes, closed upon itself.  [Goodfellow et al. 2016, 10.2.1, figure 10.6]

        r = read(y(t-1)) where coin ≠ 0, else read(ŷ(t-1))       h', o = f(h, [r, x, context])       ŷ(t) = feed(output(o))

    state (inner h, read(ŷ)), x a `Forced(x, target=read(y(t-1)), coin)`, joined with the context in a `Given` if there is one -> o. As
    `wrap.Feedback`, but what comes back is not o: it is a sample, the mode or the expected value of the distribution that o stands for.
    """

    def __init__(self, model: Autoregressive, cell: Cell, context: Any, feed: str, cut: bool):
        if cell.slots != 1:
            raise ShapeError(f"Feeding outputs back wants a cell with one predecessor, got {named(cell)} with slots={cell.slots}.")
        attends = isinstance(cell.inputs, Given)
        size = (cell.inputs.x if attends else cell.inputs) - model.read_size
        if context is not None and not attends:
            size -= context.shape[1]
        forced = Forced(x=size, target=model.read_size, coin=1)
        given = cell.inputs.context if attends else None if context is None else context.shape[1]
        super().__init__(
            inputs=forced if given is None else Given(forced, given),
            state=WrittenState(cell.sizes, model.read_size),  # type: ignore[arg-type]
            outputs=cell.outputs,
            phases=cell.phases,
        )
        if feed not in ("sample", "mode", "expected"):
            raise SettingsError(f'What is fed back is a "sample", the "mode" or the "expected" value, got {feed!r}.')
        if feed == "sample" and model.output.noise(1) is None:
            raise SettingsError(f'{type(model.output).__name__} cannot be sampled within an unfolding: feed="mode" or "expected".')
        self.model, self.cell, self.feed, self.cut, self.attends = model, cell, feed, cut, attends
        self.training = True  # its noise is part of what it is, in eval mode too

    def draws(self, rows):
        return WrittenDraws(draws_wanted(self.cell, rows), self.model.output.noise(rows) if self.feed == "sample" else None)

    def step(self, state, x, draws=None, phase=0):
        forced, context = x if isinstance(x, Given) else (x, None)
        read = torch.where(forced.coin != 0, forced.target, state.read)
        vector: Any = torch.cat([read, forced.x], -1)
        if self.attends:
            vector = Given(vector, context)
        elif context is not None:
            vector = torch.cat([vector, context], -1)
        inner, o = advance(self.cell, state.inner, vector, draws.inner if draws else None, phase)
        read = self._feed(o, context if self.attends else None, draws.noise if draws else None)
        return WrittenState(inner, read.detach() if self.cut else read), o

    def _feed(self, o: Tensor, context: Any, noise: Any) -> Tensor:
        output, reader = self.model.output.given(context), self.model.reader
        if self.feed == "expected" and isinstance(output, SymbolOutput):
            if not isinstance(reader, nn.Embedding):
                raise SettingsError('feed="expected" mixes the vectors of symbols: the reader has to be an nn.Embedding.')
            return output.expected(o) @ reader.weight
        y = output.sample(o, noise) if self.feed == "sample" else output.mode(o) if self.feed == "mode" else output.expected(o)
        return output.read(y) if reader is None else reader(y)


class _Hidden(Cell[Any]):
    """A network without a memory of its own, as a cell: its state is nothing that anybody reads."""

    def __init__(self, network: Any):
        super().__init__(network.inputs, state=0, outputs=network.outputs)
        self.network = network

    def step(self, state, x):
        return state, self.network.step((), x)[1]


def unfold_forced(
    model: Autoregressive, x: Forced, lengths: Tensor, context: Any, inner: Any, feed: str, cut: bool, clock: dict[str, int]
) -> Tensor:
    """The writing cell over whole sequences, x of [B, T, ...] -> o [B, T, features]."""
    network = model.network
    if isinstance(network, Recurrent | Layers):
        skips = getattr(network, "skips", (1,))
        if skips != (1,):
            raise ShapeError(
                f"Feeding outputs back goes from one step to the next: a network of skips={skips} is trained by log_prob alone."
            )
        cell = network.cell
    elif isinstance(network, Attending):
        if network.at_once:
            inner = _attending_state(network, inner, context)
        cell = network.cell_over(context.mask.shape[1])
    else:
        cell, inner = _Hidden(network), x.target.new_zeros(x.target.shape[0], 0)
    written = Written(model, cell, context, feed, cut)
    first = WrittenState(inner, x.target.new_zeros(x.target.shape[0], model.read_size))
    o, _ = Recurrent(written, backend="reference")(x, first, lengths, context=context, **clock)
    return o


def _attending_state(network: Attending, inner: Any, context: Any) -> Any:
    """The state of attention step by step, where the network would run all of it at once."""
    from wavefront.networks.attending import AttendingState

    return AttendingState(inner, network.V.weight.new_zeros(len(context.mask), network.outputs), network.attention.start(context))
