"""The surface is small and documented (ruff sorts it); the folders are the architecture; the package stays light to import."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import wavefront

HOME = Path(wavefront.__file__).parent
PACKAGES = sorted({"wavefront", *(f"wavefront.{path.parent.name}" for path in HOME.glob("*/__init__.py"))})

# What each part may import; everything may import errors and lazy. Arrows run downward only.
CORE = {"cell", "structure", "unfolding", "engine", "wrap", "cells"}
MAY_IMPORT = {
    "errors": set(),
    "lazy": set(),
    "cell": set(),
    "clipping": set(),
    "structure": set(),
    "cells": {"cell"},
    "wrap": {"cell", "cells", "clipping"},
    "engine": {"cell", "clipping", "structure", "unfolding"},
    "unfolding": {"cell", "structure", "engine"},
    "networks": CORE,
    "inspect": CORE | {"networks"},
    "data": set(),
    "estimators": CORE | {"networks"},
    "generative": CORE | {"networks", "inspect"},
    "learning": CORE | {"networks", "data"},
    "tasks": CORE | {"networks", "data", "learning", "inspect", "generative"},
    "app": CORE | {"networks", "data", "learning", "inspect", "generative", "tasks"},
}


def modules():
    return sorted(path for path in HOME.rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_documented(package):
    module = importlib.import_module(package)
    assert module.__doc__, f"{package} says nothing about itself"
    names = getattr(module, "__all__", None)
    assert names is not None, f"{package} has no __all__"
    assert len(names) == len(set(names))
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HOME)))
def test_arrows_run_downward_only(path):
    part = path.relative_to(HOME).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("wavefront."):
                other = name.split(".")[1]
                assert other in MAY_IMPORT[part] | {part, "errors", "lazy"}, f"{part} may not import {name} (line {node.lineno})"


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["torch", "numpy", "duckdb", "rich", "typer", "pydantic", "matplotlib", "llvmlite", "safetensors"]
    code = f"import sys, wavefront; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_core_imports_nothing_but_torch():
    heavy = ["duckdb", "rich", "typer", "pydantic", "matplotlib", "llvmlite", "safetensors"]
    code = f"import sys, wavefront; wavefront.Recurrent, wavefront.LSTM, wavefront.unfold; print([n for n in {heavy} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
