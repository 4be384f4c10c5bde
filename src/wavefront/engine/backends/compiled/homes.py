"""Which arrays of a node may lie over which: the sums that come into a loop give their place to what is stored for the backward pass, and that to
the gradients of the sums.

A number may be written over another where nobody reads the other any more. In a loop over units everything is read before anything is
written, unit by unit; so a value may take the place of one that only it, or something before it, reads at the same unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wavefront.engine.backends.compiled.schedule import Item, Place, Schedule, base
from wavefront.engine.graph import ELEMENTWISE, PRODUCTS, Value

__all__ = ["Home", "find_homes", "may_overwrite"]


class Home(NamedTuple):
    """A value lies in the columns from `start` on of the array of another."""

    of: Value
    start: int


class Touch(NamedTuple):
    """Group `group` reads or writes `size` columns from `start` on, its first unit the first of them; `start` None: anywhere, in any order."""

    group: int
    start: int | None
    size: int

    def before(self, write: Touch) -> bool:
        """Whether this read has happened when that is written, or lies beside it."""
        assert write.start is not None
        if self.group < write.group:
            return True
        if self.start is None:
            return False
        apart = self.start + self.size <= write.start or write.start + write.size <= self.start
        return apart or (self.group == write.group and self.start == write.start and self.size == write.size)


def _reads(schedule: Schedule, v: Value) -> list[Touch]:
    """Where a schedule reads v, which lies in memory before it starts."""
    found: dict[Touch, None] = {}
    for number, group in enumerate(schedule.groups):
        size = group.shape[-1] if len(group.shape) == 1 else 0
        for item in group.items:
            todo: list[tuple[Value, int | None]] = [(item.value, 0 if size and group.kind in ("map", "collect") else None)]
            seen: set[tuple[Value, int | None]] = set()
            while todo:
                u, at = todo.pop()
                if (u, at) in seen:
                    continue
                seen.add((u, at))
                if u is v:
                    found[Touch(number, at, size)] = None
                elif u in schedule.sources or u.kind == "const" or not u.rows or (u is not item.value and schedule.held(u, group.stage)):
                    continue
                elif u.kind in PRODUCTS:
                    if base(u.args[0])[0] is v:
                        found[Touch(number, None, 0)] = None
                elif u.kind == "narrow" and len(u.shape) == 1:
                    todo.append((u.args[0], None if at is None else at + u.attr[1]))
                elif u.kind in ELEMENTWISE or u.kind in ("stop", "spread") or (u.kind == "collect" and u is item.value):
                    todo += [(a, at if a.shape == u.shape else None) for a in u.args]
                else:
                    todo += [(a, None) for a in u.args]
    return list(found)


def _writes(schedule: Schedule, place: Place) -> list[tuple[Item, Touch]]:
    """Where a schedule writes to a place; a part that is not written unit by unit has start None."""
    found = []
    for number, group in enumerate(schedule.groups):
        for item in group.items:
            if item.place == place:
                plain = group.kind in ("map", "collect") and len(group.shape) == 1 and item.strides == (1,) and not item.accumulate
                found.append((item, Touch(number, item.offset if plain else None, group.shape[-1] if plain else 0)))
    return found


def find_homes(schedule: Schedule, places: dict[Value, Place], sums: Iterable[Value]) -> dict[Value, Home]:
    """places: of values that the schedule writes, each a vector a node; sums: what it reads and nobody needs after it."""
    homes: dict[Value, Home] = {}
    for v in sums:
        reads = _reads(schedule, v)
        taken: list[tuple[int, int]] = []
        for kept, place in places.items():
            writes = _writes(schedule, place)
            if kept in homes or len(kept.shape) != 1 or len(writes) != 1 or writes[0][1].start != 0:
                continue
            _, (group, _, size) = writes[0]
            for start in dict.fromkeys(r.start for r in reads if r.group == group and r.start is not None):
                there = Touch(group, start, size)
                free = all(start + size <= low or high <= start for low, high in taken)
                if free and start + size <= v.shape[0] and all(r.before(there) for r in reads):
                    homes[kept] = Home(v, start)
                    taken.append((start, start + size))
                    break
    return homes


def may_overwrite(schedule: Schedule, place: Place, inhabitants: dict[Value, int]) -> bool:
    """Whether what is written to a place may lie over the values that live, each from its column on, in an array that the schedule only reads."""
    writes = [touch for _, touch in _writes(schedule, place)]
    if not writes or any(w.start is None for w in writes):
        return False
    for v, start in inhabitants.items():
        for r in _reads(schedule, v):
            moved = r._replace(start=None if r.start is None else r.start + start)
            if not all(moved.before(w) for w in writes):
                return False
    return True
