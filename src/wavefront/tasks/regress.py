"""regress: a number for a whole sequence: text, symbols, or a numeric series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from wavefront.errors import DataError
from wavefront.tasks.inputs import SymbolInput, in_brief, input_from_state
from wavefront.tasks.metrics import Errors
from wavefront.tasks.task import Batch, Claim, Example, Figure, Meter, Prediction, validated
from wavefront.tasks.whole import WholeSequence, WholeSettings

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Regress"]

NAMES = ("target", "y", "value", "score", "rating")


class Regress(WholeSequence):
    """A number for each sequence.

    Rows hold an `input` (text, a list of symbols, a numeric series) and a `target`. The network learns the target brought to mean 0 and
    variance 1 by the training data; predictions and metrics are in its own unit. A constant target has deviation 1.
    """

    name = "regress"
    roles = ("input", "target")
    Settings = WholeSettings
    metric = "rmse"
    larger_is_better = False
    outputs = 1  # of the network

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.input = SymbolInput()
        self.mean, self.deviation = 0.0, 1.0

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        numbers = [name for name, kind in kinds.items() if kind == "number"]
        inputs = [name for name, kind in kinds.items() if kind in ("series", "symbols", "text")]
        named = [name for name in numbers if name.lower() in NAMES]
        target = columns.get("target") or (numbers[0] if len(numbers) == 1 else named[0] if len(named) == 1 else None)
        chosen = columns.get("input") or (inputs[0] if len(inputs) == 1 else None)
        if target is None or chosen is None:
            return None
        from wavefront.tasks.classify import NAMES as CLASSES

        whole = all(row[target] is None or float(row[target]).is_integer() for row in islice(source.rows("train"), 500))
        certain = "target" in columns or not (whole and target.lower() in CLASSES)
        return Claim({"input": chosen, "target": target}, certain, f"{target} is a number for each {chosen}")

    def prepare(self, source: Source) -> None:
        count, mean, squares = 0, 0.0, 0.0

        def see(value: Any) -> None:
            nonlocal count, mean, squares
            if not isfinite(value):
                raise DataError(f"{self.columns['target']} is {value}; expected a finite number.")
            count += 1
            apart = value - mean
            mean += apart / count
            squares += apart * (value - mean)  # Welford 1962

        self.prepare_input(source, see)
        deviation = sqrt(squares / count)
        self.mean, self.deviation = mean, deviation if deviation > 1e-12 * max(1.0, abs(mean)) else 1.0

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "input": self.input.state(),
            "mean": self.mean,
            "deviation": self.deviation,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Regress:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.input = input_from_state(state["input"])
        task.mean, task.deviation = state["mean"], state["deviation"]
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        example = super().encode(row)
        value = self.target_of(row)
        if value is not None and not isfinite(value):
            raise DataError(f"{self.columns['target']} is {value}; expected a finite number.")
        return example if value is None else example | {"target": np.array(value, np.float64)}

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Squared error of the standardised target, each member by itself."""
        targets = ((self.targets_of(batch) - self.mean) / self.deviation).to(outputs.dtype)
        return ((outputs[..., 0] - targets) ** 2).mean(), len(targets)

    def wanted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The standardised target."""
        targets = (self.targets_of(batch) - self.mean) / self.deviation
        return targets[:, None], torch.ones(len(targets), dtype=torch.bool)

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        return [{"value": value} for value in (outputs[..., 0].double().mean(0) * self.deviation + self.mean).tolist()]

    def meter(self) -> RegressMeter:
        return RegressMeter(self.columns["target"])

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        return f"{prediction['value']:.6g}\t{in_brief(row[self.columns['input']])}"

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The mean of the training targets, always."""
        errors, mean = Errors(), float(np.mean([float(example["target"]) for example in train]))
        for example in test:
            errors.add([float(example["target"])], [mean])
        return {"mean": {"rmse": errors.rmse, "mae": errors.mae}}


class RegressMeter(Meter):
    """rmse and mae; the first points, target against prediction, are kept to be drawn."""

    SHOWN = 1000

    def __init__(self, target: str):
        super().__init__()
        self.target, self.errors = target, Errors()
        self.gold: list[float] = []
        self.predicted: list[float] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        gold, predicted = batch.targets.tolist(), [prediction["value"] for prediction in predictions]
        self.errors.add(gold, predicted)
        room = self.SHOWN - len(self.gold)
        self.gold += gold[:room]
        self.predicted += predicted[:room]

    def scores(self) -> dict[str, float]:
        return {"rmse": self.errors.rmse, "mae": self.errors.mae}

    def figures(self) -> list[Figure]:
        axes = {"x_axis": self.target, "y_axis": f"predicted {self.target}"}
        return [Figure("points", "Predicted and true values", {"x": self.gold, "y": self.predicted, **axes})]
