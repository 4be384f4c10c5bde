"""Vectors of words from the words around them, in the training data alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = ["own_vectors"]


def own_vectors(sequences: Iterable[np.ndarray], symbols: int, size: int, window: int = 5) -> Tensor:
    """[symbols, size]: words are alike that stand among the same ones.  [Levy et al. 2015, TACL 3, section 3]

        M(w, c) = max(0, log p(w, c) / (p(w) p'(c)))      p' ∝ p^¾      M ≈ U S Vᵀ      vectors U S^½, scaled to length 1

    c stands next to w within `window` words, counted by 1 / its distance. A symbol that stands next to none has zeros.

    >>> vectors = own_vectors([np.array([2, 3, 4]), np.array([2, 5, 4])] * 3, symbols=6, size=2)
    >>> vectors.shape, bool(vectors[3] @ vectors[5] > 0.99)
    (torch.Size([6, 2]), True)
    """
    pairs: dict[int, float] = {}
    for numbers in sequences:
        for distance in range(1, min(window, len(numbers) - 1) + 1):
            for code in (numbers[:-distance].astype(np.int64) * symbols + numbers[distance:]).tolist():
                pairs[code] = pairs.get(code, 0.0) + 1 / distance
    vectors = torch.zeros(symbols, size)
    if not pairs:
        return vectors
    codes, counts = torch.tensor(list(pairs)), torch.tensor(list(pairs.values()))
    word, other = torch.cat([codes // symbols, codes % symbols]), torch.cat([codes % symbols, codes // symbols])
    together = torch.sparse_coo_tensor(
        torch.stack([word, other]), torch.cat([counts, counts]), (symbols, symbols), check_invariants=False
    ).coalesce()
    (word, other), counts = together.indices(), together.values()
    p = torch.zeros(symbols).index_add(0, word, counts) / counts.sum()
    around = p**0.75 / (p**0.75).sum()
    weight = (counts / counts.sum() / (p[word] * around[other])).log().clamp(min=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rank = min(size, symbols)
        U, S, _ = torch.svd_lowrank(
            torch.sparse_coo_tensor(together.indices(), weight, together.shape, check_invariants=False), rank, niter=4
        )
    vectors[:, :rank] = U * S.sqrt()
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-8)
