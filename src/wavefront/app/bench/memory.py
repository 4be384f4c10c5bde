"""Peak memory of training, each in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import torch

from wavefront.app.bench.case import Case, Size
from wavefront.app.bench.rivals import TORCH, torch_net
from wavefront.networks.recurrent import Recurrent

__all__ = ["peak"]

ROUNDS = 3


def peak(case: Case) -> dict[str, float]:
    """Whole-process peak in MB of a few rounds of training: of Wavefront, of torch.nn's where it has the cell, of nothing but the imports."""
    whose = ["imports", "wavefront", *(["torch.nn"] if case.cell.lower() in TORCH else [])]
    found = {}
    for name in whose:
        command = [sys.executable, "-m", "wavefront.app.bench.memory", case.cell, str(case.size), case.precision, name]
        found[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _train(case: Case, whose: str) -> float:
    if whose != "imports":
        net = torch_net(case) if whose == "torch.nn" else Recurrent(case.make(), precision=case.precision)
        x = torch.randn(case.size.B, case.size.T, case.size.D)
        for _ in range(ROUNDS):
            net(x)[0].sum().backward()
    return _highest()


def _highest() -> float:
    """The most memory in MB that this process ever held. Linux's ru_maxrss would begin with what the parent process held."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    cell, size, precision, whose = sys.argv[1:]
    print(_train(Case(cell, Size.read(size), precision), whose))
