"""What is measured: a cell at a size."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wavefront.cell import Cell
from wavefront.errors import SettingsError
from wavefront.tasks.task import cell_maker

__all__ = ["PRECISIONS", "SIZES", "Case", "Size", "find_cell"]

SIZES = ("32,100,64,128", "64,100,128,256", "64,100,256,512", "16,200,32,64", "1,500,64,128")
PRECISIONS = ("float32", "bf16")


class Size(NamedTuple):
    """B sequences of T steps, D inputs, H units."""

    B: int
    T: int
    D: int
    H: int

    @classmethod
    def read(cls, text: str) -> Size:
        """
        >>> Size.read("32,100,64,128")
        Size(B=32, T=100, D=64, H=128)
        """
        parts = text.split(",")
        if len(parts) != 4 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise SettingsError(f"a size is four positive numbers B,T,D,H, as 32,100,64,128; got {text!r}.")
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Case(NamedTuple):
    """A cell by its name, as `find_cell` takes it, at a size; Wavefront's precision, while all others stay in float32."""

    cell: str
    size: Size
    precision: str = "float32"

    def make(self) -> Cell:
        return find_cell(self.cell)(self.size.D, self.size.H)


def find_cell(name: str) -> Callable[[int, int], Cell]:
    """The maker (inputs, units) -> Cell that a name means: a cell of the package, or one of your own as FILE.py:CLASS (the file is run).

    >>> find_cell("gru")(3, 5).outputs
    5
    """
    if ":" not in name:
        return cell_maker(name)
    file, _, kind = name.rpartition(":")
    if not Path(file).is_file():
        raise SettingsError(f"{name!r}: there is no file {file!r}. A cell of your own is named FILE.py:CLASS.")
    module_name = f"wavefront_bench_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{file!r} is no Python file. A cell of your own is named FILE.py:CLASS.")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, kind, None)
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise SettingsError(f"{file} has no cell {kind!r}: expected a class made from wavefront.Cell, its constructor (inputs, units).")
    return found
