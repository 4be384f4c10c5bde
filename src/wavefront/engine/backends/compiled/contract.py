"""Σ over rows of dᵀ x, by generated code: the gradient of a weight, whose operands lie row by row and would have to be turned for a library.

Rows are taken in blocks: of a block, a panel of x is put together once, and every few columns of d pass over it with all sums in registers.
"""

from __future__ import annotations

import ctypes
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
ARGUMENTS = ("d", "d_step", "x", "x_step", "out", "out_step", "rows", "columns_d", "columns_x", "panel", "slices")


def contract(d: Tensor, x: Tensor, total: Tensor | None = None) -> Tensor:
    """d [N, M], x [N, K], rows contiguous -> dᵀ x [M, K], with columns of zeros up to a multiple of `Contraction.columns`; added to the total."""
    kernel = _kernel(x.dtype is torch.float64)
    n, m, k = d.shape[0], d.shape[1], x.shape[1]
    wide = -(-k // kernel.columns) * kernel.columns
    out = x.new_zeros(m, wide) if total is None else total
    slices = max(1, min(torch.get_num_threads() if home_process() else 1, m // 24))
    panel = x.new_empty(slices, BLOCK * kernel.columns)
    table = (ctypes.c_int64 * len(ARGUMENTS))(
        d.data_ptr(), d.stride(0), x.data_ptr(), x.stride(0), out.data_ptr(), wide, n, m, k, panel.data_ptr(), slices
    )
    threads.run(kernel, table, slices)
    return out


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
        d, x, out, panels = (c.load_pointer(table, ARGUMENTS.index(name)) for name in ("d", "x", "out", "panel"))
        panel = c.at(panels, c.mul(part, BLOCK * self.columns))
        low = b.sdiv(b.mul(number["columns_d"], part), number["slices"])
        high = b.sdiv(b.mul(number["columns_d"], b.add(part, c.i64(1))), number["slices"])

        def smaller(a: Any, limit: Any) -> Any:
            return b.select(b.icmp_signed("<", a, limit), a, limit)

        def block(first: Any) -> None:
            count = smaller(b.sub(number["rows"], first), c.i64(BLOCK))
            source = c.at(x, b.mul(first, number["x_step"]))

            def columns(k: Any) -> None:
                width = smaller(b.sub(number["columns_x"], k), c.i64(self.columns))

                def row(n: Any) -> None:
                    here, there = c.at(source, b.add(b.mul(n, number["x_step"]), k)), c.at(panel, c.mul(n, self.columns))
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
                        operands = c.at(d, b.add(b.mul(first, number["d_step"]), m))
                        result = c.at(out, b.add(b.mul(m, number["out_step"]), k))
                        b.call(self._tiles[rows], [operands, number["d_step"], panel, result, number["out_step"], count])

                    c.loop(start, end, rows, some)
                    start = end

            c.loop(c.i64(0), number["columns_x"], self.columns, columns)

        c.loop(c.i64(0), number["rows"], BLOCK, block)
        b.ret_void()
