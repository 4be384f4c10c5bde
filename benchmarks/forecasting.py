"""Forecasting, against what is published: M4 hourly, ETTh1, exchange rates.

    python benchmarks/forecasting.py [m4 etth1 exchange] [--data ../shared/data] [--runs runs/forecasting]

Every row is one run of `wavefront.fit`, whose weights validation data chose, scored once on the test part. Runs that are finished are taken
as they are, one that was stopped is carried on. Writes benchmarks/results/forecasting.json after each row.

    m4        smape (in %) and mase of the 48 hours after each of 414 series, the mean over series, as in the competition
    etth1     squared and absolute error of seven standardised channels over the first 24, 48 and 96 hours of one forecast, at every hour of the
              test part (12 months to learn from, 4 to choose by, 4 to test)
    exchange  root relative squared error at 3, 6, 12 and 24 days, at every day of the last fifth (Lai et al. 2018)
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wavefront
from record import about, keep, read
from wavefront.app.run import Run
from wavefront.data import open_source
from wavefront.tasks.forecast.forecast import start_of

RESULTS = Path(__file__).parent / "results" / "forecasting.json"
SEED = 0
Values = dict[str, float]

ESN = {"kind": "esn", "units": 300, "window": 168, "windows": 10_000, "epochs": 1, "dropout": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "m4": {"horizon": 48, "season": 24, "window": 336, "segment": 24, "test": 48, "valid": 48, "log": True, "windows": 20_000, "epochs": 8},
    "etth1": {"horizon": 96, "window": 336, "segment": 24, "test": 2880, "valid": 2880, "stride": 48, "windows": 20_000, "epochs": 6}
    | {"output": "mean", "scale": "series", "level": "last", "start": "last", "units": 64, "dropout": 0.5, "learning_rate": 1e-3},
    "exchange": {"horizon": 24, "window": 64, "segment": 8, "season": 1, "test": 1517, "valid": 1518, "stride": 8, "windows": 10_000}
    | {"output": "mean", "scale": "series", "log": False, "linear": False, "units": 16, "dropout": 0.5, "epochs": 8}
    | {"learning_rate": 3e-4, "weight_decay": 1.0},
}
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "m4": {
        "direct, GRU": {},
        "echo state network": ESN,
        "encoder-decoder, GRU": {"kind": "encoder_decoder"},
        "autoregression, GRU, Student-t": {"kind": "autoregressive", "window": 168, "windows": 5_000, "units": 64},
        "direct, LSTM": {"cell": "lstm"},
        "direct, GRU, 3 members": {"members": 3},
    },
    "etth1": {"direct, GRU": {}, "echo state network": ESN},
    "exchange": {"direct, GRU": {}, "direct, GRU, 3 members": {"members": 3}, "echo state network": {**ESN, "window": 64}},
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "m4": {"ES-RNN (Smyl)": {"smape": 9.328, "mase": 0.893}, "seasonal naive": {"smape": 13.912, "mase": 1.193}},
    "etth1": {"Informer": {"mse_24": 0.577, "mse_48": 0.685}, "LSTMa": {"mse_24": 0.650, "mse_48": 0.702}, "DLinear": {"mse_96": 0.375}},
    "exchange": {
        "LSTNet-skip": {"rse_3": 0.0226, "rse_6": 0.0280, "rse_12": 0.0356, "rse_24": 0.0449},
        "RNN-GRU": {"rse_3": 0.0192, "rse_6": 0.0264, "rse_12": 0.0408, "rse_24": 0.0626},
        "AR": {"rse_3": 0.0228, "rse_6": 0.0279, "rse_12": 0.0353, "rse_24": 0.0445},
    },
}


def m4_file(data: Path, to: Path) -> None:
    """A row a series, the 48 values to forecast at its end."""
    train, test = (rows_of(data / f"m4_hourly_{part}.csv.gz")[1:] for part in ("train", "test"))
    rows = [[one[0], *filter(None, one[1:]), *filter(None, two[1:])] for one, two in zip(train, test, strict=True)]
    longest = max(map(len, rows))
    write(to, ["unique_id", *(f"t{k}" for k in range(1, longest))], (row + [""] * (longest - len(row)) for row in rows))


def etth1_file(data: Path, to: Path) -> None:
    """20 months, each channel standardised by the first 12."""
    head, *rows = rows_of(data / "ETTh1.csv.gz")
    rows = rows[:14_400]
    values = np.array([row[1:] for row in rows], float)
    values = (values - values[:8640].mean(0)) / values[:8640].std(0)
    write(to, head, ([row[0], *map(repr, one.tolist())] for row, one in zip(rows, values)))


def exchange_file(data: Path, to: Path) -> None:
    rows = rows_of(data / "exchange_rate.txt.gz")
    write(to, ["aud", "gbp", "cad", "chf", "cny", "jpy", "nzd", "sgd"], rows)


def rows_of(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.reader(file))


def write(to: Path, head: list[str], rows: Any) -> None:
    with to.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def windows(run: Run, file: Path, test: int, early: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Of each series: the forecasts [N, H] at every cut-off from `early` before the test part on, what came, the last value and the last season."""
    task: Any = run.task
    for series in task.read(open_source(file)).series:
        cuts = range(len(series.y) - test - early, len(series.y))
        found = []
        for begin in range(0, len(cuts), 256):
            examples = [task.encode({"series": series, "cut": cut}) for cut in cuts[begin : begin + 256]]
            with torch.no_grad():
                forecast = [one["forecast"] for one in task.decode(run.network, None, task.collate(examples))]
            y = np.stack([example["y"] for example in examples])
            s = task.settings
            known = [start_of(y, "seasonal", season, s.horizon) for season in (1, max(s.season, 7 if s.season == 1 else 1))]
            found.append((np.stack(forecast), np.stack([example["target"] for example in examples]), *known))
        yield tuple(np.concatenate(parts) for parts in zip(*found))


