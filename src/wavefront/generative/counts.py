"""Counts as outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, NegativeBinomial as NB
from torch.nn import functional as F

from wavefront.generative.output import Output

__all__ = ["NegativeBinomial"]


class NegativeBinomial(Output):
    """Counts whose variance exceeds their mean: mean μ, variance μ + α μ².  [Salinas et al. 2020, arXiv:1704.04110, eq. 3]

    μ, α = softplus(·) of V o + c, each at least 10⁻⁶. y are whole numbers from 0, in a floating dtype; they are read as log(1 + y).
    Its samples cannot be drawn from noise of fixed shape, so it is not fed back as a sample within an unfolding.

    >>> output = NegativeBinomial(5, size=1)
    >>> counts = torch.arange(2000.)[:, None]
    >>> output.log_prob(torch.zeros(5).expand(2000, 5), counts).exp().sum().round(decimals=3).item()
    1.0
    """

    values = "Counts are whole numbers from 0"

    def __init__(self, features: int, size: int):
        super().__init__(features, (size,))
        self.V = nn.Linear(features, 2 * size)

    def forward(self, o: Tensor) -> Independent:
        return self._of(self.V(o))

    def _of(self, said: Tensor) -> Independent:
        mean, dispersion = (F.softplus(said) + 1e-6).chunk(2, -1)
        return Independent(NB(1 / dispersion, logits=(mean * dispersion).log(), validate_args=False), 1)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        # in double: log Γ(y + 1/α) - log Γ(1/α) is a small difference of numbers that grow as α falls
        return self._of(self.V(o).double()).log_prob(y.double()).to(o.dtype)

    def impossible(self, y: Tensor) -> Tensor:
        return ((y < 0) | (y != y.floor())).any(-1)

    def draw(self, o: Tensor, noise: Any) -> Tensor:
        return self(o).sample()

    def mode(self, o: Tensor) -> Tensor:
        nb = self(o).base_dist
        return (nb.mean * (1 - 1 / nb.total_count).clamp(min=0)).floor()

    def expected(self, o: Tensor) -> Tensor:
        return self(o).mean

    def read(self, y: Tensor) -> Tensor:
        return torch.log1p(y)
