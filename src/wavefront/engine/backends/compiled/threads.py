"""Running a native function on torch's own OpenMP team: the threads that ran the last large product are awake and hold the caches."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.ir as ir

from wavefront.engine.backends.compiled.native import compile_module
from wavefront.engine.process import home_process

__all__ = ["Team", "run"]

TEAM = ("omp_get_thread_num", "omp_get_num_threads")


class OpenMP:
    """The entry points of the OpenMP library that torch has loaded."""

    def __init__(self, library: ctypes.CDLL):
        self.parallel = library.GOMP_parallel
        self.parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self.parallel.restype = None
        self.addresses = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in TEAM}


@cache
def _openmp() -> OpenMP | None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    for line in maps.read_text().splitlines():
        path = line.split()[-1]
        if any(name in Path(path).name for name in ("libgomp", "libiomp5", "libomp")) and ".so" in path:
            library = ctypes.CDLL(path)
            if hasattr(library, "GOMP_parallel"):
                return OpenMP(library)
    return None


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="wavefront")


def _write_entry(module: ir.Module, slice_: str, slices: int) -> None:
    """Add entry(table) to a module: called by every thread of a team, it takes the slices that are the thread's own.

    slices: how many there are, as the number of an entry of the table.
    """
    pointer, i64 = ir.PointerType(), ir.IntType(64)
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), name="entry")
    b = ir.IRBuilder(f.append_basic_block("entry"))
    me, all_ = (b.sext(b.call(ir.Function(module, ir.FunctionType(ir.IntType(32), []), name), []), i64) for name in TEAM)
    count = b.load(b.gep(f.args[0], [ir.Constant(i64, slices)], source_etype=i64), typ=i64)
    kernel = next(k for k in module.functions if k.name == slice_)
    head, inside, after = (f.append_basic_block(n) for n in ("head", "inside", "after"))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(i64)
    i.add_incoming(me, before)
    b.cbranch(b.icmp_signed("<", i, count), inside, after)
    b.position_at_end(inside)
    b.call(kernel, [f.args[0], i])
    i.add_incoming(b.add(i, all_), inside)
    b.branch(head)
    b.position_at_end(after)
    b.ret_void()


class Team:
    """Native code that `run` calls: a module's kernel(table, slice), loaded. A team of threads takes the slices, where torch has one."""

    address: Callable[[str], int]

    def load(self, module: ir.Module, slices: int) -> None:
        """slices: the entry of the table that says how many there are."""
        team = _openmp()
        if team:
            _write_entry(module, "kernel", slices)
        self.address, self._alive = compile_module(module, team.addresses if team else {})
        self.entry = self.address("entry") if team else None
        self.slice = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.address("kernel"))


def run(kernel: Team, table: Any, slices: int) -> None:
    """kernel on every slice, on as many threads; the calling one is among them."""
    address = ctypes.addressof(table)
    if slices == 1:
        kernel.slice(address, 0)
        return
    team = _openmp()
    if team is not None and home_process():
        team.parallel(kernel.entry, address, slices, 0)
        return
    others = [_pool(os.getpid()).submit(kernel.slice, address, s) for s in range(1, slices)]
    kernel.slice(address, 0)
    wait(others)
