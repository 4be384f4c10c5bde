"""What is counted of predictions over trees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wavefront.tasks.metrics import Confusion
from wavefront.tasks.task import Batch, Example, Figure, Meter, Prediction, confusion_figure

if TYPE_CHECKING:
    from wavefront.tasks.tree.task import Tree

__all__ = ["NEW", "SENTIMENT", "TreeMeter"]

NEW = "a label never trained on"
SENTIMENT = ("0", "1", "2", "3", "4")  # very negative ... very positive; 2 is neutral  [Socher et al. 2013, section 3]


class TreeMeter(Meter):
    """Accuracy at roots and at nodes, for sentiments without the neutral ones too, and by size; a few trees."""

    SHOWN, LONGEST = 4, 25  # right ones and wrong ones; words of a tree that is drawn

    def __init__(self, task: Tree):
        super().__init__()
        self.task, self.names, self.pairs = task, [*task.labels.symbols, NEW], task.pairs
        self.roots, self.binary = Confusion(), Confusion()
        self.nodes = [0, 0]
        self.sizes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.shown: list[dict[str, Any]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        gold = [self.names[n] for n in batch.targets.tolist()]
        self.roots.add(gold, [prediction["label"] for prediction in predictions])
        for true, prediction, example in zip(gold, predictions, batch.examples):
            right, size = true == prediction["label"], int(example["size"])
            self.sizes[size][0] += right
            self.sizes[size][1] += 1
            short = int((example["symbols"] > 0).sum()) <= self.LONGEST
            if short and sum(shown["right"] == right for shown in self.shown) < self.SHOWN:
                self.shown.append(self._shown(example, prediction) | {"gold": true, "predicted": prediction["label"], "right": right})
            if "positive" in prediction and true in SENTIMENT and true != "2":
                self.binary.add(["+" if true > "2" else "-"], ["+" if prediction["positive"] > 0.5 else "-"])
            if "labels" in prediction and "parent" not in prediction:  # of the nodes that were given
                for wanted, found in zip(example["labels"].tolist(), prediction["labels"]):
                    self.nodes[0] += wanted != -2 and self.names[wanted] == found
                    self.nodes[1] += wanted != -2

    def _shown(self, example: Example, prediction: Prediction) -> dict[str, Any]:
        """The trees of an example with the labels that they were given, and the true ones where these are of the same nodes."""
        trees = self.task.decoded(example, prediction)
        true = [tree.labels for tree in self.task.decoded(example)]
        same = "labels" in prediction and "parent" not in prediction
        drawn = [
            {"parent": tree.parent, "words": tree.words, "labels": tree.labels, "gold": gold if same else None}
            for tree, gold in zip(trees, true)
        ]
        return {"trees": drawn}

    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = {self.task.metric: self.roots.accuracy}
        if self.pairs:
            found["macro_f1"] = self.roots.macro_f1
        if self.nodes[1] > self.roots.items:  # labels at other nodes than the roots
            found["accuracy_nodes"] = self.nodes[0] / self.nodes[1]
        if self.binary.items:
            found["accuracy_root_binary"] = self.binary.accuracy
        return found | {"accuracy_by_size": self.by_size()}

    def by_size(self) -> dict[str, float]:
        """The share of rows that are right, by size: each size to 16, then sizes together in ranges that double."""
        ranges: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        for size, (right, count) in self.sizes.items():
            last = size if size <= 16 else 1 << (size - 1).bit_length()
            first = size if size <= 16 else last // 2 + 1
            ranges[first, last][0] += right
            ranges[first, last][1] += count
        return {
            str(first) if first == last else f"{first}-{last}": right / count for (first, last), (right, count) in sorted(ranges.items())
        }

    def figures(self) -> list[Figure]:
        by_size = self.by_size()
        bars = {"labels": list(by_size), "values": list(by_size.values()), "axis": "accuracy"}
        note = f"by {self.task.columns['size']}" if "size" in self.task.columns else "by the words of a tree, of two the longer one's"
        return [
            confusion_figure(self.roots),
            Figure("bars", "Accuracy by size", bars, note),
            Figure("trees", "Trees", {"rows": self.shown}),
        ]
