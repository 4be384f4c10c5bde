"""Layers in both directions: each position read with all that comes before it and all that comes after."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Many

from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.errors import SettingsError
from wavefront.networks.recurrent import Bidirectional

__all__ = ["Encoder", "drop_features"]


def drop_features(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of whole features, the same at all positions of a sequence: x [B, T, features].  [Gal & Ghahramani 2016]"""
    return F.dropout1d(x.transpose(1, 2), p, training).transpose(1, 2) if training and p else x


class Encoder(nn.Module):
    """`layers` of `Bidirectional`, each above reading both directions of the one below: [B, T, inputs] -> [B, T, outputs].

    cell     a function (inputs, units) -> Cell, called for each layer and direction
    dropout  of whole features of what each layer reads
    delays   of the state, one for each layer: (1, 4, 16) is a dilated stack, whose upper layers reach far in few steps; default 1 for all

    >>> import torch
    >>> from wavefront import cells
    >>> Encoder(3, 5, layers=2, cell=cells.LSTM)(torch.randn(2, 7, 3), lengths=[7, 4]).shape
    torch.Size([2, 7, 10])
    """

    def __init__(
        self, inputs: int, units: int, layers: int, cell: Callable[[int, int], Cell], dropout: float = 0.0, delays: Many[int] | None = None
    ):
        super().__init__()
        if delays is not None and len(delays) != layers:
            raise SettingsError(f"Encoder: delays are one for each of the {layers} layers; got {tuple(delays)}.")
        self.dropout = dropout
        self.layers = nn.ModuleList()
        for delay in delays or (1,) * layers:
            layer = Bidirectional(cell(inputs, units), cell(inputs, units), skips=(delay,))
            self.layers.append(layer)
            inputs = layer.outputs
        self.outputs = inputs

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x, _ = layer(drop_features(x, self.dropout, self.training), lengths=lengths)
        return x
