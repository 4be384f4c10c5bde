"""Trees: a batch of trees of any shapes, from the leaves to the root, or from the root to the leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence as Many
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavefront.errors import ShapeError
from wavefront.structure.graph import Graph, named_cycle, ranks, whole

__all__ = ["Tree"]


class Tree(Graph):
    """A batch of trees, binary, of any fixed arity, or free.  [Goodfellow et al. 2016, 10.6]

    parent  [nodes], the number of each node's parent, -1 for a root; of all trees together, which come in the order of their roots' numbers
    slot    [nodes], which child of its parent a node is, from 0; by default siblings stand in the order of their numbers. A root's is not looked at
    down    from the root to the leaves: each node's step gets its parent's state (a cell of one slot); else from the leaves to the root:
            its step gets its children's

    Values are held as [nodes, ...] in the numbering of `parent`. A node without input has x = 0: `at_leaves` puts values at the leaves alone.
    The final state is the root's; downward, that of the last leaf. A missing child is the state that was given; a cell with slots="any" gets as many
    states as there are children.

    parent, slot    as above, [nodes]
    roots, leaves   their numbers, ascending
    values          what stood at the leaves of nested tuples, else None

    Trees are told by `Tree(parent)`, `Tree.batch`, `Tree.from_children`, `Tree.nested`; where none is given, `Tree.balanced` and `Tree.chain`
    make them over sequences. Nothing here recurses: 100,000 levels and 10,000 children cost what their nodes cost.

    >>> t = Tree.nested([(("a", "b"), "c"), "d"])      # two trees; a, b, their parent, c, the root; d
    >>> t.parent.tolist(), t.roots.tolist(), t.values
    ([2, 2, 4, 4, -1, -1], [4, 5], ['a', 'b', 'c', 'd'])
    >>> t.sizes.tolist(), t.top_down().sizes.tolist()
    ([3, 2, 1], [2, 2, 2])
    """

    def __init__(self, parent: Tensor | Many[int] | np.ndarray, slot: Tensor | Many[int] | np.ndarray | None = None, down: bool = False):
        above = whole(parent, "parent", len(parent), least=-1)
        nodes = len(above)
        depth, root = _to_the_root(above)
        roots, child = np.flatnonzero(above < 0), np.flatnonzero(above >= 0)
        row = np.searchsorted(roots, root)
        leaf = np.ones(nodes, dtype=bool)
        leaf[above[child]] = False
        leaves = np.flatnonzero(leaf)
        if slot is not None and len(slot) != nodes:
            raise ShapeError(f"slot has one number for each of the {nodes} nodes, got {len(slot)}.")
        place = ranks(above + 1, nodes + 1) if slot is None else whole(slot, "slot")
        if down:
            last = np.zeros_like(roots)
            np.maximum.at(last, row[leaves], leaves)
            super().__init__(above[child], child, nodes, None, row, len(roots), last, depth)
        else:
            levels = np.zeros_like(roots)
            np.maximum.at(levels, row, depth)
            super().__init__(child, above[child], nodes, place[child], row, len(roots), roots, levels[row] - depth)
        self.parent, self.slot, self.roots, self.leaves = (torch.from_numpy(a) for a in (above, place, roots, leaves))
        self.down, self.values = down, None

    values: list[Any] | None

    @classmethod
    def batch(cls, parents: Iterable[Many[int] | np.ndarray], slots: Iterable[Many[int] | np.ndarray] | None = None) -> Tree:
        """Trees one after the other: for each its parents, and its slots by choice, its own nodes numbered from 0."""
        each = [np.asarray(parent) for parent in parents]
        first = np.cumsum([0, *map(len, each)])
        for number, parent in enumerate(each):
            if (np.count_nonzero(parent < 0), len(parent) > 0) != (1, True):
                what = f"{np.count_nonzero(parent < 0)} roots" if len(parent) else "no nodes"
                raise ShapeError(f"tree {number} has {what}; a tree has one root, whose parent is -1.")
            if parent.max() >= len(parent):
                raise ShapeError(f"tree {number} has {len(parent)} nodes, but a parent {parent.max()}.")
        joined = [np.where(parent < 0, -1, parent + start) for parent, start in zip(each, first)]
        return cls(np.concatenate(joined) if joined else np.zeros(0, dtype=np.int64), None if slots is None else _joined(slots))

    @classmethod
    def from_children(cls, children: Many[Many[int]] | np.ndarray | Tensor) -> Tree:
        """From the children of each node: lists of any lengths, or a table [nodes, arity]; -1 is a child that is missing."""
        lists = children.tolist() if isinstance(children, (np.ndarray, Tensor)) else children
        parent, slot = np.full(len(lists), -1), np.zeros(len(lists), dtype=np.int64)
        for node, found in enumerate(lists):
            for place, child in enumerate(found):
                if child == -1:
                    continue
                if not 0 <= child < len(lists):
                    raise ShapeError(f"there are nodes 0..{len(lists) - 1}; node {node} has a child {child}.")
                if parent[child] >= 0:
                    raise ShapeError(f"node {child} is a child of {parent[child]} and of {node}: not a tree, but a Graph.")
                parent[child], slot[child] = node, place
        return cls(parent, slot)

    @classmethod
    def nested(cls, trees: Iterable[Any]) -> Tree:
        """From nested tuples or lists, one a tree; anything else is a leaf, None a child that is missing.

        Children are numbered before their parents, left to right: leaves from left to right, the root last. `values` are the leaves.
        """
        parent: list[int] = []
        slot: list[int] = []
        values: list[Any] = []
        for number, tree in enumerate(trees):
            _number_nodes(tree, parent, slot, values, number)
        made = cls(np.array(parent, dtype=np.int64), np.array(slot, dtype=np.int64))
        made.values = values
        return made

    @classmethod
    def balanced(cls, lengths: Iterable[int]) -> Tree:
        """Binary trees over sequences, neighbours joined level by level: τ leaves, log2 τ levels.  [Goodfellow et al. 2016, 10.6]

        The leaves of a tree have its first numbers, from left to right; the root has the last.
        """
        return cls._over(lengths, _balanced)

    @classmethod
    def chain(cls, lengths: Iterable[int]) -> Tree:
        """Binary trees over sequences that take one element after the other, ((a b) c) d: τ levels. Numbered as `balanced`."""
        return cls._over(lengths, _chain)

    @classmethod
    def _over(cls, lengths: Iterable[int], make: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Tree:
        made = [make(_at_least_one(length)) for length in lengths]
        return cls.batch([parent for parent, _ in made], [slot for _, slot in made])

    def top_down(self) -> Tree:
        """The same trees, from the root to the leaves."""
        down = Tree(self.parent, self.slot, down=True)
        down.values = self.values
        return down

    def at_leaves(self, x: Tensor) -> Tensor:
        """[leaves, ...] in the order of their numbers -> [nodes, ...], zeros at the inner nodes."""
        if x.shape[0] != len(self.leaves):
            raise ShapeError(f"expected one row for each of the {len(self.leaves)} leaves, got {list(x.shape)}.")
        return x.new_zeros((self.nodes, *x.shape[1:])).index_copy(0, self.leaves.to(x.device), x)


def _joined(parts: Iterable[Many[int] | np.ndarray]) -> np.ndarray:
    found = [np.asarray(part) for part in parts]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _at_least_one(length: int) -> int:
    if length < 1:
        raise ShapeError(f"a tree over a sequence needs one element at least; got a length of {length}.")
    return int(length)


def _to_the_root(parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and root of every node. Each round doubles how far up all nodes look at once: log2(depth) rounds."""
    depth, root, up = np.zeros_like(parent), np.arange(len(parent)), parent.copy()
    step = 1
    while len(below := np.flatnonzero(up >= 0)):
        if step > len(parent):
            child = np.flatnonzero(parent >= 0)
            raise ShapeError(named_cycle(child, parent[child], up >= 0))
        above = up[below]
        depth[below] = step + depth[above]
        root[below] = root[above]
        up[below] = up[above]
        step *= 2
    return depth, root


