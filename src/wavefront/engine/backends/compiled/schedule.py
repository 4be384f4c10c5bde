"""In which order, and in which loops, a kernel computes what it has to: stages of groups, each group one loop over the units of a vector.

A value is *in memory* where a later group needs all of it at once (the operand of a product, of a sum, of a join) or where it is asked
for from outside; everything else lives in registers inside the group that uses it. A product is computed for a panel of units at a time,
in the group of the operations that follow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from wavefront.engine.graph import ELEMENTWISE, PRODUCTS, Unsupported, Value, needed

__all__ = ["Group", "Item", "Place", "Schedule"]

EXPENSIVE = {*PRODUCTS, "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "sqrt", "rsqrt", "reciprocal", "div"}


class Place(NamedTuple):
    """Where a vector of each row lies.

    state    the state before, of `slot`, part `number`          own    this node's own state, part `number`
    acc      the gradient of this node's own state               before the gradient of the state before, of `slot`
    node     array `number`, one vector a node                   row    array `number`, one vector a sequence
    fixed    vector `number`, the same for all                   scratch  of this thread, from `number` on
    edge     array `number`, one vector an edge                  edge scratch  likewise
    Where nodes have any number of predecessors, the states before are by edge.
    """

    kind: str
    number: int
    slot: int = 0


class Item(NamedTuple):
    """A value to be written: at `offset` of a place, with a step for each of its dimensions; added to what is there if `accumulate`."""

    value: Value
    place: Place
    offset: int
    strides: tuple[int, ...]
    accumulate: bool = False


@dataclass
class Group:
    stage: int
    kind: str  # "map", "reduce" or "collect"
    shape: tuple[int, ...]
    edges: bool = False  # whether it is a loop over edges; "collect" is one over nodes
    items: list[Item] = field(default_factory=list)
    windows: list[tuple[Value, int]] = field(default_factory=list)  # products, and the first of the columns, that this group computes


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def base(v: Value) -> tuple[Value, int]:
    """The value whose memory holds the vector v, and where v starts in it."""
    offset = 0
    while True:
        if v.kind == "narrow" and (len(v.shape) == 1 or all(n == 1 for n in v.shape[: v.attr[0]])):
            offset += v.attr[1] * contiguous(v.args[0].shape)[v.attr[0]]
        elif v.kind not in ("reshape", "stop"):
            return v, offset
        v = v.args[0]


class Schedule:
    def __init__(self, sources: dict[Value, Place], outputs: Iterable[tuple[Value, Place, bool]]):
        self.sources = sources
        self.outputs = list(outputs)
        self.values = [
            v
            for v in needed((v for v, _, _ in self.outputs), sources, rows_only=True)
            if v.rows or v.kind not in ("const", "torch", "input")
        ]
        for v in self.values:
            if v.kind == "call":
                raise Unsupported(v.attr.reason)
            if v.kind == "gather":
                raise Unsupported(
                    "a vector at places of its own, v[:, places], other than in a product with weights, (w * v[:, places]).sum(-1)"
                )
            if v.kind == "mm" and len(v.shape) != 1:
                raise Unsupported("a product of a matrix per row with a parameter")
            if v.kind == "matmul":
                raise Unsupported("a matrix product of two carried values")
            if v.kind == "input":
                raise AssertionError(f"{v} has no place")
        self.edged = any(v.edges for v in (*self.values, *self.sources))
        self.barrier: set[Value] = set()
        self.in_memory: set[Value] = {v for v, _, accumulate in self.outputs if not accumulate}
        for v in self.values:
            if v.kind in PRODUCTS:
                self._hold(base(v.args[0])[0])
            elif v.kind in ("sum", "amax", "cat", "collect"):
                self._hold(v)
            elif v.kind == "reshape" and not _maps(v):
                self._hold(base(v.args[0])[0])
        self._settle()
        self._assign_places()

    def _hold(self, v: Value) -> bool:
        if v in self.sources or v.kind == "const" or v in self.barrier or not v.rows:
            return False
        if v.logical:
            raise Unsupported("a join or a sum of truth values")
        self.barrier.add(v)
        self.in_memory.add(v)
        return True

    # stages

    def stage(self, v: Value) -> int:
        """The first stage in which v can be computed."""
        if v not in self._stages:
            if v in self.sources or not v.args or not v.rows:
                self._stages[v] = 0
            elif v.kind in PRODUCTS:
                self._stages[v] = self.ready(base(v.args[0])[0])
            else:
                self._stages[v] = max(self.ready(a) for a in v.args)
        return self._stages[v]

    def ready(self, v: Value) -> int:
        if v in self.sources:
            return 0
        return self.stage(v) + 1 if v in self.barrier else self.stage(v)

    def held(self, v: Value, stage: int) -> bool:
        """Whether v can be read from memory in that stage."""
        return v in self.sources or (v in self.in_memory and self.stage(v) < stage)

    def cone(self, v: Value, stage: int) -> list[Value]:
        """What is computed in registers for v in that stage."""
        seen: dict[Value, None] = {}
        todo = [v]
        while todo:
            u = todo.pop()
            if u in seen or u in self.sources or u.kind == "const" or not u.rows or (u is not v and self.held(u, stage)):
                continue
            seen[u] = None
            if u.kind not in PRODUCTS:
                todo += u.args
        return list(seen)

    def _settle(self) -> None:
        """Decide what else has to be in memory, until nothing changes."""
        changed = True
        while changed:
            self._stages: dict[Value, int] = {}
            changed = False
            for v in self.values:
                if v.kind in ("sum", "amax", "collect"):
                    operand = v.args[0]
                    if not self.held(operand, self.stage(v)) and self._costly(operand, self.stage(v)):
                        changed |= self._hold(operand)
                elif v.kind == "spread":
                    for a in _numbers(v.args[0]):
                        if not self.held(a, self.stage(v)) and self._costly(a, self.stage(v)):
                            changed |= self._hold(a)
                elif v.kind in ELEMENTWISE or v.kind == "expand":
                    for a in v.args:
                        if a.shape != v.shape and a.rows and not self.held(a, self.stage(v)) and self._costly(a, self.stage(v)):
                            changed |= self._hold(a)
            if changed:
                continue
            self.groups = self._make_groups()
            users: dict[Value, set[int]] = {}
            for number, group in enumerate(self.groups):
                for item in group.items:
                    for u in self.cone(item.value if group.kind == "map" else item.value.args[0], group.stage):
                        if u.kind in EXPENSIVE:
                            users.setdefault(u, set()).add(number)
                        if u.kind in PRODUCTS and (group.kind != "map" or len(group.shape) != 1) and u is not item.value:
                            changed |= self._hold(u)
            for u, among in users.items():
                if len(among) > 1:
                    changed |= self._hold(u)

    def _costly(self, v: Value, stage: int) -> bool:
        return any(u.kind in EXPENSIVE for u in self.cone(v, stage))

    def reads(self, group: Group, kind: str) -> bool:
        """Whether a group reads from places of a kind."""
        found = {
            a for item in group.items for v in [item.value, *item.value.args] for u in [v, *self.cone(v, group.stage)] for a in (u, *u.args)
        }
        return any(v in self.sources and self.sources[v].kind == kind for v in (*found, *(base(v)[0] for v in found if v.args)))

    # groups

    def lasts(self, group: Group) -> bool:
        """Whether a group makes anything else than gradients of the states before."""
        return any(item.place.kind != "before" and item.value not in self._for_those_before for item in group.items)

    @cached_property
    def _for_those_before(self) -> set[Value]:
        own, before = (
            {*needed((v for v, place, _ in self.outputs if (place.kind == "before") is it), self.sources, rows_only=True)}
            for it in (False, True)
        )
        return before - own

    def _make_groups(self) -> list[Group]:
        groups: dict[Any, Group] = {}
        for item in self._items():
            v = item.value
            kind = {"sum": "reduce", "amax": "reduce", "collect": "collect"}.get(v.kind, "map")
            key = (self.stage(v), kind, v.args[0].shape if kind == "reduce" else v.shape, v.edges)
            groups.setdefault(key, Group(*key)).items.append(item)
        return sorted(groups.values(), key=lambda g: g.stage)

    def _items(self) -> list[Item]:
        self.places: dict[Value, Place] = {}
        items: list[Item] = []
        for v, place, accumulate in self.outputs:
            self._write(v, place, 0, contiguous(v.shape), accumulate, items)
            if not accumulate:
                self.places.setdefault(v, place)
        scratch = {"scratch": 0, "edge scratch": 0}
        for v in self.values:
            if v in self.barrier and v not in self.places:
                kind = "edge scratch" if v.edges else "scratch"
                self.places[v] = Place(kind, scratch[kind])
                scratch[kind] += v.size
                self._write(v, self.places[v], 0, contiguous(v.shape), False, items)
        self.scratch, self.edge_scratch = scratch["scratch"], scratch["edge scratch"]
        return items

    def _write(self, v: Value, place: Place, offset: int, strides: tuple[int, ...], accumulate: bool, items: list[Item]) -> None:
        if v.kind == "cat" and v not in self.sources:
            for part in v.args:
                self._write(part, place, offset, strides, accumulate, items)
                offset += part.shape[v.attr] * strides[v.attr]
        else:
            items.append(Item(v, place, offset, strides, accumulate))

    def _assign_places(self) -> None:
        for group in self.groups:
            seen: dict[tuple[Value, int], None] = {}
            for item in group.items:
                for u, offset in _windows(self, item.value if group.kind == "map" else item.value.args[0], group):
                    seen[(u, offset)] = None
            group.windows = list(seen)


def _windows(schedule: Schedule, v: Value, group: Group) -> list[tuple[Value, int]]:
    """The products inside an item of a group over one dimension, with the column at which the group's first unit starts."""
    found = []
    todo = [(v, 0)]
    while todo:
        u, at = todo.pop()
        if schedule.held(u, group.stage) or not u.rows or u.kind == "const":
            continue
        if u.kind in PRODUCTS:
            found.append((u, at))
        elif u.kind == "narrow":
            todo.append((u.args[0], at + u.attr[1] if u.attr[0] == len(u.shape) - 1 else at))
        elif u.kind not in ("sum", "amax", "cat", "collect", "spread"):
            todo += [(a, at) for a in u.args]
    return found[::-1]


def _numbers(v: Value) -> list[Value]:
    """v, or what a truth value compares."""
    return [n for a in v.args for n in _numbers(a)] if v.logical else [v]


def _maps(v: Value) -> bool:
    """Whether an index of a reshaped value is one of its argument's without dividing: only 1s come or go, or the argument is a vector."""
    a = v.args[0]
    drop = [n for n in v.shape if n != 1]
    return len(a.shape) <= 1 or drop == [n for n in a.shape if n != 1]
