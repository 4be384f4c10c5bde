"""Networks that say how surprising each element of a stream is, given all before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.generative import Autoregressive, Categorical, StudentT

__all__ = ["NumberWatcher", "SymbolWatcher", "Watcher"]


class Watcher(nn.Module):
    """s(t) = -log p(y(t) | y(1), .., y(t-1)), in nats, by a generative network of what is normal.

    Buffers, found on held-out normal data: `threshold` of the score of a row, `single` of one element's surprise. Infinite: never an alarm.
    """

    threshold: Tensor
    single: Tensor

    def __init__(self) -> None:
        super().__init__()
        # the largest float and not infinity: weights that are saved are finite
        self.register_buffer("threshold", torch.tensor(torch.finfo(torch.float32).max))
        self.register_buffer("single", torch.tensor(torch.finfo(torch.float32).max))


class SymbolWatcher(Watcher):
    """Sequences of symbols, each begun anew; that one ends where it does is an element too.

    forward(symbols [B, T], lengths [B]) -> surprise [B, T + 1], zeros past the end
    """

    def __init__(self, cell: Cell, symbols: int, size: int):
        super().__init__()
        output = Categorical(cell.outputs, symbols + 1)  # the last is the end
        self.model = Autoregressive(cell, output, reader=nn.Embedding(symbols + 1, size))

    def forward(self, symbols: Tensor, lengths: Tensor) -> Tensor:
        return -self.model.log_prob_steps(symbols, lengths)


class NumberWatcher(Watcher):
    """One stream of vectors of numbers, in pieces: y(t) given all before, each channel a Student's t.

    forward(values [B, T, C], there [B, T, C], lengths [B], state=None) -> surprise [B, T, C], zeros where nothing is there, and the state
    to go on from
    """

    def __init__(self, cell: Cell, channels: int):
        super().__init__()
        self.channels = channels
        self.model = Autoregressive(cell, StudentT(cell.outputs, channels), ending="given", inputs=channels)

    def forward(self, values: Tensor, there: Tensor, lengths: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        writing, was = (None, torch.zeros_like(there[:, :1])) if state is None else state
        o, writing = self.model.run(values, lengths, x=torch.cat([was, there[:, :-1]], 1), state=writing)
        each = self.model.output(o).base_dist.log_prob(values)
        inside = torch.arange(values.shape[1], device=values.device)[None, :, None] < lengths[:, None, None]
        last = there.gather(1, (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, there.shape[2]))
        return -each * there * inside, (writing, last)
