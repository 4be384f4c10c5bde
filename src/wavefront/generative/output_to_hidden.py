"""Networks that remember nothing but what they wrote last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavefront.errors import ShapeError

__all__ = ["OutputToHidden"]


class OutputToHidden(nn.Module):
    """Recurrence only from the output of one step to the hidden units of the next.  [Jordan 1986; Goodfellow et al. 2016, figure 10.4, 10.2.1]

        h(t) = tanh(W y(t-1) + U x(t) + b)

    The network of an `Autoregressive`: x here is [y(t-1), x(t)] joined. There is no hidden-to-hidden path, so that under teacher forcing every
    step is known at once: all of them are one product, in training there is no loop over time at all.

    >>> net = OutputToHidden(3, 5)
    >>> net(torch.randn(2, 7, 3))[0].shape
    torch.Size([2, 7, 5])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.inputs, self.outputs = inputs, units
        self.hidden = nn.Linear(inputs, units)

    def initial_state(self, rows: int, context: Any = None, inner: Any = None) -> tuple[()]:
        return ()

    def forward(self, x: Tensor, state: Any = (), lengths: Any = None, context: Tensor | None = None) -> tuple[Tensor, tuple[()]]:
        if context is not None:
            x = torch.cat([x, context[:, None].expand(-1, x.shape[1], -1)], -1)
        if x.shape[-1] != self.inputs:
            raise ShapeError(f"OutputToHidden(inputs={self.inputs}) expects x of [B, T, {self.inputs}], got {list(x.shape)}.")
        h = self.hidden(x).tanh()
        if lengths is not None:
            inside = torch.arange(x.shape[1], device=x.device) < torch.as_tensor(lengths, device=x.device)[:, None]
            h = h * inside[..., None]
        return h, ()

    def step(self, state: Any, x: Tensor, context: Tensor | None = None, start: int = 0) -> tuple[tuple[()], Tensor]:
        return (), self.forward(x[:, None], context=context)[0].squeeze(1)
