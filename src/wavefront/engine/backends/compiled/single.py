"""One step alone, for streams and decoding: the whole step as one native function, which reads weights where they lie.

A loop packs its weights, once for many steps. For a single step that would cost more than the step, and a copy would have to be kept true
to its original; so here products go through the weights as torch holds them, and whatever changed them is seen.
"""

from __future__ import annotations

from typing import Any

from wavefront.engine.backends.compiled.kernel import Kernel
from wavefront.engine.backends.compiled.schedule import Group, Place, Schedule, base
from wavefront.engine.graph import PRODUCTS, Unsupported, Value, needed

__all__ = ["SingleKernel", "schedule_of"]

ROWS = 4  # that share what is read of the weights
COLUMNS = 4  # of weights, that share what is read of those rows
AHEAD = 16  # vectors of a weight's column, read without looking whether it ends


class SingleKernel(Kernel):
    """A function from `inputs` to `results`, vectors [rows, ...] each, in arrays of their own.

    along  for each prepared matrix [K, M] of a product: whether a column's K numbers lie next to each other (a weight's transpose), or a row's M
    """

    def __init__(self, inputs: list[Value], results: list[Value], along: dict[Value, bool], double: bool):
        schedule, self.fixed = schedule_of(inputs, results)
        self.weights = list(along)
        self.along = along
        self.total = _totals(results)
        sizes: dict[Any, int] = {("node", n): v.size for n, v in enumerate([*inputs, *results])}
        super().__init__(schedule, sizes, 1, double, reverse=False)

    def _shape(self, g: Group) -> tuple[int, int, int, int]:
        n = g.shape[-1] if g.shape else 1
        return n, -(-n // self.width), 1, ROWS

    def _product(self, g: Group, count: Any) -> None:
        """A panel of units at a time; a few rows share what is read of the weights."""
        c, n = self.c, g.shape[-1] if g.shape else 1
        whole, in_blocks = n - n % self.width, c.b.sub(count, c.b.srem(count, c.i64(ROWS)))

        def panel(u: Any, lanes: int) -> None:
            c.loop(c.i64(0), in_blocks, ROWS, lambda i: self._block(g, u, lanes, i, ROWS))
            c.loop(in_blocks, count, 1, lambda i: self._block(g, u, lanes, i, 1))

        if whole:
            c.loop(c.i64(0), c.i64(whole), self.width, lambda u: panel(u, self.width))
        if whole < n:
            panel(c.i64(whole), n - whole)

    def _block(self, g: Group, u: Any, lanes: int, i: Any, rows: int) -> None:
        c = self.c
        sums: dict[Any, list[int]] = {}  # products that are only added to each other, by where: one sum
        for w, (product, column) in enumerate(g.windows):
            sums.setdefault((self.total[product], column), []).append(w)
        for windows in sums.values():
            terms = []
            for product, column in (g.windows[w] for w in windows):
                memory, start = base(product.args[0])
                place, xs = self._place(memory), []
                for r in range(rows):
                    self._memo.clear()
                    xs.append(self._pointer_of(place, c.add(i, c.i64(r)), start))
                terms.append((xs, product.args[1], c.add(u, c.i64(column))))
            for r, total in enumerate(self._times(terms, lanes)):
                c.b.store(total, c.at(self._tile, c.i64(r * len(g.windows) + windows[0]), c.V))
        line = (("u", 1),) if g.shape and g.shape[-1] > 1 else ()

        def row(r: Any) -> None:
            self._memo.clear()
            self.vars = {"u": u}
            for (_, column), (first, *others) in sums.items():
                at = c.at(self._tile, c.add(c.mul(r, len(g.windows)), c.i64(first)), c.V)
                self._memo[(g.windows[first][0], ((line, column),))] = c.b.load(at, typ=c.V)
                self._memo |= {(g.windows[w][0], ((line, column),)): c.splat(0.0) for w in others}
            self._items(g, c.add(i, r), ((line, 0),) if g.shape else (), lanes)

        c.loop(c.i64(0), c.i64(rows), 1, row)

    def _times(self, terms: list[tuple[list[Any], Value, Any]], lanes: int) -> list[Any]:
        """Σ over terms (xs, w, column), Σₖ x[k] w[k, column + lane], for each lane, of each of the rows xs."""
        c, rows = self.c, len(terms[0][0])
        along = [term for term in terms if self.along[term[1]]]
        found: list[list[Any]] = [[] for _ in range(rows)]
        if rows == 1 and along:
            found = [self._stream([(x, weight, column) for (x,), weight, column in along], lanes)]
        for lane in range(0, lanes if along and rows > 1 else 0, COLUMNS):
            count = min(COLUMNS, lanes - lane)
            sums = [c.splat(0.0)] * (count * rows)
            for term in along:
                sums = self._across_columns(*term, range(lane, lane + count), sums)
            for n, total in enumerate(sums):
                found[n % rows].append(total)
        totals = [self._summed(sums + [c.splat(0.0)] * (self.width - lanes)) for sums in found if sums]
        for xs, weight, column in terms:
            if not self.along[weight]:
                parts = [self._down(x, weight, column, lanes) for x in xs]
                totals = [c.b.fadd(total, part) for total, part in zip(totals, parts)] if totals else parts
        return totals

    def _stream(self, terms: list[tuple[Any, Value, Any]], lanes: int) -> list[Any]:
        """As `_across_columns`, of one row: there is little to do with each weight, so they are read as one stream, column after column."""
        c = self.c
        with c.b.goto_block(self._entry):
            found = c.b.alloca(c.V, c.i64(self.width))
            found.align = 64
        for t, (x, weight, column) in enumerate(terms):
            depth, number = weight.shape[0], self.weights.index(weight)
            first, step = self._pointer(("weight", number)), self._number(("step", number))
            block = AHEAD * self.width
            whole = depth - depth % block

            def lane(
                j: Any,
                t: int = t,
                x: Any = x,
                column: Any = column,
                depth: int = depth,
                first: Any = first,
                step: Any = step,
                whole: int = whole,
                block: int = block,
            ) -> None:
                w = c.at(first, c.b.mul(c.add(column, j), step))

                def some(k: Any, total: Any, count: int) -> Any:
                    for n in range(0, count, self.width):
                        here = c.add(k, c.i64(n))
                        total = c.fma(
                            c.load(c.at(w, here), min(self.width, count - n)), c.load(c.at(x, here), min(self.width, count - n)), total
                        )
                    return total

                total = c.b.load(c.at(found, j, c.V), typ=c.V) if t else c.splat(0.0)
                if whole > block:
                    (total,) = c.loop(c.i64(0), c.i64(whole), block, lambda k, total: [some(k, total, block)], [total])
                elif whole:
                    total = some(c.i64(0), total, block)
                if whole < depth:
                    total = some(c.i64(whole), total, depth - whole)
                c.b.store(total, c.at(found, j, c.V))

            c.loop(c.i64(0), c.i64(lanes), 1, lane)
        return [c.b.load(c.at(found, c.i64(j), c.V), typ=c.V) for j in range(lanes)]

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
    """Prepared vectors that are read beside those of products."""
    found: dict[Value, None] = {}
    for v in needed(results, sources, rows_only=True):
        if v.rows and v.kind not in PRODUCTS:
            found.update((a, None) for a in v.args if not a.rows and a.kind != "const")
    return list(found)
