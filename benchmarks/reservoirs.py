"""Echo state networks, beside ReservoirPy in the same run: tasks, memory, speed, and the accuracy of `EchoStateClassifier` on public series.

    python benchmarks/reservoirs.py [--only mackey-glass narma10 lorenz sine-square memory speed ridge vowels tsc] [--data ../shared/data]
                                    [--seeds 10] [--results benchmarks/results/reservoirs.json]

Each part is written when it is done, and not run again. Both sides get the same data, the same number of units and the same settings, or choose
them from the same list on other series; where nothing else is said, densities of connections and inputs are ReservoirPy's defaults, 0.1. Seeds
are of the weights and the series, figures are medians over them. Mackey-Glass has settings of its own, chosen on other series of the same
equation. Speed: the fastest of several runs, float64, one thread, states of all steps kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from record import about, keep, read
from wavefront import EchoStateClassifier, Recurrent
from wavefront.cells import Reservoir
from wavefront.inspect import memory_capacity
from wavefront.networks import EchoState, Ridge

DOUBLE = torch.float64


# the series


def mackey_glass(steps: int, tau: float = 17.0, seed: int = 0, sub: int = 10) -> np.ndarray:
    """dx/dt = 0.2 x(t-τ) / (1 + x(t-τ)¹⁰) - 0.1 x, by Runge-Kutta of order 4 in `sub` steps each, the past interpolated by cubics; every step 1."""
    h, delay = 1 / sub, round(tau * sub)
    total = (steps + 1000) * sub
    x, f = np.empty(total + delay + 1), np.zeros(total + delay + 1)
    x[: delay + 1] = 1.2 + 0.2 * np.random.default_rng(seed).uniform(-1, 1)

    def slope(here: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * here

    for i in range(delay, total + delay):
        past, next_ = x[i - delay], x[i - delay + 1]
        middle = (past + next_) / 2 + h / 8 * (f[i - delay] - f[i - delay + 1])
        f[i] = k1 = slope(x[i], past)
        k2 = slope(x[i] + h / 2 * k1, middle)
        k3 = slope(x[i] + h / 2 * k2, middle)
        k4 = slope(x[i] + h * k3, next_)
        x[i + 1] = x[i] + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x[-steps * sub :: sub]


def lorenz(steps: int, dt: float = 0.02, seed: int = 0) -> np.ndarray:
    """The Lorenz system (10, 28, 8/3), [steps, 3], by Runge-Kutta of order 4 with dt / 4."""

    def slope(s: np.ndarray) -> np.ndarray:
        x, y, z = s
        return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    s, h, found = np.random.default_rng(seed).normal([0, 0, 25]), dt / 4, []
    for i in range((steps + 500) * 4):
        if i % 4 == 0:
            found.append(s)
        k1 = slope(s)
        k2 = slope(s + h / 2 * k1)
        k3 = slope(s + h / 2 * k2)
        k4 = slope(s + h * k3)
        s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.array(found[500:])


def narma10(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """y(t+1) = 0.3 y + 0.05 y Σ y(t-i) + 1.5 u(t-9) u(t) + 0.1, u uniform in [0, 0.5]  [Atiya & Parlos 2000]; anew where it diverges."""
    random = np.random.default_rng(seed)
    while True:
        u, y = random.uniform(0, 0.5, steps), np.zeros(steps)
        for t in range(9, steps - 1):
            y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * y[t - 9 : t + 1].sum() + 1.5 * u[t - 9] * u[t] + 0.1
        if np.isfinite(y).all() and y.max() < 10:
            return u[:, None], y[:, None]


def sine_square(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of 16 steps of a sine or a square wave, and which it is  [Paquot et al. 2012, Scientific Reports 2:287]."""
    kinds = np.random.default_rng(seed).integers(0, 2, steps // 16)
    phase = 2 * np.pi * np.arange(16) / 16
    waves = np.stack([np.sin(phase), np.sign(np.sin(phase + 1e-9))])
    return waves[kinds].reshape(-1, 1), kinds.repeat(16)[:, None].astype(float)


# both sides: states driven by inputs, a ridge readout of [states, inputs], outputs for new inputs


def ours(units: int, seed: int, u: np.ndarray, y: np.ndarray, new: np.ndarray, washout: int, penalty: float, **settings: Any) -> np.ndarray:
    net = EchoState(Reservoir(u.shape[1], units, seed=seed, dtype=DOUBLE, **settings), y.shape[1])
    net.fit(torch.from_numpy(u)[None], torch.from_numpy(y)[None], washout=washout, penalty=penalty)
    with torch.no_grad():
        _, memory = net(torch.from_numpy(u)[None])
        return net(torch.from_numpy(new)[None], memory)[0][0].numpy()


def theirs(
    units: int, seed: int, u: np.ndarray, y: np.ndarray, new: np.ndarray, washout: int, penalty: float, **settings: Any
) -> np.ndarray:
    from reservoirpy.nodes import Input, Reservoir as Node, Ridge as Readout

    named = {"spectral_radius": "sr", "input_scaling": "input_scaling", "bias": "bias", "input_density": "input_connectivity"}
    source, node = Input(), Node(units, seed=seed, **{named[key]: value for key, value in settings.items()})
    model = [source >> node, source] >> Readout(ridge=penalty)
    model.fit(u, y, warmup=washout)
    model.run(u)
    return model.run(new)


SIDES: dict[str, Callable[..., np.ndarray]] = {"wavefront": ours, "reservoirpy": theirs}


def nrmse(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((found - true) ** 2).mean() / true.var()))


