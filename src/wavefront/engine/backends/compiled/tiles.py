"""The sums of products in registers: functions of their own, which the code of the fronts calls for a block of rows and a panel of units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir

from wavefront.engine.backends.compiled.emit import I64, PTR, Code
from wavefront.engine.backends.compiled.sparse import APART

__all__ = ["ACCUMULATORS", "Tiles"]

ACCUMULATORS = 24  # vector registers that hold sums; the others hold weights and one number of the state


class Tiles:
    """Functions of a module, each written once, when it is first asked for.

    low: they take pairs of bfloat16 in place of numbers, and sum in float32 (`dense` alone)
    """

    def __init__(self, module: ir.Module, double: bool, width: int, low: bool):
        self.module, self.double, self.width, self.low = module, double, width, low
        self._functions: dict[str, ir.Function] = {}

    def dense(self, rows: int, columns: int, depth: int) -> ir.Function:
        """out[row][column] = Σ_k w[k][column] * a[row][k], vectors of columns, all sums in registers. The order of the sum over k is the same
        whatever the rows: a row's result does not depend on how many others are there. ahead: weights that come next, which are fetched."""

        def write(c: Code, w: Any, out: Any, table: Any, ahead: Any) -> None:
            pointers = [c.b.load(c.at(table, c.i64(r), PTR), typ=PTR) for r in range(rows)]
            unroll = 4

            def some(k: Any, sums: list[Any], count: int) -> list[Any]:
                sums = list(sums)
                for j in range(count):
                    step = c.mul(c.add(k, c.i64(j)), columns * self.width)
                    here = c.at(w, step)
                    if rows >= 4:
                        c.prefetch(c.at(ahead, step), level=2)
                    weights = [c.load(c.at(here, c.i64(m * self.width))) for m in range(columns)]
                    for r in range(rows):
                        x = c.broadcast(c.load_scalar(c.at(pointers[r], c.add(k, c.i64(j)))))
                        for m in range(columns):
                            at = r * columns + m
                            sums[at] = c.dot(x, weights[m], sums[at]) if self.low else c.fma(x, weights[m], sums[at])
                return sums

            sums = [c.splat(0.0)] * (rows * columns)
            whole = depth - depth % unroll
            if whole:
                sums = c.loop(c.i64(0), c.i64(whole), unroll, lambda k, *s: some(k, list(s), unroll), sums)
            if depth % unroll:
                sums = some(c.i64(whole), sums, depth % unroll)
            for at, total in enumerate(sums):
                c.store(total, c.at(out, c.i64(at), c.V))

        return self._function(f"tile_{rows}x{columns}x{depth}", (PTR, PTR, PTR, PTR), write)

    def sparse(self, rows: int, stride: int) -> ir.Function:
        """out[row * stride] = Σ_k w[k] * a[row][places[k]], with `APART` sums that do not wait for each other; their number divides the count.
        The order of the sum is the same whatever the rows."""

        def write(c: Code, w: Any, places: Any, count: Any, out: Any, table: Any) -> None:
            pointers = [c.b.load(c.at(table, c.i64(r), PTR), typ=PTR) for r in range(rows)]

            def some(k: Any, *sums: Any) -> list[Any]:
                new = list(sums)
                for j in range(APART):
                    here = c.add(k, c.i64(j))
                    weight, place = c.load(c.at(w, c.mul(here, self.width))), c.load_i64(places, here)
                    for r in range(rows):
                        new[r * APART + j] = c.fma(c.broadcast(c.load_scalar(c.at(pointers[r], place))), weight, new[r * APART + j])
                return new

            sums = c.loop(c.i64(0), count, APART, some, [c.splat(0.0)] * (rows * APART))
            for r in range(rows):
                c.store(_total(c, sums[r * APART : (r + 1) * APART]), c.at(out, c.i64(r * stride), c.V))

        return self._function(f"sparse_{rows}x{stride}", (PTR, PTR, I64, PTR, PTR), write)

    def turned(self, stride: int) -> ir.Function:
        """The same sums, in the same order, for as many rows as there are lanes, from turned operands: a few units at a time, a lane for each row."""
        few = min(self.width, ACCUMULATORS // APART)
        few = 1 << few.bit_length() - 1  # that it divides the width

        def write(c: Code, w: Any, places: Any, count: Any, out: Any, operands: Any) -> None:
            units = []
            for first in range(0, self.width, few):

                def some(k: Any, *sums: Any, first: int = first) -> list[Any]:
                    new = list(sums)
                    for j in range(APART):
                        here = c.add(k, c.i64(j))
                        x = c.load(c.at(operands, c.mul(c.load_i64(places, here), self.width)))
                        weight = c.at(w, c.add(c.mul(here, self.width), c.i64(first)))
                        for n in range(few):
                            new[n * APART + j] = c.fma(c.broadcast(c.load_scalar(c.at(weight, c.i64(n)))), x, new[n * APART + j])
                    return new

                sums = c.loop(c.i64(0), count, APART, some, [c.splat(0.0)] * (few * APART))
                units += [_total(c, sums[n * APART : (n + 1) * APART]) for n in range(few)]
            for r, v in enumerate(c.transposed(units)):
                c.store(v, c.at(out, c.i64(r * stride), c.V))

        return self._function(f"turned_{stride}", (PTR, PTR, I64, PTR, PTR), write)

    def _function(self, name: str, takes: Sequence[ir.Type], write: Callable[..., None]) -> ir.Function:
        """A function of the module, written once; what it writes is nothing of what it reads."""
        if name not in self._functions:
            f = self._functions[name] = ir.Function(self.module, ir.FunctionType(ir.VoidType(), takes), name=name)
            f.linkage = "internal"
            f.attributes.add("noinline")
            for argument in f.args:
                if argument.type == PTR:
                    argument.add_attribute("noalias")
            c = Code(self.module, f, self.double, self.width)
            write(c, *f.args)
            c.b.ret_void()
        return self._functions[name]


def _total(c: Code, sums: Sequence[Any]) -> Any:
    total = sums[0]
    for other in sums[1:]:
        total = c.b.fadd(total, other)
    return total
