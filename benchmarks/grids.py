"""Recurrence over images: MNIST as a grid, by a two-slot cell from each of the four corners, and by four sweeps along columns and rows.

    python benchmarks/grids.py fit   [--data ../shared/data] [--only corners sweeps] [--seed 0] [--epochs 6]
    python benchmarks/grids.py speed [--only corners sweeps]

Images are cut into patches of `--patch` x `--patch` pixels, one a node: 2 makes a grid of 14 x 14 of 28 x 28 pixels, 1 one of every pixel. The last
5,000 images of the training set select the weights; the test set is scored once, at the end. A run that was stopped is carried on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from record import about, keep, read
from wavefront import FourCorners, FourSweeps, cells
from wavefront.learning import Settings, Trainer

Batch = tuple[Tensor, Tensor]  # images [B, 28, 28] of bytes, and which digit each is
HELD_OUT = 5_000


class Corners(nn.Module):
    """o = V [h↘, h↙, h↗, h↖] + c over all nodes, each h by a cell that starts from one corner.  [Graves et al. 2007]"""

    def __init__(self, patch: int, units: int = 16):
        super().__init__()
        self.patch = patch
        self.read = FourCorners(*(cells.MDGRU(patch * patch, units) for _ in range(4)))
        self.V = nn.Linear(self.read.outputs * (28 // patch) ** 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        cut = images.unflatten(1, (-1, self.patch)).unflatten(3, (-1, self.patch)).transpose(2, 3).flatten(3)
        h, _ = self.read(cut)
        return self.V(F.dropout(h.flatten(1), 0.2, self.training))


class Sweeps(nn.Module):
    """Two layers of four sweeps, then all nodes side by side: a small ReNet.  [Visin et al. 2015]"""

    def __init__(self, patch: int, units: int = 24):
        super().__init__()

        def layer(size: int, channels: int) -> FourSweeps:
            down, up = (cells.GRU(size * size * channels, units) for _ in range(2))
            return FourSweeps(down, up, cells.GRU(2 * units, units), cells.GRU(2 * units, units), patch=(size, size))

        self.layers = nn.Sequential(layer(patch, 1), layer(2, 2 * units))
        self.V = nn.Linear(2 * units * (14 // patch) ** 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.V(F.dropout(self.layers(images.unsqueeze(-1)).flatten(1), 0.2, self.training))


KINDS = {"corners": Corners, "sweeps": Sweeps}


class Epoch(Sequence[Batch]):
    """The batches of one epoch, in an order that is the epoch's own."""

    def __init__(self, images: Tensor, digits: Tensor, size: int, seed: int, epoch: int):
        random = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        self.images, self.digits = images, digits
        self.rows = torch.randperm(len(images), generator=random).split(size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: Any) -> Any:
        return self.images[self.rows[k]], self.digits[self.rows[k]]


def scaled(images: Tensor) -> Tensor:
    return images.float() / 255 - 0.13  # the mean of the training images


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    images, digits = batch
    return F.cross_entropy(network(scaled(images)), digits), len(digits)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, digits: Tensor) -> float:
    right = [(network(scaled(some)).argmax(1) == wanted).sum() for some, wanted in zip(images.split(250), digits.split(250))]
    return int(sum(right)) / len(images)


def fit(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    with np.load(given.data / "mnist/mnist.npz") as file:
        x, y, x_test, y_test = (torch.from_numpy(file[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    y, y_test = y.long(), y_test.long()
    torch.manual_seed(given.seed)
    network = KINDS[kind](given.patch)
    settings = Settings(learning_rate=given.rate, epochs=given.epochs, batch_size=100, average=0.998, seed=given.seed)
    kept = len(x) - HELD_OUT

    def told(event: dict[str, Any]) -> None:
        if event["event"] == "evaluation":
            shown = {key: event[key] for key in ("epochs", "train_loss", "valid", "seconds")}
            print(json.dumps({"kind": kind, **shown}), file=sys.stderr, flush=True)

    trainer = Trainer(
        network,
        lambda batch: loss(network, batch),
        lambda epoch: Epoch(x[:kept], y[:kept], settings.batch_size, given.seed, epoch),
        settings,
        given.runs / f"mnist-{kind}-{given.patch}-{given.seed}",
        evaluate=lambda: {"accuracy": accuracy(network, x[kept:], y[kept:])},
        metric="accuracy",
        larger_is_better=True,
        listen=told,
        identity={"network": str(network)},
    )
    trainer.resume()
    outcome = trainer.run()
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "learning": settings.model_dump(),
        "epochs": outcome.epochs,
        "valid": {"accuracy": outcome.best},
        "test": {"accuracy": accuracy(network, x_test, y_test)},
        "seconds": round(outcome.seconds, 1),
    }


def speed(kind: str, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of forward and backward of a batch of 100, and of an epoch at that rate."""
    torch.manual_seed(given.seed)
    network, batch = KINDS[kind](given.patch), (torch.randint(256, (100, 28, 28)), torch.randint(10, (100,)))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        loss(network, batch)[0].backward()
        seconds.append(time.perf_counter() - began)
    return {"seconds a batch of 100": min(seconds), "minutes an epoch of 55,000": 550 * min(seconds) / 60}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "speed"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--patch", type=int, default=2, choices=(1, 2, 7))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/grids.json"))
    given = parser.parse_args()
    for kind in given.only:
        found = (fit if given.what == "fit" else speed)(kind, given)
        results = read(given.results)
        results[f"{given.what}-{kind}-{given.patch}-{given.seed}"] = {
            **about(
                f"python benchmarks/grids.py {given.what} --only {kind} --patch {given.patch} --epochs {given.epochs}"
                f" --rate {given.rate:g} --seed {given.seed}",
                seed=given.seed,
            ),
            **found,
        }
        keep(given.results, results)
        print(kind, json.dumps(found))


if __name__ == "__main__":
    main()