CHOICES = [
    {"spectral_radius": radius, "input_scaling": scale, "bias": bias, "input_density": density}
    for radius in (0.6, 0.9)
    for scale in (0.2, 0.4, 1.0)
    for bias in (0.0, 0.3, 1.0)
    for density in (0.1, 1.0)
]


def driven(make: Callable[[int, int], tuple[np.ndarray, np.ndarray]], seeds: int, units: int, train: int, washout: int) -> dict[str, Any]:
    """NRMSE on 2,000 new steps. Each side with the settings of `CHOICES` that do best for it on five other series."""

    def error(side: str, seed: int, settings: dict[str, float]) -> float:
        u, y = make(train + 2000, seed)
        return nrmse(SIDES[side](units, seed, u[:train], y[:train], u[train:], washout, 1e-7, **settings), y[train:])

    settings = {side: min(CHOICES, key=lambda c, side=side: median(error(side, 1000 + k, c) for k in range(5))) for side in SIDES}
    found = {side: [error(side, seed, settings[side]) for seed in range(seeds)] for side in SIDES}
    return summary(found, "NRMSE", lower=True) | {"settings": settings}


def run_narma10(seeds: int) -> dict[str, Any]:
    """200 units, 4,000 steps to learn from."""
    return driven(narma10, seeds, 200, 4000, 200)


def run_sine_square(seeds: int) -> dict[str, Any]:
    """50 units, 3,200 steps to learn from."""
    return driven(sine_square, seeds, 50, 3200, 160)


LYAPUNOV = 0.9056  # of the Lorenz system, per unit of time


def run_lorenz(seeds: int, units: int = 500, train: int = 5000, dt: float = 0.02) -> dict[str, Any]:
    """Lyapunov times until a free-running forecast is off by 0.4 of the series' norm, the median of 20 starts; 500 units."""
    from reservoirpy.nodes import Reservoir as Node, Ridge as Readout

    found: dict[str, list[float]] = {side: [] for side in SIDES}
    starts, warm, ahead = 20, 300, 800
    for seed in range(seeds):
        s = lorenz(train + 1 + starts * 400 + warm + ahead, dt, seed)
        mean, scale = s[:train].mean(0), s[:train].std(0)
        z = (s - mean) / scale
        pieces = [z[train + 400 * k : train + 400 * k + warm + ahead] for k in range(starts)]
        norm = float(np.sqrt((z**2).sum(1).mean()))

        net = EchoState(
            Reservoir(0, units, feedback=3, feedback_scaling=0.5, input_density=0.1, bias=0.5, seed=seed, dtype=DOUBLE), 3, feedback=True
        )
        y = torch.from_numpy(z[:train])[None]
        net.fit(y[..., :0], y, washout=200, penalty=1e-6)
        with torch.no_grad():
            past = torch.from_numpy(np.stack([p[:warm] for p in pieces]))
            _, memory = net(past[..., :0], targets=past)
            out = net(past.new_zeros(starts, ahead, 0), memory)[0].numpy()
        found["wavefront"].append(median(valid_time(o, p[warm:], norm, dt) for o, p in zip(out, pieces)))

        node, readout = Node(units, sr=0.9, input_scaling=0.5, bias=0.5, seed=seed), Readout(ridge=1e-6)
        model = node >> readout
        model.fit(z[: train - 1], z[1:train], warmup=200)
        times = []
        for p in pieces:
            model.reset()
            o, free = model.run(p[:warm])[-1], []
            for _ in range(ahead):
                free.append(np.ravel(o))
                o = model.step(free[-1])
            times.append(valid_time(np.array(free), p[warm:], norm, dt))
        found["reservoirpy"].append(median(times))
    return summary(found, "Lyapunov times", lower=False)


def valid_time(found: np.ndarray, true: np.ndarray, norm: float, dt: float) -> float:
    off = np.sqrt(((found - true) ** 2).sum(1)) / norm > 0.4
    return float((off.argmax() if off.any() else len(off)) * dt * LYAPUNOV)


