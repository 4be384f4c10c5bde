"""The values that DuckDB gives, as values of a column's kind."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

__all__ = ["CONVERT", "as_series", "kind_of_type"]


def kind_of_type(kind: str) -> str:
    """The kind for a DuckDB type.

    >>> [kind_of_type(t) for t in ("VARCHAR", "DECIMAL(9,2)", "FLOAT[]", "DOUBLE[][]", "VARCHAR[]", "DATE")]
    ['text', 'number', 'series', 'series', 'symbols', 'text']
    """
    base = re.sub(r"(\[\d*\])+$", "", kind)
    number = re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|REAL|DECIMAL\(.*\)", base) is not None
    if base == kind:
        return "number" if number else "text"
    return "spans" if base.startswith("STRUCT") else "series" if number else "symbols"


def as_series(values: Any) -> np.ndarray:
    """Numbers or lists of numbers as float32 [T, channels], NaN for None; what float32 cannot hold becomes infinite, and so is refused."""
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float64).astype(np.float32)
    if array.ndim not in (1, 2):
        raise ValueError(f"expected a series of [time][channel], got {array.ndim} levels of lists")
    return array[:, None] if array.ndim == 1 else array


def _text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise TypeError
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _symbols(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list) or any(v is None or isinstance(v, (list, dict, float)) for v in value):
        raise TypeError
    return [str(v) for v in value]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _series(value: Any) -> np.ndarray | None:
    return None if value is None else as_series(value)


def _spans(value: Any) -> list[dict[str, Any]]:
    spans = [{"start": int(s["start"]), "end": int(s["end"]), "label": s["label"]} for s in value or []]
    if any(not isinstance(s["label"], str) for s in spans):
        raise TypeError
    return spans


CONVERT = {"text": _text, "symbols": _symbols, "number": _number, "series": _series, "spans": _spans}
