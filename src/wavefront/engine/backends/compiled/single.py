"""One step alone, for streams and decoding: the whole step as one native function, which reads weights where they lie.

A loop packs its weights, once for many steps. For a single step that would cost more than the step, and a copy would have to be kept true
to its original; so here products go through the weights as torch holds them, and whatever changed them is seen.
"""

from __future__ import annotations

from typing import Any

from wavefront.engine.backends.compiled.kernel import Kernel
from wavefront.engine.backends.compiled.schedule import Group, Place, Schedule, base
from wavefront.engine.graph import PRODUCTS, Unsupported, Value, needed

__all__ = ["SingleKernel"]

ROWS = 4  # that share what is read of the weights


class SingleKernel(Kernel):
    """A function from `inputs` to `results`, vectors [rows, ...] each, in arrays of their own.

    along  for each prepared matrix [K, M] of a product: whether a column's K numbers lie next to each other (a weight's transpose), or a row's M
    """

    def __init__(self, inputs: list[Value], results: list[Value], along: dict[Value, bool], double: bool):
        sources = {v: Place("node", n) for n, v in enumerate(inputs)}
        self.fixed = _fixed(results, sources)
        sources |= {v: Place("fixed", n) for n, v in enumerate(self.fixed)}
        if any(v.kind == "sparse" for v in needed(results, sources, rows_only=True)):
            raise Unsupported("a sparse product in a step alone")
        outputs = [(v, Place("node", len(inputs) + n), False) for n, v in enumerate(results)]
        self.weights = list(along)
        self.along = along
        sizes: dict[Any, int] = {("node", n): v.size for n, v in enumerate([*inputs, *results])}
        super().__init__(Schedule(sources, outputs), sizes, 1, double, reverse=False)

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
        for w, (product, column) in enumerate(g.windows):
            memory, start = base(product.args[0])
            place, xs = self._place(memory), []
            for r in range(rows):
                self._memo.clear()
                xs.append(self._pointer_of(place, c.add(i, c.i64(r)), start))
            for r, total in enumerate(self._times(xs, product.args[1], c.add(u, c.i64(column)), lanes)):
                c.b.store(total, c.at(self._tile, c.i64(r * len(g.windows) + w), c.V))
        line = (("u", 1),) if g.shape and g.shape[-1] > 1 else ()

        def row(r: Any) -> None:
            self._memo.clear()
            self.vars = {"u": u}
            for w, (product, column) in enumerate(g.windows):
                at = c.at(self._tile, c.add(c.mul(r, len(g.windows)), c.i64(w)), c.V)
                self._memo[(product, ((line, column),))] = c.b.load(at, typ=c.V)
            self._items(g, c.add(i, r), ((line, 0),) if g.shape else (), lanes)

        c.loop(c.i64(0), c.i64(rows), 1, row)

    def _times(self, xs: list[Any], weight: Value, column: Any, lanes: int) -> list[Any]:
        """Σₖ x[k] w[k, column + lane], for each lane, of each of the rows xs."""
        c, depth = self.c, weight.shape[0]
        number = self.weights.index(weight)
        first, step = self._pointer(("weight", number)), self._number(("step", number))
        if not self.along[weight]:
            return [self._down(x, c.at(first, column), step, depth, lanes) for x in xs]
        whole = depth - depth % self.width
        found: list[list[Any]] = [[] for _ in xs]
        together = 1 if len(xs) == 1 else 4  # one row alone reads its weights as one stream
        for lane in range(0, lanes, together):
            columns = [c.at(first, c.b.mul(c.add(column, c.i64(j)), step)) for j in range(lane, min(lane + together, lanes))]

            def some(k: Any, sums: list[Any], count: int, columns: list[Any] = columns) -> list[Any]:
                here = [c.load(c.at(x, k), count) for x in xs]
                weights = [c.load(c.at(w, k), count) for w in columns]
                return [c.fma(weights[n // len(xs)], here[n % len(xs)], total) for n, total in enumerate(sums)]

            sums = [c.splat(0.0)] * (len(columns) * len(xs))
            if whole:
                sums = c.loop(c.i64(0), c.i64(whole), self.width, lambda k, *s, some=some: some(k, list(s), self.width), sums)
            if whole < depth:
                sums = some(c.i64(whole), sums, depth - whole)
            for n, total in enumerate(sums):
                found[n % len(xs)].append(total)
        return [self._summed(sums + [c.splat(0.0)] * (self.width - lanes)) for sums in found]

    def _down(self, x: Any, first: Any, step: Any, depth: int, lanes: int) -> Any:
        c, apart = self.c, 4  # sums that do not wait for each other

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


def _fixed(results: list[Value], sources: dict[Value, Place]) -> list[Value]:
    """Prepared vectors that are read beside those of products."""
    found: dict[Value, None] = {}
    for v in needed(results, sources, rows_only=True):
        if v.rows and v.kind not in PRODUCTS:
            found.update((a, None) for a in v.args if not a.rows and a.kind != "const")
    return list(found)
