"""Batches of examples of about the same length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavefront.errors import SettingsError

__all__ = ["batches"]

POOL = 50  # batches whose examples are sorted by length together: enough for little padding, few enough for batches to differ by epoch


def batches(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int | None = None,
    *,
    tokens_per_batch: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
) -> list[np.ndarray]:
    """Which examples go together, one index array (int64) a batch: every example once.

    Shuffled by (seed, epoch), sorted by length within pools of `POOL` batches, cut, and the batches shuffled again. It is a function of
    the arguments alone: to go on at position k of an epoch, take `batches(...)[k:]`; workers share the list by position.

    tokens_per_batch  a batch takes examples while its size with padding (examples x longest) stays within this; a longer example is alone
    shuffle=False     longest first, so that too large a batch fails at once: for evaluation

    >>> [b.tolist() for b in batches([5, 1, 4, 2], 2, shuffle=False)]
    [[0, 2], [3, 1]]
    >>> sorted(np.concatenate(batches([5, 1, 4, 2, 9], tokens_per_batch=8, seed=1)).tolist())
    [0, 1, 2, 3, 4]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    sizes = [size for size in (batch_size, tokens_per_batch) if size is not None]
    if len(sizes) != 1 or sizes[0] < 1:
        raise SettingsError(f"batches: give either batch_size or tokens_per_batch, at least 1; got {batch_size=} and {tokens_per_batch=}.")
    if not shuffle:
        return _cut(np.argsort(-lengths, kind="stable"), lengths, batch_size, tokens_per_batch)
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    mean = max(1, int(lengths.mean())) if len(lengths) else 1
    pool_size = POOL * (sizes[0] if batch_size else max(1, sizes[0] // mean))
    found: list[np.ndarray] = []
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        found += _cut(pool[np.argsort(-lengths[pool], kind="stable")], lengths, batch_size, tokens_per_batch)
    return [found[k] for k in random.permutation(len(found))]


def _cut(order: np.ndarray, lengths: np.ndarray, batch_size: int | None, tokens: int | None) -> list[np.ndarray]:
    """Consecutive pieces of an order that falls in length, so that the first of a piece is its longest."""
    found, start = [], 0
    while start < len(order):
        size = batch_size or max(1, (tokens or 1) // max(1, int(lengths[order[start]])))
        found.append(order[start : start + size])
        start += size
    return found
