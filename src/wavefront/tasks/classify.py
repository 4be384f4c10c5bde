"""classify: a label for a whole sequence: text, symbols, or a numeric series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.data import Labels
from wavefront.tasks.inputs import SymbolInput, in_brief, input_from_state
from wavefront.tasks.metrics import Confusion
from wavefront.tasks.task import Batch, Claim, Example, Figure, Meter, Prediction, confusion_figure, label_numbers, validated
from wavefront.tasks.whole import WholeSequence, WholeSettings

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Classify"]

NAMES = ("label", "class", "category", "intent", "language", "lang", "topic", "sentiment", "genre", "kind", "type")
LOGIT = 8.0  # of a label that an echo state network is to give
NEW = "a label never trained on"


class Classify(WholeSequence):
    """A label for each sequence.

    Rows hold an `input` (text, a list of symbols, a numeric series) and a `label` (text or a whole number). A label that training never saw
    counts as an error.
    """

    name = "classify"
    roles = ("input", "label")
    Settings = WholeSettings
    metric = "accuracy"
    larger_is_better = True

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.input = SymbolInput()
        self.labels = Labels([])

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        sample = list(islice(source.rows("train"), 500))
        label = columns.get("label") or _label_column(kinds, sample, columns.get("input"))
        inputs = [name for name, kind in kinds.items() if kind in ("series", "symbols", "text") and name != label]
        for kind in ("series", "text"):  # one series or text beside other columns is what there is to read
            if len(inputs) > 1 and sum(kinds[name] == kind for name in inputs) == 1 and "symbols" not in {kinds[name] for name in inputs}:
                inputs = [name for name in inputs if kinds[name] == kind]
        chosen = columns.get("input") or ("tokens" if "tokens" in inputs else inputs[0] if inputs else None)
        if label is None or chosen is None or "spans" in kinds.values():
            return None
        certain = len(columns) == 2 or len(inputs) == 1 or chosen == "tokens"
        return Claim({"input": chosen, "label": label}, certain, f"{label} has a label for each {chosen}")

    def prepare(self, source: Source) -> None:
        counts: Counter[str] = Counter()
        self.prepare_input(source, lambda value: counts.update([label_text(value)]))
        self.labels = Labels.of(counts)

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "input": self.input.state(),
            "labels": self.labels.to_json(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Classify:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.input = input_from_state(state["input"])
        task.labels = Labels(**state["labels"])
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        example = super().encode(row)
        value = self.target_of(row)
        return example if value is None else example | {"target": label_numbers(self.labels, [label_text(value)]).reshape(())}

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy, each member by itself; labels never seen are left out."""
        targets = self.targets_of(batch)
        items = int((targets >= 0).sum())
        smoothing = self.settings.smoothing if network.training else 0.0
        each = F.cross_entropy(
            outputs.flatten(0, 1), targets.repeat(len(outputs)), ignore_index=-1, label_smoothing=smoothing, reduction="sum"
        )
        return each / (len(outputs) * max(1, items)), items

    def wanted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`LOGIT` for the label that it is, else 0: as logits, these are certain, but not without limit."""
        targets = self.targets_of(batch)
        return LOGIT * F.one_hot(targets.clamp(min=0), self.outputs).double(), targets >= 0

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        names = self.labels.symbols
        probabilities, best = outputs.softmax(-1).mean(0).max(-1)
        return [{"label": names[n], "probability": round(p, 6)} for n, p in zip(best.tolist(), probabilities.tolist())]

    def meter(self) -> ClassifyMeter:
        return ClassifyMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        return f"{prediction['label']}\t{in_brief(row[self.columns['input']])}"

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The most frequent label, always."""
        counts = np.bincount([int(example["target"]) for example in train], minlength=len(self.labels))
        confusion, names = Confusion(), [*self.labels.symbols, NEW]
        for example in test:
            confusion.add([names[int(example["target"])]], [names[int(counts.argmax())]])
        return {"most frequent label": {"accuracy": confusion.accuracy, "macro_f1": confusion.macro_f1}}


class ClassifyMeter(Meter):
    """Accuracy and macro F1, the confusion of labels, a few examples."""

    SHOWN = 8  # right ones and wrong ones

    def __init__(self, task: Classify):
        super().__init__()
        self.task, self.names = task, [*task.labels.symbols, NEW]
        self.labels = Confusion()
        self.examples: list[dict[str, Any]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        gold = [self.names[n] for n in batch.targets.tolist()]
        found = [prediction["label"] for prediction in predictions]
        self.labels.add(gold, found)
        column = self.task.input
        if not isinstance(column, SymbolInput):
            return
        for example, true, label in zip(batch.examples, gold, found):
            if sum(shown["right"] == (true == label) for shown in self.examples) < self.SHOWN:
                text = ("" if column.pieces == "characters" else " ").join(column.text(example))
                self.examples.append({"text": text, "gold": true, "predicted": label, "right": true == label})

    def scores(self) -> dict[str, float]:
        return {"accuracy": self.labels.accuracy, "macro_f1": self.labels.macro_f1}

    def figures(self) -> list[Figure]:
        shown = [Figure("examples", "Examples", {"rows": self.examples})] if self.examples else []
        return [confusion_figure(self.labels), *shown]


def label_text(value: Any) -> str:
    """A label as text; a whole number without its point.

    >>> label_text(3.0), label_text("spam")
    ('3', 'spam')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _label_column(kinds: Mapping[str, str], sample: Sequence[Mapping[str, Any]], not_this: str | None) -> str | None:
    """The column that holds a class: by its name, else the one text column of few different values."""
    able = [name for name, kind in kinds.items() if kind in ("text", "number") and name != not_this]
    if named := [name for name in able if name.lower() in NAMES]:
        return named[0] if len(named) == 1 else None
    few = [name for name in able if kinds[name] == "text" and len({row[name] for row in sample}) <= max(2, len(sample) // 10)]
    return few[0] if len(few) == 1 else None
