"""One `wavefront fit` of the command line, and what it wrote."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import about

__all__ = ["fitted"]


def fitted(path: Path | str, arguments: Sequence[str], folder: Path, seed: int) -> dict[str, Any]:
    """The metrics of a run in `folder`, with its command and the CPU seconds of all its threads in this part of it. A run that was finished is
    not run again, one that was interrupted is carried on."""
    asked = ["fit", str(path), *arguments, "--seed", str(seed)]
    cpu = None
    if not (folder / "report.html").exists():
        begun = "--resume" if (folder / "checkpoints").exists() else "--overwrite"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "wavefront", *asked, "--out", str(folder), begun], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    metrics = json.loads((folder / "metrics.json").read_text())
    return {**about(" ".join(["wavefront", *asked]), seed=seed), "cpu_seconds": cpu, "metrics": metrics}
