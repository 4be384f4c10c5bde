"""music: the notes of each step of a piece, foretold from the steps before."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.data.readers.jsonl import as_notes
from wavefront.errors import DataError, SettingsError
from wavefront.generative import NADE, Autoregressive, BernoulliVector, Output
from wavefront.networks.layers import Layers
from wavefront.tasks.inputs import padded
from wavefront.tasks.task import Batch, Claim, Example, Figure, Manner, Meter, Prediction, Task, cell_maker, in_row, validated

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Music", "MusicSettings"]

PIANO = (21, 108)  # the keys of a piano, by MIDI number
MIDI = (0, 127)


class MusicSettings(BaseModel):
    """The network of `music`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    cell: str = Field("lstm", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer")
    layers: int = Field(1, ge=1, description="layers of the recurrence")
    output: Literal["nade", "bernoulli"] = Field("nade", description="notes of a step each given those below it, or each on its own")
    nade_units: int = Field(128, ge=1, description="units over the notes of one step")
    dropout: float | None = Field(None, ge=0, lt=1, description="of features, between the layers and after them")
    dropout_notes: float | None = Field(None, ge=0, lt=1, description="of the notes that are read, in training")
    transpose: int | None = Field(None, ge=0, le=12, description="in training, each piece is moved by up to so many semitones, up or down")


class Music(Task):
    """The notes of each step, given all steps before.  [Boulanger-Lewandowski et al. 2012; Goodfellow et al. 2016, 10.2.3]

    Rows hold a piece, `notes`: a list of steps, each the MIDI numbers of the notes that sound. The metric is the negative log-likelihood of a
    step in nats, summed over its notes, in the mean over all steps of a split, the first of each piece included.
    """

    name = "music"
    roles = ("notes",)
    Settings = MusicSettings
    metric = "nll_per_step"
    larger_is_better = False
    length_column = "steps"
    command = "generate {run}"

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.keys = PIANO  # lowest and highest
        self.pieces = self.steps = 0
        self.sounding = np.zeros(MIDI[1] + 1)  # in how many training steps each note sounds; counted where a run begins

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        able = [column.name for column in source.columns if column.kind == "notes"]
        chosen = columns.get("notes") or (able[0] if len(able) == 1 else None)
        return Claim({"notes": chosen}, True, f"{chosen} has the notes of each step") if chosen in able else None

    @property
    def size(self) -> int:
        """How many notes there are."""
        return self.keys[1] - self.keys[0] + 1

    def prepare(self, source: Source) -> None:
        low, high = PIANO
        for number, row in enumerate(source.rows("train"), 1):
            with in_row(source, number):
                piece = self._piece(row)
            self.pieces, self.steps = self.pieces + 1, self.steps + len(piece)
            for step in piece:
                self.sounding[list(set(step))] += 1
            low, high = min([low, *(min(step) for step in piece if step)]), max([high, *(max(step) for step in piece if step)])
        if not self.steps:
            raise DataError(f"{source.path}: {self.pieces} training pieces, and not one with a step in it.")
        self.keys = PIANO if (low, high) == PIANO else MIDI
        few = self.steps < 50_000
        s = self.settings
        chosen = {
            "units": s.units or (256 if few else 384),
            "dropout": (0.5 if few else 0.3) if s.dropout is None else s.dropout,
            "dropout_notes": (0.2 if few else 0.0) if s.dropout_notes is None else s.dropout_notes,
            "transpose": (5 if few else 0) if s.transpose is None else s.transpose,
        }
        self.settings = s.model_copy(update=chosen)

    def training(self) -> dict[str, Any]:
        batch = max(1, min(16, self.pieces // 4))
        return {
            "learning_rate": 4e-3,
            "batch_size": batch,
            "epochs": max(5, min(200, math.ceil(4000 / math.ceil(self.pieces / batch)))),
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "average": 0.995,
            "patience": 0,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "keys": list(self.keys),
            "seen": [self.pieces, self.steps],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Music:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        low, high = state["keys"]
        task.keys = (low, high)
        task.pieces, task.steps = state["seen"]
        return task

    # From notes to zeros and ones

    def _piece(self, row: Mapping[str, Any]) -> list[list[int]]:
        piece = row[self.columns["notes"]]
        if piece is None:
            raise DataError(f"{self.columns['notes']} is empty: a piece is a list of steps.")
        return piece

    def encode(self, row: Mapping[str, Any]) -> Example:
        """As the notes of all steps, one after the other, and where each step's end: a roll has a hundred times as many zeros."""
        piece, (low, high) = self._piece(row), self.keys
        notes = [note - low for step in piece for note in sorted(step)]
        if outside := [note + low for note in notes if not 0 <= note <= high - low]:
            raise DataError(f"note {outside[0]} is outside of what the model was trained on, {low} to {high}. Move the piece by octaves.")
        return {"steps": np.cumsum([len(step) for step in piece], dtype=np.int32), "sounding": np.array(notes, np.uint8)}

    def roll(self, example: Example) -> np.ndarray:
        """[steps, notes] of zeros and ones."""
        ends = example["steps"]
        out = np.zeros((len(ends), self.size), np.float32)
        out[np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)), example["sounding"]] = 1
        return out

    def length(self, example: Example) -> int:
        return len(example["steps"])

    def collate(self, examples: Sequence[Example]) -> Batch:
        lengths = torch.tensor([len(example["steps"]) for example in examples])
        return Batch({"y": padded([self.roll(example) for example in examples]), "lengths": lengths}, lengths, None, examples)

    # The network

    def network(self) -> Autoregressive:
        s, make = self.settings, cell_maker(self.settings.cell)
        sizes = [self.size] + [s.units] * s.layers
        layers = Layers([make(below, above) for below, above in pairwise(sizes)], (s.dropout_notes, s.dropout, s.dropout))
        output: Output
        if s.output == "nade":
            output = NADE(layers.outputs, self.size, s.nade_units)
            bias = output.b.bias
        else:
            output = BernoulliVector(layers.outputs, self.size)
            bias = output.V.bias
        on = torch.as_tensor(self.sounding[self.keys[0] : self.keys[1] + 1])
        with torch.no_grad():  # the log-odds that each note sounds: to begin with, the network says what counting says
            bias.copy_(((on + 1) / (self.steps - on + 1)).log())
        return Autoregressive(layers, output, ending="given")

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        if network.training and self.settings.transpose:
            moved = transposed(batch.inputs["y"], self.settings.transpose)
            batch = Batch({**batch.inputs, "y": moved}, batch.lengths, None, batch.examples)
        return super().loss(network, batch)

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Of the log-probabilities of all steps, the mean; negated."""
        items = int(batch.lengths.sum())
        return -outputs.sum() / max(1, items), items

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        found = []
        for example, log_p, steps in zip(batch.examples, outputs, batch.lengths.tolist()):
            nats, ends = (-log_p[:steps]).tolist(), example["steps"].tolist()
            worst = sorted(range(steps), key=nats.__getitem__, reverse=True)[:5]
            shown = [
                {
                    "step": t,
                    "notes": [self.keys[0] + int(note) for note in example["sounding"][ends[t - 1] if t else 0 : ends[t]]],
                    "nats": round(nats[t], 4),
                }
                for t in worst
            ]
            found.append({"log_prob": -sum(nats), "nll_per_step": sum(nats) / max(1, steps), "steps": steps, "surprising": shown})
        return found

    def log_probs(self, network: nn.Module, batch: Batch) -> list[float]:
        return [found["log_prob"] for found in self.predict(network, batch)]

    # Writing

    def write(self, network: nn.Module, prompt: str, manner: Manner) -> Iterator[str]:
        """The steps that go on from the prompt, a piece as JSON has it (steps of notes), each as a line of JSON."""
        assert isinstance(network, Autoregressive)
        if manner.temperature not in (0.0, 1.0) or manner.top_k or manner.top_p < 1 or manner.num_beams:
            raise SettingsError(
                "the notes of a step are drawn together: music is written at temperature 1, or 0 for the most probable; there is no top_k, top_p"
                " or search."
            )
        try:
            piece = as_notes(json.loads(prompt), "the prompt") if prompt.strip() else []
        except ValueError as error:
            raise DataError(
                f"the prompt is a piece as JSON, steps of MIDI notes: [[60, 64, 67], [60, 64, 67]]; got {prompt[:80]!r} ({error})."
            ) from None
        yield from self._steps(network, piece, manner)

    @torch.no_grad()
    def _steps(self, network: Autoregressive, piece: list[list[int]], manner: Manner) -> Iterator[str]:
        w, _ = network.begin(1)
        if piece:
            roll = torch.from_numpy(self.roll(self.encode({self.columns["notes"]: piece})))
            _, w = network.run(roll[None].to(network.start.device), state=w)
        for _ in range(manner.length):
            w, o = network.step(w)
            y = network.output.sample(o) if manner.temperature else network.output.mode(o)
            w = network.write(w, y)
            yield f"{[self.keys[0] + note for note in y[0].nonzero().flatten().tolist()]}\n"

    def numbered(self) -> dict[str, list[str]]:
        return {}  # the notes are the same in all pieces

    # What is said of it

    def meter(self) -> MusicMeter:
        return MusicMeter()

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        worst = ", ".join(f"step {shown['step']} {shown['nats']:.1f}" for shown in prediction["surprising"])
        return f"{prediction['nll_per_step']:.3f}\t{prediction['steps']} steps\tmost surprising: {worst}"

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """How often each note sounds; and how often, given whether it sounded one step before."""
        counts = np.ones((3, 2, self.size))  # [before: not, sounding, no step before], [now], note: one of each added
        for example in train:
            roll = self.roll(example)
            _count_pairs(counts, roll)
        alone = counts.sum(0)
        models = {"how often each note sounds": np.broadcast_to(alone, counts.shape), "the step before": counts}
        scores = {}
        seen = np.zeros(counts.shape)
        steps = 0
        for example in test:
            roll = self.roll(example)
            _count_pairs(seen, roll)
            steps += len(roll)
        for name, table in models.items():
            log_p = np.log(table / table.sum(1, keepdims=True))
            scores[name] = {"nll_per_step": float(-(seen * log_p).sum() / max(1, steps))}
        return scores


def _count_pairs(counts: np.ndarray, roll: np.ndarray) -> None:
    """Adds how often each note did (1) or did not (0) sound after it did not (0), did (1), or at a beginning (2)."""
    if not len(roll):
        return
    now, before = roll[1:], roll[:-1]
    counts[0, 0] += ((1 - before) * (1 - now)).sum(0)
    counts[0, 1] += ((1 - before) * now).sum(0)
    counts[1, 0] += (before * (1 - now)).sum(0)
    counts[1, 1] += (before * now).sum(0)
    counts[2, 0] += 1 - roll[0]
    counts[2, 1] += roll[0]


def transposed(y: Tensor, most: int) -> Tensor:
    """Each piece of y [B, T, notes] moved by a random number of semitones, at most `most`, so that no note is lost.

    >>> int(transposed(torch.eye(8)[None, 2:4], 2).sum())
    2
    """
    rows, _, size = y.shape
    used = y.amax(1)  # [B, notes]
    note = torch.arange(size, device=y.device)
    low = torch.where(used > 0, note, size).amin(1).clamp(max=most)
    high = (size - 1 - torch.where(used > 0, note, -1).amax(1)).clamp(max=most)
    shift = (torch.rand(rows, device=y.device) * (low + high + 1)).long() - low
    place = note - shift[:, None]
    there = (place >= 0) & (place < size)  # what comes from beyond is silence
    return y.gather(2, place.clamp(0, size - 1)[:, None].expand_as(y)) * there[:, None]


class MusicMeter(Meter):
    """The negative log-likelihood of a step; and for the report that of some pieces."""

    SHOWN = 1000

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[tuple[int, float]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        if len(self.pieces) < self.SHOWN:
            self.pieces += [(found["steps"], found["nll_per_step"]) for found in predictions if found["steps"]]

    def scores(self) -> dict[str, float]:
        return {"nll_per_step": self._loss / self._items if self._items else float("nan")}

    def figures(self) -> list[Figure]:
        steps, nats = zip(*self.pieces) if self.pieces else ((), ())
        data = {"x": list(steps), "y": list(nats), "x_axis": "steps of the piece", "y_axis": "nll per step"}
        return [Figure("points", "Pieces by their length", data)]
