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
import torch
from torch import Tensor
from torch.nn.functional import pad

from wavefront.engine.backends.compiled import threads
from wavefront.engine.backends.compiled.emit import I32, I64, PTR, Code
from wavefront.engine.backends.compiled.native import compile_module, host_bytes
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

    def size(self, width: int) -> int:
        return self.rows * len(self.windows) * -(-self.columns // width) * width


class Packing:
    """All packs of one kernel, in one array, `starts` saying where each begins."""

    def __init__(self, packs: Sequence[Pack], double: bool, low: bool = False):
        """low: in pairs of bfloat16, [block of panels][pair of k][window][panel][lane][2]."""
        self.packs, self.double, self.low = list(packs), double, low
        self.bytes, self.width = 8 if double else 4, host_bytes() // (8 if double else 4)
        self.weights = list(dict.fromkeys(w for pack in packs for w, _ in pack.windows))
        sizes = [pack.size(self.width) for pack in packs]
        self.firsts = [sum(sizes[:n]) for n in range(len(sizes))]
        self.size = sum(sizes)
        taken = [size // pack.rows * -(-pack.rows // 2) if low else size for pack, size in zip(packs, sizes)]
        self.starts = [sum(taken[:n]) for n in range(len(taken))]  # of each in what `run` gives, in numbers of `bytes`
        self._jobs: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    def run(self, weights: Sequence[Tensor], like: Tensor, slices: int) -> Tensor:
        """weights: the values of `self.weights`, in order."""
        out = like.new_empty(self.size)
        if not self.size:
            return out
        strides = tuple(w.stride() for w in weights)
        if strides not in self._jobs:
            self._jobs = {strides: self._plan(strides)}
        plan, owner = self._jobs[strides]
        jobs = plan.copy()
        jobs[:, 0] += np.array([w.data_ptr() for w in weights])[owner]
        jobs[:, 1] += out.data_ptr()
        slices = 1 if self.size < FEW else slices
        table = (ctypes.c_int64 * 3)(jobs.ctypes.data, len(jobs), slices)
        threads.run(_packer(self.double), table, slices)
        return self._paired(out) if self.low else out

    def _paired(self, packed: Tensor) -> Tensor:
        parts = []
        for pack, first in zip(self.packs, self.firsts):
            count = -(-pack.columns // self.width)
            whole = count - count % pack.panels
            for panels, blocks in ((pack.panels, whole // pack.panels), (count - whole, 1)):
                wide = len(pack.windows) * panels * self.width
                part = packed[first : first + blocks * pack.rows * wide].view(blocks, pack.rows, wide)
                first += part.numel()
                part = pad(part.bfloat16(), (0, 0, 0, pack.rows % 2))
                parts.append(part.view(blocks, -(-pack.rows // 2), 2, wide).transpose(2, 3).reshape(-1))
        return torch.cat(parts).view(packed.dtype)

    def _plan(self, strides: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
        """The jobs, addresses relative to the weights and to the array, and the number of each job's weight."""
        jobs, owner = [], []
        for pack, start in zip(self.packs, self.firsts):
            count, windows = -(-pack.columns // self.width), len(pack.windows)
            whole = count - count % pack.panels
            for panel in range(count):
                block = panel - panel % pack.panels if panel < whole else whole
                together = pack.panels if panel < whole else count - whole
                for number, (weight, column) in enumerate(pack.windows):
                    at = self.weights.index(weight)
                    down, across = strides[at]
                    source = (column + panel * self.width) * across
                    target = start + (block * pack.rows * windows + number * together + panel - block) * self.width
                    step = windows * together * self.width
                    lanes = min(self.width, pack.columns - panel * self.width)
                    jobs.append((source * self.bytes, target * self.bytes, pack.rows, down, across, step, lanes))
                    owner.append(at)
        return np.array(jobs, dtype=np.int64).reshape(-1, len(JOB)), np.array(owner, dtype=np.int64)


@cache
def _packer(double: bool) -> Packer:
    return Packer(double)


class Packer:
    def __init__(self, double: bool):
        self.double, self.width = double, host_bytes() // (8 if double else 4)
        self.module = ir.Module()
        panel = self._panel()
        f = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, I64]), name="kernel")
        c = Code(self.module, f, double, self.width)
        table, part = f.args
        jobs, count, slices = c.load_pointer(table, 0), c.load_i64(table, c.i64(1)), c.load_i64(table, c.i64(2))
        low, high = (c.b.sdiv(c.b.mul(count, p), slices) for p in (part, c.add(part, c.i64(1))))

        def one(j: Any) -> None:
            job = c.at(jobs, c.mul(j, len(JOB)), I64)
            numbers = [c.load_pointer(job, k) if k < 2 else c.load_i64(job, c.i64(k)) for k in range(len(JOB))]
            c.b.call(panel, numbers)

        c.loop(low, high, 1, one)
        c.b.ret_void()
        team = threads.openmp()
        if team:
            threads.write_entry(self.module, "kernel", 2)
        address, self._alive = compile_module(self.module, team.addresses if team else {})
        self.entry = address("entry") if team else None
        self.slice = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address("kernel"))

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

        def whole_vectors(k: Any) -> None:
            c.store(c.load(c.at(source, b.mul(k, down))), c.at(target, b.mul(k, step)))

        def one_by_one(k: Any) -> None:
            v = c.splat(0.0)
            for j, column in enumerate(columns):
                v = b.insert_element(v, c.load_scalar(c.at(column, b.mul(k, down))), ir.Constant(I32, j))
            c.store(b.select(mask, v, c.splat(0.0)), c.at(target, b.mul(k, step)))

        def square(k: Any) -> None:
            vectors = [c.load(c.at(column, k)) for column in columns]
            for j, v in enumerate(c.transposed(vectors)):
                c.store(b.select(mask, v, c.splat(0.0)), c.at(target, b.mul(c.add(k, c.i64(j)), step)))

        columns = [lane(k) for k in range(self.width)]
        plain = b.and_(b.icmp_signed("==", across, c.i64(1)), b.icmp_signed("==", lanes, c.i64(self.width)))
        turned = b.and_(b.icmp_signed("==", down, c.i64(1)), b.not_(plain))
        low = c.i64(0)
        copied = b.select(plain, rows, low)
        c.loop(low, copied, 1, whole_vectors)
        squares = b.select(turned, b.sub(rows, b.srem(rows, c.i64(self.width))), low)
        c.loop(low, squares, self.width, square)
        c.loop(b.select(plain, rows, squares), rows, 1, one_by_one)
        b.ret_void()
        return f
