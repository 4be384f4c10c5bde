"""What `--precision bf16` does to what is learned: a language model and a tagger, five seeds each, beside float32.

    python benchmarks/precision.py [--data ../shared/data] [--only language] [--seeds 5] [--results benchmarks/results/precision.json]

Each run is one `wavefront fit` of the command line; both precisions have the same settings and seeds. A run that was finished is not run again.
To hold: the mean of the test metric in bf16 lies within one standard deviation of float32's (over the seeds).
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fitted import fitted
from record import keep, read

# name -> what to fit, further arguments, the metric
RUNS = {
    "language": ("tinyshakespeare/input.txt.gz", "--epochs 4 --set units=256", "nats_per_symbol"),
    "tagger": ("ud_english_ewt", "--epochs 4 --set units=256", "accuracy"),
}
PRECISIONS = ("float32", "bf16")


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = ["| what | metric | precision | seeds | mean | standard deviation | CPU seconds of a run |", "| --- " * 7 + "|"]
    for name, (_, _, metric) in RUNS.items():
        found: dict[str, list[float]] = {}
        for precision in PRECISIONS:
            runs = [run for key, run in results.items() if key.startswith(f"{name}-{precision}-")]
            scores = found[precision] = [run["metrics"]["test"][metric] for run in runs]
            if len(scores) > 1:
                seconds = mean(run["cpu_seconds"] for run in runs)
                spread = f"{mean(scores):.4f} | {stdev(scores):.4f}"
                lines.append(f"| {name} | {metric} | {precision} | {len(scores)} | {spread} | {seconds:.0f} |")
        if all(len(scores) > 1 for scores in found.values()):
            apart, within = abs(mean(found["bf16"]) - mean(found["float32"])), stdev(found["float32"])
            lines.append(f"\n{name}: the means are {apart:.4f} apart, float32's standard deviation is {within:.4f}\n")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/precision.json"))
    given = parser.parse_args()
    results: dict[str, dict[str, Any]] = read(given.results)
    for seed in range(given.seeds):
        for name in given.only:
            for precision in PRECISIONS:
                key, (source, arguments, _) = f"{name}-{precision}-{seed}", RUNS[name]
                if key not in results:
                    asked = [*shlex.split(arguments), "--precision", precision, "--quiet"]
                    results[key] = fitted(given.data / source, asked, given.runs / key, seed)
                    keep(given.results, results)
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
