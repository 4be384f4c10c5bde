"""A plan's carried part as two native functions: forward, which stores what the backward pass reads, and backward.

The backward step is the derivative of the forward step, in the same language. Of the forward values that it reads, the states are there
anyway; what is cheap is computed again; the rest is stored, in the place of the sums x W + b that came in, if it can be. Gradients of weights
are no part of the loop: their operands are written out, and products over many nodes follow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wavefront.engine.backends.compiled.homes import Home, find_homes, may_overwrite
from wavefront.engine.backends.compiled.kernel import Kernel
from wavefront.engine.backends.compiled.native import has_bf16
from wavefront.engine.backends.compiled.schedule import Place, Schedule, base
from wavefront.engine.differentiate import Contribution, differentiate
from wavefront.engine.graph import PRODUCTS, Graph, Value, order
from wavefront.engine.plan import CHEAP, VIEWS, Plan, Reach, linear

__all__ = ["Program"]


@dataclass
class Arrays:
    """The arrays of a kernel, numbered: what each is by name. Those of edges are among those of nodes."""

    node: list[Any]
    row: list[Any]
    fixed: list[Any]


class Program:
    """needs: for each of `plan.into`, whether its gradient is wanted; None for inference, which stores nothing."""

    def __init__(self, plan: Plan, needs: tuple[bool, ...] | None, double: bool, inside: bool = False, low: bool = False):
        """inside: the products x W + b are made in the loop, too, and their sums are nowhere in memory; low: the loop's products take bfloat16."""
        self.plan, self.needs, self.double, self.low, self.makes_sums = plan, needs, double, low, inside
        self._lock = threading.RLock()
        self.graph: Graph = plan.graph
        self.leaves = [v.shape for v in plan.after]
        self.slots = len(plan.before)
        read = {*plan.after, *plan.exported, *(a for v in plan.carried for a in v.args)}
        self.lifted = {v: parts for v in plan.lifted if (parts := linear(v)) is not None}
        self.input_weights = sum(w.size for _, w, _ in self.lifted.values())
        if inside and needs is None:
            read |= {x for x, _, _ in self.lifted.values()}
            self.lifted = {}
        self.into_rows = [v for v in plan.into if v.rows and v in read]
        self.stored: list[Value] = []
        self.contributions: list[Contribution] = []
        self.gradients: dict[Value, Value] = {}
        self.homes: dict[Value, Home] = {}  # where a stored value lies in the place of a sum
        self.halves: set[Value] = set()  # deltas that are written in bfloat16
        self.over: dict[Value, Value] = {}  # whose gradient may be written over such a place
        if needs is not None:
            self._differentiate()
            self._choose_stored()
        # a carried value that is a part of the next state needs no array of its own
        self.as_state = {v: plan.after.index(v) for v in plan.exported + self.stored if v in plan.after}
        self.exports = [v for v in plan.exported if v not in self.as_state]
        self.keeps = [v for v in self.stored if v not in self.as_state and v not in self.exports]

    @cached_property
    def inside(self) -> Program:
        """The same with the products x W + b in the loop, if nobody reads their sums again."""
        if self.needs is not None and self._read_again:
            return self
        return Program(self.plan, self.needs, self.double, inside=True, low=self.low)

    @cached_property
    def lowered(self) -> Program:
        """The same with the loop's products in bfloat16, where this machine has instructions for them."""
        if self.double or not has_bf16() or any(v.edges for v in self.plan.carried):
            return self
        return Program(self.plan, self.needs, self.double, low=True)

    # what to compute

    def _differentiate(self) -> None:
        g, plan = self.graph, self.plan
        seeds: dict[Value, Value] = {}
        self.acc = [g.input(("acc", n), shape) for n, shape in enumerate(self.leaves)]
        self.grad = [g.input(("grad", n), v.shape) for n, v in enumerate(plan.exported)]
        for v, seed in [*zip(plan.after, self.acc), *zip(plan.exported, self.grad)]:
            seeds[v] = g.op("add", seeds[v], seed) if v in seeds else seed
        assert self.needs is not None
        states = [leaf for slot in plan.before for leaf in slot]
        wanted = [v for v, need in zip(plan.into, self.needs) if need]
        sums = [v for v, parts in self.lifted.items() if any(p in wanted for p in parts)]
        self.gradients, self.contributions = differentiate(g, seeds, [*states, *wanted, *sums])
        for v in sums:
            if v in self.gradients:
                x, w, b = self.lifted[v]
                if w in wanted:
                    self.contributions.append(Contribution(w, x, self.gradients[v]))
                if b in wanted:
                    self.contributions.append(Contribution(b, None, self.gradients[v]))

    def _choose_stored(self) -> None:
        plan = self.plan
        carried = set(plan.carried)
        free = {*plan.into, *plan.lifted, *plan.after, *plan.exported, *(leaf for slot in plan.before for leaf in slot)}
        asked: dict[Value, None] = {}
        results = [*self.gradients.values(), *(c.delta for c in self.contributions)]
        backward = _until(results, carried | free)
        for v in backward:
            for a in v.args:
                if a in carried:
                    asked.setdefault(a)
        for v in results:
            if v in carried:
                asked.setdefault(v)
        stored: dict[Value, None] = {}
        for c in self.contributions:
            if c.a is not None and c.a not in free and base(c.a)[0] not in free:
                stored.setdefault(c.a)
        for v in order(asked):
            if v in asked and v not in free:
                self._keep(v, stored, free, carried)
        self.stored = [v for v in plan.carried if v in stored]

    def _keep(self, v: Value, stored: dict[Value, None], free: set[Value], carried: set[Value]) -> None:
        """Have v in the backward pass: computed again, if that is cheap and takes nothing that is not there; else stored."""
        if v in free or v in stored or v not in carried:
            return
        cone = _until([v], free | set(stored))
        again = v.kind in CHEAP | VIEWS | {"expand", "permute"} and all(
            u.kind in CHEAP | VIEWS | {"expand", "permute", "const"} for u in cone
        )
        if again:
            return
        if v.logical:
            for a in v.args:
                self._keep(a, stored, free, carried)
        else:
            stored[v] = None

    # the kernels

    def _sources(self, arrays: Arrays, lifted: Iterable[Value]) -> dict[Value, Place]:
        sources: dict[Value, Place] = {}
        for slot, parts in enumerate(self.plan.before):
            for number, leaf in enumerate(parts):
                sources[leaf] = Place("state", number, slot)
        for v in lifted:
            sources[v] = Place("node", len(arrays.node))
            arrays.node.append(("lifted", v))
        for v in self.into_rows:
            kind, names = ("row", arrays.row) if self.plan.reach[v] is Reach.SEQUENCE else ("node", arrays.node)
            sources[v] = Place(kind, len(names))
            names.append(("into", v))
        return sources

    def _add_fixed(self, arrays: Arrays, sources: dict[Value, Place], results: list[Value]) -> None:
        """Prepared vectors that the kernel reads: made of `plan.into` before each run."""
        for v in _until(results, set(sources)):
            for a in v.args if v.rows and v.kind not in PRODUCTS else ():
                if not a.rows and a.kind != "const" and a not in sources:
                    sources[a] = Place("fixed", len(arrays.fixed))
                    arrays.fixed.append(("prepared", a))

    def _sizes(self, arrays: Arrays) -> dict[Any, int]:
        sizes: dict[Any, int] = {("state", n): _size(shape) for n, shape in enumerate(self.leaves)}
        sizes |= {("node", n): self.homes[v].of.size if v in self.homes else v.size for n, (_, v) in enumerate(arrays.node)}
        return sizes | {("row", n): v.size for n, (_, v) in enumerate(arrays.row)}

    def check(self) -> None:
        """Unsupported, with the reason, where no native code can be made. To make it is left to the first call, for of a cell that is trained nobody
        may ever ask for inference, nor the other way round."""
        with self._lock:
            self._scheduled  # noqa: B018

    @property
    def forward(self) -> tuple[Kernel, Arrays]:
        with self._lock:
            return self._forward

    @property
    def backward(self) -> tuple[Kernel, Arrays]:
        with self._lock:
            return self._backward

    @cached_property
    def _forward(self) -> tuple[Kernel, Arrays]:
        schedule, arrays = self._scheduled
        return Kernel(schedule, self._sizes(arrays), self.slots, self.double, reverse=False, low=self.low), arrays

    @cached_property
    def _scheduled(self) -> tuple[Schedule, Arrays]:
        """The forward loop; it decides what is stored where."""
        arrays = Arrays([], [], [])
        sources = self._sources(arrays, self.lifted)
        outputs = [(v, Place("own", n), False) for n, v in enumerate(self.plan.after)]
        for kind, values in (("export", self.exports), ("keep", self.keeps)):
            for v in values:
                outputs.append((v, Place("edge" if v.edges else "node", len(arrays.node)), False))
                arrays.node.append((kind, v))
        self._add_fixed(arrays, sources, [v for v, _, _ in outputs])
        schedule = Schedule(sources, outputs)
        operands = {base(c.a)[0] for c in self.contributions if c.a is not None}
        places = {v: schedule.places[v] for v in self.keeps if v not in operands and not v.edges}
        self.homes = find_homes(schedule, places, [v for v in self.lifted if v not in self._read_again])
        if self.makes_sums:  # what is stored lies where the sums would, had they come in
            for v, (x, _, _) in self.lifted.items():
                del sources[v]
                if x not in sources:
                    sources[x] = Place("node", len(arrays.node))
                    arrays.node.append(("into", x))
            self._add_fixed(arrays, sources, [v for v, _, _ in outputs])
            schedule = Schedule(sources, outputs)
        return schedule, arrays

    @cached_property
    def _backward(self) -> tuple[Kernel, Arrays]:
        self._scheduled  # noqa: B018  decides what is stored where
        arrays = Arrays([], [], [])
        sources = self._sources(arrays, [v for v in self.lifted if v in self._read_again])

        def array(kind: str, v: Value) -> Place:
            arrays.node.append((kind, v))
            return Place("edge" if v.edges else "node", len(arrays.node) - 1)

        for v in self.exports:
            sources.setdefault(v, array("export", v))
        for v in self.keeps:
            sources.setdefault(v, array("keep", v))
        for number, v in enumerate(self.plan.after):
            if v not in sources:
                sources[v] = Place("own", number)
        for number, v in enumerate(self.acc):
            sources[v] = Place("acc", number)
        for v in self.grad:
            sources[v] = array("grad", v)
        outputs = []
        for slot, parts in enumerate(self.plan.before):
            for number, leaf in enumerate(parts):
                if leaf in self.gradients:
                    outputs.append((self.gradients[leaf], Place("before", number, slot), True))
        places = {}
        for v in self.deltas:
            places[v] = array("delta", v)
            outputs.append((v, places[v], False))
        self._add_fixed(arrays, sources, [v for v, _, _ in outputs])
        schedule = Schedule(sources, outputs)
        self.halves = {v for v in self.deltas if self.low and self._for_products(v, places[v], schedule)}
        for v in self.lifted:
            d = self.gradients.get(v)
            if d in places and d not in self.halves and v not in self._read_again and d not in self.over.values():
                inhabitants = {kept: home.start for kept, home in self.homes.items() if home.of is v}
                if may_overwrite(schedule, places[d], inhabitants):
                    self.over[v] = d
        kernel = Kernel(
            schedule,
            self._sizes(arrays),
            self.slots,
            self.double,
            reverse=True,
            clear=tuple(range(len(self.leaves))),
            low=self.low,
            halves={places[v] for v in self.halves},
        )
        return kernel, arrays

    def _for_products(self, delta: Value, place: Place, schedule: Schedule) -> bool:
        """Whether products take δ, and its own sum, and nobody else: these read it in bfloat16 anyway."""
        mine = [c for c in self.contributions if c.delta is delta]
        asked = [self.gradients.get(v) for v in self.into_rows]
        asked += [self.gradients.get(v) for v, (x, _, _) in self.lifted.items() if self.needs and self.needs[self.plan.into.index(x)]]
        written = [(group, item) for group in schedule.groups for item in group.items if item.place == place]
        return (
            delta not in asked
            and len(delta.shape) == 1
            and delta.size % 2 == 0
            and any(c.a is not None for c in mine)
            and all(c.at is None and (c.to.shape == delta.shape if c.a is None else len(c.a.shape) == 1) for c in mine)
            and all(v.kind == "mm" for v in schedule.values if delta in v.args)
            and all(len(group.shape) == 1 and item.strides == (1,) and not item.accumulate for group, item in written)
        )

    @cached_property
    def _read_again(self) -> set[Value]:
        """The sums that come in and that the backward pass reads: nothing may lie over them."""
        operands = {base(c.a)[0] for c in self.contributions if c.a is not None}
        known = {*self.plan.into, *self.plan.after, *self.stored, *self.exports, *(leaf for slot in self.plan.before for leaf in slot)}
        return set(self.lifted) & {*operands, *_until([*self.gradients.values(), *self.deltas], known)}

    @cached_property
    def own_arrays(self) -> list[Value]:
        """What the forward loop writes for each node beside the states, and not in the place of a sum."""
        return [*self.exports, *(v for v in self.keeps if v not in self.homes)]

    @cached_property
    def work(self) -> int:
        """Additions and multiplications for each node, about."""
        return max(1, sum(2 * v.args[1].size if v.kind in PRODUCTS else 10 * v.size for v in self.plan.carried))

    @cached_property
    def deltas(self) -> list[Value]:
        """What the backward loop writes out for each node: gradients of what came in with rows, and the δ of contributions."""
        rows = [self.gradients[v] for v in [*self.into_rows, *self.lifted] if v in self.gradients]
        return list(dict.fromkeys([*rows, *(c.delta for c in self.contributions)]))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _until(values: list[Value], known: set[Value]) -> list[Value]:
    seen: dict[Value, None] = {}
    todo = list(values)
    while todo:
        v = todo.pop()
        if v not in seen and v not in known:
            seen[v] = None
            todo += v.args
    return list(seen)
