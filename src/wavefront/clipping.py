"""Gradients clipped on their way back through a step: an operation that every step may use, and the engine knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["clip_gradient"]

_library = torch.library.Library("wavefront", "FRAGMENT")
_library.define("clip_gradient(Tensor x, float limit) -> Tensor")
_library.impl("clip_gradient", lambda x, limit: x.clone(), "CompositeExplicitAutograd")


def _limit(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
    ctx.limit = inputs[1]


def _backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
    return d.clamp(-ctx.limit, ctx.limit), None


torch.library.register_autograd("wavefront::clip_gradient", _backward, setup_context=_limit, lib=_library)


def clip_gradient(x: Tensor, limit: float) -> Tensor:
    """x as it is; its gradient cut to [-limit, limit], number by number.  [Graves 2013, arXiv:1308.0850, section 2.1]

    Inside a step it works at every step of the backward loop: what flows back cannot grow beyond the limit there.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (clip_gradient(x, 0.5) * torch.tensor([3.0, 0.1])).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.1000])
    """
    return torch.ops.wavefront.clip_gradient(x, float(limit))
