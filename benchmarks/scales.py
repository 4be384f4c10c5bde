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
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront import Recurrent, cells
from wavefront.learning import Settings, Trainer
from wavefront.networks import Pyramid

# -- Networks


class Whole(nn.Module):
    """x [B, T, inputs] -> scores [B, outputs]: a pyramid, and a readout of its top's mean and last outputs."""

    def __init__(self, inputs: int, outputs: int, units: tuple[int, ...], factors: Any, cell: Any = cells.GRU):
        super().__init__()
        self.reader = Pyramid(inputs, units, factors, cell)
        self.norm, self.V = nn.LayerNorm(2 * self.reader.outputs), nn.Linear(2 * self.reader.outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h, _, _ = self.reader(x)
        return self.V(self.norm(torch.cat([h.mean(1), h[:, -1]], -1)))


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
}


def machine() -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*RUNS, []], default=list(RUNS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, default=90, help="of training, for pixels and permuted each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/scales"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/scales.json"))
    given = parser.parse_args()
    for name in given.what:
        results = json.loads(given.results.read_text()) if given.results.exists() else {}
        if name in results:
            continue
        found = RUNS[name](given, given.runs / f"{name}-{given.seed}")
        results = json.loads(given.results.read_text()) if given.results.exists() else {}
        results[name] = {
            "command": " ".join(["python", *sys.argv]),
            "seed": given.seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load": os.getloadavg()[1],
            **found,
        }
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
