"""What a step may depend on beside the numbers in its tensors: told apart by value, and watched."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from wavefront.cell import Cell

__all__ = ["MODULE", "Watch", "frozen"]

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
    """Whether all that a step may depend on, beside the numbers in its tensors, is still as it was."""

    def __init__(self, cell: Cell):
        self.things: list[tuple[dict[str, Any], str, Any]] = []
        self.changeable: list[tuple[Any, Any]] = []
        self.hooks: list[Any] = []
        self.sizes: list[tuple[dict[str, Any], int]] = []
        for module in cell.modules():
            own = {k: v for k, v in module.__dict__.items() if k == "training" or k not in MODULE}
            self.things += [(module.__dict__, name, value) for name, value in own.items()]
            for table in (module._parameters, module._buffers, module._modules):
                self.things += [(table, name, value) for name, value in table.items()]
            self.changeable += [(v, frozen(v)) for v in own.values() if mutable(v)]
            self.sizes.append((module.__dict__, len(module.__dict__)))
            self.hooks += [module._forward_hooks, module._forward_pre_hooks]
        self.hooked = any(self.hooks)

    def holds(self) -> bool:
        try:
            for table, name, value in self.things:
                if table[name] is not value:
                    return False
        except KeyError:
            return False
        for table, size in self.sizes:
            if len(table) != size:
                return False
        for value, before in self.changeable:
            if frozen(value) != before:
                return False
        return any(self.hooks) is self.hooked
