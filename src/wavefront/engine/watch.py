"""What a step may depend on beside the numbers in its tensors: told apart by value, and watched."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Hashable
from functools import cache, lru_cache
from typing import Any

import torch
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from wavefront.cell import Cell

__all__ = ["MODULE", "Watch", "frozen"]

CHANGED = 24  # bytes into a dictionary of CPython, where the number of its last change lies: no two changes have one  [PEP 509]

MODULE = frozenset(torch.nn.Module().__dict__) | {"form"}  # what every module has: told apart below, where it matters


class Same:
    """An object that is equal to itself alone."""

    def __init__(self, thing: Any):
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing


PLAIN = (int, float, complex, str, bytes, bool, type(None))


def frozen(value: Any) -> Hashable:
    """An attribute as it is now: containers by what is in them, for they may change without becoming another object."""
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(frozen, value))
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(frozen, value))
    if isinstance(value, dict):
        return type(value), tuple((frozen(k), frozen(v)) for k, v in value.items())
    return Same(value)


def mutable(value: Any) -> bool:
    """A container that may change without becoming another object."""
    return isinstance(value, (list, dict, set)) or (isinstance(value, tuple) and any(map(mutable, value)))


class Watch:
    """Whether all that a step may depend on, beside the numbers in its tensors, is still as it was: `holds()`.

    hooked   whether there were hooks on its modules
    changes  where in memory numbers lie that are others once a table that `holds` looks into was changed, so that as long as they are these, it
             holds; None where there are no such numbers, or where they would not tell all
    """

    def __init__(self, cell: Cell):
        things: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        hooks: list[dict[Any, Any]] = [_global_forward_hooks, _global_forward_pre_hooks]
        self.changeable: list[tuple[Any, Any]] = []
        for module in cell.modules():
            own = tuple(k for k in module.__dict__ if k == "training" or k not in MODULE)
            things.append((module.__dict__, own))
            things += [(table, tuple(table)) for table in (module._parameters, module._buffers, module._modules)]
            hooks += [module._forward_hooks, module._forward_pre_hooks]
            self.changeable += [(v, frozen(v)) for v in (module.__dict__[k] for k in own) if mutable(v)]
        self.hooked = any(hooks)
        tables = [table for table, _ in things] + hooks
        counted = _counts_changes() and not self.changeable and all(isinstance(table, dict) for table in tables)
        self.changes = list(dict.fromkeys(id(table) + CHANGED for table in tables)) if counted else None  # `_unchanged` keeps the tables
        self._unchanged = _looks([thing for thing in things if thing[0]], [t for t, _ in things if not t], hooks, self.hooked)

    def holds(self) -> bool:
        try:
            return self._unchanged() and (not self.changeable or all(frozen(value) == before for value, before in self.changeable))
        except KeyError:  # one entry went, another came
            return False


@cache
def _counts_changes() -> bool:
    """Whether this Python numbers the changes of its dictionaries, where torch, too, finds the number."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 14):
        return False
    from torch._C._dynamo.guards import dict_version

    table: dict[str, int] = {}
    number = ctypes.c_uint64.from_address(id(table) + CHANGED)
    before, same = number.value, number.value == dict_version(table)
    table["changed"] = 1
    return same and before != number.value == dict_version(table)


def _looks(things: list[tuple[dict[str, Any], tuple[str, ...]]], empty: list[Any], hooks: list[Any], hooked: bool) -> Callable[[], bool]:
    """Whether each table still has so many entries, and these very ones: as one expression, for it is asked before every step of a stream,
    and a loop takes three times as long."""
    names: dict[str, Any] = {}
    terms = [f"({_any(names, 'h', hooks)}) is {hooked}", f"not ({_any(names, 'e', empty)})"]
    for n, (table, keys) in enumerate(things):
        names[f"t{n}"] = table
        terms.append(f"len(t{n}) == {len(table)}")
        for k, key in enumerate(keys):
            names[f"v{n}_{k}"] = table[key]
            terms.append(f"t{n}[{key!r}] is v{n}_{k}")
    function: Callable[[], bool] = eval(_code("lambda: " + " and ".join(terms)), names)
    return function


def _any(names: dict[str, Any], letter: str, tables: list[Any]) -> str:
    """Whether something is in one of the tables."""
    names |= {f"{letter}{n}": table for n, table in enumerate(tables)}
    return f"True if {' or '.join(f'{letter}{n}' for n in range(len(tables))) or False} else False"


@lru_cache(maxsize=1024)
def _code(text: str) -> Any:
    return compile(text, "<what a step depends on>", "eval")
