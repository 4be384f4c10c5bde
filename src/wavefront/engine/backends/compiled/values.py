"""The numbers of a schedule, in code that is being written: where they lie, and how they are computed from those that lie somewhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wavefront.engine.backends.compiled.emit import I16, Code
from wavefront.engine.backends.compiled.schedule import Place, Schedule, base, contiguous
from wavefront.engine.graph import ELEMENTWISE, Value

__all__ = ["Line", "Values", "flat"]

Line = tuple[tuple[tuple[str, int], ...], int]  # an index: Σ coefficient * loop variable + constant


class Values:
    """What `kernel.Kernel` reads and computes, at the index, node and stage that it is writing for.

    arguments  the keys of what the function is handed, in their order: `_pointer` and `_number` add to them
    """

    c: Code
    vars: dict[str, Any]  # the loop variables
    _table: Any  # what the function is handed
    _entry: Any  # its first block
    _list: Any  # the nodes of this front and slice,
    _edges: Any  # the edges,
    _owners: Any  # and the place of each edge's node
    _scratch: Any
    _most: Any  # nodes of the largest front
    _tile: Any  # the sums of a block's products
    _i: Any  # the node, or edge
    _lanes: int  # of a vector, that count
    _stage: Any  # of the group

    def __init__(self, schedule: Schedule, sizes: dict[Any, int], slots: int, width: int, halves: Collection[Place]):
        self.schedule, self.slots, self.width, self.halves = schedule, slots, width, halves
        self.sizes = sizes | {(p.kind, p.number): v.size for v, p in schedule.places.items() if p.kind.endswith("scratch")}
        self.arguments: list[Any] = []
        self._pointers: dict[Any, Any] = {}
        self._memo: dict[Any, Any] = {}  # what the loop body being written has computed so far
        self._sums: dict[tuple[Value, int], Any] = {}  # where in the tile each product's sums lie
        self._touched: dict[tuple[Place, Line], bool] = {}  # memory that a group reads and, where true, writes

    # arguments

    def _argument(self, key: Any) -> int:
        if key not in self.arguments:
            self.arguments.append(key)
        return self.arguments.index(key)

    def _pointer(self, key: Any) -> Any:
        """Loaded once, in the entry block."""
        if key not in self._pointers:
            with self.c.b.goto_block(self._entry):
                self._pointers[key] = self.c.load_pointer(self._table, self._argument(key))
        return self._pointers[key]

    def _number(self, key: Any) -> Any:
        if key not in self._pointers:
            with self.c.b.goto_block(self._entry):
                self._pointers[key] = self.c.load_i64(self._table, self.c.i64(self._argument(key)))
        return self._pointers[key]

    # where vectors lie

    def _pointer_of(self, place: Place, i: Any, offset: int = 0) -> Any:
        """Where the vector of the i-th node (or edge, of what is by edge) of this front and slice starts, moved on by `offset`."""
        c = self.c
        if place.kind.endswith("scratch"):
            size = self.sizes[(place.kind, place.number)]
            most = self._most
            at = c.add(c.b.mul(most, c.i64(place.number)), c.mul(i, size))
            if place.kind == "edge scratch":
                at = c.add(self._number("edge_scratch"), c.b.mul(self._number("most_edges"), c.i64(place.number)), c.mul(i, size))
            return c.at(self._scratch, c.add(at, c.i64(offset)))
        if place.kind == "fixed":
            return c.at(self._pointer(("fixed", place.number)), c.i64(offset))
        by_edge = self.schedule.edged and place.kind in ("edge", "state", "before")
        node = self._remember(("node", by_edge, id(i)), lambda: c.load_i64(self._edges if by_edge else self._list, i))
        kind = {"own": "state", "acc": "state", "before": "state", "edge": "node"}.get(place.kind, place.kind)
        size = self.sizes[(kind, place.number)]
        match place.kind:
            case "node" | "edge":
                array, row = ("node", place.number), node
            case "row":
                array, row = ("row", place.number), self._index("row", node, 1, 0)
            case "own":
                array, row = ("state", place.number), self._index(("own", place.number), node, 1, 0)
            case "state":
                array, row = ("state", place.number), self._index(("state before", place.number), node, self.slots, place.slot)
            case "acc":
                array, row = ("acc", place.number), self._index("acc own", node, 1, 0)
            case "before":
                array, row = ("acc", place.number), self._index("acc before", node, self.slots, place.slot)
            case _:
                raise AssertionError(place)
        return c.at(self._pointer(array), c.add(c.mul(row, size), c.i64(offset)), I16 if place in self.halves else None)

    def _index(self, key: Any, node: Any, columns: int, column: int) -> Any:
        c = self.c
        return self._remember((key, column, id(node)), lambda: c.load_i64(self._pointer(key), c.add(c.mul(node, columns), c.i64(column))))

    def _remember(self, key: Any, make: Any) -> Any:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def _touch(self, place: Place, line: Line, write: bool = False) -> None:
        if place.kind != "fixed" and not place.kind.endswith("scratch"):  # these are in a cache
            self._touched[place, line] = write or self._touched.get((place, line), False)

    def _memory(self, place: Place, line: Line) -> Any:
        c = self.c
        pointer = self._pointer_of(place, self._i, line[1])
        for name, coefficient in line[0]:
            pointer = c.at(pointer, c.mul(self.vars[name], coefficient), I16 if place in self.halves else None)
        return pointer

    # values

    def _place(self, v: Value) -> Place:
        return self.schedule.sources.get(v) or self.schedule.places[v]

    def value(self, v: Value, index: tuple[Line, ...]) -> Any:
        key = (v, index)
        if key not in self._memo:
            self._memo[key] = self._compute(v, index)
        return self._memo[key]

    def _compute(self, v: Value, index: tuple[Line, ...]) -> Any:
        c = self.c
        if v.kind == "const":
            return c.splat(v.attr)
        if self.schedule.held(v, self._stage):
            return self._in_memory(v, flat(index, contiguous(v.shape)))
        if v.kind in ELEMENTWISE:
            return c.elementary(v.kind, *(self.value(a, _broadcast(a, v, index)) for a in v.args))
        a = v.args[0]
        match v.kind:
            case "mm" | "sparse":
                (line,) = index
                return c.b.load(c.at(self._tile, self._sums[(v, line[1])], c.V), typ=c.V)
            case "stop":
                return self.value(a, index)
            case "expand":
                return self.value(a, _broadcast(a, v, index))
            case "spread":
                edge, touched = self._i, self._touched
                self._i = self._remember(("owner", id(edge)), lambda: c.load_i64(self._owners, edge))
                self._touched = {}  # it is found by node, and what is asked for ahead by edge
                found = self.value(a, index)
                self._i, self._touched = edge, touched
                return found
            case "narrow":
                dim, start = v.attr
                return self.value(a, tuple((line[0], line[1] + start) if d == dim else line for d, line in enumerate(index)))
            case "permute":
                there: list[Any] = [None] * len(index)
                for d, source in enumerate(v.attr):
                    there[source] = index[d]
                return self.value(a, tuple(there))
            case "reshape":
                return self._reshaped(v, a, index)
        raise AssertionError(f"{v} should be in memory")

    def _reshaped(self, v: Value, a: Value, index: tuple[Line, ...]) -> Any:
        if [n for n in a.shape if n != 1] == [n for n in v.shape if n != 1]:
            rest = iter(line for line, n in zip(index, v.shape) if n != 1)
            return self.value(a, tuple(next(rest) if n != 1 else ((), 0) for n in a.shape))
        line = flat(index, contiguous(v.shape))
        if len(a.shape) == 1:
            return self.value(a, (line,))
        memory, offset = base(a)
        return self._in_memory(memory, (line[0], line[1] + offset))

    def _in_memory(self, v: Value, line: Line) -> Any:
        found = self._read(self._place(v), line)
        return self.c.compare("!=", found, self.c.splat(0.0)) if v.logical else found  # truth values lie there as numbers

    def _read(self, place: Place, line: Line) -> Any:
        c = self.c
        pointer = self._memory(place, line)
        self._touch(place, line)
        step = dict(line[0]).get("u", 0)
        if step == 0:
            return c.broadcast(c.load_scalar(pointer)) if self._lanes > 1 else c.load(pointer, 1)
        if step == 1:
            return c.load(pointer, self._lanes)
        return c.gather(pointer, step, self._lanes)


def flat(index: tuple[Line, ...], strides: tuple[int, ...]) -> Line:
    """The index of a number in memory, of one in several dimensions."""
    terms: dict[str, int] = {}
    constant = 0
    for (parts, start), stride in zip(index, strides):
        constant += start * stride
        for name, coefficient in parts:
            terms[name] = terms.get(name, 0) + coefficient * stride
    return tuple(terms.items()), constant


def _broadcast(a: Value, v: Value, index: tuple[Line, ...]) -> tuple[Line, ...]:
    """The index of an argument that broadcasts to v."""
    tail = index[len(index) - len(a.shape) :] if a.shape else ()
    return tuple(((), 0) if n == 1 else line for line, n in zip(tail, a.shape))
