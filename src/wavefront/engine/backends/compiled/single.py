"""One step alone, for streams and decoding: the whole step as one native function, which reads weights where they lie.

A loop packs its weights, once for many steps. For a single step that would cost more than the step, and a copy would have to be kept true
to its original; so here products go through the weights as torch holds them, and whatever changed them is seen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from wavefront.engine.backends.compiled.emit import I32, I64, PTR, Code
from wavefront.engine.backends.compiled.kernel import Kernel
from wavefront.engine.backends.compiled.schedule import Group, Place, Schedule, base
from wavefront.engine.graph import ELEMENTWISE, PRODUCTS, Unsupported, Value, needed

__all__ = ["SingleKernel", "schedule_of"]

ROWS = 4  # that share what is read of the weights
COLUMNS = 4  # of weights, that share what is read of those rows
AHEAD = 16  # vectors of a weight's column, read without looking whether it ends


class SingleKernel(Kernel):
    """A function from `inputs` to `results`, vectors [rows, ...] each, in arrays of their own.

    along      for each prepared matrix [K, M] of a product: whether a column's K numbers lie next to each other (a weight's transpose), or a row's M
    addresses  how many come first among the arguments: of inputs, results, prepared matrices, and other prepared values, `fixed`
    step       takes where the arguments lie. Does the step -> 0; or nothing -> 1, where one of the numbers "watched" is not what it was:
               so many pairs of an address and a number, "watch"
    """

    shares = False

    def __init__(self, inputs: list[Value], results: list[Value], along: dict[Value, bool], double: bool):
        schedule, self.fixed = schedule_of(inputs, results)
        self.weights = list(along)
        self.along = along
        self.total = _totals(results)
        self.beside = 0  # numbers of scratch memory beside the schedule's
        sizes: dict[Any, int] = {("node", n): v.size for n, v in enumerate([*inputs, *results])}
        self.nodes = len(inputs) + len(results)
        super().__init__(schedule, sizes, 1, double, reverse=False)
        self.step = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self.address("step"))

    def _write(self) -> None:
        parts = {"node": self.nodes, "weight": len(self.weights), "fixed": len(self.fixed)}
        self.addresses = len([self._argument((name, n)) for name, count in parts.items() for n in range(count)])
        super()._write()
        of = {name: self._argument(name) for name in ("watch", "watched")}
        f = ir.Function(self.module, ir.FunctionType(I32, [PTR]), name="step")
        c, (table,) = Code(self.module, f, self.double, self.width), f.args
        pairs = c.load_pointer(table, of["watch"])

        def differ(n: Any, total: Any) -> list[Any]:
            address = c.b.load(c.at(pairs, c.mul(n, 2), I64), typ=PTR)
            number = c.load_i64(pairs, c.add(c.mul(n, 2), c.i64(1)))
            return [c.b.or_(total, c.b.xor(c.load_i64(address, c.i64(0)), number))]

        (total,) = c.loop(c.i64(0), c.load_i64(table, c.i64(of["watched"])), 1, differ, [c.i64(0)])
        changed = c.b.icmp_signed("!=", total, c.i64(0))
        c.if_(c.b.not_(changed), lambda: c.b.call(next(k for k in self.module.functions if k.name == "kernel"), [table, c.i64(0)]))
        c.b.ret(c.b.zext(changed, I32))

    def _shape(self, g: Group) -> tuple[int, int, int, int]:
        n = g.shape[-1] if g.shape else 1
        return n, -(-n // self.width), 1, ROWS

    def _product(self, g: Group, count: Any) -> None:
        c = self.c
        in_blocks = c.b.sub(count, c.b.srem(count, c.i64(ROWS)))
        c.loop(c.i64(0), in_blocks, ROWS, lambda i: self._columns(g, lambda u, lanes: self._block(g, u, lanes, i)))
        c.loop(in_blocks, count, 1, lambda i: self._alone(g, i))

    def _columns(self, g: Group, panel: Callable[[Any, int], None]) -> None:
        """A panel of units at a time."""
        c, n = self.c, g.shape[-1] if g.shape else 1
        whole = n - n % self.width
        if whole:
            c.loop(c.i64(0), c.i64(whole), self.width, lambda u: panel(u, self.width))
        if whole < n:
            panel(c.i64(whole), n - whole)

    def _added(self, g: Group) -> list[list[int]]:
        """Products that are only added to each other, by where: one sum."""
        sums: dict[Any, list[int]] = {}
        for w, (product, column) in enumerate(g.windows):
            sums.setdefault((self.total[product], column), []).append(w)
        return list(sums.values())

    def _follow(self, g: Group, i: Any, u: Any, lanes: int, sums: list[list[int]], found: list[Any]) -> None:
        """What follows the sums of a panel of the i-th row, and what is to be written."""
        self._memo.clear()
        self.vars = {"u": u}
        line = (("u", 1),) if g.shape and g.shape[-1] > 1 else ()
        for (first, *others), total in zip(sums, found):
            product, column = g.windows[first]
            self._memo[(product, ((line, column),))] = total
            self._memo |= {(g.windows[w][0], ((line, column),)): self.c.splat(0.0) for w in others}
        self._items(g, i, ((line, 0),) if g.shape else (), lanes)

    def _block(self, g: Group, u: Any, lanes: int, i: Any) -> None:
        """A panel of a few rows, which share what is read of the weights."""
        c, sums = self.c, self._added(g)
        for s, windows in enumerate(sums):
            terms = []
            for product, column in (g.windows[w] for w in windows):
                xs = [self._operand(product, c.add(i, c.i64(r))) for r in range(ROWS)]
                terms.append((xs, product.args[1], c.add(u, c.i64(column))))
            for r, total in enumerate(self._times(terms, lanes)):
                c.b.store(total, c.at(self._tile, c.i64(r * len(sums) + s), c.V))

        def row(r: Any) -> None:
            places = [c.at(self._tile, c.add(c.mul(r, len(sums)), c.i64(s)), c.V) for s in range(len(sums))]
            self._follow(g, c.add(i, r), u, lanes, sums, [c.b.load(at, typ=c.V) for at in places])

        c.loop(c.i64(0), c.i64(ROWS), 1, row)

    def _alone(self, g: Group, i: Any) -> None:
        """One row: there is little to do with each weight, so all of them are read as they lie, matrix after matrix, before anything follows."""
        c, sums = self.c, self._added(g)
        n = -(-(g.shape[-1] if g.shape else 1) // self.width) * self.width
        self.beside = max(self.beside, n * len(sums))
        tile = c.at(self._scratch, c.mul(self._most, self.schedule.scratch))
        terms = [(t, g.windows[w], s) for s, windows in enumerate(sums) for t, w in enumerate(windows)]
        for t, (product, column), s in sorted(terms, key=lambda term: (term[0], self.weights.index(term[1][0].args[1]), term[1][1])):
            weight, x = product.args[1], self._operand(product, i)
            times = self._stream if self.along[weight] else self._down

            def panel(
                u: Any, lanes: int, t: int = t, s: int = s, x: Any = x, weight: Value = weight, column: int = column, times: Any = times
            ) -> None:
                total, at = times(x, weight, c.add(u, c.i64(column)), lanes), c.at(tile, c.add(u, c.i64(s * n)))
                c.store(c.b.fadd(c.load(at), total) if t else total, at)

            self._columns(g, panel)
        places = [c.i64(s * n) for s in range(len(sums))]
        self._columns(g, lambda u, lanes: self._follow(g, i, u, lanes, sums, [c.load(c.at(tile, c.add(u, at))) for at in places]))

    def _operand(self, product: Value, i: Any) -> Any:
        """Where the i-th row of what a product multiplies starts."""
        self._memo.clear()
        memory, start = base(product.args[0])
        return self._pointer_of(self._place(memory), i, start)

    def _times(self, terms: list[tuple[list[Any], Value, Any]], lanes: int) -> list[Any]:
        """Σ over terms (xs, w, column), Σₖ x[k] w[k, column + lane], for each lane, of each of the rows xs."""
        c = self.c
        along = [term for term in terms if self.along[term[1]]]
        found: list[list[Any]] = [[] for _ in range(ROWS)]
        for lane in range(0, lanes if along else 0, COLUMNS):
            count = min(COLUMNS, lanes - lane)
            sums = [c.splat(0.0)] * (count * ROWS)
            for term in along:
                sums = self._across_columns(*term, range(lane, lane + count), sums)
            for n, total in enumerate(sums):
                found[n % ROWS].append(total)
        totals = [self._summed(sums + [c.splat(0.0)] * (self.width - lanes)) for sums in found if sums]
        for xs, weight, column in terms:
            if not self.along[weight]:
                parts = [self._down(x, weight, column, lanes) for x in xs]
                totals = [c.b.fadd(total, part) for total, part in zip(totals, parts)] if totals else parts
        return totals

    def _stream(self, x: Any, weight: Value, column: Any, lanes: int) -> Any:
        """Σₖ x[k] w[k, column + lane] for each lane, read column after column."""
        c, depth, number = self.c, weight.shape[0], self.weights.index(weight)
        first, step = self._pointer(("weight", number)), self._number(("step", number))
        block = AHEAD * self.width
        whole = depth - depth % block
        with c.b.goto_block(self._entry):
            found = c.b.alloca(c.V, c.i64(self.width))
            found.align = 64

        def lane(j: Any) -> None:
            w = c.at(first, c.b.mul(c.add(column, j), step))

            def some(k: Any, total: Any, count: int) -> Any:
                for n in range(0, count, self.width):
                    here, many = c.add(k, c.i64(n)), min(self.width, count - n)
                    total = c.fma(c.load(c.at(w, here), many), c.load(c.at(x, here), many), total)
                return total

            total = c.splat(0.0)
            if whole > block:
                (total,) = c.loop(c.i64(0), c.i64(whole), block, lambda k, total: [some(k, total, block)], [total])
            elif whole:
                total = some(c.i64(0), total, block)
            if whole < depth:
                total = some(c.i64(whole), total, depth - whole)
            c.b.store(total, c.at(found, j, c.V))

        c.loop(c.i64(0), c.i64(lanes), 1, lane)
        zeros = [c.splat(0.0)] * (self.width - lanes)
        return self._summed([c.b.load(c.at(found, c.i64(j), c.V), typ=c.V) for j in range(lanes)] + zeros)

    def _across_columns(self, xs: list[Any], weight: Value, column: Any, lanes: range, sums: list[Any]) -> list[Any]:
        """Vectors of partial sums, column by column, that those of x w are added to."""
        c, depth, number = self.c, weight.shape[0], self.weights.index(weight)
        first, step = self._pointer(("weight", number)), self._number(("step", number))
        columns = [c.at(first, c.b.mul(c.add(column, c.i64(j)), step)) for j in lanes]
        whole = depth - depth % self.width

        def some(k: Any, sums: list[Any], count: int) -> list[Any]:
            here = [c.load(c.at(x, k), count) for x in xs]
            weights = [c.load(c.at(w, k), count) for w in columns]
            return [c.fma(weights[n // len(xs)], here[n % len(xs)], total) for n, total in enumerate(sums)]

        if whole:
            sums = c.loop(c.i64(0), c.i64(whole), self.width, lambda k, *s: some(k, list(s), self.width), sums)
        return some(c.i64(whole), sums, depth - whole) if whole < depth else sums

    def _down(self, x: Any, weight: Value, column: Any, lanes: int) -> Any:
        c, apart, depth, number = self.c, 4, weight.shape[0], self.weights.index(weight)  # so many sums that do not wait for each other
        step = self._number(("step", number))
        first = c.at(self._pointer(("weight", number)), column)

        def some(k: Any, sums: list[Any], count: int) -> list[Any]:
            new = list(sums)
            for j in range(count):
                at = c.add(k, c.i64(j))
                new[j] = c.fma(c.broadcast(c.load_scalar(c.at(x, at))), c.load(c.at(first, c.b.mul(at, step)), lanes), sums[j])
            return new

        whole = depth - depth % apart
        sums = [c.splat(0.0)] * apart
        if whole:
            sums = c.loop(c.i64(0), c.i64(whole), apart, lambda k, *s: some(k, list(s), apart), sums)
        if whole < depth:
            sums = some(c.i64(whole), sums, depth - whole)
        return c.b.fadd(c.b.fadd(sums[0], sums[1]), c.b.fadd(sums[2], sums[3]))

    def _summed(self, vectors: list[Any]) -> Any:
        """As many vectors as one has lanes -> the sum of each, side by side: pairs are folded into halves until one is left."""
        c = self.c
        while len(vectors) > 1:
            vectors = [
                c.b.fadd(c.shuffle(a, b, range(0, 2 * self.width, 2)), c.shuffle(a, b, range(1, 2 * self.width, 2)))
                for a, b in zip(vectors[::2], vectors[1::2])
            ]
        return vectors[0]


def schedule_of(inputs: list[Value], results: list[Value]) -> tuple[Schedule, list[Value]]:
    """How a step alone is computed, and the prepared vectors that it reads. Unsupported, with the reason, where it cannot be."""
    sources = {v: Place("node", n) for n, v in enumerate(inputs)}
    fixed = _fixed(results, sources)
    sources |= {v: Place("fixed", n) for n, v in enumerate(fixed)}
    if any(v.kind == "sparse" for v in needed(results, sources, rows_only=True)):
        raise Unsupported("a sparse product")
    return Schedule(sources, [(v, Place("node", len(inputs) + n), False) for n, v in enumerate(results)]), fixed


def _totals(results: list[Value]) -> dict[Value, Value]:
    """Of each product the sum that it is only added to, itself where there is none: products of one sum need not be told apart."""
    values = needed(results, rows_only=True)
    users: dict[Value, list[Value | None]] = {v: [None] for v in results}
    for v in values:
        for a in v.args:
            users.setdefault(a, []).append(v)
    found = {}
    for product in values:
        if product.kind == "mm":
            total = product
            while len(users[total]) == 1 and (user := users[total][0]) is not None and user.kind == "add" and user.shape == total.shape:
                total = user
            found[product] = total
    return found


def _fixed(results: list[Value], sources: dict[Value, Place]) -> list[Value]:
    """Prepared values that are read beside the matrices of products. What is made of them element by element, such as the sum of two biases, is
    made where it is needed: to make it in torch before each step would take as long as the step."""
    found: dict[Value, None] = {}
    todo = [a for v in needed(results, sources, rows_only=True) if v.rows and v.kind not in PRODUCTS for a in v.args if not a.rows]
    while todo:
        v = todo.pop(0)
        if v.kind in ELEMENTWISE:
            todo += v.args
        elif v.kind != "const":
            found[v] = None
    return list(found)
