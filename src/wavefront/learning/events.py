"""The log of a run: one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavefront.errors import RunError

__all__ = ["Log", "read_log"]


class Log:
    """Appends events to a file, of the steps only every `every`-th and what is worth a line: a kill loses none that was written.

    Values that JSON has no word for (NaN, infinity) are written as null.
    """

    def __init__(self, path: Path, every: int = 20):
        self.path, self.every = path, every

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and event["step"] % self.every:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_plain(event), ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}. Free some space; --resume carries on.") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a run in order. Where a run was resumed, what it had done after that checkpoint, and did again, is left out; so is a
    last line that a kill cut off."""
    events: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event["event"] == "resumed":
            events = [e for e in events if e["event"] not in ("step", "evaluation") or e["step"] <= event["step"]]
        events.append(event)
    return events


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
