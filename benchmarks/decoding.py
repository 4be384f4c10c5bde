"""How fast what is learned is written: symbol by symbol beside loops over torch.nn, and by search beside the greedy way.

    python benchmarks/decoding.py [--run runs/pairs/cmudict-1 --data ../shared/data/cmudict_g2p] [--rows 444] [--rounds 5]
                                  [--results benchmarks/results/decoding.json]

generation  symbols a second drawn one by one from a network of one LSTM layer of 256 units: `generative.stream`, and the same by torch.nn
beams       seconds that a run of `translate` takes for validation sources with 1, 5 and 10 beams; what a search costs in greedy ones

Ways go by turns, so that what else the machine does meets all of them; the best of the rounds counts.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record import about, keep, read
from turns import fastest

WIDTHS = (1, 5, 10)


@torch.no_grad()
def generation(rounds: int = 5, units: int = 256, symbols: int = 65, size: int = 64, length: int = 2000) -> dict[str, Any]:
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

    seconds = fastest({"wavefront": ours, "nn.LSTM": by_layer, "nn.LSTMCell": by_cell}, rounds)
    ratio = min(seconds["nn.LSTM"], seconds["nn.LSTMCell"]) / seconds["wavefront"]
    return {"symbols_per_second": {name: round(length / each) for name, each in seconds.items()}, "ratio": round(ratio, 2)}


def beams(folder: Path, data: Path, count: int, rounds: int) -> dict[str, Any]:
    """What a search over so many sources costs, over its width."""
    from wavefront import load
    from wavefront.data import open_source

    run = load(folder)
    source = open_source(data, like=run.like)
    rows = list(islice(run.task.rows(source, "valid" if "valid" in source.splits else "train"), count))
    seconds = fastest({str(width): lambda width=width: run.predict(rows, num_beams=width) for width in WIDTHS}, rounds)  # type: ignore[misc]
    costs = {width: round(each / seconds["1"], 2) for width, each in seconds.items()}
    return {"sources": len(rows), "seconds": {width: round(each, 3) for width, each in seconds.items()}, "times_greedy": costs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run of translate; without one there is no figure of beams")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cmudict_g2p"), help="what it was fitted to")
    parser.add_argument("--rows", type=int, default=444, help="sources to write for")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/decoding.json"))
    given = parser.parse_args()
    results = read(given.results)
    results["generation"] = {**about("benchmarks/decoding.py", seed=0), "metrics": generation(given.rounds)}
    print("generation:", results["generation"]["metrics"], flush=True)
    if given.run:
        found = beams(given.run, given.data, given.rows, given.rounds)
        results["beams"] = {**about(f"benchmarks/decoding.py --run {given.run} --data {given.data}"), "metrics": found}
        print("beams:", found)
    keep(given.results, results)


if __name__ == "__main__":
    main()
