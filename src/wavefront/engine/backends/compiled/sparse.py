"""Sparse matrices in the order in which the loop reads them: for each panel of units, the places that any of them hears, and a vector of weights
for each place. Where the units of a panel hear the same ones no weight is in vain; where they do not, some are zeros.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavefront.engine.graph import Value

__all__ = ["APART", "Gathered", "SparsePack", "gathered"]

APART = 4  # sums of one unit that do not wait for each other


@dataclass(frozen=True)
class SparsePack:
    """A sparse operand of a group: its nonzeros [M, k], and which of the result's units are wanted."""

    weight: Value
    sources: Value
    transposed: int | None
    first: int
    columns: int


class Gathered(NamedTuple):
    starts: Tensor  # [panels + 1]: where each panel's places begin; every panel has a multiple of `APART`
    places: Tensor  # [n], of the operand
    weights: Tensor  # [n, width]


class Pattern(NamedTuple):
    of: Tensor  # held, so that nothing else comes to lie at its address
    starts: Tensor
    places: Tensor
    numbers: Tensor  # [n, width]: which nonzero, or one past the last for none


KEPT = 32
_patterns: OrderedDict[tuple[int | None, ...], Pattern] = OrderedDict()
_lock = threading.Lock()


def gathered(pack: SparsePack, weight: Tensor, sources: Tensor, width: int) -> Gathered:
    key = (sources.data_ptr(), sources._version, *sources.shape, pack.transposed, pack.first, pack.columns, width)
    with _lock:
        found = _patterns.pop(key) if key in _patterns else _pattern(pack, sources, width)
        _patterns[key] = found
        while len(_patterns) > KEPT:
            _patterns.popitem(last=False)
    flat = torch.cat([weight.reshape(-1), weight.new_zeros(1)])
    return Gathered(found.starts, found.places, flat[found.numbers])


def _pattern(pack: SparsePack, sources: Tensor, width: int) -> Pattern:
    heard = sources.numpy()
    units = np.broadcast_to(np.arange(len(heard))[:, None], heard.shape)
    row, column = (units, heard) if pack.transposed is None else (heard, units)
    row, column = row.ravel() - pack.first, column.ravel()
    numbers = np.flatnonzero((row >= 0) & (row < pack.columns))
    order = numbers[np.lexsort((column[numbers], row[numbers]))]
    row, column = row[order], column[order]
    # a place that a unit hears twice takes two vectors
    again = np.zeros(len(row), np.int64)
    same = np.flatnonzero((np.diff(row) == 0) & (np.diff(column) == 0)) + 1
    for at in same.tolist():
        again[at] = again[at - 1] + 1
    panels = -(-pack.columns // width)
    keys = np.stack([row // width, column, again])
    slots, slot = np.unique(keys, axis=1, return_inverse=True)
    counts = np.bincount(slots[0], minlength=panels)
    starts = np.concatenate([[0], np.cumsum(-(-counts // APART) * APART)])
    where = np.arange(slots.shape[1]) - (np.cumsum(counts) - counts)[slots[0]] + starts[slots[0]]
    places, lanes = np.zeros(starts[-1], np.int64), np.full((starts[-1], width), heard.size)
    places[where] = slots[1]
    lanes[where[slot.ravel()], row % width] = order
    return Pattern(sources, *map(torch.from_numpy, (starts, places, lanes)))
