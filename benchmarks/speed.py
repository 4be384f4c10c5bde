"""Speed beside torch.nn and beside a Python loop over the same cell: ratios, in one process, runs interleaved.

    python benchmarks/speed.py                       # everything
    python benchmarks/speed.py --what LSTM GRU --sizes 32,100,64,128 --runs 9 --json speed.json   # these cases, anew, in a file of others

For each case: the fastest time of training (forward and backward, no gradient of the input) and of inference; how many times faster that is than
the other; and the share of the rate of one product of the same shape, [T·B, D] @ [D, gates·H], counting only the arithmetic that is needed.
A machine that does other things meanwhile shows in the medians, which --json has.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront import Cell, Recurrent, cells

SIZES = ["32,100,64,128", "64,100,128,256", "64,100,256,512", "16,200,32,64", "1,500,64,128"]


class Peephole(NamedTuple):
    h: Tensor
    c: Tensor


class NormedPeepholeLSTM(Cell):
    """A user's cell: LSTM with layer normalisation of the gates' sums and of the memory, and peepholes."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=Peephole(units, units))  # type: ignore[arg-type]
        self.U, self.W = nn.Linear(inputs, 4 * units), nn.Linear(units, 4 * units, bias=False)
        self.norm, self.norm_c = nn.LayerNorm(4 * units), nn.LayerNorm(units)
        self.p = nn.Parameter(torch.zeros(3, units))

    def step(self, state: Any, x: Tensor) -> Any:
        h, c = state
        i, f, g, o = self.norm(self.U(x) + self.W(h)).chunk(4, -1)
        c = (f + self.p[0] * c).sigmoid() * c + (i + self.p[1] * c).sigmoid() * g.tanh()
        h = (o + self.p[2] * c).sigmoid() * self.norm_c(c).tanh()
        return Peephole(h, c), h


class DeepCandidateGRU(Cell):
    """A user's cell: a GRU whose candidate has two layers."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.W = nn.Linear(inputs, 3 * units), nn.Linear(units, 2 * units, bias=False)
        self.first, self.second = nn.Linear(units, units), nn.Linear(units, units)

    def step(self, h: Tensor, x: Tensor) -> Any:
        a, b, n = self.U(x).chunk(3, -1)
        r, z = self.W(h).chunk(2, -1)
        r, z = (a + r).sigmoid(), (b + z).sigmoid()
        h = (1 - z) * self.second((n + self.first(r * h)).tanh()).tanh() + z * h
        return h, h


class LearnedLeaks(Cell):
    """A user's cell: leaky units whose time constants are learned."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, state=units)
        self.U, self.W, self.rate = nn.Linear(inputs, units), nn.Linear(units, units, bias=False), nn.Parameter(torch.zeros(units))

    def step(self, h: Tensor, x: Tensor) -> Any:
        leak = self.rate.sigmoid()
        h = leak * h + (1 - leak) * (self.U(x) + self.W(h)).tanh()
        return h, h


# by name: our cell, torch's layer or None (then the Python loop over our cell is what it is measured against), blocks of W as wide as the state
CASES: dict[str, tuple[Callable[[int, int], Cell], Callable[..., nn.Module] | None, int]] = {
    "LSTM": (cells.LSTM, nn.LSTM, 4),
    "GRU": (cells.GRU, nn.GRU, 3),
    "Elman": (cells.Elman, nn.RNN, 1),
    "a user's LSTM": (NormedPeepholeLSTM, None, 4),
    "a user's GRU": (DeepCandidateGRU, None, 4),
    "a user's leaks": (LearnedLeaks, None, 1),
}


def interleaved(functions: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run of each function, after two runs of warming; of short ones more than `runs`, half a second in all."""
    for f in functions.values():
        f(), f()
    times: dict[str, list[float]] = {name: [] for name in functions}
    begun = time.perf_counter()
    while len(times["train"]) < runs or time.perf_counter() - begun < 0.5:
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def measure(name: str, size: str, runs: int) -> dict[str, Any]:
    make, torchs, blocks = CASES[name]
    B, T, D, H = map(int, size.split(","))
    torch.manual_seed(0)
    cell = make(D, H)
    ours, loop = Recurrent(cell, backend="compiled"), Recurrent(cell, backend="reference")
    other = torchs(D, H, batch_first=True) if torchs else loop
    x = torch.randn(B, T, D)
    a, b = torch.randn(T * B, D), torch.randn(D, blocks * H)

    def train(net: nn.Module) -> Any:
        return torch.autograd.grad(net(x)[0].sum(), list(net.parameters()))

    def infer(net: nn.Module) -> Any:
        with torch.no_grad():
            return net(x)[0]

    start = time.perf_counter()
    train(ours)
    first = time.perf_counter() - start
    functions = {
        "train": lambda: train(ours),
        "train other": lambda: train(other),
        "infer": lambda: infer(ours),
        "infer other": lambda: infer(other),
    }
    if torchs:
        functions["train loop"] = lambda: train(loop)
    times = interleaved(functions | {"product": lambda: a @ b}, runs)
    fastest = {k: min(t) for k, t in times.items()}
    # x U forward and its weights' gradient; h W forward, backward and its weights' gradient
    needed = 2 * T * B * blocks * H * (2 * D + 3 * H)
    rate = 2 * T * B * D * blocks * H / fastest["product"]
    return {
        "what": name,
        "size": size,
        "against": f"torch.nn.{torchs.__name__}" if torchs else "the same cell in a Python loop",  # type: ignore[attr-defined]
        "train": fastest["train other"] / fastest["train"],
        "infer": fastest["infer other"] / fastest["infer"],
        "of product": needed / fastest["train"] / rate,
        "first call, s": first,
        "fastest, ms": fastest,
        "median, ms": {k: statistics.median(t) for k, t in times.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="B,T,D,H")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(
        f"{machine}\n{'':16}{'B, T, D, H':18}{'train, ms':>10}{'times':>7}{'infer, ms':>11}{'times':>7}{'of product':>12}{'first, s':>10}  against"
    )
    results: list[dict[str, Any]] = []
    if options.json and Path(options.json).exists():
        measured = {(what, size) for what in options.what for size in options.sizes}
        results = [r for r in json.loads(Path(options.json).read_text())["results"] if (r["what"], r["size"]) not in measured]
    for what in options.what:
        for size in options.sizes:
            r = measure(what, size, options.runs)
            results.append(r)
            t = r["fastest, ms"]
            print(
                f"{what:16}{size:18}{t['train']:10.2f}{r['train']:7.2f}{t['infer']:11.2f}{r['infer']:7.2f}{r['of product']:12.2f}"
                f"{r['first call, s']:10.2f}  {r['against']}",
                flush=True,
            )
    if options.json:
        results.sort(key=lambda r: (list(CASES).index(r["what"]), SIZES.index(r["size"]) if r["size"] in SIZES else len(SIZES)))
        command = " ".join(["python benchmarks/speed.py", *sys.argv[1:]])
        found = {
            "command": command,
            "machine": machine,
            "date": time.strftime("%Y-%m-%d"),
            "runs": options.runs,
            "seed": 0,
            "results": results,
        }
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
