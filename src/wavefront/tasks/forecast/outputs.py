"""What a forecaster says of one step: outputs beside those of `generative`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import NegativeBinomial as NB
from torch.nn import functional as F

from wavefront.cell import Draw, map_draws
from wavefront.generative import Gaussian, StudentT
from wavefront.generative.output import Output

__all__ = ["MIDDLE", "QUANTILES", "Mean", "Quantiles", "ScaledCounts", "make_output", "quantiles_of"]

# What is said of every step: the middle, deciles, and the ends of intervals of 90 and 95 %.
QUANTILES = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
MIDDLE = QUANTILES.index(0.5)
DRAWN = 1000  # samples that a quantile without a closed form is read from


class Quantiles(Output):
    """The quantiles of y themselves, each a number from V o + c.  [Koenker & Bassett 1978; Wen et al. 2017, arXiv:1711.11053]

        loss = 2 mean_q max(q (y - ŷ_q), (q - 1)(y - ŷ_q))

    which approaches the CRPS as the quantiles get dense. `log_prob` is minus this loss, a proper score and no density. Quantiles that
    cross are sorted when they are read (Chernozhukov et al. 2010). Samples are drawn from the line through the quantiles, which ends
    at the first and the last.

    >>> output = Quantiles(5)
    >>> o = torch.randn(7, 5)
    >>> output.at(o).shape, bool((output.at(o).diff(dim=-1) >= 0).all())
    (torch.Size([7, 13]), True)
    """

    q: Tensor

    def __init__(self, features: int, q: tuple[float, ...] = QUANTILES):
        super().__init__(features, (1,))
        self.V = nn.Linear(features, len(q))
        self.register_buffer("q", torch.tensor(q), persistent=False)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        apart = y - self.V(o)
        return -2 * torch.maximum(self.q * apart, (self.q - 1) * apart).mean(-1)

    def at(self, o: Tensor) -> Tensor:
        """The quantiles, ascending, [..., Q]."""
        return self.V(o).sort(-1).values

    def noise(self, rows: int) -> Draw:
        return Draw((rows, 1), "uniform")

    def draw(self, o: Tensor, noise: Tensor) -> Tensor:
        quantiles = self.at(o)
        right = torch.searchsorted(self.q, noise.contiguous()).clamp(1, len(self.q) - 1)
        low, high = quantiles.gather(-1, right - 1), quantiles.gather(-1, right)
        part = (noise - self.q[right - 1]) / (self.q[right] - self.q[right - 1])
        return torch.lerp(low, high, part.clamp(0, 1))

    def mode(self, o: Tensor) -> Tensor:
        return self.at(o)[..., len(self.q) // 2, None]


class Mean(Output):
    """The mean of y, by squared error: ŷ = V o + c, loss (y - ŷ)², and nothing about how sure it is.

    >>> Mean(5).mode(torch.randn(7, 5)).shape
    torch.Size([7, 1])
    """

    def __init__(self, features: int):
        super().__init__(features, (1,))
        self.V = nn.Linear(features, 1)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return -((y - self.V(o)) ** 2).squeeze(-1)

    def draw(self, o: Tensor, noise: Any) -> Tensor:
        return self.V(o)

    def mode(self, o: Tensor) -> Tensor:
        return self.V(o)


class ScaledCounts(Output):
    """Counts in units of their series: mean ν softplus(a), variance mean + softplus(b) mean² / ν.  [Salinas et al. 2020, arXiv:1704.04110, 3.3]

    o [..., features + 1]: beside the features ln ν itself. y are whole numbers from 0.

    >>> output = ScaledCounts(5)
    >>> bool((output.sample(torch.zeros(7, 6)) >= 0).all())
    True
    """

    def __init__(self, features: int):
        super().__init__(features, (1,))
        self.V = nn.Linear(features, 2)

    def forward(self, o: Tensor) -> NB:
        nu = o[..., -1:].exp()
        a, b = (F.softplus(self.V(o[..., :-1])) + 1e-6).chunk(2, -1)
        mean, dispersion = nu * a, b / nu.sqrt()
        return NB(1 / dispersion, logits=(mean * dispersion).log(), validate_args=False)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return self(o).log_prob(y).squeeze(-1)

    def draw(self, o: Tensor, noise: Any) -> Tensor:
        return self(o).sample()

    def mode(self, o: Tensor) -> Tensor:
        nb = self(o)
        return (nb.mean * (1 - 1 / nb.total_count).clamp(min=0)).floor()

    def expected(self, o: Tensor) -> Tensor:
        return self(o).mean


def make_output(name: str, features: int) -> Output:
    """The output that settings name, over one value a step."""
    if name == "gaussian":
        return Gaussian(features, 1)
    if name == "student_t":
        return StudentT(features, 1)
    if name == "negative_binomial":
        return ScaledCounts(features)
    return Quantiles(features) if name == "quantiles" else Mean(features)


def quantiles_of(output: Output, o: Tensor) -> Tensor:
    """The `QUANTILES` of an output's y, [..., Q]: in closed form, or of samples, whose noise is the same for every o and every call."""
    if isinstance(output, Quantiles):
        return output.at(o)
    if isinstance(output, Mean):
        return output.mode(o).expand(*o.shape[:-1], len(QUANTILES))
    q = o.new_tensor(QUANTILES)
    if isinstance(output, Gaussian):
        normal = output(o).base_dist
        return normal.loc + normal.scale * torch.special.ndtri(q)
    drawn = same_draws(output, o.flatten(0, -2)[:, None].expand(-1, DRAWN, -1))
    return drawn.squeeze(-1).quantile(q, 1).T.unflatten(0, o.shape[:-1])


def same_draws(output: Output, o: Tensor, seed: int = 0) -> Tensor:
    """Samples o [B, n, features] -> y [B, n, 1]; the random numbers are the same for all B and follow from the seed, so that no row depends
    on those beside it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = output.noise(o.shape[1])
        if wanted is None:  # its noise has no fixed shape: row by row
            rows = []
            for row in o:
                torch.manual_seed(seed)
                rows.append(output.sample(row))
            return torch.stack(rows)
        noise = map_draws(lambda d: d.sample(d.shape, o), wanted)
    return output.draw(o, map_draws(lambda d, n: n.expand(len(o), *n.shape), wanted, noise))
