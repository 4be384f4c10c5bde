"""Vectors of zeros and ones as outputs: each on its own, or each given those before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Draw
from wavefront.generative.output import Output

__all__ = ["NADE", "BernoulliVector"]


class Binary(Output):
    """An output whose y is a vector of zeros and ones."""

    values = "Elements are 0 or 1"

    def __init__(self, features: int, size: int):
        super().__init__(features, (size,))

    def impossible(self, y: Tensor) -> Tensor:
        return ((y != 0) & (y != 1)).any(-1)

    def noise(self, rows: int) -> Draw:
        return Draw((rows, *self.event), "uniform")


class BernoulliVector(Binary):
    """p(yᵢ = 1 | o) = σ(V o + c)ᵢ, each on its own: which notes sound, say.

    >>> output = BernoulliVector(5, size=88)
    >>> output.log_prob(torch.zeros(2, 5), torch.zeros(2, 88)).shape
    torch.Size([2])
    """

    def __init__(self, features: int, size: int):
        super().__init__(features, size)
        self.V = nn.Linear(features, size)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.V(o), y.to(o.dtype), reduction="none").sum(-1)

    def draw(self, o: Tensor, noise: Tensor) -> Tensor:
        return (noise < self.V(o).sigmoid()).to(o.dtype)

    def mode(self, o: Tensor) -> Tensor:
        return (self.V(o) > 0).to(o.dtype)

    def expected(self, o: Tensor) -> Tensor:
        return self.V(o).sigmoid()


class NADE(Binary):
    """Each element of a vector given those before it; with a recurrent network, RNN-NADE.

    [Larochelle & Murray 2011; Boulanger-Lewandowski et al. 2012, eq. 12-14]

        p(yᵢ = 1 | y_<i, o) = σ(b(o)ᵢ + Rᵢ h(i))        h(i) = σ(a(o) + Σ_{j<i} W_j yⱼ)

    a and b are linear in o; `units` is the size of h. `log_prob` does all i at once, in memory of ones in y × units: y are zeros and ones.
    `mode` takes each element by what is more probable given those before: not always the mode of the whole.

    >>> output = NADE(5, size=3, units=4)
    >>> y = torch.cartesian_prod(*[torch.tensor([0., 1.])] * 3)
    >>> output.log_prob(torch.randn(5).expand(8, 5), y).exp().sum().round(decimals=4).item()
    1.0
    """

    def __init__(self, features: int, size: int, units: int):
        super().__init__(features, size)
        self.a, self.b = nn.Linear(features, units), nn.Linear(features, size)
        self.W, self.R = (nn.Parameter(torch.empty(size, units)) for _ in range(2))
        for weight in (self.W, self.R):
            nn.init.normal_(weight, std=units**-0.5)

    def log_prob(self, o: Tensor, y: Tensor) -> Tensor:
        y = y.to(o.dtype)
        # h(i) changes only after an element that is 1: of each y there are as many different h as ones in it, and one
        ones = int(y.sum(-1).max()) if y.numel() else 0
        on, place = y.sort(dim=-1, descending=True, stable=True)  # the ones, in their order, come first
        added = on[..., :ones, None] * F.embedding(place[..., :ones], self.W)
        h = (self.a(o)[..., None, :] + F.pad(added.cumsum(-2), (0, 0, 1, 0))).sigmoid()  # [..., ones + 1, units]
        each = h @ self.R.T  # what each h says of every element
        before = (y.cumsum(-1) - y).long()  # how many ones came before i: which h is h(i)
        logits = self.b(o) + each.gather(-2, before[..., None, :]).squeeze(-2)
        return -F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(-1)

    def draw(self, o: Tensor, noise: Tensor) -> Tensor:
        return self._one_by_one(o, noise)

    def mode(self, o: Tensor) -> Tensor:
        return self._one_by_one(o, torch.full((*o.shape[:-1], *self.event), 0.5, dtype=o.dtype, device=o.device))

    def _one_by_one(self, o: Tensor, threshold: Tensor) -> Tensor:
        """yᵢ is 1 where its probability is above threshold i."""
        a, b, y = self.a(o), self.b(o), []
        for i in range(self.event[0]):
            p = (b[..., i] + a.sigmoid() @ self.R[i]).sigmoid()
            y.append((threshold[..., i] < p).to(o.dtype))
            a = a + y[-1][..., None] * self.W[i]
        return torch.stack(y, -1)
