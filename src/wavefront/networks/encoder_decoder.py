"""From one sequence to another, of another length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from wavefront.errors import SettingsError
from wavefront.networks.attending import Attending
from wavefront.networks.bridge import Bridge

__all__ = ["Encoded", "EncoderDecoder", "EncoderDecoders"]


class Encoded(NamedTuple):
    """What the decoder is given of a source: `beam_search(net.decoder, rows, **net.encode(x, lengths)._asdict())`."""

    context: Any  # a `Memory` for a decoder that attends, else the summary, [B, size]; of several networks a tuple of these
    state: Any  # the decoder's first state; None: its own

    def first(self, rows: int) -> Encoded:
        """Of so many sources."""
        return pytree.tree_map(lambda part: None if part is None else part[:rows], self)


class EncoderDecoder(nn.Module):
    """p(y | x): an encoder reads x, a decoder writes y.  [Cho et al. 2014; Sutskever et al. 2014; Goodfellow et al. 2016, 10.4]

        h(1..τ) = encoder(x)        c = summary(h)        y ~ decoder, given c or, where it attends, all of h

    encoder  a network over sequences, called (x, lengths): `Encoder`, `Bidirectional`, `Recurrent`, of any cells and depth
    decoder  what writes, as `generative.Autoregressive`: its network is an `Attending`, or it takes a vector as context
    reader   from x to the vectors that the encoder reads; none where x are vectors already
    summary  the sequence in one vector: `LastStep`, `Pooled`, or learned, `AttentionPooled`. An attending decoder needs one only for a bridge
    bridge   from the summary to the decoder's first state. (A decoder that takes its context as first state has its own.)

    x [B, S] or [B, S, inputs] with lengths [B]; y [B, T] with y_lengths [B]. No padding of either is ever looked at.

    >>> import torch
    >>> from wavefront import Bidirectional, cells
    >>> from wavefront.generative import Autoregressive, Categorical
    >>> from wavefront.networks import Additive, LastStep
    >>> attend = Attending(cells.GRU(4 + 8, 8), Additive(query=8, memory=12, units=8))
    >>> net = EncoderDecoder(
    ...     Bidirectional(cells.GRU(5, 6), cells.GRU(5, 6)),
    ...     Autoregressive(attend, Categorical(8, symbols=10), reader=nn.Embedding(10, 4)),
    ...     reader=nn.Embedding(20, 5), summary=LastStep(forward=6), bridge=Bridge(12, attend.cell),
    ... )
    >>> x, y = torch.randint(20, (2, 7)), torch.randint(9, (2, 3))
    >>> net.log_prob(x, y, lengths=[7, 4], y_lengths=[2, 3]).shape
    torch.Size([2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        reader: nn.Module | None = None,
        summary: nn.Module | None = None,
        bridge: Bridge | None = None,
    ):
        super().__init__()
        attends = isinstance(decoder.network, Attending)
        if summary is None and (bridge is not None or not attends):
            raise SettingsError("EncoderDecoder: a bridge, or a decoder that does not attend, needs the source in one vector: summary=.")
        if bridge is not None and not attends:
            raise SettingsError(
                'EncoderDecoder: a decoder that does not attend makes its first state itself: context_as="state" or "both".'
            )
        self.encoder, self.decoder, self.reader, self.summary, self.bridge = encoder, decoder, reader, summary, bridge

    def encode(self, x: Tensor, lengths: Any = None, symbols: Tensor | None = None) -> Encoded:
        """x read. symbols [B, S]: what stands in x, as the decoder numbers symbols, -1 where it has none; for an output that copies."""
        h = self.encoder(x if self.reader is None else self.reader(x), lengths=lengths)
        h = h[0] if isinstance(h, tuple) else h
        c = None if self.summary is None else self.summary(h, lengths)
        if not isinstance(self.decoder.network, Attending):
            return Encoded(c, None)
        return Encoded(self.decoder.network.memory(h, lengths, symbols), None if self.bridge is None else self.bridge(c))

    def forward(self, x: Tensor, lengths: Any = None, symbols: Tensor | None = None) -> Encoded:
        return self.encode(x, lengths, symbols)

    def log_prob_steps(self, x: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None, symbols: Tensor | None = None) -> Tensor:
        """log p(y(t) | y(<t), x), exact, and at t = length that of ending there: [B, T + 1]."""
        return self.decoder.log_prob_steps(y, y_lengths, **self.encode(x, lengths, symbols)._asdict())  # type: ignore[operator]

    def log_prob(self, x: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None, symbols: Tensor | None = None) -> Tensor:
        """log p(y | x), exact, [B]."""
        return self.log_prob_steps(x, y, lengths, y_lengths, symbols).sum(1)

    def alignments(self, x: Tensor, y: Tensor, lengths: Any = None, y_lengths: Any = None) -> Tensor:
        """Where the decoder looked when it wrote each y and its end, [B, T + 1, S]."""
        return self.decoder.aligned(y, y_lengths, **self.encode(x, lengths)._asdict())[1]  # type: ignore[operator]


class EncoderDecoders(EncoderDecoder):
    """Several networks that read x each on its own and write y together.  [Sutskever et al. 2014, arXiv:1409.3215, section 3.6]

        p(y(t) | y(<t), x) = 1/M Σ_m p_m(y(t) | y(<t), x)

    members  `EncoderDecoder`s for the same symbols
    decoder  what their decoders write together: `generative.Ensemble([member.decoder for member in members])`

    In all else as one `EncoderDecoder`; `generative.smoothed_loss` trains each member on its own.

    >>> import torch
    >>> from wavefront import cells
    >>> from wavefront.generative import Autoregressive, Categorical, Ensemble
    >>> from wavefront.networks import Encoder, LastStep
    >>> def member():
    ...     writer = Autoregressive(cells.GRU(4 + 8, 6), Categorical(6, symbols=5), reader=nn.Embedding(5, 4), context=8)
    ...     return EncoderDecoder(Encoder(3, 4, 1, cells.GRU), writer, nn.Embedding(9, 3), LastStep(forward=4))
    >>> members = [member(), member()]
    >>> net = EncoderDecoders(members, Ensemble([one.decoder for one in members]))
    >>> net.log_prob(torch.randint(9, (2, 7)), torch.randint(4, (2, 3))).shape
    torch.Size([2])
    """

    def __init__(self, members: Sequence[EncoderDecoder], decoder: Any):
        nn.Module.__init__(self)
        self.members, self.decoder = nn.ModuleList(members), decoder

    def encode(self, x: Tensor, lengths: Any = None, symbols: Tensor | None = None) -> Encoded:
        context, state = zip(*(member.encode(x, lengths, symbols) for member in self.members))  # type: ignore[operator]
        return Encoded(context, state)
