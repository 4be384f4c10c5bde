"""Names of a package that are imported at their first use, so that to import the package costs nothing."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, by the module that each of its names comes from; a name that is its own home is a module.

    >>> get = lazily("wavefront", {"Grid": "structure", "cells": "cells"})
    >>> get("Grid").__name__, get("cells").__name__
    ('Grid', 'wavefront.cells')
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{homes[name]}")
        if homes[name] == name:
            return module
        found = getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    return get
