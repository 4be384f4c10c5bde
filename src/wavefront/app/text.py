"""Numbers, durations and tables as people read them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["columns_of", "count", "duration", "epochs", "json_line", "json_text", "number", "parts_table", "plain", "scores_table", "table"]


def number(value: Any) -> str:
    """A metric or a loss.

    >>> [number(value) for value in (0.93216, 12.5, 12345.6, None, 7)]
    ['0.9322', '12.50', '12,346', '-', '7']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    return f"{value:.4f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def count(items: int, noun: str) -> str:
    """
    >>> count(1, "batch"), count(1200, "row")
    ('1 batch', '1,200 rows')
    """
    return f"{items:,} {noun}" + ("" if items == 1 else "es" if noun.endswith("ch") else "s")


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0.32, 4.21, 61, 3700)]
    ['0.3 s', '4.2 s', '1 min 01 s', '1 h 01 min']
    """
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def epochs(done: float) -> str:
    """
    >>> epochs(3.0), epochs(0.33416)
    ('3', '0.33')
    """
    return f"{done:.0f}" if done == int(done) else f"{done:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: the first to the left, the others to the right.

    >>> print(table(["split", "f1"], [["train", "0.99"], ["test", "0.9"]]))
    split    f1
    train  0.99
    test    0.9
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]) for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def scores_table(metrics: Mapping[str, Any]) -> str:
    """The metrics of every split, and of what there is to beat, one row each: what `metrics.json` holds."""
    splits = {name: values for name, values in metrics.items() if isinstance(values, Mapping) and "examples" in values}
    names = sorted(columns_of(splits.values()), key=lambda name: name != metrics.get("metric"))
    rows = [[split, *(number(values.get(name)) for name in [*names, "loss", "examples"])] for split, values in splits.items()]
    for name, values in metrics.get("baselines", {}).items():
        rows.append([f"{name}, {metrics.get('baselines_on', 'test')}", *(number(values.get(key)) for key in names), "", ""])
    return table(["", *names, "loss", "examples"], rows)


def parts_table(metrics: Mapping[str, Any]) -> str:
    """The metrics of one split that are told for parts of it, as accuracy_by_size is: one row for each part.

    >>> print(parts_table({"bleu": 31.5, "bleu_by_length": {"up to 5": 40.25, "up to 10": 30.0}}))
    bleu by length  up to 5  up to 10
                      40.25     30.00
    """
    parted = {name.replace("_", " "): parts for name, parts in metrics.items() if isinstance(parts, Mapping)}
    return "\n".join(table([name, *map(str, parts)], [["", *map(number, parts.values())]]) for name, parts in parted.items())


def columns_of(splits: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics of some splits that are one number each, without the loss.

    >>> columns_of([{"loss": 0.5, "accuracy": 0.9, "accuracy_by_size": {"1": 0.9}, "bleu_signature": "nrefs:1", "examples": 7}])
    ['accuracy']
    """
    single = (key for values in splits for key, value in values.items() if not isinstance(value, Mapping | str))
    return [key for key in dict.fromkeys(single) if key not in ("examples", "loss")]


def plain(value: Any) -> Any:
    """What JSON has words for: mappings, lists, numbers; NaN and infinity become null.

    >>> plain({"f1": float("nan"), "sizes": (1, 2)})
    {'f1': None, 'sizes': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_line(value: Any) -> str:
    """A row of data on one line.

    >>> json_line({"label": "é", "log_prob": float("nan")})
    '{"label": "é", "log_prob": null}'
    """
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def json_text(value: Any) -> str:
    """The content of a JSON file."""
    return json.dumps(plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
