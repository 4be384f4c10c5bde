"""watch: what does not look like what was normal, in lines of text, lists of symbols, or a stream of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.inputs import Moments, SymbolInput, padded
from wavefront.tasks.task import Batch, Claim, Example, Figure, Meter, Prediction, Task, cell_maker, in_row, validated
from wavefront.tasks.watcher import NumberWatcher, SymbolWatcher, Watcher
from wavefront.wrap import Stack

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Watch"]

PIECE = 128  # steps of a stream of numbers that are learned from at once
LEAD = 32  # steps that are read before the first that counts, so that no score is of a network that has seen nothing
ROUNDING = 1e-4  # relative: what is as surprising as the border, but for the batch that it came in, is no alarm
SHARES = {"test": 0.15, "valid": 0.15}  # of a stream of numbers, its end


class WatchSettings(BaseModel):
    """The network of `watch`, and how often it may be wrong."""

    model_config = ConfigDict(extra="forbid")

    false_alarms: float = Field(0.01, gt=0, lt=1, description="share of normal rows that raise an alarm")
    score: Literal["mean", "max"] = Field("mean", description="of a row: the mean surprise of its elements, or the largest")
    channels: tuple[str, ...] = Field((), description="the columns of a stream of numbers; all that hold numbers")
    pieces: Literal["words", "characters"] = Field("characters", description="what a text is cut into")
    longest: int = Field(2000, ge=1, description="symbols of a row that are read")
    cell: str = Field("gru", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of a layer")
    layers: int = Field(1, ge=1, description="layers of the recurrence")
    size: int = Field(32, ge=1, description="size of the vector of a symbol")


class Watch(Task):
    """How surprising each row is to a network that has learned what is normal, and which of its elements are.

    Rows are texts (log lines) or lists of symbols, each by itself; or the steps of one stream of numbers (sensors), one row a step, in the
    order of time. All rows of the data are taken for normal. A row is an alarm where its score is above the threshold that a share of
    `false_alarms` of held-out normal rows exceeds.
    """

    name = "watch"
    roles = ("input",)
    Settings = WatchSettings
    larger_is_better = False
    live = True

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.symbols: SymbolInput | None = None
        self.moments = Moments()
        self.count = 0  # rows of training
        self._total = 0  # of a stream
        self._state: Any = None  # of the stream that is being judged
        self._steps = 0  # of it, so far

    @property
    def numbers(self) -> bool:
        return "input" not in self.columns

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "nll_per_step" if self.numbers else "nats_per_symbol"

    @property
    def length_column(self) -> str:  # type: ignore[override]
        return "values" if self.numbers else "symbols"

    @property
    def needed(self) -> list[str]:
        return list(self.settings.channels) if self.numbers else [self.columns["input"]]

    @property
    def question(self) -> str:
        return f"what is not normal in {', '.join(self.needed)}"

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        if "input" in columns:
            kind = kinds[columns["input"]]
            return Claim(dict(columns), False, f"each {columns['input']}") if kind in ("text", "symbols") else None
        numbers = [name for name, kind in kinds.items() if kind == "number"]
        words = [name for name, kind in kinds.items() if kind in ("text", "symbols")]
        if not numbers and len(words) == 1:
            return Claim({"input": words[0]}, False, f"each {words[0]}")
        return Claim({}, False, f"the stream of {', '.join(numbers[:6])}") if numbers else None

    def prepare(self, source: Source) -> None:
        s = self.settings
        if self.numbers:
            kinds = {column.name: column.kind for column in source.columns}
            channels = s.channels or tuple(name for name, kind in kinds.items() if kind == "number")
            if wrong := [name for name in channels if kinds.get(name) != "number"]:
                raise SettingsError(f"channels: {wrong[0]!r} is {kinds.get(wrong[0], 'no column')}; the channels of a stream are numbers.")
            self.settings = s = s.model_copy(update={"channels": channels})
            self._total = sum(1 for _ in source.rows("all"))
            if self._total < 2 * PIECE:
                raise DataError(f"{source.path}: {self._total} rows; a stream to learn what is normal from has at least {2 * PIECE}.")
            for piece in self.rows(source, "train"):
                self.moments.add(piece["values"][piece["lead"] :])
                self.count += 1
        else:
            self.symbols = SymbolInput(s.pieces, False, longest=s.longest)
            for self.count, row in enumerate(source.rows("train"), 1):
                with in_row(source, self.count):
                    self.symbols.see(self._judged(row))
            if not self.symbols.steps:
                raise DataError(f"{source.path}: not one {self.columns['input']} of {self.count} training rows has anything in it.")
            self.symbols.settle()
        self.settings = s.model_copy(update={"units": s.units or (64 if self.count < 1000 else 128)})

    def training(self) -> dict[str, Any]:
        batch = max(4, min(32, self.count // 8))
        updates = 1000 if self.numbers else 2000
        epochs = max(3, min(100, ceil(updates / ceil(max(1, self.count) / batch))))
        return {"learning_rate": 3e-3, "batch_size": batch, "epochs": epochs, "clip_norm": 1.0, "average": 0.99, "patience": 5}

    # Examples

    def splits(self, source: Source) -> tuple[str, ...]:
        return ("train", "valid", "test") if self.numbers else source.splits

    def rows(self, source: Source, split: str) -> Iterator[Mapping[str, Any]]:
        """Rows; of a stream of numbers pieces, each with some steps before it, the first 70 % of them train."""
        if not self.numbers:
            yield from source.rows(split)
            return
        total = self._total or sum(1 for _ in source.rows("all"))
        begin, end = 0, total
        if split != "all":
            shares = SHARES | source.shares
            parts = [0, *(int(total * share) for share in (1 - sum(shares.values()), 1 - shares["test"])), total]
            begin, end = parts[("train", "valid", "test").index(split) :][:2]
        before: list[list[float | None]] = []
        piece: list[list[float | None]] = []
        for k, row in enumerate(source.rows("all")):
            if begin <= k < end:
                piece.append(self._step(row))
            if piece and (len(piece) == PIECE or k == end - 1):
                yield {"values": np.array([*before, *piece], np.float64), "lead": len(before)}
                before, piece = piece[-LEAD:], []

    def _step(self, row: Mapping[str, Any]) -> list[float | None]:
        return [row[name] for name in self.settings.channels]

    def _judged(self, row: Mapping[str, Any]) -> Any:
        """Symbols, or a text without the end of its line: files have one, and what comes through a pipe has none."""
        value = row[self.columns["input"]]
        return value.rstrip("\r\n") if isinstance(value, str) else value

    def encode(self, row: Mapping[str, Any]) -> Example:
        if self.symbols is not None:
            return self.symbols.encode(self._judged(row))
        values, lead = (row["values"], row["lead"]) if "values" in row and "lead" in row else (np.array([self._step(row)], np.float64), 0)
        return {"values": self.moments.scaled(values).astype(np.float32), "lead": np.array(lead, np.int64)}

    def length(self, example: Example) -> int:
        return len(example[self.length_column])

    def collate(self, examples: Sequence[Example]) -> Batch:
        if self.symbols is not None:
            inputs, lengths = self.symbols.collate(examples)
            return Batch({"symbols": inputs["symbols"], "lengths": lengths}, lengths, lengths, examples)
        lengths = torch.tensor([len(example["values"]) for example in examples])
        values = padded([example["values"] for example in examples], float("nan"))
        inputs = {"values": values.nan_to_num(0.0), "there": (~values.isnan()).to(values.dtype), "lengths": lengths}
        return Batch(inputs, lengths, lengths, examples)

    # The network

    def network(self) -> Watcher:
        s, make = self.settings, cell_maker(self.settings.cell)

        def deep(inputs: int) -> Cell:
            first = make(inputs, s.units)
            return first if s.layers == 1 else Stack(first, *(make(s.units, s.units) for _ in range(s.layers - 1)))

        if self.symbols is not None:
            return SymbolWatcher(deep(s.size), len(self.symbols.vocabulary), s.size)
        return NumberWatcher(deep(2 * len(s.channels)), len(s.channels))

    def criterion(self, network: nn.Module, outputs: Any, batch: Batch) -> tuple[Tensor, int]:
        """Nats of an element: a symbol (or an end), or a step of all channels."""
        surprise, counted = self._counted(outputs, batch)
        items = int(counted.sum())
        return surprise[counted].sum() / max(1, items), items

    def _counted(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Surprise of elements, [B, T], and which of them count."""
        places = torch.arange(outputs.shape[1] if isinstance(outputs, Tensor) else outputs[0].shape[1])
        lengths = batch.lengths.cpu()[:, None]
        if self.symbols is not None:
            return outputs, places <= lengths
        lead = torch.tensor([int(example["lead"]) for example in batch.examples])[:, None]
        return outputs[0].sum(-1), (places < lengths) & (places >= lead)

    def decode(self, network: Any, outputs: Any, batch: Batch) -> list[Prediction]:
        """For each row its score, whether it is an alarm, the surprise of its elements, and the positions that surprise; of a piece of a stream
        how many of its rows are alarms."""
        surprise, counted = self._counted(outputs, batch)
        threshold, single = float(network.threshold), float(network.single)
        found: list[Prediction] = []
        for values, here in zip(surprise.double().cpu(), counted):
            elements = values[here].numpy()
            score = self._score(elements)
            if self.numbers:  # a piece of a stream: each step is a row
                above = elements > threshold
                found.append({"score": score, "alarms": int(above.sum()), "rows": len(above)})
                continue
            positions = np.flatnonzero(elements > single).tolist()
            found.append({"score": score, "alarm": score > threshold, "positions": positions, "surprise": elements.round(4).tolist()})
        return found

    def _score(self, elements: np.ndarray) -> float:
        return float(elements.max() if self.settings.score == "max" else elements.mean()) if len(elements) else 0.0

    @torch.no_grad()
    def predict(self, network: Any, batch: Batch) -> list[Prediction]:
        """Rows of texts each by itself; rows of numbers as the next steps of one stream, whose state is kept from call to call, and whose
        first `LEAD` steps are no alarm."""
        if self.symbols is not None:
            return super().predict(network, batch)
        values, there = (batch.inputs[name].flatten(0, 1)[None] for name in ("values", "there"))
        surprise, self._state = network(values, there, torch.tensor([values.shape[1]]), self._state)
        threshold, found = float(network.threshold), []
        for step in surprise[0].double().cpu().numpy():
            score = float(step.sum())
            worst = [name for name, one in zip(self.settings.channels, step.tolist()) if one > float(network.single)]
            self._steps += 1
            found.append({"score": score, "alarm": score > threshold and self._steps > LEAD, "channels": worst})
        return found

    def begin(self) -> None:
        self._state, self._steps = None, 0

    def calibrate(self, network: Any, batches: Iterable[Batch]) -> None:
        """The thresholds: of the scores of held-out rows (of numbers: of steps), and of their elements."""
        rows: list[np.ndarray] = []
        elements: list[np.ndarray] = []
        for batch in batches:
            outputs = network(**batch.inputs)
            surprise, counted = self._counted(outputs, batch)
            if self.symbols is not None:
                rows.append(np.array([self._score(one[here].numpy()) for one, here in zip(surprise.cpu(), counted)]))
                elements.append(surprise.cpu()[counted].numpy())
            else:
                rows.append(surprise.cpu()[counted].numpy())
                elements.append(outputs[0].cpu()[counted].flatten().numpy())
        for name, found in (("threshold", rows), ("single", elements)):
            border = rank(np.concatenate(found), self.settings.false_alarms)
            getattr(network, name).fill_(border + ROUNDING * max(1.0, abs(border)))

    # What a run keeps, and what is said of it

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "symbols": None if self.symbols is None else self.symbols.state(),
            "moments": self.moments.state(),
            "count": self.count,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Watch:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.moments, task.count = Moments(**state["moments"]), state["count"]
        if state["symbols"] is not None:
            task.symbols = SymbolInput()
            task.symbols.restore(state["symbols"])
        return task

    def meter(self) -> Meter:
        return WatchMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        mark = "ALARM" if prediction["alarm"] else "ok"
        if self.symbols is None:
            shown = " ".join(f"{name}={row[name]:g}" if row[name] is not None else f"{name}=" for name in self.settings.channels)
            worst = f"\t{', '.join(prediction['channels'])}" if prediction["channels"] else ""
            return f"{prediction['score']:.3f}\t{mark}\t{shown}{worst}"
        value = self._judged(row)
        symbols = self.symbols.symbols(value)
        odd = [symbols[k] if k < len(symbols) else "<end>" for k in prediction["positions"]]
        shown = value if isinstance(value, str) else " ".join(value)
        return f"{prediction['score']:.3f}\t{mark}\t{shown}" + (f"\t{' '.join(odd)}" if odd else "")

    def figures(self, meter: Any) -> list[Figure]:
        if self.numbers:
            return []
        rows = [[f"{score:.3f}", "alarm" if alarm else "", text] for score, alarm, text in sorted(meter.shown, reverse=True)]
        return [Figure("table", "The most surprising rows", {"head": ["score", "", "row"], "rows": rows})]


