"""Acyclic graphs: nodes that each have any nodes before them. Trees and grids are graphs whose fronts are known without a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Many
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavefront.errors import ShapeError
from wavefront.structure.structure import NONE, Edges, Structure

__all__ = ["Graph"]

GIVEN = NONE - 1  # the code of the state that was given


class Graph(Structure):
    """A batch of acyclic graphs: lattices of words, circuits, programs. Each node's step gets the states of the nodes before it.

    source, target  [edges], node numbers: the step of target[e] gets the state of source[e]
    nodes           how many there are, of all graphs together
    slot            [edges], which slot of its target each edge fills; by default they are filled in the order in which the edges come
    row             [nodes], the graph that each node is of; by default all are of one
    rows            how many graphs there are (some may be empty); by default as many as `row` names
    ends            [rows], the node whose state is the graph's final one; by default its last node that no other follows;
                    -1 in an empty graph: the state that was given
    front           [nodes], the front of each node, for those who know it; by default searched for

    Values are held as [nodes, ...] in the numbering of whoever made the graph: `pack` puts them in the order of the fronts, `unpack` back.

    A node waits until it is needed: its front is the last one that delays nothing. So its predecessors lie just before it as a rule, its state lives
    shortly, and the work is linear in the edges whatever the shape. The fronts of one graph do not depend on the others. In a front the nodes that
    nothing comes before are the last: an engine need not multiply what is zero there.

    Over k slots, a slot that no edge fills holds the state that was given; a cell with slots="any" gets as many states as there are edges.

    Raises ShapeError: for a cycle, which it names; for edges between two graphs, slots filled twice, numbers that no node has.

    >>> g = Graph.lists([[[], [0], [0], [1, 2]]])     # a diamond: one graph, four nodes
    >>> g.sizes.tolist(), g.in_slots(2).tolist()      # -2: what was given
    ([1, 2, 1], [[-2, -2], [0, -2], [0, -2], [1, 2]])
    >>> Graph([0, 1, 2], [1, 2, 1], nodes=3)
    Traceback (most recent call last):
    wavefront.errors.ShapeError: nodes 1 -> 2 -> 1 are a cycle: each would have to be done before the other. ...
    """

    def __init__(
        self,
        source: Tensor | Many[int] | np.ndarray,
        target: Tensor | Many[int] | np.ndarray,
        nodes: int,
        slot: Tensor | Many[int] | np.ndarray | None = None,
        row: Tensor | Many[int] | np.ndarray | None = None,
        rows: int | None = None,
        ends: Tensor | Many[int] | np.ndarray | None = None,
        front: np.ndarray | None = None,
    ):
        tail, head = whole(source, "source", nodes), whole(target, "target", nodes)
        if len(tail) != len(head):
            raise ShapeError(f"source and target have one number for each edge; got {len(tail)} and {len(head)}.")
        own = np.zeros(nodes, dtype=np.int64) if row is None else whole(row, "row", rows)
        if len(own) != nodes:
            raise ShapeError(f"row has one number for each of the {nodes} nodes, got {len(own)}.")
        self.rows = (int(own.max(initial=-1)) + 1 if row is not None else 1) if rows is None else rows
        crossing = np.flatnonzero(own[tail] != own[head])
        if len(crossing):
            a, b = tail[crossing[0]], head[crossing[0]]
            raise ShapeError(f"the edge {a} -> {b} leads from graph {own[a]} to graph {own[b]}; the graphs of a batch share no edge.")
        place = ranks(head, nodes) if slot is None else whole(slot, "slot")
        if len(place) != len(head):
            raise ShapeError(f"slot has one number for each of the {len(head)} edges, got {len(place)}.")
        if front is None:
            front = _latest(tail, head, nodes)
            depth = np.zeros(self.rows, dtype=np.int64)
            np.maximum.at(depth, own, front)
            front = depth[own] - front

        self._order = np.lexsort((own, np.bincount(head, minlength=nodes) == 0, front))
        self._number = np.empty_like(self._order)
        self._number[self._order] = np.arange(nodes)
        self.sizes = np.bincount(front)
        self.row = torch.from_numpy(own[self._order])
        owner = self._number[head]
        by_owner = np.lexsort((place, owner))
        self._slot = place[by_owner]
        self.predecessors = Edges(torch.from_numpy(self._number[tail[by_owner]]), torch.from_numpy(owner[by_owner]))
        twice = (np.diff(self._slot) == 0) & (np.diff(owner[by_owner]) == 0)
        if twice.any():
            at = int(np.flatnonzero(twice)[0])
            raise ShapeError(f"slot {self._slot[at]} of node {head[by_owner][at]} is filled by two edges.")
        last = self._last_sinks(tail, own) if ends is None else whole(ends, "ends", nodes, least=-1)
        if len(last) != self.rows or (own[last[last >= 0]] != np.flatnonzero(last >= 0)).any():
            raise ShapeError(f"ends has one node of each of the {self.rows} graphs, in their order; got {last.tolist()}.")
        code = np.full_like(last, GIVEN)
        code[last >= 0] = self._number[last[last >= 0]]
        self.ends = torch.from_numpy(code)[:, None]

    @classmethod
    def lists(cls, graphs: Iterable[Many[Many[int | None]]]) -> Graph:
        """Graphs as lists of predecessors: `graph[n]` are the nodes before node n, slot by slot; None leaves a slot to what was given.

        Each graph numbers its own nodes from 0; in the batch, and in errors, they are counted through all graphs.
        """
        source, target, slot, row, first, rows = [], [], [], [], 0, 0
        for rows, graph in enumerate(graphs, 1):
            for node, before in enumerate(graph):
                for place, other in enumerate(before):
                    if other is None:
                        continue
                    if not 0 <= other < len(graph):
                        raise ShapeError(f"graph {rows - 1} has nodes 0..{len(graph) - 1}; before node {node} stands {other}.")
                    source.append(first + other)
                    target.append(first + node)
                    slot.append(place)
            row += [rows - 1] * len(graph)
            first += len(graph)
        return cls(source, target, first, slot, row, rows)

    @property
    def order(self) -> Tensor:
        """[nodes], whoever made the graph called node n of the fronts `order[n]`."""
        return torch.from_numpy(self._order)

    def pack(self, x: Tensor) -> Tensor:
        """[nodes, ...] in the numbering the graph was made with -> in the order of the fronts."""
        if x.dim() == 0 or x.shape[0] != self.nodes:
            raise ShapeError(f"expected one row for each of the {self.nodes} nodes, got {list(x.shape)}.")
        return x.index_select(0, self.order.to(x.device))

    def unpack(self, y: Tensor) -> Tensor:
        """[nodes, ...] in the order of the fronts -> in the numbering the graph was made with."""
        return y.index_select(0, torch.from_numpy(self._number).to(y.device))

    def in_slots(self, slots: int) -> Tensor:
        assert isinstance(self.predecessors, Edges)
        source, owner = self.predecessors
        if self._slot.max(initial=-1) >= slots:
            edge = int(self._slot.argmax())
            node = self._order[int(owner[edge])]
            raise ShapeError(
                f"The cell takes {slots} predecessor(s) a node, node {node} has {self._slot[edge] + 1}. A cell with slots='any' takes any number."
            )
        table = torch.full((self.nodes, slots), GIVEN, dtype=torch.long)
        table[owner, torch.from_numpy(self._slot)] = source
        return table

    def _last_sinks(self, tail: np.ndarray, own: np.ndarray) -> np.ndarray:
        """In each row the last node that no other follows; -1 in an empty one."""
        sink = np.ones(self.nodes, dtype=bool)
        sink[tail] = False
        last = np.full(self.rows, -1)
        np.maximum.at(last, own[sink], np.flatnonzero(sink))
        return last


def whole(numbers: Any, name: str, below: int | None = None, least: int = 0) -> np.ndarray:
    """A one-dimensional array of whole numbers, each at least `least` and less than `below`."""
    found = numbers.detach().cpu().numpy() if isinstance(numbers, Tensor) else np.asarray(numbers)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ShapeError(f"{name} is a list of whole numbers, got {found.dtype} of {list(found.shape)}.")
    wrong = (found < least) | (found >= below) if below is not None else found < least
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        upper = "" if below is None else f", at most {below - 1}"
        raise ShapeError(f"{name} is made of numbers of at least {least}{upper}; number {at} of it is {found[at]}.")
    return found.astype(np.int64)


def ranks(group: np.ndarray, groups: int) -> np.ndarray:
    """How many of the same group stand before each: 0, 1, 2, ... within every group."""
    size = np.bincount(group, minlength=groups)
    rank = np.empty_like(group)
    rank[np.argsort(group, kind="stable")] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return rank


def _latest(tail: np.ndarray, head: np.ndarray, nodes: int) -> np.ndarray:
    """The longest way from each node to an end, by taking off the ends, again and again: every edge is looked at once."""
    by_head = np.argsort(head, kind="stable")
    into = tail[by_head]
    first = np.concatenate([[0], np.cumsum(np.bincount(head, minlength=nodes))])
    waiting = np.bincount(tail, minlength=nodes)  # successors that are not taken off yet
    longest = np.full(nodes, -1)
    front = np.flatnonzero(waiting == 0)
    number = 0
    while len(front):
        longest[front] = number
        number += 1
        start, count = first[front], first[front + 1] - first[front]
        before = into[np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())]
        np.subtract.at(waiting, before, 1)
        front = np.unique(before[waiting[before] == 0])
    if (longest < 0).any():
        raise ShapeError(named_cycle(tail, head, longest < 0))
    return longest


def named_cycle(tail: np.ndarray, head: np.ndarray, left: np.ndarray) -> str:
    """What to say of a cycle; every node that is `left` leads to another one that is."""
    among = left[tail] & left[head]
    after = dict(zip(tail[among].tolist(), head[among].tolist()))
    node = min(after)
    seen: dict[int, int] = {}
    while node not in seen:
        seen[node] = len(seen)
        node = after[node]
    cycle = [*seen][seen[node] :]
    turn = cycle.index(min(cycle))
    names = [str(n) for n in (*cycle[turn:], *cycle[: turn + 1])]
    if len(names) > 12:
        names = [*names[:6], f"... ({len(names) - 12} more) ...", *names[-6:]]
    way = " -> ".join(names)
    if len(cycle) == 1:
        return f"node {way} comes before itself: a cycle. Unfold over the same node at another time as another node."
    return f"nodes {way} are a cycle: each would have to be done before the other. The same node at another time is another node."
