"""What `classify` and `regress` share: an input column of any kind, and a network that says one thing of a whole sequence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.cells import Reservoir
from wavefront.errors import DataError, SettingsError
from wavefront.networks.classifier import Committee, SequenceReadout
from wavefront.networks.convolution import Series
from wavefront.networks.echo_summary import EchoSummary
from wavefront.networks.embedding import Symbols, Words
from wavefront.networks.encoder import Encoder
from wavefront.networks.ridge import Ridge
from wavefront.tasks.inputs import SeriesInput, SymbolInput, about, symbol_reader
from wavefront.tasks.task import Batch, Example, Task, cell_maker, in_row

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["WholeSequence", "WholeSettings"]

PENALTIES = tuple(10.0**k for k in range(-6, 4))  # of which generalised cross-validation takes one


class WholeSettings(BaseModel):
    """The network of `classify` and `regress`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["recurrent", "esn"] = Field(
        "recurrent", description="a network that is trained, or an echo state network, whose readout is solved (numeric series)"
    )
    cell: str = Field("gru", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer and direction")
    layers: int = Field(1, ge=1, description="bidirectional layers")
    dropout: float | None = Field(None, ge=0, lt=1, description="of features, before the recurrence and after it")
    members: int = Field(1, ge=1, description="networks that are trained side by side and asked together")
    smoothing: float = Field(0.05, ge=0, lt=1, description="share of a target's probability that is spread over all labels (classify)")
    # symbols and text
    pieces: Literal["words", "characters"] | None = Field(
        None, description="what a text is cut into; characters where texts are a word or two"
    )
    word_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    spelling: bool | None = Field(None, description="read each word letter by letter too")
    letter_cell: str = Field("gru", description="the cell of the recurrence over letters")
    letter_size: int = Field(32, ge=1, description="size of the vector of a letter")
    letter_units: int = Field(48, ge=1, description="units of each direction over letters")
    rare: float = Field(0.25, ge=0, description="a symbol seen n times is taken for an unknown one with probability rare / (rare + n)")
    largest_vocabulary: int = Field(100_000, ge=1, description="at most so many different symbols are known")
    longest: int = Field(2000, ge=1, description="symbols of a sequence that are read; what comes after them is not")
    # numeric series
    view: Literal["train", "series", "both"] | None = Field(
        None, description="scale series by the training data, each by its own, or both side by side"
    )
    channels: int = Field(32, ge=1, description="of each width of the convolutions")
    widths: tuple[int, ...] = Field((5, 11, 23), description="of the convolutions side by side, in steps; odd")
    strides: tuple[int, ...] | None = Field(None, description="one a layer of convolutions: every so many steps become one")
    noise: float = Field(0.03, ge=0, description="deviation of noise on the values in training, where theirs is 1")
    stretch: float = Field(0.1, ge=0, description="deviation of the random factor of a whole series in training")
    # esn
    spectral_radius: float = Field(0.9, gt=0, description="of the reservoir (esn)")
    leak: float = Field(0.5, gt=0, le=1, description="of the reservoir (esn)")
    input_scaling: float = Field(0.5, gt=0, description="of the reservoir (esn)")
    parts: int = Field(4, ge=1, description="the mean states over so many parts of a series are read (esn)")
    ridge: float | None = Field(None, gt=0, description="penalty of the readout; chosen by generalised cross-validation (esn)")


class WholeSequence(Task):
    """The input and the network; the target is the derived task's."""

    Settings = WholeSettings
    input: SymbolInput | SeriesInput

    @property
    def length_column(self) -> str:  # type: ignore[override]
        return self.input.column

    def target_of(self, row: Mapping[str, Any]) -> Any:
        """The target of a row; None where it has none."""
        return row.get(self.columns[self.roles[1]])

    def prepare_input(self, source: Source, see_target: Callable[[Any], None]) -> None:
        """The pass over the training rows, and the settings of the network; `see_target` is called with each target."""
        column, target = self.columns["input"], self.columns[self.roles[1]]
        kind = next(c.kind for c in source.columns if c.name == column)
        s = self.settings
        pieces = s.pieces or ("characters" if kind == "text" and _few_words(source, column) else "words")
        self.input = SeriesInput(s.view) if kind == "series" else SymbolInput(pieces, s.spelling, s.largest_vocabulary, s.longest)
        number = 0
        for number, row in enumerate(source.rows("train"), 1):
            with in_row(source, number):
                value = self.target_of(row)
                if value is None or value == "":
                    raise DataError(f"{target} is empty. Every row to learn from needs one.")
                see_target(value)
                self.input.see(row[column])
        if self.input.steps == 0:
            raise DataError(f"{source.path}: {number} training rows, and not one {column} with anything in it.")
        self.input.settle()
        chosen: dict[str, Any]
        if s.kind == "esn":
            if not isinstance(self.input, SeriesInput):
                raise SettingsError(f'network.kind="esn" reads numeric series; {column} is {kind}. Leave it out.')
            chosen = {"units": s.units or 200, "view": self.input.view}
        elif isinstance(self.input, SeriesInput):
            chosen = {
                "units": s.units or 64,
                "dropout": 0.3 if s.dropout is None else s.dropout,
                "view": self.input.view,
                "strides": s.strides or strides_for(self.input.longest),
                "widths": tuple(w for w in s.widths if w <= max(3, self.input.longest // 2)) or (3,),
            }
        else:
            chosen = {
                "units": s.units or (128 if self.input.steps > 50_000 else 64),
                "dropout": 0.4 if s.dropout is None else s.dropout,
                "spelling": self.input.spelling,
                "pieces": pieces,
                "word_size": s.word_size or about(4 * len(self.input.vocabulary) ** 0.5, 16, 100),
            }
        self.settings = s.model_copy(update=chosen)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Of the network: one for each label, or one for the number."""

    def training(self) -> dict[str, Any]:
        rows = self.input.rows
        if self.settings.kind == "esn":
            return {"epochs": 1, "batch_size": 64}
        if isinstance(self.input, SeriesInput):
            batch = max(4, min(32, rows // 4))
            updates = 1000 + 40 * self.outputs if rows < 2000 else 4000  # a few hundred series are seen a hundred times each
            epochs = max(5, ceil(updates / ceil(rows / batch)))
        else:
            batch = 32 if rows < 20_000 else 64
            updates = 8000 if self.settings.pieces == "characters" else 4000  # what letters mean takes longer to learn
            epochs = max(5, min(60, ceil(updates / ceil(rows / batch))))
        return {
            "learning_rate": 3e-3,
            "batch_size": batch,
            "epochs": epochs,
            "weight_decay": 0.01,
            "clip_norm": 5.0,
            "average": 0.99 if rows < 2000 else 0.998,
            "patience": 0 if rows < 2000 else 5,
            # of a few series the validation split is too small to choose by: the whole schedule is run, and its end is kept
            "keep": "last" if rows < 2000 and isinstance(self.input, SeriesInput) else "best",
        }

    def encode(self, row: Mapping[str, Any]) -> Example:
        return self.input.encode(row[self.columns["input"]])

    def length(self, example: Example) -> int:
        return len(example[self.input.column])

    def collate(self, examples: Sequence[Example]) -> Batch:
        inputs, lengths = self.input.collate(examples)
        inputs["lengths"] = lengths
        known = all("target" in example for example in examples)
        targets = torch.from_numpy(np.stack([example["target"] for example in examples])) if known else None
        return Batch(inputs, lengths, targets, examples)

    def network(self) -> nn.Module:
        make = self._reservoir if self.settings.kind == "esn" else self._member
        return Committee(make() for _ in range(self.settings.members))

    def _reservoir(self) -> Echo:
        s = self.settings
        cells = [
            Reservoir(
                self.input.features,  # type: ignore[union-attr]
                s.units,
                spectral_radius=s.spectral_radius,
                leak=s.leak,
                input_scaling=s.input_scaling,
                bias=0.2,
                dtype=torch.float64,
            )
            for _ in range(2)
        ]
        return Echo(EchoSummary(cells[0], self.outputs, s.parts, reverse=cells[1]))

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        if self.settings.kind == "esn":
            return torch.zeros(()), 0  # its readout is solved, not learned
        return super().loss(network, batch)

    def solve(self, network: Any, batches: Iterable[Batch]) -> None:
        if self.settings.kind != "esn":
            return
        ridge = self.settings.ridge
        for member in network:
            summaries = ((member.summary(batch), self.wanted(batch)) for batch in batches)
            member.solve(((s[known], y[known]) for s, (y, known) in summaries), PENALTIES if ridge is None else [ridge])

    def tunable(self) -> dict[str, tuple[float, float, bool]]:
        if self.settings.kind != "esn":
            return {}
        return {
            "spectral_radius": (0.1, 1.5, False),
            "leak": (0.05, 1.0, True),
            "input_scaling": (0.02, 3.0, True),
            "ridge": (1e-6, 1e3, True),
        }

    @abstractmethod
    def wanted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a readout of least squares is to give [B, outputs], and for which of the rows [B]."""

    def _member(self) -> SequenceReadout:
        s = self.settings
        reader: Series | Words | Symbols
        if isinstance(self.input, SeriesInput):
            reader = Series(self.input.features, s.channels, s.widths, s.strides, noise=s.noise, stretch=s.stretch)
        else:
            reader = symbol_reader(self.input, s)
        encoder = Encoder(reader.outputs, s.units, s.layers, cell_maker(s.cell), s.dropout)
        return SequenceReadout(reader, encoder, self.outputs, s.dropout)

    def targets_of(self, batch: Batch) -> Tensor:
        if batch.targets is None:
            raise DataError(f"the rows have no {self.columns[self.roles[1]]}: nothing to learn from or to score against.")
        return batch.targets


class Echo(nn.Module):
    """An `EchoSummary` as a member of a committee: it reads what a `SeriesInput` gives, in float64."""

    def __init__(self, network: EchoSummary):
        super().__init__()
        self.inner = network

    def forward(self, lengths: Tensor, values: Tensor) -> Tensor:
        return self.inner(values.double(), lengths)

    def summary(self, batch: Batch) -> Tensor:
        return self.inner.summary(batch.inputs["values"].double(), batch.lengths)

    def solve(self, rows: Iterable[tuple[Tensor, Tensor]], penalties: Sequence[float]) -> None:
        sums = Ridge(self.inner.features, self.inner.outputs)
        for summary, wanted in rows:
            sums.add(summary, wanted)
        self.inner.take(sums.best(penalties)[1])


def strides_for(steps: int, layers: int = 3, wanted: int = 32) -> tuple[int, ...]:
    """Strides of the convolutions that bring a series of so many steps to about `wanted`: that many the recurrence has to take one by one.

    >>> strides_for(24), strides_for(176), strides_for(1344)
    ((1, 1, 1), (2, 2, 2), (3, 4, 4))
    """
    strides = []
    for left in range(layers, 0, -1):
        strides.append(1 if steps <= wanted else min(4, max(2, round((steps / wanted) ** (1 / left)))))
        steps = ceil(steps / strides[-1])
    return tuple(strides)


def _few_words(source: Source, column: str, rows: int = 500) -> bool:
    """Are the texts names and the like: fewer than three words in the mean, or without blanks between words?"""
    texts = [row[column] for row in islice(source.rows("train"), rows)]
    words = sum(len(text.split()) for text in texts)
    return words < 3 * len(texts) or sum(map(len, texts)) > 20 * words
