"""What every structure says of itself: its nodes, front by front, and for each the nodes before it. It knows no cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavefront.errors import ShapeError

__all__ = ["NONE", "Edges", "Structure"]

NONE = -1  # the code of "no node before: the cell's initial state"; -2 - j stands for part j of the state that was given


class Edges(NamedTuple):
    """Predecessors where a node may have any number of them: edge e leads from `source[e]` (a code) to the node `owner[e]` (ascending)."""

    source: Tensor
    owner: Tensor


class Structure(ABC):
    """A batch of things to unfold over (sequences, trees, grids, graphs), as one numbering of all their nodes.

    Nodes are numbered front by front: those of front f are `offsets[f] .. offsets[f+1]`, and all their predecessors have smaller numbers.
    A subclass computes these facts, on the CPU, and nothing else:

    rows          how many sequences (trees, grids); a given state and a context have one row for each
    sizes         the number of nodes in each front, [fronts]
    row           the row that each node belongs to, [nodes]
    predecessors  [nodes, slots], or `Edges` where a node may have any number. A code >= 0 is the number of a node; `NONE` the initial state of
                  the cell (after a reset); -2 - j the j-th part of the given state of the node's row: there is nothing before
    ends          [rows, history], the same codes: the state to return for each row, latest first. history is 1 but for skips through time
    start         what the first front's number is to a cell with clocks
    """

    rows: int
    sizes: np.ndarray
    row: Tensor
    predecessors: Tensor | Edges
    ends: Tensor
    start: int = 0

    @abstractmethod
    def pack(self, x: Tensor) -> Tensor:
        """Values as people hold them ([batch, time, ...] for sequences) -> [nodes, ...] in the order of the nodes."""

    @abstractmethod
    def unpack(self, y: Tensor) -> Tensor:
        """[nodes, ...] -> as people hold them, zeros where there is no node."""

    @property
    def key(self) -> Hashable:
        """Structures of equal keys have equal nodes and predecessors, so that what was made for one serves the other; None: nothing is known."""
        return None

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each front starts, and the number of nodes at the end: [fronts + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)]).astype(np.int64)

    @property
    def nodes(self) -> int:
        return int(self.offsets[-1])

    @property
    def history(self) -> int:
        """How many states a row is given, and gives back."""
        return self.ends.shape[1]

    def fronts(self) -> Iterator[slice]:
        """The nodes of each front, first to last."""
        for first, last in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist()):
            yield slice(first, last)

    def in_slots(self, slots: int) -> Tensor:
        """The predecessors in exactly `slots` columns [nodes, slots]; a slot that the structure does not have holds the initial state."""
        if isinstance(self.predecessors, Tensor):
            have = self.predecessors.shape[1]
            if have > slots:
                raise ShapeError(f"The cell takes {slots} predecessor(s) a node, this structure has {have}. A cell with slots={have}?")
            missing = torch.full((self.nodes, slots - have), NONE, dtype=torch.long)
            return torch.cat([self.predecessors, missing], 1) if have < slots else self.predecessors
        source, owner = self.predecessors
        degree = torch.bincount(owner, minlength=self.nodes)
        if self.nodes and int(degree.max()) > slots:
            node = int(degree.argmax())
            raise ShapeError(
                f"The cell takes {slots} predecessor(s) a node, node {node} has {int(degree[node])}. A cell with slots='any' takes any number."
            )
        place = torch.arange(len(owner)) - (degree.cumsum(0) - degree)[owner]
        table = torch.full((self.nodes, slots), NONE, dtype=torch.long)
        table[owner, place] = source
        return table

    def in_edges(self) -> Edges:
        """The predecessors as edges, whatever form they came in."""
        if isinstance(self.predecessors, Edges):
            return self.predecessors
        slots = self.predecessors.shape[1]
        return Edges(self.predecessors.flatten(), torch.arange(self.nodes).repeat_interleave(slots))
