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

__all__ = ["Team", "can_meet", "run", "write_meeting"]

TEAM = ("omp_get_thread_num", "omp_get_num_threads")
PATIENCE = 1 << 17  # looks at what others have done, some 0.2 milliseconds: after as many they have no core to run on


class OpenMP:
    """The entry points of the OpenMP library that torch has loaded."""

    def __init__(self, library: ctypes.CDLL):
        self.parallel = library.GOMP_parallel
        self.parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self.parallel.restype = None
        outside = {name: getattr(library, name) for name in TEAM} | {"sched_yield": ctypes.CDLL(None).sched_yield}
        self.addresses = {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in outside.items()}


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


def can_meet() -> bool:
    """Whether the threads of a team can wait for each other, which takes that all of them run at once."""
    return _openmp() is not None


def write_meeting(module: ir.Module) -> ir.Function:
    """Add meet(counter, count, part, next) to a module: a thread says that it has come, and goes on when as many have in all. Who waits too long
    writes to `part` at which count they are to go separate ways: at the next meeting, where all will see it."""
    pointer, i64, i32 = ir.PointerType(), ir.IntType(64), ir.IntType(32)
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, i64, pointer, i64]), name="meet")
    f.linkage = "internal"
    f.attributes.add("noinline")
    let_run = ir.Function(module, ir.FunctionType(i32, []), name="sched_yield")
    counter, count, part, following = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    head, waiting, long, done = (f.append_basic_block(n) for n in ("head", "waiting", "long", "done"))
    b.atomic_rmw("add", counter, ir.Constant(i64, 1), "acq_rel")
    b.branch(head)
    start = b.block
    b.position_at_end(head)
    looks = b.phi(i64)
    looks.add_incoming(ir.Constant(i64, 0), start)
    here = b.load_atomic(counter, "acquire", 8, typ=i64)
    more = b.add(looks, ir.Constant(i64, 1))
    b.cbranch(b.icmp_signed("<", here, count), waiting, done)
    b.position_at_end(waiting)
    looks.add_incoming(more, waiting)
    b.cbranch(b.icmp_signed("<", more, ir.Constant(i64, PATIENCE)), head, long)
    b.position_at_end(long)
    with b.if_then(b.icmp_signed("==", b.load_atomic(part, "acquire", 8, typ=i64), ir.Constant(i64, 0))):
        b.atomic_rmw("max", part, following, "acq_rel")
    b.call(let_run, [])
    looks.add_incoming(more, b.block)
    b.branch(head)
    b.position_at_end(done)
    b.ret_void()
    return f


def _write_entry(module: ir.Module, slice_: str, slices: int, pieces: int | None) -> None:
    """Add entry(table) to a module: called by every thread of a team, it takes the slices that are the thread's own.

    slices: how many there are, as the number of an entry of the table; pieces: an entry that is not 1 where slices wait for each other, so that
    each has to have a thread. Where there are not so many threads the first does everything, as one piece.
    """
    pointer, i64 = ir.PointerType(), ir.IntType(64)
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), name="entry")
    b = ir.IRBuilder(f.append_basic_block("entry"))
    me, all_ = (b.sext(b.call(ir.Function(module, ir.FunctionType(ir.IntType(32), []), name), []), i64) for name in TEAM)
    count = b.load(b.gep(f.args[0], [ir.Constant(i64, slices)], source_etype=i64), typ=i64)
    kernel = next(k for k in module.functions if k.name == slice_)
    head, inside, after = (f.append_basic_block(n) for n in ("head", "inside", "after"))
    if pieces is not None:
        place = b.gep(f.args[0], [ir.Constant(i64, pieces)], source_etype=i64)
        lacking = b.and_(b.icmp_signed(">", b.load(place, typ=i64), ir.Constant(i64, 1)), b.icmp_signed("<", all_, count))
        with b.if_then(lacking, likely=False):
            with b.if_then(b.icmp_signed("==", me, ir.Constant(i64, 0))):
                b.store(ir.Constant(i64, 1), place)
                b.call(kernel, [f.args[0], ir.Constant(i64, 0)])
            b.ret_void()
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


def _empty(module: ir.Module) -> None:
    """Its text says all. Its parts, some megabytes, refer to each other in circles, and would stay until somebody looks for these."""
    for function in module.functions:
        for block in function.blocks:
            block.instructions.clear()
            block.terminator = None


class Team:
    """Native code that `run` calls: a module's kernel(table, slice), loaded. A team of threads takes the slices, where torch has one."""

    address: Callable[[str], int]

    def load(self, module: ir.Module, slices: int, pieces: int | None = None) -> str:
        """slices: the entry of the table that says how many there are; pieces: likewise, of those that wait for each other. -> the module's text."""
        team = _openmp()
        if team:
            _write_entry(module, "kernel", slices, pieces)
        text = str(module)
        _empty(module)
        self.address, self._alive = compile_module(text, team.addresses if team else {})
        self.entry = self.address("entry") if team else None
        self.slice = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.address("kernel"))
        return text


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
