"""Weights, put before a run into the order in which a kernel's k loops read them: [block of panels][k][window][panel][lane], zeros where there
is no column. They are read from wherever they lie at that moment, so that every change to them is seen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.ir as ir
import numpy as np
from torch import Tensor

from wavefront.engine.backends.compiled import threads
from wavefront.engine.backends.compiled.emit import I32, I64, PTR, Code
from wavefront.engine.backends.compiled.native import host_bytes
from wavefront.engine.graph import Value

__all__ = ["Pack", "Packing"]

JOB = ("from", "to", "rows", "row_step", "column_step", "to_step", "columns")  # a panel of one window: what a job says, a number each
FEW = 1 << 16  # numbers, for which one thread is enough


@dataclass(frozen=True)
class Pack:
    """What the products of a group read: from each of its windows, `columns` columns of a weight [rows, M]."""

    windows: tuple[tuple[Value, int], ...]  # (weight, first column)
    columns: int
    rows: int
    panels: int  # in a whole block

    def depth(self, low: bool) -> int:
        """Numbers for each column: rows, or pairs of them."""
        return -(-self.rows // 2) if low else self.rows

    def size(self, width: int, low: bool) -> int:
        return self.depth(low) * len(self.windows) * -(-self.columns // width) * width


class Packing:
    """All packs of one kernel, in one array, `starts` saying where each begins."""

    def __init__(self, packs: Sequence[Pack], double: bool, low: bool = False):
        """low: in pairs of bfloat16, [block of panels][pair of k][window][panel][lane][2]."""
        self.packs, self.double, self.low = list(packs), double, low
        self.bytes, self.width = 8 if double else 4, host_bytes() // (8 if double else 4)
        self.weights = list(dict.fromkeys(w for pack in packs for w, _ in pack.windows))
        sizes = [pack.size(self.width, low) for pack in packs]
        self.starts = [sum(sizes[:n]) for n in range(len(sizes))]
        self.size = sum(sizes)
        self._plans: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        self._last: tuple[Any, np.ndarray] | None = None  # where the weights of the last run lay, and its jobs

    def run(self, weights: Sequence[Tensor], like: Tensor, slices: int) -> Tensor:
        """weights: the values of `self.weights`, in order."""
        out = like.new_empty(self.size)
        if not self.size:
            return out
        lie = [(w.data_ptr(), w.stride()) for w in weights]
        last = self._last
        if last is None or last[0] != lie:
            self._last = last = lie, self._found(lie)
        jobs = last[1]
        slices = 1 if self.size < FEW else slices
        table = (ctypes.c_int64 * 4)(jobs.ctypes.data, len(jobs), slices, out.data_ptr())
        threads.run(_packer(self.double, self.low), table, slices)
        return out

    def _found(self, lie: list[tuple[int, tuple[int, ...]]]) -> np.ndarray:
        """The jobs for weights that lie at these addresses, with these strides."""
        strides = tuple(step for _, step in lie)
        if strides not in self._plans:
            self._plans = {strides: self._plan(strides)}
        plan, owner = self._plans[strides]
        jobs = plan.copy()
        jobs[:, 0] += np.array([address for address, _ in lie])[owner]
        return jobs

    def _plan(self, strides: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
        """The jobs, "from" relative to the weight, "to" a place in the array that is made; and the number of each job's weight."""
        jobs, owner = [], []
        for pack, start in zip(self.packs, self.starts):
            count, windows = -(-pack.columns // self.width), len(pack.windows)
            whole = count - count % pack.panels
            for panel in range(count):
                block = panel - panel % pack.panels if panel < whole else whole
                together = pack.panels if panel < whole else count - whole
                for number, (weight, column) in enumerate(pack.windows):
                    at = self.weights.index(weight)
                    down, across = strides[at]
                    source = (column + panel * self.width) * across * self.bytes
                    target = start + (block * pack.depth(self.low) * windows + number * together + panel - block) * self.width
                    step = windows * together * self.width
                    lanes = min(self.width, pack.columns - panel * self.width)
                    jobs.append((source, target, pack.rows, down, across, step, lanes))
                    owner.append(at)
        return np.array(jobs, dtype=np.int64).reshape(-1, len(JOB)), np.array(owner, dtype=np.int64)


@cache
def _packer(double: bool, low: bool) -> Packer:
    return Packer(double, low)


class Packer(threads.Team):
    def __init__(self, double: bool, low: bool):
        self.double, self.low, self.width = double, low, host_bytes() // (8 if double else 4)
        self.module = ir.Module()
        panel = self._panel()
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, I64]), name="kernel")
        c = Code(self.module, f, double, self.width)
        table, part = f.args
        jobs, count, slices, out = (
            c.load_pointer(table, 0),
            c.load_i64(table, c.i64(1)),
            c.load_i64(table, c.i64(2)),
            c.load_pointer(table, 3),
        )
        low, high = (c.b.sdiv(c.b.mul(count, p), slices) for p in (part, c.add(part, c.i64(1))))

        def one(j: Any) -> None:
            job = c.at(jobs, c.mul(j, len(JOB)), I64)
            source, (target, *others) = c.load_pointer(job, 0), [c.load_i64(job, c.i64(k)) for k in range(1, len(JOB))]
            c.b.call(panel, [source, c.at(out, target), *others])

        c.loop(low, high, 1, one)
        c.b.ret_void()
        self.load(self.module, 2)

    def _panel(self) -> ir.Function:
        """One job: rows that lie across are copied vector by vector, rows that lie along are turned, a square of vectors at a time."""
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, PTR, *[I64] * 5]), name="panel")
        f.linkage = "internal"
        source, target, rows, down, across, step, lanes = f.args
        c = Code(self.module, f, self.double, self.width)
        b = c.b
        number = ir.Constant(c.VI, [ir.Constant(c.I, k) for k in range(self.width)])
        first = b.insert_element(ir.Constant(c.VI, ir.Undefined), lanes if self.double else b.trunc(lanes, c.I), ir.Constant(I32, 0))
        limit = c.shuffle(first, first, [0] * self.width)
        mask = b.icmp_signed("<", number, limit)

        def lane(k: int) -> Any:
            """Where a column starts; of one that there is not, the first, which can be read."""
            there = b.icmp_signed("<", c.i64(k), lanes)
            return c.at(source, b.select(there, c.mul(across, k) if k else c.i64(0), c.i64(0)))

        def put(k: Any, vectors: list[Any]) -> None:
            """The rows from k on; in bfloat16 two at a time, of which the second may be missing."""
            for j in range(0, len(vectors), 2 if self.low else 1):
                row = c.add(k, c.i64(j))
                if self.low:
                    pair = c.paired(*(c.halved(b.select(mask, v, c.splat(0.0))) for v in vectors[j : j + 2]))
                    b.store(pair, c.at(target, b.mul(b.lshr(row, c.i64(1)), step)), align=4)
                else:
                    c.store(b.select(mask, vectors[j], c.splat(0.0)), c.at(target, b.mul(row, step)))

        def across_from(k: Any) -> Any:
            return c.load(c.at(source, b.mul(k, down)))

        def along_from(k: Any) -> Any:
            v = c.splat(0.0)
            for j, column in enumerate(columns):
                v = b.insert_element(v, c.load_scalar(c.at(column, b.mul(k, down))), ir.Constant(I32, j))
            return v

        def few(read: Any) -> Any:
            def one(k: Any) -> None:
                vectors = [read(k)]
                if self.low:
                    following = c.add(k, c.i64(1))
                    there = b.icmp_signed("<", following, rows)
                    vectors.append(b.select(there, read(b.select(there, following, k)), c.splat(0.0)))
                put(k, vectors)

            return one

        def square(k: Any) -> None:
            put(k, c.transposed([c.load(c.at(column, k)) for column in columns]))

        columns = [lane(k) for k in range(self.width)]
        plain = b.and_(b.icmp_signed("==", across, c.i64(1)), b.icmp_signed("==", lanes, c.i64(self.width)))
        turned = b.and_(b.icmp_signed("==", down, c.i64(1)), b.not_(plain))
        low = c.i64(0)
        copied = b.select(plain, rows, low)
        c.loop(low, copied, 2 if self.low else 1, few(across_from))
        squares = b.select(turned, b.sub(rows, b.srem(rows, c.i64(self.width))), low)
        c.loop(low, squares, self.width, square)
        c.loop(b.select(plain, rows, squares), rows, 2 if self.low else 1, few(along_from))
        b.ret_void()
        return f
