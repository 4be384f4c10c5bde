"""Memory that runs out: said as what it is, with what to lower, wherever it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from wavefront.errors import TrainingError

__all__ = ["memory_guarded"]


@contextmanager
def memory_guarded(where: str | Callable[[], str], remedy: str) -> Iterator[None]:
    """Out of memory inside becomes a `TrainingError`: where it was, and the remedy. Everything else passes as it is.

    >>> with memory_guarded("scoring rows 1 to 64", "Lower learning.batch_size (now 64)."):
    ...     raise MemoryError
    Traceback (most recent call last):
    wavefront.errors.TrainingError: memory ran out in scoring rows 1 to 64. Lower learning.batch_size (now 64).
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise TrainingError(f"memory ran out in {where() if callable(where) else where}. {remedy}") from error


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
