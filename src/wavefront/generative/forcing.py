"""Which of its inputs a network is handed, and which it has to make itself: the coins of teacher forcing, open loop and scheduled sampling.

A coin is 1 where the step gets the true y(t-1), 0 where it gets what the network itself put out. The first step of a sequence has nothing before
it, and its coin does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import torch
from torch import Tensor

from wavefront.errors import SettingsError

__all__ = ["SCHEDULES", "coins", "every"]


def coins(rows: int, steps: int, p: float, per: str = "step") -> Tensor:
    """Coins that show 1 with probability p, [rows, steps], thrown for each step or once for each sequence.

    [Bengio et al. 2015, arXiv:1506.03099, 2.4]

    p = 1 is teacher forcing, p = 0 the open loop.

    >>> coins(2, 3, p=1.0).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if not 0 <= p <= 1:
        raise SettingsError(f"The share of true inputs lies in 0..1, got {p}.")
    if per not in ("step", "sequence"):
        raise SettingsError(f'A coin is thrown per "step" or per "sequence", got {per!r}.')
    return torch.empty(rows, steps if per == "step" else 1).bernoulli_(p).expand(rows, steps)


def every(k: int, rows: int, steps: int) -> Tensor:
    """The truth at each k-th step: in between the network runs open, so that the loss looks 1 to k steps ahead. [rows, steps]

    >>> every(3, rows=1, steps=7).tolist()
    [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]]
    """
    if k < 1:
        raise SettingsError(f"The truth comes every k steps, k at least 1; got {k}.")
    return (torch.arange(steps) % k == 0).float().expand(rows, steps)


def linear(i: float, k: float) -> float:
    """1 - i/k: none of the truth is left after k updates."""
    return max(0.0, 1 - i / k)


def exponential(i: float, k: float) -> float:
    """2^(-i/k): half of the truth after k updates."""
    return 2 ** (-i / k)


def inverse_sigmoid(i: float, k: float) -> float:
    """k / (k + exp(i/k)): stays near one at first; half of the truth after k ln k updates."""
    return k / (k + exp(min(i / k, 700.0)))


SCHEDULES: dict[str, Callable[[float, float], float]] = {"exponential": exponential, "inverse_sigmoid": inverse_sigmoid, "linear": linear}
"""How the share p of true inputs falls with the number i of the update, by name; k sets the pace.  [Bengio et al. 2015, section 2.3]"""
