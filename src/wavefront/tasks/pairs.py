"""What `translate` and `transcribe` share: targets that are sequences of symbols, searched for, and counted against every reference."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wavefront.errors import DataError, SettingsError
from wavefront.generative import Hypothesis
from wavefront.tasks.references import References
from wavefront.tasks.side import Side
from wavefront.tasks.task import Batch, Example, Figure, Meter, Prediction, Task, in_row

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Pairs", "Search"]


class Search(NamedTuple):
    """How outputs are searched for, and what is said of them."""

    num_beams: int = 1  # 1 takes the most probable symbol at each step
    n_best: int = 1  # so many candidates
    explain: int = 0  # where the network looked, for so many rows of each batch


class Pairs(Task):
    """A `source` and its `target`, a sequence of symbols. Several targets of one source are alternatives: any of them is right."""

    roles = ("source", "target")
    grouped = ("source",)
    length_column = "target"
    target: Side

    def __init__(self, settings: Any, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.search = Search()

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "bleu" if self.target.sentences else "word_error"

    @property
    def larger_is_better(self) -> bool:  # type: ignore[override]
        return self.target.sentences

    def searching(self, num_beams: int | None = None, n_best: int = 1, explain: int = 1) -> None:
        beams = max(n_best, self.settings.num_beams) if num_beams is None else num_beams
        if not 1 <= n_best <= beams:
            raise SettingsError(f"a search of {beams} beams gives 1 to {beams} candidates, not {n_best}. Give more: --num-beams {n_best}.")
        self.search = Search(beams, n_best, explain)

    # Rows

    def checked(self, row: Mapping[str, Any], role: str) -> Any:
        """The value of a column, which may not be empty."""
        name = self.columns[role]
        value = row[name]
        if value is None or len(value) == 0 or (isinstance(value, str) and not value.strip()):
            other = self.columns["target" if role == "source" else "source"]
            beside = row.get(other)
            there = f"{len(beside)} steps" if isinstance(beside, np.ndarray) else repr(str(beside)[:60])
            raise DataError(f"{name} is empty, and so the pair has one side only ({other} is {there}). Leave the row out.")
        return value.strip() if isinstance(value, str) else value

    def pairs_of(self, source: Source) -> Iterable[tuple[int, Any, Any]]:
        """The number of each training row, its source and its target, both there."""
        for number, row in enumerate(source.rows("train"), 1):
            with in_row(source, number):
                pair = self.checked(row, "source"), self.checked(row, "target")
            yield number, *pair

    def fitting(self, source: Source, read: Side, role: str) -> None:
        """Refuses a training row of more symbols than are read: a file that is one line by mistake would fill any memory."""
        longest, name = self.settings.longest, self.columns[role]
        if read.longest <= longest:
            return
        for number, row in enumerate(source.rows("train"), 1):
            n = len(read.symbols(row[name]))
            with in_row(source, number):
                if n > longest:
                    remedy = f"Split the row, leave it out, or --set network.longest={n}."
                    raise DataError(f"{name} has {n:,} symbols; at most {longest:,} are learned from. {remedy}")

    def encode_target(self, row: Mapping[str, Any]) -> Example:
        """The target as numbers and as it is written; nothing where the row has no such column."""
        if row.get(self.columns["target"], self) is self:
            return {}
        value = self.checked(row, "target")
        return {"target": self.target.encode(value), "gold": packed(value if isinstance(value, str) else " ".join(value))}

    def length(self, example: Example) -> int:
        return len(example["target"])

    def targets_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T] and the lengths [B]."""
        if batch.targets is None:
            raise DataError(f"the rows have no {self.columns['target']}: nothing to learn from or to score against.")
        return batch.targets, (batch.targets != 0).sum(1)

    @abstractmethod
    def log_prob(self, network: nn.Module, outputs: Any, y: Tensor, y_lengths: Tensor) -> Tensor:
        """log p(y | x) of each row, exact, [B]."""

    @torch.no_grad()
    def log_probs(self, network: nn.Module, batch: Batch) -> list[float]:
        return self.log_prob(network, network(**batch.inputs), *self.targets_of(batch)).tolist()

    # Predictions

    def prediction(self, found: Sequence[Hypothesis]) -> Prediction:
        """The best of the candidates for one row, and with n_best all of them."""
        said = [{"target": self.target.text(h.symbols), "log_prob": round(h.log_prob, 6), "score": round(h.score, 6)} for h in found]
        if not said:  # nothing ends within the limits
            said = [{"target": "", "log_prob": -math.inf, "score": -math.inf}]
        best = {key: said[0][key] for key in ("target", "log_prob")}
        return {**best, "candidates": said} if self.search.n_best > 1 else best

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The source where it is text, its target, or candidates with their log-probabilities, and how many symbols of the source training never
        saw; below it where the network looked."""
        source = row[self.columns["source"]]
        shown = [source if isinstance(source, str) else " ".join(source)] if isinstance(source, str | list) else []
        if "candidates" in prediction:
            shown += [f"{found['target']} ({found['log_prob']:.2f})" for found in prediction["candidates"]]
        else:
            shown.append(prediction["target"])
        if "unknown" in prediction:
            shown.append(f"{prediction['unknown']} unknown")
        drawn = f"\n{drawn_alignment(prediction['alignment'])}\n" if "alignment" in prediction else ""
        return "\t".join(shown) + drawn

    def meter(self) -> PairMeter:
        return PairMeter(self)

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The target of the training source that is most like the source, of a sample of either."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        known, asked = (
            [(self.source_text(e), unpacked(e["gold"])) for e in islice(rows, most)] for rows, most in ((train, 5000), (test, 500))
        )
        if not asked or asked[0][0] is None:
            return {}
        sources = list(dict.fromkeys(str(source) for source, _ in asked))
        likeness = cdist(sources, [str(source) for source, _ in known], scorer=Levenshtein.normalized_similarity)
        nearest = {source: known[k][1] for source, k in zip(sources, likeness.argmax(1))}
        meter = self.meter()
        for source, gold in asked:
            meter.errors.add(source, nearest[str(source)], gold)
        return {"target of the most similar source": meter.scores()}

    def source_text(self, example: Example) -> str | None:
        """The source as it is written, by which its references are found; None where it is no text."""
        return unpacked(example["text"]) if "text" in example else None


class PairMeter(Meter):
    """word_error, symbol_error, bleu; a few examples are kept to be shown. What was found for each source is kept, to be compared with all of
    its references."""

    SHOWN = 8  # right ones and wrong ones

    def __init__(self, task: Pairs):
        super().__init__()
        self.task = task
        self.errors = References(task.target.units)
        self.lengths: dict[Any, int] = {}  # of each source: its words where it is a sentence, else its steps
        self.alignments: dict[Any, Any] = {}

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        for example, prediction, steps in zip(batch.examples, predictions, batch.lengths.tolist()):
            text = self.task.source_text(example)
            key = len(self.lengths) if text is None else text
            self.errors.add(key, prediction["target"], unpacked(example["gold"]))
            self.lengths.setdefault(key, len(text.split()) if text is not None and self.task.target.sentences else steps)
            if "alignment" in prediction and len(self.alignments) < self.SHOWN:
                self.alignments.setdefault(key, prediction["alignment"])

    def scores(self) -> dict[str, Any]:
        scores: dict[str, Any] = {"word_error": self.errors.word_error, "symbol_error": self.errors.symbol_error}
        if self.task.target.sentences:
            scores["bleu"], scores["bleu_signature"] = self.errors.bleu(self.task.settings.bleu)
        if self._items:
            scores["nats_per_symbol"] = self._loss / self._items
        return scores | ({f"{self.task.metric}_by_length": self.by_length()} if self.lengths else {})

    def by_length(self) -> dict[str, float]:
        """The metric of sources of about one length: words of a sentence by fives, steps of anything else by powers of two."""
        classes: dict[int, list[Any]] = {}
        for key, length in self.lengths.items():
            most = 5 * math.ceil(length / 5) if self.task.target.sentences else 1 << max(0, length - 1).bit_length()
            classes.setdefault(most, []).append(key)
        some = {most: self.errors.of(classes[most]) for most in sorted(classes)}
        bleu = self.task.settings.bleu if self.task.target.sentences else ""
        return {f"up to {most}": errors.bleu(bleu)[0] if bleu else errors.word_error for most, errors in some.items()}

    def figures(self) -> list[Figure]:
        metric, classes = self.task.metric, self.by_length()
        bars = {"labels": list(classes), "values": list(classes.values()), "axis": metric}
        what = "words" if self.task.target.sentences else "steps"
        figures = [Figure("bars", f"{metric} by length", bars, f"{what} of the source")]
        if self.task.target.sentences:
            bleu, signature = self.errors.bleu(self.task.settings.bleu)
            figures.append(Figure("table", "BLEU", {"head": ["signature", "bleu"], "rows": [[signature, round(bleu, 2)]]}))
        shown: list[dict[str, Any]] = []
        for key in self.lengths:
            right = not self.errors.wrong(key)
            if sum(example["right"] == right for example in shown) < self.SHOWN:
                found, references = self.errors.found[key]
                text = key if isinstance(key, str) else f"{self.lengths[key]:,} steps"
                shown.append({"text": text, "gold": " or ".join(references), "predicted": found, "right": right})
        figures.append(Figure("examples", "Examples", {"rows": shown}))
        if self.alignments:
            figures.append(Figure("alignments", "Where it looked", {"rows": list(self.alignments.values())}))
        return figures


def drawn_alignment(alignment: Mapping[str, Any]) -> str:
    """Weights as shades: a row for each symbol written, a column for each place of the source.

    >>> print(drawn_alignment({"source": ["a", "b"], "target": ["A", "end"], "weights": [[0.9, 0.1], [0.0, 1.0]]}))
          a b
      A   █ ░
      end   █
    """
    source, target = alignment["source"], alignment["target"]
    wide = max(map(len, target), default=0)
    width = max([1, *map(len, source)]) if len(source) * max([1, *map(len, source)]) <= 160 else 1
    lines = [f"  {'':<{wide}} " + " ".join(f"{symbol[:width]:<{width}}" for symbol in source)]
    for symbol, weights in zip(target, alignment["weights"]):
        lines.append(f"  {symbol:<{wide}} " + " ".join(f"{_shade(w):<{width}}" for w in weights))
    return "\n".join(line.rstrip() for line in lines)


def _shade(weight: float) -> str:
    return " ░▒▓█"[0 if weight < 0.05 else 1 + min(3, int(weight * 4))]


def padded_symbols(examples: Sequence[Example], column: str) -> Tensor:
    """Numbers [B, T], zeros past the lengths."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(example[column]) for example in examples], batch_first=True)


def packed(text: str) -> np.ndarray:
    """A text as an array."""
    return np.frombuffer(text.encode(), np.uint8)


def unpacked(values: np.ndarray) -> str:
    return bytes(values).decode()


def texts_of(source: Source, column: str) -> Iterator[str]:
    """A column of the training rows."""
    return (row[column] for row in source.rows("train"))