class WatchMeter(Meter):
    """Nats of an element, and the share of rows that raise an alarm."""

    SHOWN = 20

    def __init__(self, task: Watch):
        super().__init__()
        self.task = task
        self.rows = self.alarms = 0
        self.shown: list[tuple[float, bool, str]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        for example, prediction in zip(batch.examples, predictions):
            self.rows += prediction.get("rows", 1)
            self.alarms += prediction["alarms"] if "alarms" in prediction else prediction["alarm"]
            if self.task.symbols is not None:
                text = self.task.symbols.text(example)
                joined = ("" if self.task.symbols.pieces == "characters" else " ").join(text)[:200]
                self.shown = sorted([*self.shown, (prediction["score"], prediction["alarm"], joined)], reverse=True)[: self.SHOWN]

    def scores(self) -> dict[str, float]:
        nats = self._loss / self._items if self._items else float("nan")
        return {self.task.metric: nats, "alarms": self.alarms / self.rows if self.rows else float("nan")}


def rank(scores: np.ndarray, share: float) -> float:
    """What a share of scores of the same kind exceeds: the ⌈(n + 1)(1 - share)⌉-th smallest of n; the largest where n is too small for that.

    >>> rank(np.arange(1.0, 100.0), 0.1)
    90.0
    """
    ordered = np.sort(scores)
    return float(ordered[min(len(ordered), ceil((len(ordered) + 1) * (1 - share))) - 1])
