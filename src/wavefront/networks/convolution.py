"""What a numeric series is read with before the recurrence: convolutions of several widths, and strides that make a long series short."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MultiScale", "Series"]


def _inside(x: Tensor, lengths: Tensor) -> Tensor:
    """[B, 1, T]: where a sequence is, not its padding."""
    return (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None]


class _NodeNorm(nn.Module):
    """Batch normalisation over the positions that are there: padding and lengths do not count.  [Ioffe & Szegedy 2015]"""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        nodes = x.transpose(1, 2)[inside[:, 0]]  # [nodes, channels]
        if self.training and len(nodes) < 2:  # one node has no variance
            return x
        return x.new_zeros(x.shape).transpose(1, 2).index_put((inside[:, 0],), self.norm(nodes)).transpose(1, 2)


class MultiScale(nn.Module):
    """One layer: convolutions of several widths side by side, normalised, rectified; then every `stride`-th maximum.

    x [B, inputs, T], lengths [B] -> [B, channels * len(widths), ⌈T / stride⌉], lengths ⌈lengths / stride⌉. Past the lengths all is zero, and
    nothing there is seen.
    """

    def __init__(self, inputs: int, channels: int, widths: tuple[int, ...], stride: int = 1, bottleneck: int | None = None):
        super().__init__()
        self.squeeze = nn.Conv1d(inputs, bottleneck, 1, bias=False) if bottleneck else None
        self.branches = nn.ModuleList(nn.Conv1d(bottleneck or inputs, channels, w, padding=w // 2, bias=False) for w in widths)
        self.outputs, self.stride = channels * len(widths), stride
        self.norm = _NodeNorm(self.outputs)
        self.shortcut = nn.Conv1d(inputs, self.outputs, 1, bias=False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        inside = _inside(x, lengths)
        narrow = x if self.squeeze is None else self.squeeze(x)
        y = self.norm(torch.cat([branch(narrow) for branch in self.branches], 1) + self.shortcut(x), inside).relu() * inside
        if self.stride == 1:
            return y, lengths
        short = -(lengths // -self.stride)
        return F.max_pool1d(y, self.stride, ceil_mode=True), short


class Series(nn.Module):
    """A numeric series to features, `MultiScale` on `MultiScale`: values [B, T, inputs] -> [B, T', outputs] and the lengths there.

    noise    in training, deviation of what is added to each value
    stretch  in training, deviation of the factor that a whole channel of a series is multiplied with, around 1
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        noise: float = 0.0,
        stretch: float = 0.0,
    ):
        super().__init__()
        self.layers = nn.ModuleList()
        for stride in strides:
            layer = MultiScale(inputs, channels, widths, stride, bottleneck=None if inputs <= channels else channels)
            self.layers.append(layer)
            inputs = layer.outputs
        self.outputs, self.noise, self.stretch = inputs, noise, stretch

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = values.transpose(1, 2)
        if self.training:
            x = (x + self.noise * torch.randn_like(x)) * (1 + self.stretch * x.new_empty(*x.shape[:2], 1).normal_())
        x = x * _inside(x, lengths)
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x.transpose(1, 2), lengths
