"""Large products, through the fastest library that torch carries.

For float32, oneDNN's product uses all of the machine's vectors, whoever made it; MKL, which `torch.mm` calls, uses half of them on processors
that are not Intel's (measured on an AMD Zen 5, one thread, [6400, 256] @ [256, 1024]: 199 against 89 GFLOP/s).

Under `lowered()` large products of float32 take their operands, and give their result, in bfloat16, summed in float32; whoever calls sees float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["LARGE", "WeightGradient", "contraction_of", "cut", "is_lowered", "is_turned", "lowered", "product", "weight_gradient"]

LARGE = 1 << 18  # multiplications below which the call costs more than it saves


@cache
def _onednn() -> Any:
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_here = threading.local()


@contextmanager
def lowered(on: bool = True) -> Iterator[None]:
    """Large products inside are made in bfloat16."""
    before, _here.low = is_lowered(), on
    try:
        yield
    finally:
        _here.low = before


def is_lowered() -> bool:
    return getattr(_here, "low", False)


def product(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, K] @ w [K, M] (+ bias [M]), differentiable any number of times."""
    large = x.shape[0] * w.shape[0] * w.shape[1] >= LARGE
    if not large or x.dtype is not torch.float32 or x.device.type != "cpu" or not torch.backends.mkldnn.enabled or _onednn() is None:
        return x.mm(w) if bias is None else torch.addmm(bias, x, w)
    if torch.is_grad_enabled() and (x.requires_grad or w.requires_grad or (bias is not None and bias.requires_grad)):
        return Product.apply(x, w, bias)
    return _product(x, w, bias)


def _product(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    w = (
        w if w.is_contiguous() or w.t().is_contiguous() else w.contiguous()
    )  # of a part of a larger matrix oneDNN is a thousand times slower
    if not is_lowered():
        return _onednn()(x, w.t(), bias, "none", [], "")
    y = _onednn()(x.bfloat16(), w.t().bfloat16(), None, "none", [], "").float()
    return y if bias is None else y.add_(bias)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.low = is_lowered()
        return _product(x, w, bias)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        need_x, need_w, need_bias = ctx.needs_input_grad
        with lowered(ctx.low):
            return (
                product(d, w.t()) if need_x else None,
                weight_gradient(x, d, w) if need_w else None,
                d.sum(0) if need_bias else None,
            )


def weight_gradient(x: Tensor, d: Tensor, w: Tensor) -> Tensor:
    """xᵀ d [K, M], in the layout of the weight itself, which is often a transpose."""
    if torch.is_grad_enabled() and (x.requires_grad or d.requires_grad):
        return x.t().mm(d)
    total = WeightGradient(w)
    total.add(x, d)
    found = total.result()
    assert found is not None
    return found


def is_turned(w: Tensor) -> bool:
    """Whether the numbers of a column lie next to each other, as in the transpose of a weight."""
    return w.dim() == 2 and w.stride(0) == 1 and w.shape[0] != 1


class WeightGradient:
    """Σ xᵀ d [K, M] over blocks of rows, in the layout of the weight."""

    def __init__(self, w: Tensor):
        self.turned = is_turned(w)
        self.total: Tensor | None = None
        self.own: list[Tensor] | None = None  # what code of our own gave, and how much of it counts
        self.shape = (0, 0)

    def add(self, x: Tensor, d: Tensor) -> None:
        a, b = (d, x) if self.turned else (x, d)
        large = a.dtype is torch.float32 and a.device.type == "cpu" and a.numel() * b.shape[1] >= LARGE
        if large and (contraction := contraction_of(is_lowered())) is not None:
            a, b = (t if t.stride(-1) == 1 else t.contiguous() for t in (a, b))
            self.own, self.shape = contraction(a, [b], self.own), (a.shape[1], b.shape[1])
        elif large and is_lowered():
            part = a.bfloat16().t().mm(b.bfloat16()).float()
            self.total = part if self.total is None else self.total.add_(part)
        else:
            self.total = a.t().mm(b) if self.total is None else self.total.addmm_(a.t(), b)

    def result(self) -> Tensor | None:
        found = self.total
        if self.own is not None:
            part = cut(self.own[1], *self.shape)
            found = part if found is None else found + part
        return found if found is None or not self.turned else found.t()


def cut(padded: Tensor, rows: int, columns: int) -> Tensor:
    """What counts of a matrix that was made with some more."""
    return padded[:rows] if padded.shape[1] == columns else padded[:rows, :columns].contiguous()


@cache
def contraction_of(low: bool) -> Any:
    """Code of our own for weights' gradients: in bfloat16 where this machine has instructions for it, in float32 where MKL is slow, for oneDNN would
    first turn both operands; else None."""
    if low:
        from wavefront.engine.backends.compiled.native import has_bf16

        if not has_bf16():
            return None
        from wavefront.engine.backends.compiled.pairs import contract_pairs

        return contract_pairs
    if _intel():
        return None
    from wavefront.engine.backends.compiled.contract import contract

    return contract


@cache
def _intel() -> bool:
    path = Path("/proc/cpuinfo")
    return not path.exists() or "GenuineIntel" in path.read_text()