MACKEY_GLASS = {"spectral_radius": 1.0, "leak": 0.8, "bias": 0.1, "density": 0.1, "feedback_scaling": 1.0}


def run_mackey_glass(seeds: int, units: int = 1000, first: int = 0) -> dict[str, Any]:
    """log10 NRMSE after 84 free-running steps, 100 starts; 3,000 training points after 1,000 dropped.  [Jaeger & Haas 2004: -4.2]"""
    found = []
    for seed in range(first, first + seeds):
        series = mackey_glass(4000 + 100 * 84 + 84, seed=seed)
        found.append(mackey_glass_error(series, seed, units, 1e-10, MACKEY_GLASS))
    return summary({"wavefront": found}, "log10 NRMSE84", lower=True) | {"settings": MACKEY_GLASS}


def mackey_glass_error(series: np.ndarray, seed: int, units: int, penalty: float, settings: dict[str, Any]) -> float:
    """The network hears tanh(x - 1), as in the paper, and nothing else; what it says is turned back before it is scored."""
    y = torch.from_numpy(np.tanh(series - 1))
    net = EchoState(Reservoir(0, units, feedback=1, seed=seed, dtype=DOUBLE, **settings), 1, feedback=True)
    net.fit(y[None, :4000, None][..., :0], y[None, :4000, None], washout=1000, penalty=penalty)
    pieces = torch.stack([y[3000 + 84 * k : 4000 + 84 * k + 84] for k in range(1, 101)])[..., None]
    with torch.no_grad():
        _, memory = net(pieces[:, :1000, :0], targets=pieces[:, :1000])
        last = net(pieces[:, 1000:, :0], memory)[0][:, -1, 0]
    error = torch.atanh(last.clamp(-0.999999, 0.999999)) - torch.atanh(pieces[:, -1, 0])
    return float(torch.log10(error.square().mean().sqrt() / series.std()))


def run_memory(seeds: int, units: int = 100) -> dict[str, Any]:
    """Memory capacity of 100 units, spectral radius 0.9, inputs of ±0.1."""
    from reservoirpy.nodes import Reservoir as Node

    found: dict[str, list[float]] = {side: [] for side in SIDES}
    longest, steps, washout = 2 * units, 4000, 200
    for seed in range(seeds):
        found["wavefront"].append(
            memory_capacity(Reservoir(1, units, input_scaling=0.1, input_density=0.1, seed=seed, dtype=DOUBLE), steps=steps)[0]
        )
        u = (
            torch.rand(1, washout + longest + 2 * steps, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
            .mul(2)
            .sub(1)[0]
            .numpy()
        )
        h = torch.from_numpy(np.ascontiguousarray(Node(units, sr=0.9, input_scaling=0.1, seed=seed).run(u)))
        late = torch.from_numpy(u[:, 0]).unfold(0, longest + 1, 1).flip(1)[washout:, 1:]
        h = h[longest + washout :]
        sums = Ridge(units, longest)
        sums.add(h[:steps], late[:steps])
        V, c = sums.solve(1e-7)
        o = h[steps:] @ V.T + c
        r = torch.stack([torch.corrcoef(torch.stack([o[:, k], late[steps:, k]]))[0, 1].nan_to_num() ** 2 for k in range(longest)])
        found["reservoirpy"].append(float(r.sum()))
    return summary(found, "capacity", lower=False)


# speed


def fastest(run: Callable[[], Any], runs: int = 4) -> float:
    run()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


@torch.no_grad()
def run_speed(seeds: int) -> dict[str, Any]:
    """Steps per second of one series and of a batch of 8, density 0.1, both at 500 steps a call."""
    from reservoirpy.nodes import Reservoir as Node

    table = {}
    for units in (100, 500, 1000, 2000):
        x = np.random.default_rng(0).uniform(-1, 1, (8, 500, 1))
        net, node = Recurrent(Reservoir(1, units, seed=0, dtype=DOUBLE)), Node(units, sr=0.9, seed=0)
        xs = torch.from_numpy(x)
        row = {}
        for batch in (1, 8):
            mine = fastest(lambda b=batch, net=net, xs=xs: net(xs[:b]))
            other = fastest(lambda b=batch, node=node, x=x: node.run(x[0]) if b == 1 else node.run(list(x)), 2)
            row[f"batch {batch}"] = {
                "wavefront": round(batch * 500 / mine),
                "reservoirpy": round(batch * 500 / other),
                "ratio": round(other / mine, 2),
            }
        table[str(units)] = row
    return {"measure": "steps per second", "table": table}


def run_ridge(seeds: int, units: int = 1000, rows: int = 10_000) -> dict[str, Any]:
    """Seconds of a ridge fit of one output from 1,000 features of 10,000 rows."""
    from reservoirpy.nodes import Ridge as Readout

    f, y = np.random.default_rng(0).normal(size=(rows, units)), np.random.default_rng(1).normal(size=(rows, 1))
    tf, ty = torch.from_numpy(f), torch.from_numpy(y)

    def mine() -> None:
        sums = Ridge(units, 1)
        sums.add(tf, ty)
        sums.solve(1e-6)

    found = {"wavefront": fastest(mine), "reservoirpy": fastest(lambda: Readout(ridge=1e-6).fit(f, y))}
    return {"measure": "seconds", **found, "ratio": round(found["reservoirpy"] / found["wavefront"], 2)}


# classification

SETS = (
    *("Adiac", "ArrowHead", "CBF", "ECG200", "FacesUCR", "GesturePebbleZ1", "GunPoint", "ItalyPowerDemand", "JapaneseVowels"),
    *("MelbournePedestrian", "OSULeaf", "PLAID", "PowerCons", "SyntheticControl"),
)
GRID = [{"leak": leak, "input_scaling": scale, "parts": parts} for leak in (0.1, 0.5) for scale in (0.1, 0.5) for parts in (2, 8)]


def series_of(folder: Path) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray], np.ndarray]:
    """Training and test series [T, channels] with their labels; missing values are carried on from the step before."""
    from wavefront.data import open_source

    source = open_source(str(folder), missing="mask")
    series = next(c.name for c in source.columns if c.kind == "series")
    label = next(c.name for c in source.columns if c.name != series)
    found: dict[bool, tuple[list[np.ndarray], list[str]]] = {True: ([], []), False: ([], [])}
    for split in source.splits:
        for row in source.rows(split):
            x = np.asarray(row[series], np.float64).reshape(len(row[series]), -1)
            for channel in x.T:
                there = np.flatnonzero(~np.isnan(channel))
                channel[:] = np.interp(np.arange(len(x)), there, channel[there]) if len(there) else 0.0
            found[split == "test"][0].append(x)
            found[split == "test"][1].append(str(row[label]))
    return found[False][0], np.array(found[False][1]), found[True][0], np.array(found[True][1])


