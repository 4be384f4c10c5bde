"""Σ over rows of dᵀ x for several x, and of d itself, in pairs of bfloat16 summed in float32: the gradients that one δ gives.

A processor that multiplies pairs takes, of each column, two rows at a time. So a block of rows is rounded and put together in the order in which it
is read: of d once for all x, where a library would have to be handed each operand rounded and turned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite.ir as ir
import torch
from torch import Tensor

from wavefront.engine.backends.compiled import threads
from wavefront.engine.backends.compiled.emit import I16, I32, I64, PTR, Code
from wavefront.engine.process import home_process

__all__ = ["contract_pairs"]

BLOCK = 256  # rows: a panel of x takes 32 KB, which a first-level cache holds
WIDTH, ROWS, PANEL = 16, 6, 4  # numbers in a vector; columns of d, and vectors of columns of x, whose sums are in registers together
GROUP, COLUMNS = 2 * ROWS, PANEL * WIDTH  # columns of d that are put together in one vector; columns of x in a panel
STEP = BLOCK // 2 * GROUP + WIDTH  # numbers from group to group: a line more, so that they do not share a set of the cache
ARGUMENTS = ("d", "d_step", "rows", "columns", "sums", "jobs", "count", "scratch", "scratch_size", "slices")
JOB = ("x", "step", "columns", "out", "out_step")  # an x: what the kernel is told of it, a number each


def contract_pairs(d: Tensor, xs: Sequence[Tensor], totals: Sequence[Tensor] | None = None) -> list[Tensor]:
    """d [N, M] of float32 or bfloat16, each x [N, K] of float32, rows contiguous -> Σ d in the first M places, and each dᵀ x in the first M rows
    and K columns of a matrix; added to the totals, which are what it gave before."""
    n, m = d.shape
    groups = -(-m // GROUP)
    wide = [-(-x.shape[1] // COLUMNS) * COLUMNS for x in xs]
    totals = totals or [d.new_zeros(groups * GROUP, *k, dtype=torch.float32) for k in ((), *((k,) for k in wide))]
    slices = max(1, min(torch.get_num_threads() if home_process() else 1, groups))
    size = BLOCK // 2 * COLUMNS + STEP * -(-groups // slices)
    scratch = d.new_empty(slices * size, dtype=torch.float32)
    numbers = [(x.data_ptr(), x.stride(0), x.shape[1], out.data_ptr(), k) for x, out, k in zip(xs, totals[1:], wide)]
    jobs = (ctypes.c_int64 * (len(JOB) * len(xs)))(*(number for job in numbers for number in job))
    table = (ctypes.c_int64 * len(ARGUMENTS))(
        d.data_ptr(), d.stride(0), n, m, totals[0].data_ptr(), ctypes.addressof(jobs), len(xs), scratch.data_ptr(), size, slices
    )
    threads.run(_kernel(d.dtype is torch.bfloat16), table, slices)
    return list(totals)


@cache
def _kernel(halved: bool) -> Pairs:
    return Pairs(halved)


class Pairs(threads.Team):
    def __init__(self, halved: bool):
        """halved: d is in bfloat16."""
        self.module = ir.Module()
        self._number = I16 if halved else ir.FloatType()  # of d
        self._left, self._right = self._write_pair(GROUP, halved), self._write_pair(WIDTH, False)
        self._tile = self._write_tile()
        self._write()
        self.load(self.module, ARGUMENTS.index("slices"))

    def _function(self, name: str, arguments: list[Any]) -> tuple[Code, Any]:
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name=name)
        if name != "kernel":
            f.linkage = "internal"
            f.attributes.add("noinline")
        return Code(self.module, f, False, WIDTH), f.args

    def _write_pair(self, group: int, halved: bool) -> ir.Function:
        """Two rows, `step` apart, put together: `group` columns of them, then as many at the next place, zeros where there are no more. Of a
        second row that there is not, `there` is 0. Where groups are of d, the rows are added to its sums."""
        c, (source, step, there, to, to_step, sums, columns, end) = self._function(f"pair{group}", [PTR, I64, I64, PTR, I64, PTR, I64, I64])
        b = c.b
        number = ir.Constant(c.VI, [ir.Constant(c.I, k) for k in range(WIDTH)])
        load = c.intrinsic("llvm.masked.load", c.V, [PTR, c.VB, c.V], f".{c.suffix}.p0")
        halves = ir.VectorType(I16, WIDTH)
        load_halves = c.intrinsic("llvm.masked.load", halves, [PTR, c.VB, halves], f".v{WIDTH}i16.p0")
        none = ir.Constant(halves, [ir.Constant(I16, 0)] * WIDTH)
        store = c.intrinsic("llvm.masked.store", ir.VoidType(), [c.V, PTR, c.VB], f".{c.suffix}.p0")

        def mask(limit: Any) -> Any:
            first = b.insert_element(ir.Constant(c.VI, ir.Undefined), b.trunc(limit, I32), ir.Constant(I32, 0))
            return b.icmp_signed("<", number, c.shuffle(first, first, [0] * WIDTH))

        def one(g: Any, these: Any, those: Any) -> None:
            k = c.mul(g, group)
            here = c.at(source, k, I16 if halved else None)
            places = ((here, these), (c.at(here, step, I16 if halved else None), those))
            if halved:
                rows = [b.call(load_halves, [place, which, none]) for place, which in places]
                first, second = (c.widened(v) for v in rows)
            else:
                first, second = (b.call(load, [place, which, c.splat(0.0)]) for place, which in places)
                rows = [c.halved(first), c.halved(second)]
            b.store(c.paired(*rows), c.at(to, b.mul(g, to_step)), align=4)
            if group == GROUP:
                total = c.at(sums, k)
                so_far = b.call(load, [total, these, c.splat(0.0)])
                b.call(store, [b.fadd(so_far, b.fadd(first, second)), total, these])

        def rest(g: Any) -> None:
            left = b.sub(columns, c.mul(g, group))
            lanes = b.select(b.icmp_signed("<", left, c.i64(group)), left, c.i64(group))
            one(g, mask(lanes), mask(b.mul(lanes, there)))

        most = b.select(b.icmp_signed("<", columns, end), columns, end)
        whole = b.sdiv(b.select(b.icmp_signed(">", most, c.i64(0)), most, c.i64(0)), c.i64(group))
        second_rows = mask(c.mul(there, group))
        c.loop(c.i64(0), whole, 1, lambda g: one(g, c.mask(group), second_rows))
        c.loop(whole, b.sdiv(end, c.i64(group)), 1, rest)
        b.ret_void()
        return c.function

    def _write_tile(self) -> ir.Function:
        """out[r][:] += Σ_n d[n][r] x[n][:], for `ROWS` columns of d, n over pairs of rows."""
        c, (d, x, out, out_step, count) = self._function("tile", [PTR, PTR, PTR, I64, I64])
        places = [c.at(out, c.add(c.b.mul(out_step, c.i64(r)), c.i64(v * WIDTH))) for r in range(ROWS) for v in range(PANEL)]
        for place in places:  # it comes while the sums are made
            c.prefetch(place, write=True)

        def one(n: Any, *sums: Any) -> list[Any]:
            new = list(sums)
            vectors = [c.load(c.at(x, c.add(c.mul(n, COLUMNS), c.i64(v * WIDTH)))) for v in range(PANEL)]
            for r in range(ROWS):
                pair = c.broadcast(c.load_scalar(c.at(d, c.add(c.mul(n, GROUP), c.i64(r)))))
                for v in range(PANEL):
                    new[r * PANEL + v] = c.dot(pair, vectors[v], new[r * PANEL + v])
            return new

        sums = c.loop(c.i64(0), count, 1, one, [c.splat(0.0)] * (ROWS * PANEL))
        for place, total in zip(places, sums):
            c.store(c.b.fadd(c.load(place), total), place)
        c.b.ret_void()
        return c.function

    def _write(self) -> None:
        c, (table, part) = self._function("kernel", [PTR, I64])
        b = c.b
        number = {name: c.load_i64(table, c.i64(k)) for k, name in enumerate(ARGUMENTS)}
        d, sums, jobs, scratch = (c.load_pointer(table, ARGUMENTS.index(name)) for name in ("d", "sums", "jobs", "scratch"))
        panel = c.at(scratch, b.mul(part, number["scratch_size"]))
        left = c.at(panel, c.i64(BLOCK // 2 * COLUMNS))
        groups = b.sdiv(c.add(number["columns"], c.i64(GROUP - 1)), c.i64(GROUP))
        low, high = (b.sdiv(b.mul(groups, p), number["slices"]) for p in (part, c.add(part, c.i64(1))))
        mine, start = c.mul(b.sub(high, low), GROUP), c.mul(low, GROUP)

        def smaller(a: Any, limit: Any) -> Any:
            return b.select(b.icmp_signed("<", a, limit), a, limit)

        def block(first: Any) -> None:
            count = smaller(b.sub(number["rows"], first), c.i64(BLOCK))
            pairs = b.lshr(c.add(count, c.i64(1)), c.i64(1))

            def each_pair(body: Any) -> None:
                """body(first row, number of the pair, whether there is a second row)."""

                def one(n: Any) -> None:
                    there = b.zext(b.icmp_signed("<", c.add(n, c.i64(1)), count), I64)
                    body(b.add(first, n), b.lshr(n, c.i64(1)), there)

                c.loop(c.i64(0), count, 2, one)

            def of_d(row: Any, n: Any, there: Any) -> None:
                source, to = c.at(d, b.add(b.mul(row, number["d_step"]), start), self._number), c.at(left, c.mul(n, GROUP))
                columns = smaller(b.sub(number["columns"], start), mine)
                b.call(self._left, [source, number["d_step"], there, to, c.i64(STEP), c.at(sums, start), columns, mine])

            def one_x(j: Any) -> None:
                at = c.at(jobs, c.mul(j, len(JOB)), I64)
                x, out = c.load_pointer(at, JOB.index("x")), c.load_pointer(at, JOB.index("out"))
                step, columns, out_step = (c.load_i64(at, c.i64(JOB.index(name))) for name in ("step", "columns", "out_step"))

                def some_columns(k: Any) -> None:
                    def of_x(row: Any, n: Any, there: Any) -> None:
                        source, to = c.at(x, b.add(b.mul(row, step), k)), c.at(panel, c.mul(n, COLUMNS))
                        b.call(self._right, [source, step, there, to, c.i64(WIDTH), sums, b.sub(columns, k), c.i64(COLUMNS)])

                    def group(g: Any) -> None:
                        for half in range(0, GROUP, ROWS):
                            operands = c.at(left, c.add(c.mul(b.sub(g, low), STEP), c.i64(half)))
                            result = c.at(out, c.add(b.mul(c.add(c.mul(g, GROUP), c.i64(half)), out_step), k))
                            b.call(self._tile, [operands, panel, result, out_step, pairs])

                    each_pair(of_x)
                    c.loop(low, high, 1, group)

                c.loop(c.i64(0), columns, COLUMNS, some_columns)

            each_pair(of_d)
            c.loop(c.i64(0), number["count"], 1, one_x)

        c.loop(c.i64(0), number["rows"], BLOCK, block)
        b.ret_void()
