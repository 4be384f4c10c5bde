"""Σ over rows of dᵀ x for several x, and of d itself, by generated code: the gradients that one δ gives. The operands lie row by row and would have
to be turned for a library.

Rows are taken in blocks, which are read once for all x: of a block, a panel of x is put together once, and every few columns of d pass over it
with all sums in registers.
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
from wavefront.engine.backends.compiled.emit import I64, PTR, Code
from wavefront.engine.backends.compiled.native import host_bytes
from wavefront.engine.process import home_process

__all__ = ["contract"]

BLOCK = 128  # rows: a panel of them fills half of a first-level cache
PANEL = 4  # vectors
ARGUMENTS = ("d", "d_step", "rows", "columns", "sums", "jobs", "count", "panel", "slices")
JOB = ("x", "step", "columns", "out", "out_step")  # an x: what the kernel is told of it, a number each


def contract(d: Tensor, xs: Sequence[Tensor], totals: Sequence[Tensor] | None = None) -> list[Tensor]:
    """d [N, M], each x [N, K], rows contiguous -> Σ d [M], and each dᵀ x in the first K columns of a matrix; added to the totals, which are what it
    gave before."""
    kernel = _kernel(d.dtype is torch.float64)
    n, m = d.shape
    wide = [-(-x.shape[1] // kernel.columns) * kernel.columns for x in xs]
    totals = totals or [d.new_zeros(m, *k) for k in ((), *((k,) for k in wide))]
    slices = max(1, min(torch.get_num_threads() if home_process() else 1, m // 24))
    panel = d.new_empty(slices, BLOCK * kernel.columns)
    numbers = [(x.data_ptr(), x.stride(0), x.shape[1], out.data_ptr(), k) for x, out, k in zip(xs, totals[1:], wide)]
    jobs = (ctypes.c_int64 * (len(JOB) * len(xs)))(*(number for job in numbers for number in job))
    table = (ctypes.c_int64 * len(ARGUMENTS))(
        d.data_ptr(), d.stride(0), n, m, totals[0].data_ptr(), ctypes.addressof(jobs), len(xs), panel.data_ptr(), slices
    )
    threads.run(kernel, table, slices)
    return list(totals)


@cache
def _kernel(double: bool) -> Contraction:
    return Contraction(double)


class Contraction(threads.Team):
    def __init__(self, double: bool):
        self.double, self.width = double, host_bytes() // (8 if double else 4)
        self.columns = PANEL * self.width
        self.module = ir.Module()
        self._tiles = {r: self._tile(r) for r in (6, 4, 2, 1)}
        self._write()
        self.load(self.module, ARGUMENTS.index("slices"))

    def _function(self, name: str, arguments: list[Any]) -> tuple[Code, Any]:
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name=name)
        return Code(self.module, f, self.double, self.width), f.args

    def _tile(self, rows: int) -> ir.Function:
        """out[r][:] += Σ_n d[n][r] * panel[n][:], for `rows` columns of d."""
        c, (d, d_step, panel, out, out_step, count) = self._function(f"tile{rows}", [PTR, I64, PTR, PTR, I64, I64])
        c.function.linkage = "internal"
        c.function.attributes.add("noinline")

        def one(n: Any, *sums: Any) -> list[Any]:
            new = list(sums)
            x = [c.load(c.at(panel, c.add(c.mul(n, self.columns), c.i64(v * self.width)))) for v in range(PANEL)]
            here = c.at(d, c.b.mul(n, d_step))
            for r in range(rows):
                scalar = c.broadcast(c.load_scalar(c.at(here, c.i64(r))))
                for v in range(PANEL):
                    new[r * PANEL + v] = c.fma(scalar, x[v], new[r * PANEL + v])
            return new

        sums = c.loop(c.i64(0), count, 1, one, [c.splat(0.0)] * (rows * PANEL))
        for r in range(rows):
            for v in range(PANEL):
                place = c.at(out, c.add(c.b.mul(out_step, c.i64(r)), c.i64(v * self.width)))
                c.store(c.b.fadd(c.load(place), sums[r * PANEL + v]), place)
        c.b.ret_void()
        return c.function

    def _write(self) -> None:
        c, (table, part) = self._function("kernel", [PTR, I64])
        b = c.b
        number = {name: c.load_i64(table, c.i64(k)) for k, name in enumerate(ARGUMENTS)}
        d, sums, jobs, panels = (c.load_pointer(table, ARGUMENTS.index(name)) for name in ("d", "sums", "jobs", "panel"))
        panel = c.at(panels, c.mul(part, BLOCK * self.columns))
        low, high = (b.sdiv(b.mul(number["columns"], p), number["slices"]) for p in (part, b.add(part, c.i64(1))))

        def smaller(a: Any, limit: Any) -> Any:
            return b.select(b.icmp_signed("<", a, limit), a, limit)

        def block(first: Any) -> None:
            count = smaller(b.sub(number["rows"], first), c.i64(BLOCK))
            operands = c.at(d, b.mul(first, number["d_step"]))
            self._add_rows(c, operands, number["d_step"], count, sums, low, high)

            def one_x(j: Any) -> None:
                at = c.at(jobs, c.mul(j, len(JOB)), I64)
                x, out = c.load_pointer(at, JOB.index("x")), c.load_pointer(at, JOB.index("out"))
                step, columns, out_step = (c.load_i64(at, c.i64(JOB.index(name))) for name in ("step", "columns", "out_step"))
                source = c.at(x, b.mul(first, step))

                def some_columns(k: Any) -> None:
                    width = smaller(b.sub(columns, k), c.i64(self.columns))

                    def row(n: Any) -> None:
                        here, there = c.at(source, b.add(b.mul(n, step), k)), c.at(panel, c.mul(n, self.columns))
                        whole = b.sub(width, b.srem(width, c.i64(self.width)))
                        c.loop(c.i64(0), whole, self.width, lambda v: c.store(c.load(c.at(here, v)), c.at(there, v)))
                        c.loop(whole, width, 1, lambda v: b.store(c.load_scalar(c.at(here, v)), c.at(there, v)) and None)
                        zero = ir.Constant(c.F, 0.0)
                        c.loop(width, c.i64(self.columns), 1, lambda v: b.store(zero, c.at(there, v)) and None)

                    c.loop(c.i64(0), count, 1, row)
                    start = low
                    for rows in (6, 4, 2, 1):
                        end = b.sub(high, b.srem(b.sub(high, start), c.i64(rows)))

                        def some(m: Any, rows: int = rows) -> None:
                            result = c.at(out, b.add(b.mul(m, out_step), k))
                            b.call(self._tiles[rows], [c.at(operands, m), number["d_step"], panel, result, out_step, count])

                        c.loop(start, end, rows, some)
                        start = end

                c.loop(c.i64(0), columns, self.columns, some_columns)

            c.loop(c.i64(0), number["count"], 1, one_x)

        c.loop(c.i64(0), number["rows"], BLOCK, block)
        b.ret_void()

    def _add_rows(self, c: Code, d: Any, step: Any, count: Any, sums: Any, low: Any, high: Any) -> None:
        """sums[m] += Σ_n d[n][m], for the columns from low to high."""
        b = c.b

        def vectors(m: Any, many: int) -> None:
            def row(n: Any, *totals: Any) -> list[Any]:
                here = c.at(d, b.add(b.mul(n, step), m))
                return [b.fadd(total, c.load(c.at(here, c.i64(v * self.width)))) for v, total in enumerate(totals)]

            for v, total in enumerate(c.loop(c.i64(0), count, 1, row, [c.splat(0.0)] * many)):
                place = c.at(sums, c.add(m, c.i64(v * self.width)))
                c.store(b.fadd(c.load(place), total), place)

        def alone(m: Any) -> None:
            def row(n: Any, total: Any) -> list[Any]:
                return [b.fadd(total, c.load_scalar(c.at(d, b.add(b.mul(n, step), m))))]

            (total,) = c.loop(c.i64(0), count, 1, row, [ir.Constant(c.F, 0.0)])
            b.store(b.fadd(c.load_scalar(c.at(sums, m)), total), c.at(sums, m))

        start = low
        for many in (PANEL, 1):
            end = b.sub(high, b.srem(b.sub(high, start), c.i64(many * self.width)))
            c.loop(start, end, many * self.width, lambda m, many=many: vectors(m, many))
            start = end
        c.loop(start, high, 1, alone)