def m4_scores(run: Run, file: Path) -> dict[str, Values]:
    def shown(scores: dict[str, float]) -> Values:
        return {"smape": 100 * scores["smape"], "mase": scores["mase"]}

    coverage = {name: run.metrics["test"][name] for name in ("coverage_80", "coverage_95")}
    beside = {name: shown(scores) for name, scores in run.metrics["baselines"].items()}
    return {"": {**shown(run.metrics["test"]), **coverage}, "valid": shown(run.metrics["valid"]), **beside}


def etth1_scores(run: Run, file: Path) -> dict[str, Values]:
    names = ("", "last value", "seasonal naive")
    sums: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for forecast, target, last, season in windows(run, file, 2880, 0):
        for name, one in zip(names, (forecast, last, season)):
            for h in (24, 48, 96):
                whole = ~np.isnan(target[:, h - 1])
                apart = (one - target)[whole, :h]
                sums[name].setdefault(f"mse_{h}", []).append(float((apart**2).mean()))
                sums[name].setdefault(f"mae_{h}", []).append(float(np.abs(apart).mean()))
    return {name: {key: float(np.mean(values)) for key, values in found.items()} for name, found in sums.items()}


def exchange_scores(run: Run, file: Path) -> dict[str, Values]:
    many = list(windows(run, file, 1517, 24))
    found: dict[str, Values] = {}
    for k, name in ((0, ""), (2, "last value"), (3, "seasonal naive, 7 days")):
        for h in (3, 6, 12, 24):  # made h days before each day of the test part
            at = slice(24 - h, 24 - h + 1517)
            y = np.stack([parts[1][at, h - 1] for parts in many])
            apart = np.stack([parts[k][at, h - 1] for parts in many]) - y
            found.setdefault(name, {})[f"rse_{h}"] = float(np.sqrt((apart**2).sum() / ((y - y.mean()) ** 2).sum()))
    return found


FILES: dict[str, Callable[[Path, Path], None]] = {"m4": m4_file, "etth1": etth1_file, "exchange": exchange_file}
SCORES: dict[str, Callable[[Run, Path], dict[str, Values]]] = {"m4": m4_scores, "etth1": etth1_scores, "exchange": exchange_scores}


def fitted(name: str, row: str, file: Path, folder: Path) -> Run:
    """The run of a row: as it is if it is finished, carried on if it was stopped, else new."""
    out = folder / f"{name}-{row.replace(', ', '-').replace(' ', '-').lower()}"
    if (out / "report.html").exists():
        return wavefront.load(out)
    begun = (out / "task.json").exists()
    settings = {} if begun else {**SETTINGS[name], **ROWS[name][row]}
    return wavefront.fit(file, task="forecast", out=out, set=settings, seed=SEED, resume=begun, overwrite=not begun, quiet=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SETTINGS, []], help="which; all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/forecasting"))
    parser.add_argument("--rows", help="only rows whose name has this in it")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for name in options.names or SETTINGS:
        file = options.runs / f"{name}.csv"
        FILES[name](options.data / "forecasting", file)
        for row in ROWS[name]:
            if options.rows and options.rows not in row:
                continue
            began = time.monotonic()
            run = fitted(name, row, file, options.runs)
            scores = SCORES[name](run, file)
            own = scores.pop("")
            results = read(RESULTS)  # another process may have added to it
            results.setdefault(name, {"published": PUBLISHED[name], "rows": {}})["rows"][row] = {
                "test": own,
                "beside": scores,
                "settings": {**SETTINGS[name], **ROWS[name][row]},
                "parameters": run.metrics["parameters"],
                "seconds": run.metrics["seconds"],
                "best_epoch": run.metrics["best_epoch"],
                "valid_loss": run.metrics["valid"]["loss"],
                **about("python " + " ".join(sys.argv), seed=SEED),
            }
            keep(RESULTS, results)
            shown = "  ".join(f"{key} {value:.4f}" for key, value in own.items())
            print(f"{name}  {row}  {shown}  {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
