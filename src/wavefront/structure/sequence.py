"""Sequences: a batch of lines of nodes, forward or reversed, of any lengths, with resets and with skips through time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence as Many
from functools import cached_property
from operator import index

import numpy as np
import torch
from torch import Tensor

from wavefront.errors import ShapeError
from wavefront.structure.structure import NONE, Structure

__all__ = ["Sequence"]


class Sequence(Structure):
    """A batch of sequences, `steps` long at most, held as [batch, steps, ...].

    batch, steps  B and T
    lengths       [B], each in 0..T; default T. Nothing past a length is ever looked at
    resets        [B, T], true where the state before step t has to be the cell's initial state: a boundary between t-1 and t, in both directions
    reverse       from each sequence's own end to its start
    skips         the delays d whose states h(t-d) each step gets, one per slot, latest first by convention  [Goodfellow et al. 2016, 10.9.1]
    start         number of the first step, for cells with clocks
    together      how many steps one front holds, at most min(skips): so many in a row do not see each other, and are done as one batch. The
                  interleaved phases of a dilated layer (Chang et al. 2017, arXiv:1710.02224, section 3) are this

    Rows are put in order of their lengths, longest first, so that step t is the first n(t) of them and padding costs nothing.

    >>> s = Sequence(batch=2, steps=3, lengths=[1, 3])
    >>> s.sizes.tolist(), s.row.tolist(), s.predecessors.flatten().tolist()   # -2: what was given
    ([2, 1, 1], [1, 0, 1, 1], [-2, -2, 0, 2])
    >>> Sequence(batch=2, steps=7, skips=(4,), together=4).sizes.tolist()      # two fronts in place of seven
    [8, 6]
    >>> s.unpack(s.pack(torch.tensor([[1., 9., 9.], [2., 3., 4.]]))).tolist()
    [[1.0, 0.0, 0.0], [2.0, 3.0, 4.0]]
    """

    def __init__(
        self,
        batch: int,
        steps: int,
        lengths: Tensor | Many[int] | None = None,
        resets: Tensor | None = None,
        reverse: bool = False,
        skips: Many[int] = (1,),
        start: int = 0,
        together: int = 1,
    ):
        self.rows, self.steps, self.reverse, self.start, self.together = batch, steps, reverse, start, together
        self.skips = tuple(index(d) for d in skips)
        if not self.skips or min(self.skips) < 1 or len(set(self.skips)) < len(self.skips):
            raise ShapeError(f"skips are different delays of at least one step, such as (1, 5); got {tuple(skips)}.")
        if not 1 <= together <= min(self.skips):
            raise ShapeError(f"together is a number of steps that do not see each other, 1 to {min(self.skips)} here; got {together}.")
        self._lengths = _lengths(lengths, batch, steps)
        self._full = bool((self._lengths == steps).all())
        # a stable sort: equal lengths keep their order, and with them the batch its layout
        self._ranked = np.arange(batch) if self._full else np.argsort(-self._lengths, kind="stable")
        lasts = self._lengths.max(initial=0)
        alive = np.searchsorted(np.sort(-self._lengths), -np.arange(lasts), side="left").astype(np.int64)  # rows at each step
        self._first = np.concatenate([[0], np.cumsum(alive)])  # the number of each step's first node
        self.sizes = np.add.reduceat(alive, np.arange(0, lasts, together)) if lasts else alive
        self._last_reset = None if resets is None else self._find_resets(resets)

    def _find_resets(self, resets: Tensor) -> np.ndarray | None:
        """For each row and place in the order of processing, the latest place at or before it that starts anew, -1 if none: [B, T]."""
        if not isinstance(resets, Tensor) or resets.dtype != torch.bool or tuple(resets.shape) != (self.rows, self.steps):
            got = f"{resets.dtype} of {list(resets.shape)}" if isinstance(resets, Tensor) else f"a {type(resets).__name__}"
            raise ShapeError(f"resets is a bool tensor of [{self.rows}, {self.steps}], got {got}.")
        cut = resets.cpu().numpy()
        if not cut.any():
            return None
        place = np.arange(self.steps)
        if self.reverse:  # the boundary between t-1 and t lies before t in one direction, before t-1 in the other: place L-t
            at = self._lengths[:, None] - place
            cut = np.where((place > 0) & (at > 0), np.take_along_axis(cut, at.clip(0, self.steps - 1), 1), False)
        return np.maximum.accumulate(np.where(cut, place, -1), axis=1)

    @property
    def key(self) -> Hashable:
        return None if self._last_reset is not None else (Sequence, self.rows, self.skips, self.together, self._lengths.tobytes())

    @cached_property
    def _place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each node its place in the order of processing, its rank among those of the same place, and its row."""
        place = np.repeat(np.arange(len(self._first) - 1), np.diff(self._first))
        rank = np.arange(self.nodes) - self._first[place]
        return place, rank, self._ranked[rank]

    @cached_property
    def row(self) -> Tensor:  # type: ignore[override]
        return _kept(self._place[2])

    @cached_property
    def order(self) -> Tensor:
        """Where each node lies in the flattened [batch * steps]."""
        place, _, row = self._place
        time = self._lengths[row] - 1 - place if self.reverse else place
        return _kept(row * self.steps + time)

    @cached_property
    def predecessors(self) -> Tensor:  # type: ignore[override]
        place, rank, row = self._place
        return _kept(np.stack([self._code(row, place, place - d, rank) for d in self.skips], 1))

    @cached_property
    def ends(self) -> Tensor:  # type: ignore[override]
        row = np.arange(self.rows)
        rank = np.empty_like(row)
        rank[self._ranked] = row
        last = self._lengths - 1
        return _kept(np.stack([self._code(row, last, last - back, rank) for back in range(max(self.skips))], 1))

    def _code(self, row: np.ndarray, here: np.ndarray, before: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """The code of the state at place `before` as it is seen from place `here`: a node, what was given, or NONE behind a reset."""
        code = np.where(before >= 0, self._first[before.clip(0)] + rank, before - 1)
        if self._last_reset is None:
            return code
        reset = np.where(here >= 0, self._last_reset[row, here.clip(0)], -1)
        return np.where((reset >= 0) & (reset > before), NONE, code)

    def pack(self, x: Tensor) -> Tensor:
        if tuple(x.shape[:2]) != (self.rows, self.steps):
            raise ShapeError(f"expected [{self.rows}, {self.steps}, ...] (batch, time), got {list(x.shape)}.")
        if self._full:
            time_first = x.transpose(0, 1)
            return (time_first.flip(0) if self.reverse else time_first).reshape(self.nodes, *x.shape[2:])
        return x.flatten(0, 1).index_select(0, self.order.to(x.device))

    def unpack(self, y: Tensor) -> Tensor:
        if self._full:
            time_first = y.reshape(self.steps, self.rows, *y.shape[1:])
            return (time_first.flip(0) if self.reverse else time_first).transpose(0, 1)
        flat = y.new_zeros((self.rows * self.steps, *y.shape[1:]))
        return flat.index_copy(0, self.order.to(y.device), y).unflatten(0, (self.rows, self.steps))


def _kept(indices: np.ndarray) -> Tensor:
    """As a tensor for this call and for later ones, whatever mode they are in."""
    with torch.inference_mode(False):
        return torch.from_numpy(indices)


def _lengths(lengths: Tensor | Many[int] | None, batch: int, steps: int) -> np.ndarray:
    if lengths is None:
        return np.full(batch, steps, dtype=np.int64)
    try:
        given = torch.as_tensor(lengths if isinstance(lengths, Tensor) else list(lengths)).detach().cpu()
        given = given if len(given) else given.long()
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(f"lengths are {batch} whole numbers, one per sequence; got {lengths!r}.") from None
    if given.dim() != 1 or len(given) != batch or given.is_floating_point() or given.dtype == torch.bool:
        raise ShapeError(f"lengths are {batch} whole numbers, one per sequence; got {given.dtype} of {list(given.shape)}.")
    found = given.long().numpy()
    if batch and (found.min() < 0 or found.max() > steps):
        at = int(np.flatnonzero((found < 0) | (found > steps))[0])
        raise ShapeError(f"lengths lie between 0 and the {steps} steps there are; sequence {at} has {found[at]}.")
    return found
