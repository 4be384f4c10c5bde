"""What is done to a gradient before a step is taken along it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["clip_gradient", "random_gradient"]


def clip_gradient(parameters: Iterable[nn.Parameter], norm: float = 0.0, value: float = 0.0) -> float:
    """Clips in place, element by element at ±value, then all together to `norm`; 0 is no clipping. -> the norm as it came.

        g ← min(1, v / ||g||) g            [Pascanu et al. 2013, arXiv:1211.5063; Goodfellow et al. 2016, eq. 10.48-49]

    The norm that comes back is of the whole gradient before anything was clipped; it is not finite if any element is not, and the
    gradient is then left alone.

    >>> w = nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, 4.0])
    >>> clip_gradient([w], norm=1.0), w.grad.norm().item()
    (5.0, 1.0)
    """
    gradients = _gradients(parameters)
    total = _norm(gradients)
    if gradients and torch.isfinite(total):
        if value:
            torch._foreach_clamp_min_(gradients, -value)
            torch._foreach_clamp_max_(gradients, value)
        clipped = _norm(gradients) if value else total
        if norm and clipped > norm:
            torch._foreach_mul_(gradients, norm / clipped)
    return total.item()


def random_gradient(parameters: Iterable[nn.Parameter], norm: float) -> None:
    """Puts a random direction of the given norm in place of the gradient: away from where it is not finite.

    "If the explosion is so severe that the gradient is numerically Inf or NaN, then a random step of size v can be taken and will
    typically move away from the numerically unstable configuration."                      [Goodfellow et al. 2016, section 10.11.1]
    """
    gradients = _gradients(parameters)
    for gradient in gradients:
        gradient.normal_()
    torch._foreach_mul_(gradients, norm / _norm(gradients))


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norm(gradients: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.zeros(())