def _number_nodes(tree: Any, parent: list[int], slot: list[int], values: list[Any], number: int) -> None:
    """Appends the nodes of a nested tuple, children before parents."""
    frames: list[tuple[Any, list[tuple[int, int]]]] = [(enumerate((tree,)), [])]  # children to come; those done, with their slots
    at = [0]  # the slot of each open node
    while True:
        coming, done = frames[-1]
        place, child = next(coming, (0, frames))
        if child is frames:  # all children are done
            frames.pop()
            place = at.pop()
            if not frames:
                return
            me = len(parent)
            if not done:
                raise ShapeError(f"tree {number} has a node without children, () or []. A leaf is what is no tuple or list.")
            for below, below_place in done:
                parent[below], slot[below] = me, below_place
        elif isinstance(child, (tuple, list)):
            frames.append((enumerate(child), []))
            at.append(place)
            continue
        elif child is None:
            if len(frames) == 1:
                raise ShapeError(f"tree {number} is None, and so has no node.")
            continue
        else:
            me = len(parent)
            values.append(child)
        parent.append(-1)
        slot.append(0)
        frames[-1][1].append((me, place))


@lru_cache(maxsize=4096)
def _balanced(leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """Parents and slots of the balanced binary tree over so many leaves."""
    parent, slot = np.full(2 * leaves - 1, -1), np.zeros(2 * leaves - 1, dtype=np.int64)
    level, fresh = np.arange(leaves), leaves
    while len(level) > 1:
        pairs = len(level) // 2
        joined = np.arange(fresh, fresh + pairs)
        parent[level[: 2 * pairs]] = np.repeat(joined, 2)
        slot[level[1 : 2 * pairs : 2]] = 1
        level, fresh = np.concatenate([joined, level[2 * pairs :]]), fresh + pairs
    return parent, slot


@lru_cache(maxsize=4096)
def _chain(leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """Parents and slots of the tree ((a b) c) d over so many leaves."""
    parent, slot = np.full(2 * leaves - 1, -1), np.zeros(2 * leaves - 1, dtype=np.int64)
    inner = np.arange(leaves, 2 * leaves - 1)
    parent[: min(1, leaves - 1)] = leaves
    parent[1:leaves] = inner
    parent[inner[:-1]] = inner[1:]
    slot[1:leaves] = 1
    return parent, slot
