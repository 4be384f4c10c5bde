"""Vectors of real numbers as outputs: Gaussian, mixtures of Gaussians, Student's t."""

from __future__ import annotations

from math import pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, StudentT as T
from torch.nn import functional as F

from wavefront.cell import Draw
from wavefront.generative.output import Output
from wavefront.generative.symbols import draw_symbols

__all__ = ["Gaussian", "GaussianMixture", "StudentT"]

FLOOR = 1e-4  # of a scale, in the units of y: a value that repeats exactly must not have infinite density


def scale_of(a: Tensor) -> Tensor:
    return F.softplus(a) + FLOOR


class Gaussian(Output):
    """p(y | o) = N(μ, diag σ²), μ and σ = softplus(·) + 10⁻⁴ from V o + c.  [Goodfellow et al. 2016, 6.2.2.4]

    y in units of its own spread, please: σ starts near 0.7.

    >>> output = Gaussian(5, size=2)
    >>> output(torch.randn(7, 5)).mean.shape
    torch.Size([7, 2])
    """

    def __init__(self, features: int, size: int):
        super().__init__(features, (size,))
        self.V = nn.Linear(features, 2 * size)

    def forward(self, o: Tensor) -> Independent:
        mean, spread = self.V(o).chunk(2, -1)
        return Independent(Normal(mean, scale_of(spread), validate_args=False), 1)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return self(o).log_prob(y)

    def noise(self, rows: int) -> Draw:
        return Draw((rows, *self.event), "normal")

    def draw(self, o: Tensor, noise: Tensor) -> Tensor:
        normal = self(o).base_dist
        return normal.loc + normal.scale * noise

    def mode(self, o: Tensor) -> Tensor:
        return self(o).mean


class GaussianMixture(Output):
    """Mixture density network: p(y | o) = Σ_k π_k N(y; μ_k, diag σ_k²).

    [Bishop 1994; Graves 2013, arXiv:1308.0850, 4.1; Goodfellow et al. 2016, 6.2.2.4]

    components  how many Gaussians. `mode` is the mean of the component whose density at its own mean is highest: close to the mode where components
                lie apart.

    >>> output = GaussianMixture(5, size=2, components=3)
    >>> output.sample(torch.randn(7, 5)).shape
    torch.Size([7, 2])
    """

    def __init__(self, features: int, size: int, components: int):
        super().__init__(features, (size,))
        self.components = components
        self.V = nn.Linear(features, components * (1 + 2 * size))

    def forward(self, o: Tensor) -> MixtureSameFamily:
        (size,), K = self.event, self.components
        weight, mean, spread = self.V(o).split([K, K * size, K * size], -1)
        normal = Normal(mean.unflatten(-1, (K, size)), scale_of(spread.unflatten(-1, (K, size))), validate_args=False)
        return MixtureSameFamily(Categorical(logits=weight, validate_args=False), Independent(normal, 1), validate_args=False)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return self(o).log_prob(y)

    def noise(self, rows: int) -> tuple[Draw, Draw]:
        return Draw((rows, 1), "uniform"), Draw((rows, *self.event), "normal")

    def draw(self, o: Tensor, noise: tuple[Tensor, Tensor]) -> Tensor:
        mixture, (which, normal) = self(o), noise
        mean, scale = self._of(mixture, draw_symbols(mixture.mixture_distribution.logits, which))
        return mean + scale * normal

    def mode(self, o: Tensor) -> Tensor:
        mixture = self(o)
        normal: Any = mixture.component_distribution
        height = mixture.mixture_distribution.logits - normal.base_dist.scale.log().sum(-1)
        return self._of(mixture, height.argmax(-1))[0]

    def expected(self, o: Tensor) -> Tensor:
        return self(o).mean

    def _of(self, mixture: MixtureSameFamily, k: Tensor) -> tuple[Tensor, Tensor]:
        normal = mixture.component_distribution.base_dist  # type: ignore[attr-defined]
        at = k[..., None, None].expand(*k.shape, 1, *self.event)
        return normal.loc.gather(-2, at).squeeze(-2), normal.scale.gather(-2, at).squeeze(-2)


class StudentT(Output):
    """Student's t for each element: a Gaussian with heavy tails, so that one wild value does not rule the rest.

    μ, σ = softplus(·) + 10⁻⁴ and the degrees of freedom ν = 2 + softplus(·) from V o + c; ν > 2, so that there is a variance.
    Sampled by Bailey's polar method from two uniform numbers  [Bailey 1994, Math. Comp. 62]:

        y = μ + σ √(ν (u^(-2/ν) - 1)) cos 2πv

    >>> output = StudentT(5, size=2)
    >>> output.log_prob(torch.randn(7, 5), torch.randn(7, 2)).shape
    torch.Size([7])
    """

    def __init__(self, features: int, size: int):
        super().__init__(features, (size,))
        self.V = nn.Linear(features, 3 * size)

    def forward(self, o: Tensor) -> Independent:
        mean, spread, tails = self.V(o).chunk(3, -1)
        return Independent(T(2 + F.softplus(tails), mean, scale_of(spread), validate_args=False), 1)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return self(o).log_prob(y)

    def noise(self, rows: int) -> tuple[Draw, Draw]:
        return Draw((rows, *self.event), "uniform"), Draw((rows, *self.event), "uniform")

    def draw(self, o: Tensor, noise: tuple[Tensor, Tensor]) -> Tensor:
        t, (u, v) = self(o).base_dist, noise
        u = (1 - u).clamp(max=1 - 1e-7)  # in (0, 1): at 1 the root has no gradient
        radius = (t.df * torch.expm1(-2 / t.df * u.log())).sqrt()
        return (t.loc + t.scale * radius * (2 * pi * v).cos()).to(o.dtype)

    def mode(self, o: Tensor) -> Tensor:
        return self(o).base_dist.loc
