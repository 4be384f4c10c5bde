"""One native function for all fronts of an unfolding: a schedule, written out in vector code.

    for front in fronts (backward: last to first):
        for group in groups:
            for panel of units, for block of rows:            # weights of a panel stay in cache while the rows pass
                products of the group, in registers           # [rows, panel] sums over the whole k loop
                what follows them, and what is to be written

A thread takes its slice of the sequences through all fronts: there is no barrier. Where there are fewer sequences than threads, these share the
units instead, each keeping its part of the weights in its own cache, and meet after every group. Rows are found through index arrays, so that
ragged sequences, trees and grids are the same to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import llvmlite.ir as ir

from wavefront.engine.backends.compiled.emit import I1, I64, PTR, Code
from wavefront.engine.backends.compiled.native import host_bytes, optimised
from wavefront.engine.backends.compiled.packing import Pack, Packing
from wavefront.engine.backends.compiled.schedule import Group, Item, Place, Schedule, base
from wavefront.engine.backends.compiled.sparse import SparsePack
from wavefront.engine.backends.compiled.threads import Team, can_meet, write_meeting
from wavefront.engine.backends.compiled.tiles import ACCUMULATORS, Tiles
from wavefront.engine.backends.compiled.values import Line, Values, flat
from wavefront.engine.graph import Recipe, Value
from wavefront.engine.plan import vanishes

__all__ = ["Kernel"]


class Kernel(Values, Team):
    """The compiled function. Its arguments are named in `arguments`; `run` takes an array with the pointer or number of each."""

    shares = True  # whether threads may share the units
    rest = 0.0  # until when they do not, having found no core to run on
    frame: Any = None  # what the last call was handed and the next may be handed again
    recipe: Recipe | None = None  # how weights and fixed vectors are made of what comes in

    def __init__(
        self,
        schedule: Schedule,
        sizes: dict[Any, int],
        slots: int,
        double: bool,
        reverse: bool,
        clear: tuple[int, ...] = (),
        low: bool = False,
        halves: Collection[Place] = (),
    ):
        """sizes: the vector size of each place, by (kind, number); clear: parts whose gradient is set to zero once a front is done with it;
        low: products take bfloat16 and sum in float32; halves: places of vectors in bfloat16, which are written for products alone."""
        super().__init__(schedule, sizes, slots, host_bytes() // (8 if double else 4), halves)
        self.low, self.reverse, self.clear, self.double = low, reverse, clear, double
        self.packs: list[Pack] = []
        self.sparse: list[SparsePack] = []
        self.module = ir.Module()
        self._states = {v for v, place in schedule.sources.items() if place.kind == "state"}
        self._tiles = Tiles(self.module, double, self.width, low)
        self._turned: dict[Any, Any] = {}
        self.turned = 0  # numbers of each row that are turned, beside the scratch
        self._meet = write_meeting(self.module) if self.shares and can_meet() else None
        self._write()
        self.splits = self._meet is not None and not self.turned  # what is turned would have to be waited for, too
        slices, pieces = self._argument("slices"), self._argument("pieces")
        self.packing = Packing(self.packs, double, low)
        self.place = {key: number for number, key in enumerate(self.arguments)}
        self._written = self.load(self.module, slices, pieces)
        del self.module, self.c, self._memo, self._sums, self._tiles, self._pointers  # what it takes to write it is large

    @property
    def text(self) -> str:
        """The code as LLVM has improved it."""
        return optimised(self._written)

    # the whole

    def _write(self) -> None:
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, I64]), name="kernel")
        self.c = c = Code(self.module, f, self.double, self.width)
        self._table, part = f.args
        self._entry = c.b.block
        most = max((self._shape(g)[3] for g in self.schedule.groups), default=1)
        tile = max((ACCUMULATORS, *(len(g.windows) * self._shape(g)[3] * self._shape(g)[2] for g in self.schedule.groups)))
        self._tile = c.b.alloca(c.V, c.i64(tile))
        self._tile.align = 64
        self._rows = c.b.alloca(PTR, c.i64(most))
        body = f.append_basic_block("body")
        c.b.position_at_end(body)
        fronts = self._number("fronts")  # of the whole structure; this call does those from "low" to "high"
        self._most = self._number("most")
        if self._meet is not None:
            pieces = self._number("pieces")
            shared, none = c.b.icmp_signed(">", pieces, c.i64(1)), c.i64(0)
            # how many share the units, which of them this is, how many have come to the last meeting in all, and whether this one still has work
            self._pieces, self._piece, self._met, self._busy = (c.b.alloca(I64) for _ in range(4))
            for place, number in (
                (self._pieces, pieces),
                (self._piece, c.b.select(shared, part, none)),
                (self._met, none),
                (self._busy, c.i64(1)),
            ):
                c.b.store(number, place)
            part = c.b.select(shared, none, part)
        first = c.b.mul(part, fronts)
        self._scratch = c.at(self._pointer("scratch"), c.b.mul(part, self._number("scratch_size")))

        groups, self.meetings = self.schedule.groups, 0

        def front(t: Any) -> None:
            at = c.b.add(first, t)
            start, count = c.load_i64(self._pointer("starts"), at), c.load_i64(self._pointer("counts"), at)
            self._list = c.at(self._pointer("list"), start, I64)
            edges = count
            # the nodes to the last that has more before it than zeros of which nobody wants a gradient
            self._joined = c.load_i64(self._pointer("joined"), at) if self._states else count
            if self.schedule.edged:
                first_edge, edges = c.load_i64(self._pointer("edge starts"), at), c.load_i64(self._pointer("edge counts"), at)
                self._edges, self._owners = (c.at(self._pointer(name), first_edge, I64) for name in ("edge list", "edge owner"))
                self._first_edges, self._degrees = (c.at(self._pointer(name), start, I64) for name in ("edge first", "degree"))
            for group in groups:
                self._group(group, edges if group.edges else count if self.schedule.lasts(group) else self._joined)
                if group is not groups[-1] or not self.clear or self.schedule.reads(group, "acc"):
                    self._wait()
            if self.clear:
                c.if_(c.b.icmp_signed("!=", self._number("clear"), c.i64(0)), lambda: self._clear(count))
                self._wait()

        def one(t: Any) -> None:
            front(t)
            self._separate()

        def busy(t: Any) -> None:
            c.if_(c.b.icmp_signed("!=", c.b.load(self._busy, typ=I64), c.i64(0)), lambda: one(t))

        c.loop(self._number("low"), self._number("high"), 1, front if self._meet is None else busy, down=self.reverse)
        c.b.ret_void()
        with c.b.goto_block(self._entry):
            c.b.branch(body)

    def _wait(self) -> None:
        """Until all who share the units have come here."""
        c, meet = self.c, self._meet
        if meet is None:
            return

        def wait() -> None:
            self.meetings += 1
            pieces = c.b.load(self._pieces, typ=I64)
            met = c.b.add(c.b.load(self._met, typ=I64), pieces)
            c.b.store(met, self._met)
            c.b.call(meet, [self._entry_of("met"), met, self._entry_of("part"), c.b.add(met, pieces)])

        c.if_(self._together(), wait)

    def _together(self) -> Any:
        return self.c.b.icmp_signed(">", self.c.b.load(self._pieces, typ=I64), self.c.i64(1))

    def _entry_of(self, key: Any) -> Any:
        return self.c.at(self._table, self.c.i64(self._argument(key)), I64)

    def _separate(self) -> None:
        """Where one has waited too long the first does the rest alone: the cores are busy with other work, and to wait for them takes longer."""
        c = self.c

        def look() -> None:
            at = c.b.load_atomic(self._entry_of("part"), "acquire", 8, typ=I64)
            late = c.b.and_(c.b.icmp_signed("!=", at, c.i64(0)), c.b.icmp_signed("<=", at, c.b.load(self._met, typ=I64)))

            def end() -> None:
                first = c.b.icmp_signed("==", c.b.load(self._piece, typ=I64), c.i64(0))
                c.b.store(c.i64(1), self._pieces)
                c.b.store(c.b.zext(first, I64), self._busy)

            c.if_(late, end)

        c.if_(self._together(), look)

    def _own(self, count: int) -> tuple[Any, Any, Any]:
        """Of so many parts of a group the first that is this thread's, the one after its last, and whether it has the last of all."""
        c = self.c
        if self._meet is None:
            return c.i64(0), c.i64(count), ir.Constant(I1, True)
        piece, pieces = (c.b.load(place, typ=I64) for place in (self._piece, self._pieces))
        low, high = (c.b.udiv(c.mul(p, count), pieces) for p in (piece, c.b.add(piece, c.i64(1))))
        return low, high, c.b.icmp_signed("==", high, c.i64(count))

    def _by_one(self, body: Callable[[], None]) -> None:
        """By one of the threads that share the units."""
        if self._meet is None:
            body()
        else:
            self.c.if_(self.c.b.icmp_signed("==", self.c.b.load(self._piece, typ=I64), self.c.i64(0)), body)

    # groups

    def _shape(self, g: Group) -> tuple[int, int, int, int]:
        """Units in the last dimension, panels of them, panels in a block, rows in a block."""
        n = g.shape[-1] if g.shape else 1
        panels = -(-n // self.width)
        if not g.windows:
            return n, panels, 1, 1
        operands = [product.args[0] for product, _ in g.windows]
        columns = max(operands.count(a) for a in operands)  # of the products that share one
        most = max(1, 4 // columns)
        together = next((p for p in range(min(most, panels), max(1, most // 2), -1) if panels % p == 0), min(most, panels))
        if any(product.kind == "sparse" for product, _ in g.windows):
            return n, panels, together, self.width
        return n, panels, together, max(1, min(8, ACCUMULATORS // (columns * together)))

    def _group(self, g: Group, count: Any) -> None:
        self._stage = g.stage
        if g.kind == "reduce":
            self._by_one(lambda: self._reduce(g, count))
        elif g.kind == "collect":
            self._by_one(lambda: self._collect(g, count))
        elif g.windows:
            self._product(g, count)
        else:
            self._map(g, count)

    def _panels(self, shape: tuple[int, ...], body: Any, carry: Any = (), prefix: str = "d", split: bool = False) -> Any:
        """Loops over all dimensions but the last, and over the last in vectors: body(index, lanes, *carry). split: a vector's, this thread's part."""
        c = self.c
        self.vars = {}
        outer: list[Line] = []

        def nest(d: int, *carried: Any) -> Any:
            if d < len(shape) - 1:
                if shape[d] == 1:
                    outer.append(((), 0))
                    new = nest(d + 1, *carried)
                    outer.pop()
                    return new
                name = f"{prefix}{d}"

                def one(k: Any, *inner: Any) -> Any:
                    self.vars[name] = k
                    outer.append((((name, 1),), 0))
                    new = nest(d + 1, *inner)
                    outer.pop()
                    return new

                return c.loop(c.i64(0), c.i64(shape[d]), 1, one, carried)
            return self._last(shape, tuple(outer), body, carried, split)

        return nest(0, *carry)

    def _last(self, shape: tuple[int, ...], outer: tuple[Line, ...], body: Any, carried: Any, split: bool = False) -> Any:
        c = self.c
        if not shape or shape[-1] == 1:
            self._memo.clear()
            return body((*outer, ((), 0)) if shape else (), 1, *carried)
        n = shape[-1]
        whole = n - n % self.width

        def panel(u: Any, *inner: Any) -> Any:
            self._memo.clear()
            self.vars["u"] = u
            return body((*outer, ((("u", 1),), 0)), self.width, *inner)

        def rest(*inner: Any) -> Any:
            self._memo.clear()
            self.vars["u"] = c.i64(whole)
            return body((*outer, ((("u", 1),), 0)), n % self.width, *inner)

        if split:
            low, high, last = self._own(-(-n // self.width))
            end = c.b.select(last, c.i64(whole), c.mul(high, self.width))
            c.loop(c.mul(low, self.width), end, self.width, panel)
            if n % self.width:
                c.if_(last, rest)
            return carried
        if whole:
            carried = c.loop(c.i64(0), c.i64(whole), self.width, panel, carried)
        return rest(*carried) if n % self.width else carried

    def _splits(self, shape: tuple[int, ...]) -> bool:
        """Whether threads that share the units share these."""
        return len(shape) == 1 and shape[0] > self.width

    def _map(self, g: Group, count: Any) -> None:
        split = self._splits(g.shape)

        def row(i: Any) -> None:
            self._panels(g.shape, lambda index, lanes: self._items(g, i, index, lanes), split=split)

        def rows() -> None:
            self.c.loop(self.c.i64(0), count, 1, row)

        if split:
            rows()
        else:
            self._by_one(rows)

    def _items(self, g: Group, i: Any, index: tuple[Line, ...], lanes: int) -> None:
        self._i, self._lanes = i, lanes
        values = [self.value(item.value, index) for item in g.items]  # all of them first: what is written may lie over what is read
        for item, value in zip(g.items, values):
            self._store(item, value, index)

    def _store(self, item: Item, value: Any, index: tuple[Line, ...]) -> None:
        c = self.c
        line = flat(index, item.strides)
        line = line[0], line[1] + item.offset
        pointer = self._memory(item.place, line)
        self._touch(item.place, line, write=True)
        if item.place in self.halves:
            c.store_halved(value, pointer, self._lanes)
            return
        step = dict(line[0]).get("u", 1)
        if step != 1 and self._lanes > 1:
            for k in range(self._lanes):
                here = c.at(pointer, c.i64(k * step))
                one = c.b.extract_element(value, ir.Constant(ir.IntType(32), k))
                c.b.store(c.b.fadd(c.load_scalar(here), one) if item.accumulate else one, here)
            return
        c.store(c.b.fadd(c.load(pointer, self._lanes), value) if item.accumulate else value, pointer, self._lanes)

    def _reduce(self, g: Group, count: Any) -> None:
        c = self.c
        starts = [c.splat(0.0) if item.value.kind == "sum" else c.splat(-float("inf")) for item in g.items]

        def row(i: Any) -> None:
            def over_last(outer_index: tuple[Line, ...]) -> None:
                def body(index: tuple[Line, ...], lanes: int, *sums: Any) -> list[Any]:
                    self._i, self._lanes = i, lanes
                    new = []
                    for item, so_far, neutral in zip(g.items, sums, starts):
                        v = self.value(item.value.args[0], index)
                        if lanes < self.width:
                            v = c.select(c.mask(lanes), v, neutral)
                        new.append(c.b.fadd(so_far, v) if item.value.kind == "sum" else c.call("maximum", so_far, v))
                    return new

                sums = self._last(g.shape, outer_index, body, starts)
                self._memo.clear()
                for item, total in zip(g.items, sums):
                    line = flat(outer_index, item.strides)
                    c.b.store(self._across(item.value.kind, total), self._memory(item.place, (line[0], line[1] + item.offset)))

            self.vars = {}
            self._outer(g.shape[:-1], over_last)

        c.loop(c.i64(0), count, 1, row)

    def _collect(self, g: Group, count: Any) -> None:
        """Sums over the edges of each node."""
        c = self.c

        def row(i: Any) -> None:
            first = c.load_i64(self._first_edges, i)
            last = c.add(first, c.load_i64(self._degrees, i))

            def panel(index: tuple[Line, ...], lanes: int) -> None:
                def edge(e: Any, *sums: Any) -> list[Any]:
                    self._memo.clear()
                    self._i, self._lanes = e, lanes
                    return [c.b.fadd(so_far, self.value(item.value.args[0], index)) for item, so_far in zip(g.items, sums)]

                sums = c.loop(first, last, 1, edge, [c.splat(0.0)] * len(g.items))
                self._memo.clear()
                self._i, self._lanes = i, lanes
                for item, total in zip(g.items, sums):
                    self._store(item, total, index)

            self._panels(g.shape, panel)

        c.loop(c.i64(0), count, 1, row)

    def _outer(self, shape: tuple[int, ...], body: Any, index: tuple[Line, ...] = ()) -> None:
        if len(index) == len(shape):
            body(index)
        elif shape[len(index)] == 1:
            self._outer(shape, body, (*index, ((), 0)))
        else:
            name = f"r{len(index)}"

            def one(k: Any) -> None:
                self.vars[name] = k
                self._outer(shape, body, (*index, (((name, 1),), 0)))

            self.c.loop(self.c.i64(0), self.c.i64(shape[len(index)]), 1, one)

    def _across(self, kind: str, v: Any) -> Any:
        c = self.c
        if kind == "sum":
            f = c.intrinsic("llvm.vector.reduce.fadd", c.F, [c.F, c.V], f".{c.suffix}")
            return c.b.call(f, [ir.Constant(c.F, -0.0), v], fastmath=("reassoc",))
        return c.b.call(c.intrinsic("llvm.vector.reduce.fmaximum", c.F, [c.V], f".{c.suffix}"), [v])

    def _clear(self, count: Any) -> None:
        c = self.c

        def row(i: Any) -> None:
            for number in self.clear:

                def zero(index: tuple[Line, ...], lanes: int, number: int = number) -> None:
                    self._i, self._lanes = i, lanes
                    c.store(c.splat(0.0), self._memory(Place("acc", number), index[0]), lanes)

                size = self.sizes[("state", number)]
                self._panels((size,), zero, split=self._splits((size,)))

        c.loop(c.i64(0), count, 1, row)

    # products

    def _multiply(self, a: Value, i: Any, tile: ir.Function, sums: int, out: Any, arguments: Sequence[Any]) -> None:
        """The products of a block of rows, from the i-th on, with a: zeros, where it is made of nothing but such."""
        c = self.c
        if a.edges or not vanishes(a, self._states):
            c.b.call(tile, arguments)
            return
        joined = c.b.icmp_signed("<", i, self._joined)

        def zeros() -> None:
            c.loop(c.i64(0), c.i64(sums), 1, lambda k: c.store(c.splat(0.0), c.at(out, k, c.V)))

        c.if_(joined, lambda: c.b.call(tile, arguments))
        c.if_(c.b.not_(joined), zeros)

    def _product(self, g: Group, count: Any) -> None:
        c = self.c
        n, panels, together, rows = self._shape(g)
        operands: dict[Value, list[tuple[Value, int]]] = {}
        weights: list[Any] = []
        for product, column in g.windows:
            if product.kind == "mm":
                operands.setdefault(product.args[0], []).append((product, column))
            else:
                self.sparse.append(SparsePack(product.args[1], product.args[2], product.attr, column, n))
                weights.append((len(self.sparse) - 1, product.args[0], [(product, column)]))
        for a, windows in operands.items():
            self.packs.append(Pack(tuple((p.args[1], column) for p, column in windows), n, a.shape[0], together))
            weights.append((("pack", len(self.packs) - 1), a, windows))
        whole, rest = panels // together, panels % together
        self.vars = {}
        for key, a, _ in weights:
            if isinstance(key, int) and not g.edges:
                self._turn(key, a, count)
            elif self.low and not isinstance(key, int) and self._place(base(a)[0]) not in self.halves:
                self._halve(key, a, count)

        def block(u: Any, panels_here: int, lanes_last: int) -> None:
            def tile_of(r: int, i: Any) -> None:
                offset = 0
                for key, a, windows in weights:
                    columns = len(windows) * panels_here
                    memory, start = base(a)
                    place = self._place(memory)
                    for k in range(r):
                        self._memo.clear()
                        row = c.add(i, c.i64(k))
                        if self.low and not isinstance(key, int) and place not in self.halves:
                            here = c.at(self._turned[key], c.mul(row, _padded(a, self.width)))
                        else:
                            here = self._pointer_of(place, row, start)
                        c.b.store(here, c.at(self._rows, c.i64(k), PTR))
                    if isinstance(key, int):
                        turned = c.at(self._turned[key], c.mul(i, a.shape[0])) if r == self.width and not g.edges else None
                        for p in range(columns):
                            self._sparse_panel(key, c.add(u, c.i64(p * self.width)), r, columns, offset * rows + p, turned)
                        offset += columns
                        continue
                    depth = -(-a.shape[0] // 2) if self.low else a.shape[0]
                    weight = c.at(self._pointer(key), c.mul(u, depth * len(windows)))
                    out = c.at(self._tile, c.i64(offset * rows), c.V)
                    # of the block of panels that comes next, one vector of each of its rows
                    which = c.b.srem(c.b.sdiv(i, c.i64(rows)), c.i64(columns))
                    ahead = c.at(weight, c.mul(c.add(which, c.i64(columns * depth)), self.width))
                    self._multiply(a, i, self._tiles.dense(r, columns, depth), r * columns, out, [weight, out, self._rows, ahead])
                    offset += columns

            def after(i: Any, r: Any) -> None:
                def one(k: Any) -> None:
                    def panel(p: Any, lanes: int) -> None:
                        self._memo.clear()
                        self.vars = {"u": c.add(u, c.mul(p, self.width))}
                        self._sums.clear()
                        offset = 0
                        for _, _, windows in weights:
                            columns = len(windows) * panels_here
                            for w, window in enumerate(windows):
                                at = c.add(c.i64(offset * rows + w * panels_here), c.mul(k, columns), p)
                                self._sums[window] = at
                            offset += columns
                        index = ((((("u", 1),), 0),) if n > 1 else (((), 0),)) if g.shape else ()
                        self._items(g, c.add(i, k), index, lanes)

                    full = panels_here - (lanes_last < self.width)
                    if full == 1:
                        panel(c.i64(0), self.width)
                    elif full:
                        c.loop(c.i64(0), c.i64(full), 1, lambda p: panel(p, self.width))
                    if full < panels_here:
                        panel(c.i64(full), lanes_last)

                c.loop(c.i64(0), r, 1, one)

            self._row_blocks(count, rows, tile_of, after, lambda i, r: self._fetch(i, r, u, panels_here))

        last, step = n - (panels - 1) * self.width, together * self.width
        several = whole if rest else whole - (last < self.width)  # full blocks; there may be one more
        low, high, ends = self._own(several if several else 1)
        if several:
            c.loop(c.mul(low, step), c.mul(high, step), step, lambda u: block(u, together, self.width))
        if rest or several < whole:
            c.if_(ends, lambda: block(c.i64(several * step), rest or together, last))

    def _fetch(self, i: Any, rows: Any, u: Any, panels: int) -> None:
        """Ask for what will be read and written once the products of a block are done: it comes while they are made."""
        c = self.c

        def one(k: Any) -> None:
            self._memo.clear()
            self._i = c.add(i, k)
            for p in range(panels):
                self.vars = {"u": c.add(u, c.i64(p * self.width))}
                for (place, line), write in self._touched.items():
                    c.prefetch(self._memory(place, line), write)

        c.loop(c.i64(0), rows, 1, one)

    def _row_blocks(self, count: Any, most: int, tile_of: Any, after: Any, fetch: Any) -> None:
        """Rows in blocks of `most`, then 2, then 1: the products of each, and what follows them."""
        c, b = self.c, self.c.b
        f = c.function
        head, choose, then, done = (f.append_basic_block(n) for n in ("rows", "choose", "then", "done"))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(c.i64(0), before)
        b.cbranch(b.icmp_signed("<", i, count), choose, done)
        b.position_at_end(then)  # first, so that it is known what it reads and writes
        r_ = b.phi(I64)
        self._touched.clear()
        after(i, r_)
        i.add_incoming(b.add(i, r_), b.block)
        b.branch(head)
        b.position_at_end(choose)
        left = b.sub(count, i)
        fetch(i, b.select(b.icmp_signed("<", left, c.i64(most)), left, c.i64(most)))
        for r in sorted({most, *(k for k in (4, 2, 1) if k < most)}, reverse=True):
            inside, other = f.append_basic_block(f"take{r}"), f.append_basic_block("fewer")
            if r > 1:
                enough = b.icmp_signed(">=", left, c.i64(r))
                if r == most == 6:  # 8 rows are 4 and 4: two alone wait for the weights
                    enough = b.and_(enough, b.icmp_signed("!=", left, c.i64(8)))
                b.cbranch(enough, inside, other)
            else:
                b.branch(inside)
            b.position_at_end(inside)
            tile_of(r, i)
            r_.add_incoming(c.i64(r), b.block)
            b.branch(then)
            b.position_at_end(other)
        b.unreachable()
        b.position_at_end(done)

    def _turn(self, number: int, a: Value, count: Any) -> None:
        """Rows in blocks of as many as a vector has lanes, turned: what a sparse product reads of one place is then one vector for all of them."""
        c = self.c
        memory, start = base(a)
        place, n = self._place(memory), a.shape[0]
        self._turned[number] = c.at(self._scratch, c.b.add(self._number("turned"), c.b.mul(self._most, c.i64(self.turned))))
        self.turned += n
        whole = n - n % self.width

        def block(i: Any) -> None:
            self._memo.clear()
            rows = [c.add(i, c.i64(k)) for k in range(self.width)]  # all alive: they are told apart by identity
            pointers = [self._pointer_of(place, row, start) for row in rows]
            target = c.at(self._turned[number], c.mul(i, n))

            def part(u: Any, lanes: int) -> None:
                for k, v in enumerate(c.transposed([c.load(c.at(p, u), lanes) for p in pointers])[:lanes]):
                    c.store(v, c.at(target, c.mul(c.add(u, c.i64(k)), self.width)))

            c.loop(c.i64(0), c.i64(whole), self.width, lambda u: part(u, self.width))
            if whole < n:
                part(c.i64(whole), n - whole)

        full = c.b.sub(count, c.b.srem(count, c.i64(self.width)))
        c.loop(c.i64(0), full, self.width, block)

    def _halve(self, key: Any, a: Value, count: Any) -> None:
        """All rows in bfloat16, with zeros up to a multiple of a vector."""
        c = self.c
        memory, start = base(a)
        place, n, step = self._place(memory), a.shape[0], _padded(a, self.width)
        self._turned[key] = c.at(self._scratch, c.b.add(self._number("turned"), c.b.mul(self._most, c.i64(self.turned))))
        self.turned += step
        whole = n - n % self.width

        def row(i: Any) -> None:
            self._memo.clear()
            source, target = self._pointer_of(place, i, start), c.at(self._turned[key], c.mul(i, step))

            def part(u: Any, lanes: int) -> None:
                c.b.store(c.halved(c.load(c.at(source, u), lanes)), c.at(target, c.b.lshr(u, c.i64(1))), align=4)

            c.loop(c.i64(0), c.i64(whole), self.width, lambda u: part(u, self.width))
            if whole < n:
                part(c.i64(whole), n - whole)

        c.loop(c.i64(0), count, 1, row)

    def _sparse_panel(self, number: int, u: Any, rows: int, stride: int, at: int, turned: Any = None) -> None:
        """The sums of one panel of a sparse product, from u on, for `rows` rows: into the tile at `at`, a row every `stride` vectors."""
        c = self.c
        starts, panel = self._pointer(("starts", number)), c.b.sdiv(u, c.i64(self.width))
        first = c.load_i64(starts, panel)
        count = c.b.sub(c.load_i64(starts, c.add(panel, c.i64(1))), first)
        weights = c.at(self._pointer(("weights", number)), c.mul(first, self.width))
        places = c.at(self._pointer(("places", number)), first, I64)
        f = self._tiles.sparse(rows, stride) if turned is None else self._tiles.turned(stride)
        c.b.call(f, [weights, places, count, c.at(self._tile, c.i64(at), c.V), self._rows if turned is None else turned])


def _padded(a: Value, width: int) -> int:
    """Numbers that a row of an operand takes in bfloat16."""
    return int(-(-a.shape[0] // width) * width // 2)
