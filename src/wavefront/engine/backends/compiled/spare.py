"""Memory for what a forward loop stores, handed on once the backward pass has read it.

The system zeroes fresh memory, 4 KB at a time, while the loop waits: a fifth of a training step at 512 units.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["give", "take"]

LEAST = 1 << 20  # bytes, below which the system's allocator keeps what it has
MOST = 1 << 26  # bytes in all that wait for the next

_waiting: list[torch.UntypedStorage] = []


def take(like: Tensor, rows: int, size: int) -> Tensor:
    """[rows, size], of any content."""
    needed = rows * size * like.element_size()
    if needed >= LEAST and like.device.type == "cpu":
        for storage in list(_waiting):
            if needed <= storage.nbytes() <= 2 * needed:
                try:
                    _waiting.remove(storage)
                except ValueError:  # another thread was first
                    continue
                return like.new_empty(0).set_(storage, 0, (rows, size), (size, 1))
    return like.new_empty(rows, size)


def give(tensor: Tensor) -> None:
    """What nobody reads again."""
    storage = tensor.untyped_storage()
    if tensor.device.type == "cpu" and LEAST <= storage.nbytes() <= MOST - sum(s.nbytes() for s in _waiting):
        _waiting.append(storage)
