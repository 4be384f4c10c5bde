"""Loading an object file as LLVM writes it for Linux on x86-64: its sections into memory, and the few kinds of references that such code has."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from functools import cache
from typing import NamedTuple

__all__ = ["Library", "UnknownReference", "can_load"]

ALLOCATED, CODE, ZEROS, SYMBOLS, REFERENCES = 2, 1, 8, 2, 4  # flags and types of sections
ABSOLUTE, RELATIVE, CALL = 1, 2, 4  # types of references: 64 bits; 32 bits from here on; the same, of a function
JUMP = struct.pack("<HI", 0x25FF, 0)  # jmp [rip]: to the address that follows


class UnknownReference(Exception):
    """An object file refers in a way that LLVM did not use when this was written."""


class Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


class Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


@cache
def can_load() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32


class Library:
    """The functions of an object file. symbols: the addresses of what is outside, by name; what copies and clears memory is known."""

    def __init__(self, code: bytes, symbols: dict[str, int]):
        self.code, self.symbols = code, symbols
        start, size, count = struct.unpack_from("<40xQ10xHH", code)
        sections = [Section._make(struct.unpack_from("<IIQQQQIIQQ", code, start + n * size)) for n in range(count)]
        places: dict[int, int] = {}
        end = 0
        for n, section in enumerate(sections):
            if section.flags & ALLOCATED and section.type in (CODE, ZEROS):
                places[n] = end = -(-end // max(1, section.align)) * max(1, section.align)
                end += section.size
        table = next(s for s in sections if s.type == SYMBOLS)
        self._names = sections[table.link].offset
        self._all = [Symbol._make(struct.unpack_from("<IBBHQQ", code, table.offset + at)) for at in range(0, table.size, table.entry)]
        jumps = {self._name(s): end + 16 * n for n, s in enumerate(self._all[1:]) if not s.section}
        self._memory = mmap.mmap(-1, max(1, end + 16 * len(self._all)))
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for n, place in places.items():
            if sections[n].type == CODE:
                self._memory[place : place + sections[n].size] = code[sections[n].offset : sections[n].offset + sections[n].size]
        for name, place in jumps.items():
            self._memory[place : place + 14] = JUMP + struct.pack("<Q", self._outside(name))
        for section in sections:
            if section.type == REFERENCES and section.info in places:
                for at in range(section.offset, section.offset + section.size, section.entry):
                    offset, kind, added = struct.unpack_from("<QQq", code, at)
                    self._refer(places[section.info] + offset, kind & 0xFFFFFFFF, self._all[kind >> 32], added, places, jumps)
        self._functions = {self._name(s): self._base + places[s.section] + s.value for s in self._all[1:] if s.section in places}
        if ctypes.CDLL(None, use_errno=True).mprotect(
            ctypes.c_void_p(self._base), ctypes.c_size_t(len(self._memory)), mmap.PROT_READ | mmap.PROT_EXEC
        ):
            raise OSError(ctypes.get_errno(), "this system lets no program make code of its own")

    def address(self, name: str) -> int:
        return self._functions[name]

    def _name(self, symbol: Symbol) -> str:
        first = self._names + symbol.name
        return self.code[first : self.code.index(b"\0", first)].decode()

    def _outside(self, name: str) -> int:
        if name in self.symbols:
            return self.symbols[name]
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0

    def _refer(self, at: int, kind: int, symbol: Symbol, added: int, places: dict[int, int], jumps: dict[str, int]) -> None:
        there = (places[symbol.section] + symbol.value if symbol.section else jumps[self._name(symbol)]) + added
        if kind == ABSOLUTE:
            self._memory[at : at + 8] = struct.pack("<Q", self._base + there)
        elif kind in (RELATIVE, CALL):
            self._memory[at : at + 4] = struct.pack("<i", there - at)
        else:
            raise UnknownReference(f"reference of type {kind} to {self._name(symbol)!r} in an object file")
