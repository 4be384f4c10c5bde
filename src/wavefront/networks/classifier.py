"""Something said of a whole sequence: read, unfolded in both directions, summed up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.networks.convolution import Series
from wavefront.networks.encoder import Encoder
from wavefront.networks.readout import Pooled

__all__ = ["Committee", "SequenceReadout"]


class SequenceReadout(nn.Module):
    """-> [B, outputs], from the mean and the maximum over the positions, of what the recurrence gave and of what it read.

        s = [mean_t h(t), max_t h(t), mean_t e(t), max_t e(t)]          o = V s + c

    The features e reach the output both ways, through the recurrence and past it, as in LSTM-FCN.  [Karim et al. 2018]

    reader   from symbols to features (`Symbols`, `Words`), or from a numeric series (`Series`, which may make it shorter)
    dropout  of the summary s

    A sequence of length 0 is summed up as zeros.
    """

    def __init__(self, reader: nn.Module, encoder: Encoder, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.reader, self.encoder, self.dropout = reader, encoder, dropout
        self.pools = (Pooled("mean"), Pooled("max"))
        self.V = nn.Linear(2 * (encoder.outputs + reader.outputs), outputs)  # type: ignore[operator, arg-type]

    def forward(self, lengths: Tensor, **inputs: Tensor) -> Tensor:
        if isinstance(self.reader, Series):
            e, lengths = self.reader(inputs["values"], lengths)
        else:
            e = self.reader(**inputs)
        h = self.encoder(e, lengths)
        summary = torch.cat([pool(x, lengths) for x in (h, e) for pool in self.pools], -1)
        return self.V(F.dropout(summary, self.dropout, self.training))


class Committee(nn.ModuleList):
    """Networks of one kind with different first weights, each trained on its own loss, asked together: -> [members, B, outputs]."""

    def forward(self, **inputs: Tensor) -> Tensor:
        return torch.stack([member(**inputs) for member in self])
