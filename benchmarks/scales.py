"""Long memories: images read pixel by pixel, copy memory, adding; and what dilations and clocks save.

    python benchmarks/scales.py pixels permuted copy adding timing [--data ../shared/data] [--minutes 90] [--seed 0]

Every run is carried on where it was interrupted (its folder is `--runs`), and is not run again once it has a result. `pixels` and `permuted`
(one fixed permutation of the 784 pixels) learn from the 60,000 training images, with no selection: the schedule ends when the time does, and the
test images are scored once. `copy` and `adding` make their data as they go and stop when the loss, of fresh data, is what is wanted. The plain
LSTM is beside each: the same data, the same number of updates, about as many weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from record import about, keep, read
from wavefront import Cell, Recurrent, cells
from wavefront.learning import Settings, Trainer
from wavefront.networks import Clockwork, Dilated, Pyramid

# -- Networks


class Whole(nn.Module):
    """x [B, T, inputs] -> scores [B, outputs]: a pyramid, and a readout of its top's mean and last outputs."""

    def __init__(self, inputs: int, outputs: int, units: tuple[int, ...], factors: Any):
        super().__init__()
        self.reader = Pyramid(inputs, units, factors)
        self.norm = nn.LayerNorm(2 * self.reader.outputs)
        self.V = nn.Linear(2 * self.reader.outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h, _, _ = self.reader(x)
        return self.V(self.norm(torch.cat([h.mean(1), h[:, -1]], -1)))


class EveryStep(nn.Module):
    """x [B, T, inputs] -> scores [B, T, outputs]: one layer of recurrence, and a readout of one hidden layer over each state."""

    def __init__(self, cell: Cell, outputs: int, hidden: int = 128):
        super().__init__()
        self.reader = Recurrent(cell)
        self.readout = nn.Sequential(nn.LayerNorm(cell.outputs), nn.Linear(cell.outputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.reader(x)[0])


class AtTheEnd(nn.Module):
    """x [B, T, inputs] -> [B, 1]: one layer of recurrence, and a linear readout of its last output."""

    def __init__(self, cell: Cell):
        super().__init__()
        self.reader, self.V = Recurrent(cell), nn.Linear(cell.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.V(self.reader(x)[0][:, -1])


# -- Pixels


class Pixels:
    """The training images in a new order each epoch, and their labels."""

    def __init__(self, x: Tensor, y: Tensor, epoch: int, seed: int, size: int = 64):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        self.x, self.y, self.rows = x, y, order.split(size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        return prepared(self.x[self.rows[k]]), self.y[self.rows[k]]


def prepared(images: Tensor) -> Tensor:
    """Bytes [B, 784] to the network's inputs [B, 784, 1], mean 0 and deviation 1 over the training images."""
    return ((images.float() / 255 - 0.1307) / 0.3081)[..., None]


def pixels(given: argparse.Namespace, folder: Path, permuted: bool) -> dict[str, Any]:
    with np.load(given.data / "mnist" / "mnist.npz") as file:
        data = {name: torch.from_numpy(file[name]) for name in file.files}
    order = torch.randperm(784, generator=torch.Generator().manual_seed(92916)) if permuted else torch.arange(784)
    x, x_test = (data[name].flatten(1)[:, order] for name in ("x_train", "x_test"))
    y, y_test = data["y_train"].long(), data["y_test"].long()
    torch.manual_seed(given.seed)
    net = Whole(1, 10, (48, 96, 128), 7)

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        return F.cross_entropy(net(batch[0]), batch[1], label_smoothing=0.05), len(batch[1])

    settings = Settings(
        epochs=0, minutes=given.minutes, learning_rate=4e-3, batch_size=64, clip_norm=1.0, average=0.998, keep="last", seed=given.seed
    )
    began = time.monotonic()
    trainer = Trainer(net, loss, lambda epoch: Pixels(x, y, epoch, given.seed), settings, folder, listen=Progress(), began=began)
    trainer.resume()
    outcome = trainer.run()
    net.eval()
    with torch.no_grad():
        right = sum(int((net(prepared(a)).argmax(1) == b).sum()) for a, b in zip(x_test.split(500), y_test.split(500)))
    return {"accuracy": right / len(y_test), "epochs": outcome.epochs, "seconds": outcome.seconds, **described(net)}


# -- Memory


class Fresh:
    """A hundred batches that nobody has seen before, made as they are asked for."""

    def __init__(self, make: Callable[[torch.Generator], tuple[Tensor, Tensor]], epoch: int, seed: int):
        self.make, self.seed = make, 1_000_000 * (seed + 1) + 1000 * epoch

    def __len__(self) -> int:
        return 100

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        return self.make(torch.Generator().manual_seed(self.seed + k))


def copying(generator: torch.Generator, wait: int = 1000, rows: int = 32) -> tuple[Tensor, Tensor]:
    """Ten symbols of eight, `wait` steps of nothing, then, from a sign on, the ten again.

    [Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016, 5.1]
    """
    symbols = torch.randint(1, 9, (rows, 10), generator=generator)
    x, y = torch.zeros(rows, wait + 20, dtype=torch.long), torch.zeros(rows, wait + 20, dtype=torch.long)
    x[:, :10], x[:, wait + 9], y[:, -10:] = symbols, 9, symbols
    return F.one_hot(x, 10).float()[..., 1:], y  # nothing is zeros


def adding(generator: torch.Generator, steps: int = 600, rows: int = 32) -> tuple[Tensor, Tensor]:
    """Numbers in [0, 1], two of them marked, one in each half; the target is their sum.  [Hochreiter & Schmidhuber 1997; Le et al. 2015, 4.1]"""
    values, marks = torch.rand(rows, steps, generator=generator), torch.zeros(rows, steps)
    half = torch.randint(steps // 2, (2, rows), generator=generator)
    marks[torch.arange(rows), half[0]] = marks[torch.arange(rows), steps // 2 + half[1]] = 1
    return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)


def remember(
    given: argparse.Namespace,
    folder: Path,
    make: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    networks: dict[str, tuple[Callable[[], nn.Module], float]],
    epochs: int,
) -> dict[str, Any]:
    """Each network, with its learning rate, on the same stream of batches; the loss at the end on 50 batches of another."""
    found: dict[str, Any] = {"updates": 100 * epochs}
    for name, (build, learning_rate) in networks.items():
        torch.manual_seed(given.seed)
        net = build()

        def loss(batch: tuple[Tensor, Tensor], net: nn.Module = net) -> tuple[Tensor, int]:
            return loss_of(net(batch[0]), batch[1]), len(batch[1])

        settings = Settings(epochs=epochs, learning_rate=learning_rate, weight_decay=0.0, keep="last", seed=given.seed)
        trainer = Trainer(net, loss, lambda epoch: Fresh(make, epoch, given.seed), settings, folder / name, listen=Progress())
        trainer.resume()
        outcome = trainer.run()
        net.eval()
        test = Fresh(make, 999, given.seed)
        with torch.no_grad():
            losses = [float(loss(test[k])[0]) for k in range(50)]
        found[name] = {"loss": sum(losses) / len(losses), "seconds": outcome.seconds, **described(net)}
        print(name, found[name], flush=True)
    return found


def oscillators(inputs: int, units: int) -> Cell:
    """Linear recurrent units that hardly fade in a thousand steps, each at a pitch that stays: a small step of training on an angle is a large one a
    thousand steps later."""
    cell = cells.LRU(inputs, units, radius=(0.9998, 0.9999))
    cell.nu.requires_grad_(False)
    cell.theta.requires_grad_(False)
    return cell


def copy_memory(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    networks = {
        "LRU, fixed pitches": (lambda: EveryStep(oscillators(9, 128), 9), 3e-3),
        "LSTM": (lambda: EveryStep(cells.LSTM(9, 128), 9), 3e-3),
    }
    loss = lambda scores, y: F.cross_entropy(scores.flatten(0, 1), y.flatten())  # noqa: E731
    memoryless = {"without memory": 10 * np.log(8) / 1020}
    return {**memoryless, **remember(given, folder, copying, loss, networks, given.epochs or 5)}


def adding_problem(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    networks = {
        "GRU, chrono start": (lambda: AtTheEnd(cells.GRU(2, 32, tau_max=600)), 1e-2),
        "RG-LRU": (lambda: AtTheEnd(cells.RGLRU(2, 32)), 1e-2),
        "LSTM": (lambda: AtTheEnd(cells.LSTM(2, 64)), 3e-3),
    }
    return {"without memory": 1 / 6, **remember(given, folder, adding, F.mse_loss, networks, given.epochs or 20)}


# -- Timing


def fastest(run: Callable[[], Any], times: int = 3) -> float:
    """Milliseconds of the fastest of some runs, after one to warm up."""
    run()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(1000 * (time.perf_counter() - began))
    return min(found)


def one_by_one(net: Dilated, x: Tensor) -> Tensor:
    """The plain loop over the same dilated cells: step by step, layer by layer."""
    past: list[list[Any]] = [[layer.cell.initial_state(len(x))] * d for layer, d in zip(net.layers, net.delays)]
    outputs = []
    for t in range(x.shape[1]):
        h = x[:, t]
        for layer, states in zip(net.layers, past):
            state, h = layer.cell.step(states.pop(0), h)
            states.append(state)
        outputs.append(h)
    return torch.stack(outputs, 1)


def dilated_times(rows: int, steps: int, units: int) -> dict[str, Any]:
    """Nine layers, forward and backward: interleaved phases as one batch, compiled and in the reference loop, and the plain loop."""
    torch.manual_seed(0)
    net, x, upstream = Dilated(1, units, layers=9), torch.randn(rows, steps, 1), torch.randn(rows, steps, units)
    backends: dict[str, Callable[[], Any]] = {
        "compiled": lambda: net(x)[0].backward(upstream),
        "reference": lambda: net(x)[0].backward(upstream),
        "plain loop": lambda: one_by_one(net, x).backward(upstream),
    }
    found: dict[str, Any] = {"rows, steps, units": [rows, steps, units]}
    for name, run in backends.items():
        for layer in net.layers:
            layer.backend = "reference" if name == "reference" else "auto"
        found[name] = fastest(run, 1 if name == "plain loop" else 3)
    with torch.no_grad():
        found["difference"] = float((net(x)[0] - one_by_one(net, x)).abs().max())
    return found


def clockwork_times(rows: int, steps: int, inputs: int, units: int, periods: tuple[int, ...]) -> dict[str, Any]:
    """A clockwork beside Elman units of the same number: milliseconds, and the share of Elman's arithmetic that ticks."""
    torch.manual_seed(0)
    net, plain, x = Clockwork(inputs, units, periods), Recurrent(cells.Elman(inputs, units)), torch.randn(rows, steps, inputs)
    upstream, groups = torch.randn(rows, steps, units), net.cell.groups
    ticking = sum(n * (inputs + sum(groups[i:])) / period for i, (n, period) in enumerate(zip(groups, periods)))
    found: dict[str, Any] = {"rows, steps, inputs, units": [rows, steps, inputs, units], "share": ticking / (units * (inputs + units))}
    for _ in range(5):  # in turns: what else the machine does meets both
        for name, module in (("clockwork", net), ("plain", plain)):
            now = {"training": fastest(lambda module=module: module(x)[0].backward(upstream), 1)}
            with torch.no_grad():
                now["inference"] = fastest(lambda module=module: module(x), 1)
            for what, time_ in now.items():
                found[f"{name}, {what}"] = min(time_, found.get(f"{name}, {what}", time_))
    for what in ("training", "inference"):
        found[f"ratio, {what}"] = found[f"clockwork, {what}"] / found[f"plain, {what}"]
    return found


def timing(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    octaves = (1, 2, 4, 8, 16, 32, 64, 128)
    return {
        "dilated, ms": [dilated_times(1, 784, 50), dilated_times(8, 784, 50), dilated_times(64, 784, 20)],
        "clockwork, ms": [clockwork_times(32, 256, 64, units, octaves) for units in (512, 1024, 2048)],
    }


class Progress:
    """A line every hundred steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "step":
            self.losses.append(event["loss"])
            if len(self.losses) == 100:
                print(f"{event['progress']:7.2%}  loss {sum(self.losses) / 100:.5f}", flush=True)
                self.losses.clear()


def described(net: nn.Module) -> dict[str, Any]:
    return {"parameters": sum(p.numel() for p in net.parameters())}


RUNS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "pixels": lambda given, folder: pixels(given, folder, permuted=False),
    "permuted": lambda given, folder: pixels(given, folder, permuted=True),
    "copy": copy_memory,
    "adding": adding_problem,
    "timing": timing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=list(RUNS), default=None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, default=90, help="of training, for pixels and permuted each")
    parser.add_argument("--epochs", type=int, default=0, help="of 100 updates, for copy and adding; 0: what is needed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/scales"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/scales.json"))
    given = parser.parse_args()
    for name in given.what or RUNS:
        results = read(given.results)
        if name in results:
            continue
        found = RUNS[name](given, given.runs / f"{name}-{given.seed}")
        results = read(given.results)
        results[name] = {
            **about(" ".join(["python", *sys.argv]), seed=given.seed),
            **found,
        }
        keep(given.results, results)
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
