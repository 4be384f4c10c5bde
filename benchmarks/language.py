"""Figures of `language` and `music` on public data, and how fast text is written.

    python benchmarks/language.py [--data ../shared/data] [--only jsb brown] [--seed 0] [--results benchmarks/results/language.json]

Each run is one `wavefront fit` of the command line. A run that was finished is not run again; one that was interrupted is carried on. The
validation data select the weights, and the test split is scored once, at the end of `fit`. Each result holds its command, seed, date, machine,
metrics, and the seconds of CPU that it took. `generation` compares symbols a second with loops over torch.nn.

tinyshakespeare-valid chose its settings by 5 % of the text before the last tenth; `tinyshakespeare` is those settings and epochs on all of the
first nine tenths, which is how others split this text: that 5 % holds the first scenes of the play that the last tenth goes on with.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fitted import fitted
from record import about, keep, read

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


@torch.no_grad()
def generation(units: int = 256, symbols: int = 65, size: int = 64, length: int = 2000, rounds: int = 5) -> dict[str, Any]:
    """Symbols a second, drawn one by one from a network of one LSTM layer: `generative.stream`, and the same by torch.nn, the best of some rounds."""
    from wavefront import cells
    from wavefront.generative import Autoregressive, Categorical, stream

    torch.manual_seed(0)
    table, head = nn.Embedding(symbols, size), nn.Linear(units, symbols)
    network = Autoregressive(cells.LSTM(size, units), Categorical(units, symbols), table, ending="given").eval()
    layer, cell = nn.LSTM(size, units, batch_first=True).eval(), nn.LSTMCell(size, units).eval()

    def ours() -> None:
        written = stream(network)
        for _ in range(length):
            next(written)

    def by_layer() -> None:
        symbol, state = torch.zeros(1, 1, dtype=torch.long), None
        for _ in range(length):
            output, state = layer(table(symbol), state)
            symbol = torch.multinomial(head(output[:, 0]).softmax(-1), 1)
            symbol.item()

    def by_cell() -> None:
        symbol, state = torch.zeros(1, dtype=torch.long), None
        for _ in range(length):
            state = cell(table(symbol), state)
            symbol = torch.multinomial(head(state[0]).softmax(-1), 1)[:, 0]
            symbol.item()

    ways: dict[str, Callable[[], None]] = {"wavefront": ours, "nn.LSTM": by_layer, "nn.LSTMCell": by_cell}
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):  # by turns, so that what else the machine does meets all of them
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = max(best[name], length / (time.perf_counter() - began))
    ratio = best["wavefront"] / max(best["nn.LSTM"], best["nn.LSTMCell"])
    return {"symbols_per_second": {name: round(speed) for name, speed in best.items()}, "ratio": round(ratio, 2)}


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
    if "generation" in results:
        lines.append(f"\ngeneration, one LSTM of 256 units: {results['generation']['metrics']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[], help="runs by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/language.json"))
    given = parser.parse_args()
    if unknown := set(given.only) - {*RUNS, "generation"}:
        parser.error(f"there is no run {', '.join(sorted(unknown))}; there are {', '.join([*RUNS, 'generation'])}")
    results: dict[str, dict[str, Any]] = read(given.results)
    for name in [*RUNS, "generation"]:
        if name in results or (given.only and name not in given.only):
            continue
        if name == "generation":
            results[name] = {**about("benchmarks/language.py --only generation", seed=0), "metrics": generation()}
        else:
            source, arguments, _, _ = RUNS[name]
            results[name] = fitted(given.data / source, arguments, given.runs / f"{name}-{given.seed}", given.seed)
        keep(given.results, results)
        print(table({name: results[name]}), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
