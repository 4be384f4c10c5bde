"""The optimisers, and the moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavefront.learning.settings import Settings

__all__ = ["Average", "optimizer_for"]


def optimizer_for(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW [Loshchilov and Hutter 2019, arXiv:1711.05101], Adam [Kingma and Ba 2015, arXiv:1412.6980] or Nesterov momentum [Sutskever et al. 2013].

    Decay is of matrices alone. To Adam and momentum it is part of the gradient, that of λ/2 |θ|² in the loss; AdamW shrinks the weights apart.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer != "nesterov":
        kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
        return kind(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999), fused=True)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)


class Average:
    """The weights of a network averaged over its past, which score better than the last ones.   [Polyak and Juditsky 1992]

        m ← m + (1 - d) (w - m)         d = min(decay, (2 + n) / (11 + n)) at step n = 0, 1, ..: a young average forgets its start

    decay 0: the plain mean of the weights after each step, d = n / (1 + n)  [averaged SGD; begun when nothing gets better, NT-ASGD: Merity et al.
    2018, arXiv:1708.02182, 3]

    What is not of a floating dtype, or not trained, is the network's own.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._weights: list[Tensor] = [p for p in network.parameters() if p.requires_grad]
        self._means = [p.detach().clone() for p in self._weights]
        self._names = [name for name, p in network.named_parameters() if p.requires_grad]

    @torch.no_grad()
    def add(self, step: int) -> None:
        kept = min(self.decay, (2 + step) / (11 + step)) if self.decay else step / (1 + step)
        torch._foreach_lerp_(self._means, self._weights, 1 - kept)

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the averages in the place of the weights and keeps the weights; a second call undoes it."""
        for mean, weight in zip(self._means, self._weights):
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)

    def state(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self._means))

    def load(self, state: dict[str, Tensor]) -> None:
        for name, mean in zip(self._names, self._means):
            mean.copy_(state[name])
