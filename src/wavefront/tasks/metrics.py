"""The metrics of the tasks, each counted as the batches come, so that a test set of any size needs the memory of its labels only.

All are fractions. Checked in the tests against scikit-learn and seqeval (strict mode).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["Confusion", "Errors", "SpanCounts"]


class Confusion:
    """How often each label was given for each label: accuracy, and the F1 of every label, averaged without weights (macro).

        F1 of a label = 2 TP / (2 TP + FP + FN)

    The labels that count are those that occur, as gold or as prediction (as in scikit-learn).

    >>> seen = Confusion()
    >>> seen.add(["a", "a", "b", "c"], ["a", "b", "b", "a"])
    >>> seen.accuracy, round(seen.macro_f1, 4)
    (0.5, 0.3889)
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, gold: Iterable[str], predicted: Iterable[str]) -> None:
        self.counts.update(zip(gold, predicted, strict=True))

    @property
    def items(self) -> int:
        return self.counts.total()

    @property
    def labels(self) -> list[str]:
        """Every label that occurred, the most frequent (as gold, then as prediction) first."""
        often: Counter[tuple[str, int]] = Counter()
        for (gold, predicted), n in self.counts.items():
            often[gold, 0] += n
            often[predicted, 1] += n
        return sorted({label for label, _ in often}, key=lambda label: (-often[label, 0], -often[label, 1], label))

    @property
    def accuracy(self) -> float:
        return sum(n for (gold, predicted), n in self.counts.items() if gold == predicted) / self.items if self.items else math.nan

    @property
    def macro_f1(self) -> float:
        right: Counter[str] = Counter()
        given: Counter[str] = Counter()  # TP + FP and TP + FN together
        for (gold, predicted), n in self.counts.items():
            given[gold] += n
            given[predicted] += n
            if gold == predicted:
                right[gold] += n
        return sum(2 * right[label] / given[label] for label in given) / len(given) if given else math.nan

    def table(self, labels: Sequence[str]) -> list[list[int]]:
        """Rows gold, columns predicted."""
        return [[self.counts[gold, predicted] for predicted in labels] for gold in labels]


class SpanCounts:
    """Whole spans, found or not: a span is right when its start, its end and its label are all right (micro average).

        precision = right / predicted        recall = right / gold        F1 = 2 right / (predicted + gold)

    Where there is no span at all, neither gold nor predicted, nothing is wrong: 1.

    >>> spans = SpanCounts()
    >>> spans.add({(0, 2, "year"), (5, 6, "year")}, {(0, 2, "year"), (5, 7, "year")})
    >>> spans.precision, spans.recall, spans.f1
    (0.5, 0.5, 0.5)
    """

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.gold: Counter[str] = Counter()
        self.predicted: Counter[str] = Counter()

    def add(self, gold: set[tuple[int, int, str]], predicted: set[tuple[int, int, str]]) -> None:
        self.gold.update(label for *_, label in gold)
        self.predicted.update(label for *_, label in predicted)
        self.right.update(label for *_, label in gold & predicted)

    @property
    def precision(self) -> float:
        return _ratio(self.right.total(), self.predicted.total(), empty=float(not self.gold.total()))

    @property
    def recall(self) -> float:
        return _ratio(self.right.total(), self.gold.total(), empty=float(not self.predicted.total()))

    @property
    def f1(self) -> float:
        return _ratio(2 * self.right.total(), self.predicted.total() + self.gold.total(), empty=1.0)

    def by_label(self) -> dict[str, tuple[float, float, float, int]]:
        """label -> precision, recall, F1, gold spans; the most frequent first."""
        return {
            label: (
                _ratio(self.right[label], self.predicted[label]),
                _ratio(self.right[label], self.gold[label]),
                _ratio(2 * self.right[label], self.predicted[label] + self.gold[label]),
                self.gold[label],
            )
            for label in sorted(self.gold | self.predicted, key=lambda label: (-self.gold[label], label))
        }


class Errors:
    """Errors of numbers: rmse = √mean (ŷ - y)², mae = mean |ŷ - y|, in the unit of y.

    >>> errors = Errors()
    >>> errors.add([1.0, 2.0], [1.0, 4.0])
    >>> round(errors.rmse, 4), errors.mae
    (1.4142, 1.0)
    """

    def __init__(self) -> None:
        self.items, self._squares, self._absolutes = 0, 0.0, 0.0

    def add(self, gold: Iterable[float], predicted: Iterable[float]) -> None:
        for y, guess in zip(gold, predicted, strict=True):
            self.items += 1
            self._squares += (guess - y) ** 2
            self._absolutes += abs(guess - y)

    @property
    def rmse(self) -> float:
        return math.sqrt(self._squares / self.items) if self.items else math.nan

    @property
    def mae(self) -> float:
        return self._absolutes / self.items if self.items else math.nan


def _ratio(part: float, whole: float, empty: float = 0.0) -> float:
    return part / whole if whole else empty
