"""Symbols that are written, or copied from the source."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.errors import SettingsError
from wavefront.generative.symbols import SymbolOutput, log_softmax
from wavefront.networks.attention import Memory

__all__ = ["Copying"]


class Copying(SymbolOutput):
    """Each symbol is written, or copied from a place of the source.  [Gu et al. 2016, arXiv:1603.06393; See et al. 2017, arXiv:1704.04368, eq. 8-9]

        p(y) = g softmax(V o + c)_y + (1 - g) Σ_{i: s(i) = y} a(i)        g = σ(w · o + b)        a = softmax_i(o · U m(i))

    over the places i of a `Memory` with a symbol s(i) that may be written. The places have weights of their own, computed for all steps at once,
    not those that the network attends with: so it goes with any attention. Where the source has no symbol to copy, g is one.

    memory  the size of the memory's values
    """

    memory: Memory | None = None

    def __init__(self, features: int, symbols: int, memory: int):
        super().__init__(features, symbols)
        self.V, self.w = nn.Linear(features, symbols), nn.Linear(features, 1)
        self.U = nn.Linear(features, memory, bias=False)

    def given(self, context: Any) -> Copying:
        if not isinstance(context, Memory):
            raise SettingsError(f"Copying copies from a Memory with the symbols of the source, got {type(context).__name__} as context.")
        bound = copy.copy(self)
        bound.memory = context
        return bound

    def log_probs(self, o: Tensor) -> Tensor:
        if self.memory is None:
            raise SettingsError("Copying needs its source: output.given(memory).")
        values, symbols = self.memory.values, self.memory.symbols
        steps = o.reshape(len(values), -1, self.features)  # [B, T, features]; of one step, T are the beams that share a source
        there = (symbols >= 0)[:, None]  # [B, 1, S]
        scores = self.U(steps) @ values.transpose(1, 2)
        a = scores.masked_fill(~there, torch.finfo(o.dtype).min).softmax(-1) * there
        at = symbols.clamp(min=0)[:, None].expand(a.shape)
        copied = a.new_zeros(*a.shape[:2], self.symbols).scatter_add(2, at, a)
        gate, written = self.w(steps), log_softmax(self.V(steps))
        mixed = torch.logaddexp(F.logsigmoid(gate) + written, F.logsigmoid(-gate) + copied.clamp(min=torch.finfo(o.dtype).tiny).log())
        return torch.where(there.any(-1, keepdim=True), mixed, written).view(*o.shape[:-1], self.symbols)
