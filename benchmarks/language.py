"""Figures of `language` and `music` on public data.

    python benchmarks/language.py [--data ../shared/data] [--only jsb brown] [--seed 0] [--results benchmarks/results/language.json]

Each run is one `wavefront fit` of the command line. A run that was finished is not run again; one that was interrupted is carried on. The
validation data select the weights, and the test split is scored once, at the end of `fit`. Each result holds its command, seed, date, machine,
metrics, and the seconds of CPU that it took.

tinyshakespeare-valid chose its settings by 5 % of the text before the last tenth; `tinyshakespeare` is those settings and epochs on all of the
first nine tenths, which is how others split this text: that 5 % holds the first scenes of the play that the last tenth goes on with.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from fitted import fitted
from record import keep, read

TINYSHAKESPEARE = (
    "--precision bf16 --epochs 16 --set learning_rate=0.003 --set weight_decay=0.05 --set layers=2 --set units=448"
    " --set dropout=0.45 --set dropout_inputs=0.1 --set patience=0"
)

# name -> what to fit, further arguments, the metric, what is to be reached
RUNS: dict[str, tuple[str, list[str], str, float]] = {
    "jsb": ("polyphonic/jsb-chorales-quarter.json.gz", ["--epochs", "150", "--set", "learning_rate=0.005"], "nll_per_step", 8.1),
    "jsb-bernoulli": (
        "polyphonic/jsb-chorales-quarter.json.gz",
        shlex.split(
            "--epochs 200 --set learning_rate=0.01 --set output=bernoulli --set dropout=0.4 --set dropout_notes=0 --set units=384"
            " --set transpose=5"
        ),
        "nll_per_step",
        8.4,
    ),
    "nottingham": ("polyphonic/nottingham.json.gz", ["--epochs", "24", "--set", "learning_rate=0.004"], "nll_per_step", 2.95),
    "tinyshakespeare-valid": ("tinyshakespeare/input.txt.gz", shlex.split(TINYSHAKESPEARE), "nats_per_symbol", 1.55),
    "tinyshakespeare": (
        "tinyshakespeare/input.txt.gz",
        shlex.split(f"{TINYSHAKESPEARE} --set valid_share=0"),
        "nats_per_symbol",
        1.55,
    ),
    "brown": (
        "brown",
        ["--precision", "bf16", "--epochs", "12", "--set", "dropout=0.4", "--set", "dropout_inputs=0.25", "--set", "patience=0"],
        "perplexity",
        168.56,  # of the 5-gram model that is scored beside it
    ),
}


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| run | metric | validation | test | to reach | best counted model | CPU seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, (_, _, metric, wanted) in RUNS.items():
        if name in results:
            found = results[name]["metrics"]
            counted = min(scores[metric] for scores in found["baselines"].values())
            scores = " | ".join(f"{found[split][metric]:.4g}" if split in found else "" for split in ("valid", "test"))
            seconds = results[name]["cpu_seconds"]
            lines.append(f"| {name} | {metric} | {scores} | {wanted:g} | {counted:.4g} | {'?' if seconds is None else round(seconds)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[], help="runs by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/language.json"))
    given = parser.parse_args()
    if unknown := set(given.only) - {*RUNS}:
        parser.error(f"there is no run {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    results: dict[str, dict[str, Any]] = read(given.results)
    for name, (source, arguments, _, _) in RUNS.items():
        if name in results or (given.only and name not in given.only):
            continue
        results[name] = fitted(given.data / source, arguments, given.runs / f"{name}-{given.seed}", given.seed)
        keep(given.results, results)
        print(table({name: results[name]}), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
