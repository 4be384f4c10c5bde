"""What every figure says of itself, and the files that figures are kept in."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

__all__ = ["about", "keep", "read"]


def about(command: str, **more: Any) -> dict[str, Any]:
    """By which command, when, and on what machine, busy with how much; `more` is a seed, say."""
    return {
        "command": command,
        **more,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "load": os.getloadavg()[1],
        },
    }


def read(path: Path) -> dict[str, Any]:
    """The figures of a file; none where there is no such file yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def keep(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
