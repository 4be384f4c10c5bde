"""A structure as the compiled loops see it: index arrays into one buffer of states, and the share of each thread.

Where a node may have any number of predecessors, the states before are those at the far ends of its edges: `before` is then by edge.

The buffer of a state part has the initial state's rows first (if any node starts anew), then those that were given, latest last, then one
row for each node. So in a batch of whole sequences the states before are the buffer itself, without its last rows.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavefront.structure import NONE, Structure

__all__ = ["Layout", "layout_of"]


class Gather(NamedTuple):
    """States, as rows of blocks, put in order: of which blocks, and which rows; and then which of these one after the other, None: as they are."""

    parts: list[tuple[int, slice | Tensor]]
    order: Tensor | None

    def of(self, blocks: Sequence[Tensor]) -> Tensor:
        found = [
            blocks[k][rows] if isinstance(rows, slice) else blocks[k].index_select(0, rows.to(blocks[k].device)) for k, rows in self.parts
        ]
        together = found[0] if len(found) == 1 else torch.cat(found)
        return together if self.order is None else together.index_select(0, self.order.to(together.device))


class Layout:
    def __init__(self, structure: Structure, slots: int | str):
        ends = structure.ends.numpy()
        self.owner: np.ndarray | None = None  # the node that each edge belongs to, ascending
        self.edge_offsets = np.zeros(len(structure.sizes) + 1, dtype=np.int64)  # where the edges of each front start
        if isinstance(slots, int):
            codes = structure.in_slots(slots).numpy()
        else:
            source, owner = structure.in_edges()
            codes, self.owner, slots = source.numpy()[:, None], np.ascontiguousarray(owner.numpy(), dtype=np.int64), 1
            self.edge_offsets = np.searchsorted(self.owner, structure.offsets)
        self.rows, self.nodes, self.slots, self.history = structure.rows, structure.nodes, slots, structure.history
        self.row = np.ascontiguousarray(structure.row.numpy(), dtype=np.int64)
        self.sizes, self.offsets = structure.sizes, structure.offsets
        self.fronts = len(structure.sizes)
        self.anew = bool((codes == NONE).any() or (ends == NONE).any())
        self.extra = self.rows * (self.history + self.anew)  # rows of the buffer before the nodes'
        rows = self.row if self.owner is None else self.row[self.owner]
        self.before = self._places(codes, rows[:, None], np.arange(self.nodes) + self.extra)
        self.own = np.arange(self.extra, self.extra + self.nodes)
        self.ends = self._places(ends, np.arange(self.rows)[:, None], self.own)
        self._codes, self._end_codes = codes, ends

    def _places(self, codes: np.ndarray, row: np.ndarray, own: np.ndarray) -> np.ndarray:
        given = self.rows * (self.anew + self.history - 1 + codes + 2)  # part j of what was given, the code -2 - j: the latest last
        start = np.where(codes == NONE, 0, given) + row
        return np.ascontiguousarray(np.where(codes >= 0, own[codes.clip(0)] if len(own) else 0, start), dtype=np.int64)

    @cached_property
    def chain(self) -> bool:
        """Every row has one node a front, and its state before is that of the front before: two rows for each sequence hold all that is alive."""
        if self.slots != 1 or self.history != 1 or self.owner is not None:
            return False
        codes, here = self._codes[:, 0], self._codes[:, 0] >= 0
        alone = len(np.unique(self.row * self.fronts + self.front)) == self.nodes
        return alone and bool((self.front[codes[here]] == self.front[here] - 1).all())

    @cached_property
    def front(self) -> np.ndarray:
        return np.repeat(np.arange(self.fronts), self.sizes)

    @cached_property
    def rolling(self) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
        """own, before and ends for a chain whose states are kept for two fronts only."""
        own = self.extra + self.row + self.rows * (self.front % 2)
        return (
            own,
            self._places(self._codes, self.row[:, None], own),
            _columns(self._places(self._end_codes, np.arange(self.rows)[:, None], own)),
        )

    @cached_property
    def last(self) -> list[Tensor]:
        """Where the final states lie, by part of the history."""
        return _columns(self.ends)

    @cached_property
    def shifted(self) -> bool:
        """The states before all nodes, in order, are rows of the buffer without a gap: whole sequences."""
        return self.slots == 1 and self.owner is None and bool((self.before[:, 0] == self.before[0, 0] + np.arange(self.nodes)).all())

    def blocks(self, most: int) -> list[tuple[int, int, int, int]]:
        """Runs of fronts of at most so many nodes, or of one front: (first front, last front, first node, last node)."""
        if most not in self._blocks:
            found, low = [], 0
            while low < self.fronts:
                first = int(self.offsets[low])
                high = max(low + 1, int(np.searchsorted(self.offsets, first + most, side="right")) - 1)
                found.append((low, high, first, int(self.offsets[high])))
                low = high
            self._blocks[most] = found
        return self._blocks[most]

    @cached_property
    def _blocks(self) -> dict[int, list[tuple[int, int, int, int]]]:
        return {}

    def shares(self, threads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For `threads` slices of the sequences, of about as many nodes each: where in the list of nodes each front of each slice starts, how many
        nodes it has, and the list."""
        if threads not in self._shares:
            if threads == 1:
                found = self.offsets[:-1].astype(np.int64), self.sizes.astype(np.int64), np.arange(self.nodes)
            else:
                work = np.bincount(self.row, minlength=self.rows)
                rank = np.full(self.rows, self.nodes)
                first = self.row[: int(self.sizes[0])] if self.fronts else self.row[:0]
                rank[first] = np.arange(len(first))
                order = np.argsort(rank, kind="stable")
                done = np.cumsum(work[order]) - work[order] / 2
                share = np.empty(self.rows, dtype=np.int64)
                share[order] = np.minimum(done * threads // max(1, self.nodes), threads - 1)
                of = share[self.row]
                nodes = np.argsort(of, kind="stable")
                counts = np.bincount(of * self.fronts + self.front, minlength=threads * self.fronts)
                found = np.cumsum(counts) - counts, counts, nodes
            self._shares[threads] = tuple(np.ascontiguousarray(a, dtype=np.int64) for a in found)  # type: ignore[assignment]
        return self._shares[threads]

    @cached_property
    def _shares(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def joined(self) -> np.ndarray:
        """Of each node whether there is a node before it: the others start from what is given."""
        if self.owner is None:
            return np.asarray((self._codes >= 0).any(1))
        return np.bincount(self.owner[self._codes[:, 0] >= 0], minlength=self.nodes) > 0

    @cached_property
    def starting(self) -> int:
        """How many are not joined."""
        return self.nodes - int(self.joined.sum())

    def joining(self, threads: int) -> np.ndarray:
        """Of each front of each slice, how many of its nodes there are to the last one that is joined."""
        if threads not in self._joining:
            starts, counts, nodes = self.shares(threads)
            of, joined = np.repeat(np.arange(len(counts)), counts), self.joined[nodes]
            found = np.zeros_like(counts)
            np.maximum.at(found, of[joined], (np.arange(self.nodes) - starts[of] + 1)[joined])
            self._joining[threads] = found
        return self._joining[threads]

    @cached_property
    def _joining(self) -> dict[int, np.ndarray]:
        return {}

    def count(self, edges: bool) -> int:
        """How many rows an array has: nodes, or edges."""
        return self.nodes if self.owner is None or not edges else len(self.owner)

    def edge_shares(self, threads: int) -> dict[str, np.ndarray]:
        """The edges of the same slices: where in the list of edges each front of each slice starts, how many it has, and the list; for each edge of
        the list the place of its node in its front and slice; for each node of the list where its edges start in its front and slice, and
        how many it has."""
        assert self.owner is not None
        if threads not in self._edge_shares:
            starts, counts, nodes = self.shares(threads)
            of = np.empty(self.nodes, dtype=np.int64)  # the front of a slice that each node is in
            of[nodes] = np.repeat(np.argsort(starts, kind="stable"), counts[np.argsort(starts, kind="stable")])
            place = np.empty(self.nodes, dtype=np.int64)
            place[nodes] = np.arange(self.nodes)
            edges = np.argsort(of[self.owner] // self.fronts, kind="stable")
            edge_counts = np.bincount(of[self.owner], minlength=threads * self.fronts)
            edge_starts = np.cumsum(edge_counts) - edge_counts
            degree = np.bincount(self.owner, minlength=self.nodes)[nodes]
            found = {
                "edge starts": edge_starts,
                "edge counts": edge_counts,
                "edge list": edges,
                "edge owner": (place - starts[of])[self.owner][edges],
                "edge first": np.cumsum(degree) - degree - edge_starts[of[nodes]],
                "degree": degree,
            }
            self._edge_shares[threads] = {name: np.ascontiguousarray(a, dtype=np.int64) for name, a in found.items()}
        return self._edge_shares[threads]

    @cached_property
    def _edge_shares(self) -> dict[int, dict[str, np.ndarray]]:
        return {}

    @cached_property
    def gathers(self) -> list[list[Gather]]:
        """For each front, and at last for the ends, where the states of each slot lie (of the ends: of each part of the history)."""
        slots, edges = self.before.T, self.offsets if self.owner is None else self.edge_offsets
        with torch.inference_mode(False):
            found = [[self._gather(places[low:high]) for places in slots] for low, high in pairwise(edges.tolist())]
            return [*found, [self._gather(places) for places in self.ends.T]]

    def _gather(self, places: np.ndarray) -> Gather:
        """Places in the buffer as places in its blocks: one for each start, then one for each front."""
        block = np.searchsorted(self._bounds, places, side="right") - 1
        order = np.argsort(block, kind="stable")
        used, first = np.unique(block[order], return_index=True)
        parts = []
        for number, among in zip(used.tolist(), np.split((places - self._bounds[block])[order], first[1:])):
            run = bool((np.diff(among) == 1).all())
            parts.append((number, slice(int(among[0]), int(among[-1]) + 1) if run else torch.from_numpy(among)))
        inverse = None if (np.diff(order) == 1).all() else torch.from_numpy(np.argsort(order, kind="stable"))
        return Gather(parts or [(0, slice(0, 0))], inverse)

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.concatenate([np.arange(self.history + self.anew) * self.rows, self.extra + self.offsets])

    @cached_property
    def index(self) -> dict[str, Tensor]:
        """The same as tensors, for what torch gathers: now and in later calls, whatever mode they are in."""
        with torch.inference_mode(False):
            found = {"row": self.row, "before": self.before}
            if self.owner is not None:
                found["owner"] = self.owner
            return {name: torch.from_numpy(array) for name, array in found.items()}


def _columns(indices: np.ndarray) -> list[Tensor]:
    """As tensors for now and for later calls, whatever mode they are in."""
    with torch.inference_mode(False):
        return [torch.from_numpy(np.ascontiguousarray(column)) for column in indices.T]


_by_structure: weakref.WeakKeyDictionary[Structure, dict[int | str, Layout]] = weakref.WeakKeyDictionary()
_by_key: OrderedDict[Any, Layout] = OrderedDict()
_lock = threading.Lock()
KEPT = 64  # layouts of batches of sequences seen lately: the next batch often has the same form
KEPT_NODES = 1_000_000  # in all of them but the newest, at some 60 bytes each


def layout_of(structure: Structure, slots: int | str) -> Layout:
    key = (structure.key, slots)
    if key[0] is not None:
        with _lock:
            found = _by_key.get(key)
            if found is not None:
                _by_key.move_to_end(key)
                return found
            found = _by_key[key] = Layout(structure, slots)
            nodes = sum(layout.nodes for layout in _by_key.values())
            while len(_by_key) > 1 and (len(_by_key) > KEPT or nodes > KEPT_NODES):
                nodes -= _by_key.popitem(last=False)[1].nodes
        return found
    with _lock:
        mine = _by_structure.setdefault(structure, {})
        if slots not in mine:
            mine[slots] = Layout(structure, slots)
        return mine[slots]
