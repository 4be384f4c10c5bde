"""From one sequence to a shorter one that runs along with it: frames to symbols, letters to phonemes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.generative.ctc import CTC
from wavefront.generative.together import CTCs, Transducers
from wavefront.generative.transducer import Transducer

__all__ = ["Read", "Transcriber", "Transcribers"]


class Read(NamedTuple):
    """What a `Transcriber` made of its inputs."""

    h: Tensor  # [B, T, features]
    lengths: Tensor  # [B]


class Transcriber(nn.Module):
    """p(y | x) without attention: an encoder reads x, and each of its steps may write.  [Graves et al. 2006; Graves 2012]

        h(1..T) = encoder(reader(x))        y ~ CTC or Transducer over h

    reader   from what comes to vectors: `Series` (values, lengths) -> vectors and lengths, which may be fewer; `Symbols` (x) -> vectors
    encoder  called (vectors, lengths=), as `Encoder`
    writer   `CTC` or `Transducer` over the encoder's outputs
    widen    each vector becomes so many steps, where the targets are longer than the inputs, as with letters

    >>> import torch
    >>> from wavefront import cells
    >>> from wavefront.networks import Encoder, Series
    >>> reader = Series(3, 4, widths=(3,), strides=(2,))
    >>> net = Transcriber(reader, Encoder(reader.outputs, 5, 1, cells.GRU), CTC(10, symbols=6))
    >>> read = net(torch.randn(2, 8, 3), lengths=torch.tensor([8, 6]))
    >>> read.lengths.tolist(), net.writer.log_prob(read.h, torch.tensor([[1, 2], [3, 0]]), read.lengths, [2, 1]).shape
    ([4, 3], torch.Size([2]))
    """

    def __init__(self, reader: nn.Module, encoder: nn.Module, writer: CTC | Transducer, widen: int = 1):
        super().__init__()
        size: Any = reader.outputs
        self.reader, self.encoder, self.writer = reader, encoder, writer
        self.widen = widen
        self.spread = nn.Linear(size, widen * size) if widen > 1 else None

    def forward(self, x: Tensor, lengths: Tensor) -> Read:
        read = self.reader(x, lengths) if x.is_floating_point() else (self.reader(x), lengths)
        vectors, lengths = read
        if self.spread is not None:
            rows, steps, size = vectors.shape
            vectors, lengths = self.spread(vectors).view(rows, steps * self.widen, size), lengths * self.widen
        return Read(self.encoder(vectors, lengths=lengths), lengths)

    def steps(self, length: int) -> int:
        """Over how many steps it can write, of an input so long."""
        for layer in getattr(self.reader, "layers", ()):
            length = -(length // -layer.stride)
        return length * self.widen


class Transcribers(nn.Module):
    """Several networks that read x each on its own and write y together, in the mean of their probabilities:

        p(k | o(t)) = 1/M Σ_m p_m(k | o_m(t)), or p(k | t, u) = 1/M Σ_m p_m(k | t, u)

    members  `Transcriber`s for the same symbols, all with a `CTC` or all with a `Transducer`

    In all else as one `Transcriber`: h has what the members read side by side, and `writer` is `CTCs` or `Transducers` over it.
    """

    def __init__(self, members: Sequence[Transcriber]):
        super().__init__()
        self.members = nn.ModuleList(members)
        writers: list[Any] = [member.writer for member in members]
        # the members' writers are parts of the members: as a part of this, too, their weights would be kept twice
        self._writer = (CTCs(writers) if isinstance(writers[0], CTC) else Transducers(writers),)

    @property
    def writer(self) -> CTC | Transducer:
        return self._writer[0]

    def forward(self, x: Tensor, lengths: Tensor) -> Read:
        read = [member(x, lengths) for member in self.members]
        return Read(torch.cat([one.h for one in read], -1), read[0].lengths)

    def steps(self, length: int) -> int:
        return self.members[0].steps(length)  # type: ignore[operator]