def classified(folder: Path, seeds: int) -> dict[str, Any]:
    """The settings of the grid with the best accuracy in 5-fold cross-validation on train; then accuracy on test, by the seed of the weights."""
    from sklearn.model_selection import StratifiedKFold

    x, y, x_test, y_test = series_of(folder)
    folds = min(5, int(np.unique(y, return_counts=True)[1].min()))
    if folds < 2:
        best: dict[str, Any] = {}
        scores = [float("nan")]
    else:
        cut = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(np.zeros(len(y)), y))
        scores = []
        for settings in GRID:
            model = EchoStateClassifier(random_state=0, **settings).fit(x, y)
            read = torch.from_numpy(model.transform(x))  # needs no labels: one pass for all folds
            wanted, right = torch.from_numpy((y[:, None] == model.classes_).astype(float)), 0
            for train, held_out in cut:
                sums = Ridge(read.shape[1], len(model.classes_))
                sums.add(read[train], wanted[train])
                V, c = sums.best(model.ridge)[1]
                right += int((model.classes_[(read[held_out] @ V.T + c).argmax(1)] == y[held_out]).sum())
            scores.append(right / len(y))
        best = GRID[int(np.argmax(scores))]
    found = [float(EchoStateClassifier(units=500, random_state=seed, **best).fit(x, y).score(x_test, y_test)) for seed in range(seeds)]
    return {"measure": "accuracy", "settings": best, "cross_validated": max(scores), "median": median(found), "seeds": found}


def summary(found: dict[str, list[float]], measure: str, lower: bool) -> dict[str, Any]:
    return {"measure": measure, "lower_is_better": lower, "median": {s: median(v) for s, v in found.items()}, "seeds": found}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "mackey-glass": run_mackey_glass,
    "narma10": run_narma10,
    "lorenz": run_lorenz,
    "sine-square": run_sine_square,
    "memory": run_memory,
    "speed": run_speed,
    "ridge": run_ridge,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", help="these parts; tsc-NAME is one set of series")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/reservoirs.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = read(given.results)
    parts = {**PARTS, **{f"tsc-{name}": lambda seeds, n=name: classified(given.data / "tsc" / n, min(3, seeds)) for name in SETS}}
    for name in given.only or parts:
        if name in results:
            continue
        began = time.monotonic()
        found = parts[name](given.seeds)
        results[name] = {
            **found,
            "seconds": round(time.monotonic() - began, 1),
            **about(" ".join(["python", *sys.argv[:1], "--only", name, "--seeds", str(given.seeds)])),
        }
        keep(given.results, results)
        print(name, json.dumps({key: found[key] for key in ("measure", "median", "table", "ratio") if key in found}), flush=True)


if __name__ == "__main__":
    main()
