"""A label for each position of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavefront.networks.convolution import Series
from wavefront.networks.crf import CRF
from wavefront.networks.encoder import Encoder, drop_features

__all__ = ["Tagger"]


class Tagger(nn.Module):
    """A score for each label at each position, from vectors of its symbols or values and both directions over them; with a CRF, of whole sequences.

    reader   a module of `outputs` features a position: `Symbols`, `Words`; or a `Series` of strides 1, which reads a numeric series
    -> scores [B, T, labels]
    """

    def __init__(self, reader: nn.Module, encoder: Encoder, labels: int, crf: CRF | None = None, dropout: float = 0.0):
        super().__init__()
        self.reader, self.encoder, self.crf, self.dropout = reader, encoder, crf, dropout
        self.V = nn.Linear(encoder.outputs, labels)

    def forward(self, lengths: Tensor, **symbols: Tensor) -> Tensor:
        e = self.reader(symbols["values"], lengths)[0] if isinstance(self.reader, Series) else self.reader(**symbols)
        return self.V(drop_features(self.encoder(e, lengths), self.dropout, self.training))

    def log_likelihood(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, int]:
        """Σ log p(y) of labels [B, T], and over how many positions. A label of -1 is left out; with a CRF, its whole sequence is."""
        inside = torch.arange(scores.shape[1], device=scores.device) < lengths[:, None]
        known = inside & (labels >= 0)
        if self.crf is None:
            return scores[known].log_softmax(-1).gather(1, labels[known][:, None]).sum(), int(known.sum())
        whole = (known == inside).all(1)
        return self.crf(scores[whole], labels[whole], lengths[whole]).sum(), int(lengths[whole].sum())

    def decode(self, scores: Tensor, lengths: Tensor) -> list[list[int]]:
        """The best label at each position; with a CRF, of the best sequence."""
        if self.crf is not None:
            return self.crf.decode(scores, lengths)
        return [row[:n] for row, n in zip(scores.argmax(-1).tolist(), lengths.tolist())]
