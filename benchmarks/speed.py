"""The cases of docs/speed.md, measured as `wavefront bench` measures: beside torch.nn, or beside a Python loop over the same cell, as ratios.

    python benchmarks/speed.py                       # everything
    python benchmarks/speed.py --precision bf16 --what LSTM --sizes 64,100,128,256 64,100,256,512
    python benchmarks/speed.py --what LSTM GRU --sizes 32,100,64,128 --runs 9 --json speed.json   # these cases, anew, in a file of others
    python benchmarks/speed.py --steps --what LSTM   # how training time grows with the number of steps T

For each case: the fastest time of training (forward and backward, no gradient of the input) and of inference; how many times faster that is than
the other; and the share of the rate of one product of the same shape, [T·B, D] @ [D, gates·H], counting only the arithmetic that is needed.
A machine that does other things meanwhile shows in the medians, which --json has.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from record import about, keep, read
from wavefront.app.bench import PRECISIONS, SIZES, Case, Result, bench
from wavefront.app.bench.case import Size

USERS = Path(__file__).with_name("users_cells.py")
CELLS = {
    "LSTM": "lstm",
    "GRU": "gru",
    "Elman": "elman",
    "a user's LSTM": f"{USERS}:NormedPeepholeLSTM",
    "a user's GRU": f"{USERS}:DeepCandidateGRU",
    "a user's leaks": f"{USERS}:LearnedLeaks",
}
TORCHS = {"LSTM": "torch.nn.LSTM", "GRU": "torch.nn.GRU", "Elman": "torch.nn.RNN"}  # the others are measured against the loop

STEPS = (100, 300, 1000, 3000, 10_000)
GROWING = Size(B=8, T=100, D=64, H=128)


def measure(what: str, size: str, precision: str, runs: int) -> dict[str, Any]:
    results: dict[str, Result] = {
        r.what: r for r in bench([Case(CELLS[what], Size.read(size), precision)], ("train", "infer"), runs, beside=("torch.nn", "loop"))
    }
    other = "torch.nn" if what in TORCHS else "loop"
    return {
        "what": what,
        "size": size,
        "precision": precision,
        "against": TORCHS.get(what, "the same cell in a Python loop"),
        "train": results["train"].faster[other],
        "infer": results["infer"].faster[other],
        "of product": results["train"].of_product,
        "first call, s": results["train"].first,
        "fastest, ms": {_called(way, name, other): t for way, r in results.items() for name, t in r.fastest.items()},
        "median, ms": {_called(way, name, other): t for way, r in results.items() for name, t in r.median.items()},
    }


def _called(way: str, name: str, other: str) -> str:
    """
    >>> _called("train", "wavefront", "torch.nn"), _called("train", "torch.nn", "torch.nn"), _called("train", "loop", "torch.nn")
    ('train', 'train other', 'train loop')
    """
    return {"wavefront": way, other: f"{way} other"}.get(name, f"{way} {name}")


def growth(what: str, precision: str, runs: int) -> tuple[float, dict[int, float]]:
    """-> a of time ~ T^a, fitted by least squares to the logarithms, and the fastest training by T, in ms."""
    times = {}
    for T in STEPS:
        (result,) = bench([Case(CELLS[what], GROWING._replace(T=T), precision)], ("train",), runs, beside=())
        times[T] = result.fastest["wavefront"]
    slope, _ = statistics.linear_regression([math.log(T) for T in times], [math.log(t) for t in times.values()])
    return slope, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="*", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), help="B,T,D,H")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="Wavefront's; the other stays in float32")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--steps", action="store_true", help=f"a of training time ~ T^a instead, over T = {STEPS}")
    options = parser.parse_args()
    if options.steps:
        for what in options.what:
            slope, times = growth(what, options.precision, options.runs)
            print(f"{what}: T^{slope:.3f}; ms by T: {', '.join(f'{T}: {t:.2f}' for T, t in times.items())}", flush=True)
        return
    says = about(" ".join(["python benchmarks/speed.py", *sys.argv[1:]]), runs=options.runs, seed=0)
    print(
        f"{says['machine']}\n{'':16}{'B, T, D, H':18}{'train, ms':>10}{'times':>7}{'infer, ms':>11}{'times':>7}"
        f"{'of product':>12}{'first, s':>10}  against"
    )
    measured = {(what, size, options.precision) for what in options.what for size in options.sizes}
    before = read(options.json).get("results", []) if options.json else []
    results = [r for r in before if (r["what"], r["size"], r["precision"]) not in measured]
    for what in options.what:
        for size in options.sizes:
            r = measure(what, size, options.precision, options.runs)
            t = r["fastest, ms"]
            print(
                f"{what:16}{size:18}{t['train']:10.2f}{r['train']:7.2f}{t['infer']:11.2f}{r['infer']:7.2f}{r['of product']:12.2f}"
                f"{r['first call, s']:10.2f}  {r['against']}",
                flush=True,
            )
            results.append(r)
            if options.json:
                keep(options.json, says | {"results": sorted(results, key=_place)})


def _place(result: dict[str, Any]) -> tuple[int, int, int]:
    size = SIZES.index(result["size"]) if result["size"] in SIZES else len(SIZES)
    return PRECISIONS.index(result["precision"]), list(CELLS).index(result["what"]), size


if __name__ == "__main__":
    main()
