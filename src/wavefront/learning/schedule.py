"""The learning rate as a function of how much of the run is done: by steps or by time, it is the same curve."""

from __future__ import annotations

import math

__all__ = ["rate"]


def rate(progress: float, schedule: str, warmup: float = 0.0) -> float:
    """The share of the highest rate at `progress` in [0, 1] of the run.

        warm-up     p / w                              while p < w
        constant    1                                  q = (p - w) / (1 - w) from there on
        linear      1 - q
        cosine      (1 + cos πq) / 2                   [Loshchilov and Hutter 2017, arXiv:1608.03983, one cycle]

    Progress is a share, not a step, so that a run whose end is a time has the same schedule as one whose end is an epoch.

    >>> [round(rate(p, "cosine", warmup=0.2), 2) for p in (0, 0.1, 0.2, 0.6, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    q = min(1.0, (progress - warmup) / (1 - warmup))
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1 - q
    if schedule == "cosine":
        return (1 + math.cos(math.pi * q)) / 2
    raise ValueError(f'schedule is "constant", "linear" or "cosine", got {schedule!r}')
