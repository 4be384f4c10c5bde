"""From the text of a module to functions that can be called: made by LLVM, or found again as an earlier process left them.

LLVM takes 100 MB of memory and a third of a second before its first function. So what it makes is kept (`store`), and it is imported where
something is new. Machine code is loaded by `elf` where that can be done, else by LLVM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite

from wavefront.engine.backends.compiled import elf, store

__all__ = ["compile_module", "has_bf16", "host_bytes", "optimised"]

FORM = "1"  # of what is kept: another one when the same text is to be compiled in another way


def compile_module(text: str, symbols: dict[str, int]) -> tuple[Callable[[str], int], Any]:
    """-> the address of a function by name, and what has to stay alive. symbols: what is outside, by name."""
    if not elf.can_load():
        return _in_process(text, symbols)
    key = hashlib.sha256("\n".join((FORM, llvmlite.__version__, _host(), text)).encode()).hexdigest()
    code = store.find(key)
    if code is None:
        code = _object(text)
        store.keep(key, code)
    try:
        library = elf.Library(code, symbols)
    except elf.UnknownReference:  # another LLVM that refers in other ways loads its code itself
        return _in_process(text, symbols)
    return library.address, library


@cache
def host_bytes() -> int:
    """The width of this machine's vector registers in bytes."""
    if elf.can_load():
        flags = _host().split()
    else:
        import llvmlite.binding as llvm

        flags = [name for name, there in llvm.get_host_cpu_features().items() if there]
    return 64 if "avx512f" in flags else 32 if "avx2" in flags else 16


@cache
def has_bf16() -> bool:
    """Whether this machine multiplies pairs of bfloat16 in vectors of 64 bytes."""
    return elf.can_load() and "avx512_bf16" in _host().split()


@cache
def _host() -> str:
    """What is known of a Linux machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "\n".join(next((line for line in lines if line.startswith(name)), name) for name in ("model", "model name", "flags"))


def _machine(**options: Any) -> Any:
    """A new one each time: an execution engine owns its machine."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # else LLVM halves the registers of a machine that has 512 bits
    features = llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, **options)


def _optimised(text: str, machine: Any) -> Any:
    import llvmlite.binding as llvm

    parsed = llvm.parse_assembly(text)
    parsed.triple = llvm.get_default_triple()
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False  # all that is done by hand
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


def optimised(text: str) -> str:
    """The text of a module once LLVM has improved it."""
    return str(_optimised(text, _machine()))


def _object(text: str) -> bytes:
    """An object file that may lie anywhere in memory."""
    machine = _machine(reloc="pic", codemodel="small")
    code: bytes = machine.emit_object(_optimised(text, machine))
    return code


def _in_process(text: str, symbols: dict[str, int]) -> tuple[Callable[[str], int], Any]:
    import llvmlite.binding as llvm

    machine = _machine()
    for name, address in symbols.items():
        llvm.add_symbol(name, address)
    engine = llvm.create_mcjit_compiler(_optimised(text, machine), machine)
    engine.finalize_object()
    return engine.get_function_address, engine
