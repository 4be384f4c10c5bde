"""The contract of a task: reader, network, loss, decoder and metric of one kind of question, all that `fit` asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.metrics import Confusion

if TYPE_CHECKING:
    from wavefront.data import Labels, Source

__all__ = ["Batch", "Claim", "Figure", "Manner", "Meter", "Task", "cell_maker"]

Example = dict[str, np.ndarray]
Prediction = dict[str, Any]


class Claim(NamedTuple):
    """A task says that it can learn from a data set: which column plays which role, whether that is certain, and why."""

    columns: dict[str, str]  # role -> column
    certain: bool
    because: str


class Manner(NamedTuple):
    """How a network writes.

    length       symbols (of music: steps) at most
    temperature  log p / temperature is what is drawn by; 0: always the most probable
    top_k        drawn from the k most probable; 0: from all
    top_p        drawn from the fewest that together have this probability
    num_beams    nothing is drawn: what a search with so many beams finds most probable; 0: no search
    """

    length: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_beams: int = 0


class Figure(NamedTuple):
    """Something to draw in the report, as plain data.

    confusion  labels [str], counts [[int]]: rows gold, columns predicted
    table      head [str], rows [[...]]
    bars       labels [str], values [float], axis str
    points     x [float], y [float], x_axis str, y_axis str
    forecast   past [y], y [y], forecast [y], bands [([low], [high])], the widest first
    examples   rows [{"text", "gold", "predicted", "right"}], each str, or each [str]: words, and a label for each
    alignments rows [{"source" [str], "target" [str], "weights" [[float]]: of each target, over the source}]
    trees      as examples, the text a tree of several lines
    text       text str: as it stands, of no split
    """

    kind: str
    title: str
    data: dict[str, Any]
    note: str = ""


@dataclass
class Batch:
    """Padded tensors of a few examples. `network(**batch.inputs)` is the forward pass of every task.

    inputs   what the network reads
    lengths  [B], of the sequences
    targets  what is to be said of them, in the task's own shape; None where the rows do not tell
    examples what the batch was made of: predictions and meters find there what no network needs (offsets of tokens in a text, say)
    memory   of a stream: what a batch finds from the one before it, and leaves for the next, tensors by name; None: it stands alone
    """

    inputs: dict[str, Tensor]
    lengths: Tensor
    targets: Tensor | None = None
    examples: Sequence[Example] = ()
    memory: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device | str) -> Batch:
        moved = {name: t.to(device) for name, t in self.inputs.items()}
        return replace(
            self, inputs=moved, lengths=self.lengths.to(device), targets=None if self.targets is None else self.targets.to(device)
        )


class Meter(ABC):
    """Counts the metrics of a split while its batches come, in memory that does not grow with the split."""

    def __init__(self) -> None:
        self._loss, self._items = 0.0, 0

    def add(self, batch: Batch, predictions: Sequence[Prediction], loss: float, items: int) -> None:
        """A batch with targets, what was predicted for it, and its mean loss over so many items."""
        self._loss += loss * items
        self._items += items
        self.count(batch, predictions)

    @abstractmethod
    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        """Count predictions against `batch.targets`."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """The metrics without the loss."""

    def metrics(self) -> dict[str, float]:
        return {"loss": self._loss / self._items if self._items else float("nan"), **self.scores()}


class Task(ABC):
    """One kind of question, such as "a label for each position".

        task = Tag(Tag.Settings(), {"tokens": "form", "labels": "upos"})
        task.prepare(source)                    # one pass over train: vocabularies, and from the sizes every setting that is None
        network = task.network()
        batch = task.collate([task.encode(row) for row in rows])
        loss, items = task.loss(network, batch)
        predictions = task.predict(network, batch)

    `metric` and `larger_is_better` are final after `prepare` or `from_state`: they may depend on the labels.
    """

    name: ClassVar[str]
    command: ClassVar[str] = "predict {run} FILE"  # of `wavefront`: what a run is for
    live: ClassVar[bool] = False  # what comes on standard input is answered row by row, as it comes
    roles: ClassVar[tuple[str, ...]]  # the columns that a task may be told: input first, target last
    grouped: ClassVar[tuple[str, ...]] = ()  # roles whose every text is in one split only, where splits are cut and nobody says by what
    Settings: ClassVar[type[BaseModel]]
    metric: str
    larger_is_better: bool
    length_column: str  # of an example: the column that is as long as the sequence
    stream: bool = False  # whether the examples go on from one another: batches are then cut from the stream that they are together
    steps_at_once: int  # of such a stream: the length of a batch
    settings: Any

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        self.settings = settings if isinstance(settings, BaseModel) else validated(self.Settings, settings or {})
        self.columns = dict(columns)

    def searching(self, num_beams: int | None = None, n_best: int = 1, explain: int = 1) -> None:
        """How thoroughly predictions are made from here on: those of a run that is over, after the quick ones during training.

        num_beams  of a search for the best output; None: as the settings say
        n_best     so many candidates for each row
        explain    of so many rows in a batch, where the network looked
        """
        if num_beams is not None or n_best > 1:
            raise SettingsError(f"{self.name} does not search: num_beams and n_best are of tasks that write sequences, as translate.")

    def write(self, network: nn.Module, prompt: str, manner: Manner) -> Iterator[str]:
        """What the network writes after a prompt, piece by piece as it comes."""
        used = f"wavefront {self.command.format(run='RUN')}"
        raise SettingsError(
            f"{self.name} writes nothing of its own: generate is for runs of language and music, this one is used by: {used}"
        )

    def numbered(self) -> dict[str, list[str]] | None:
        """The parameters of the network that have a row for each symbol, and what the rows stand for, so that a network with another vocabulary can
        start from them; None: the task cannot tell, and `vocabularies` have to be the same."""
        return None

    def vocabularies(self) -> dict[str, Any]:
        """Of `state`, what gives numbers their meaning."""
        return {key: value for key, value in self.state().items() if key not in ("settings", "seen")}

    def not_known(self, prompt: str) -> list[str]:
        """What of a prompt training never saw."""
        return []

    def log_probs(self, network: nn.Module, batch: Batch) -> list[float]:
        """log p(target | source) of each row of a batch with targets."""
        raise SettingsError(
            f"{self.name} gives no probability of a row: log-probabilities are of tasks that write sequences, as translate."
        )

    @property
    def chosen_by(self) -> str:
        """The metric on the validation data that decides which weights are kept."""
        return self.metric

    @property
    def question(self) -> str:
        """What is said of what: "label from text"."""
        first, *others = self.columns.values()
        return f"{' and '.join(others)} from {first}"

    @property
    def needed(self) -> list[str]:
        """The columns that a prediction is made from."""
        return [next(iter(self.columns.values()))]

    @classmethod
    @abstractmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        """Which columns this task would read, given those that the user named (role -> column); None: it cannot."""

    @abstractmethod
    def prepare(self, source: Source) -> None:
        """One streamed pass over the training rows; `self.settings` is complete afterwards."""

    @abstractmethod
    def training(self) -> dict[str, Any]:
        """Defaults for `learning.Settings` that follow from the task and the size of the data."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything but the weights, as JSON."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Task:
        """The task that gave this `state()`."""

    def splits(self, source: Source) -> tuple[str, ...]:
        """The splits that there are examples of."""
        return source.splits

    def rows(self, source: Source, split: str) -> Iterator[Mapping[str, Any]]:
        """What the examples of a split are made from, one each: the rows of the data, unless a task cuts them in another way."""
        return source.rows(split)

    @abstractmethod
    def encode(self, row: Mapping[str, Any]) -> Example:
        """A row as arrays of numbers, with its target where the row has one."""

    @abstractmethod
    def length(self, example: Example) -> int:
        """Steps of the recurrence, for batches of like lengths."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples padded to one batch."""

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network with fresh weights."""

    @abstractmethod
    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The mean loss of what the network gave, and over how many items."""

    @abstractmethod
    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        """What the network gave, in words: one JSON object per example, in the order of the batch."""

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        return self.criterion(network, network(**batch.inputs), batch)

    @torch.no_grad()
    def predict(self, network: nn.Module, batch: Batch) -> list[Prediction]:
        return self.decode(network, network(**batch.inputs), batch)

    @torch.no_grad()
    def assess(self, network: nn.Module, batch: Batch) -> tuple[list[Prediction], float, int]:
        """Predictions, mean loss and items of a batch with targets, in one forward pass: what a `Meter` counts."""
        outputs = network(**batch.inputs)
        loss, items = self.criterion(network, outputs, batch)
        return self.decode(network, outputs, batch), float(loss), items

    def begin(self) -> None:
        """A new stream of rows to predict begins: what is kept from row to row starts anew."""
        return

    def solve(self, network: nn.Module, batches: Iterable[Batch]) -> None:
        """What of a fresh network is found in closed form, from the batches of train, before the first step of learning."""
        return

    def tunable(self) -> dict[str, tuple[float, float, bool]]:
        """Settings of a network that `solve` finds in seconds, worth a search: name -> lowest, highest, whether spread evenly in the logarithm."""
        return {}

    def calibrate(self, network: nn.Module, batches: Iterable[Batch]) -> None:
        """What is learned from held-out data when training has ended, such as thresholds: kept in the buffers of the network."""
        return

    def keep(self, folder: Path) -> None:
        """Writes what a run needs later besides the weights and `state`."""
        return

    def restore(self, folder: Path) -> None:
        """Reads what `keep` wrote."""
        return

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh count of the metrics."""

    @abstractmethod
    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """One readable line for a row and what was predicted for it."""

    def drawn(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The same for a terminal: over several lines, where these show more."""
        return self.row_text(row, prediction)

    @abstractmethod
    def figures(self, meter: Any) -> list[Figure]:
        """What the report shows of a scored split."""

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """Name -> metrics on `test` of what needs no memory, learned from `train` in seconds: the score to beat."""
        return {}


@contextmanager
def in_row(source: Source, number: int, split: str = "train") -> Iterator[None]:
    """An error about a row says which row."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{source.path}, row {number} of {split}: {error}") from None


def label_numbers(known: Labels, labels: Sequence[str]) -> np.ndarray:
    """Numbers of labels, -1 for one that training never saw: left out of the loss, and wrong whatever is predicted."""
    if all(label in known for label in labels):
        return known.encode(labels)
    return np.array([known.encode([label])[0] if label in known else -1 for label in labels], np.int64)


def confusion_figure(confusion: Confusion, most: int = 30) -> Figure:
    """The confusion of the most frequent labels."""
    labels = confusion.labels
    note = f"the {most} most frequent of {len(labels)} labels" if len(labels) > most else ""
    return Figure("confusion", "Gold and predicted labels", {"labels": labels[:most], "counts": confusion.table(labels[:most])}, note)


def validated(settings: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """Settings from plain values; an error names the key, and for a mistyped one the nearest."""
    unknown = sorted(set(values) - set(settings.model_fields))
    if unknown:
        near = get_close_matches(unknown[0], settings.model_fields, 1)
        raise SettingsError(
            f"network.{unknown[0]} is no setting. "
            + (f"Did you mean network.{near[0]}?" if near else f"There are: {', '.join(settings.model_fields)}.")
        )
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"network.{'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}.") from None


def cell_maker(name: str) -> Callable[[int, int], Cell[Any]]:
    """The cell of wavefront.cells that settings name: a function (inputs, units) -> Cell.

    >>> cell_maker("gru")(3, 5).outputs
    5
    """
    known = _cells()
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, 1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        raise SettingsError(f"network.cell = {name!r}: there is no such cell. {guess}There are: {', '.join(known)}.")
    return known[name.lower()]


def _cells() -> dict[str, Callable[[int, int], Cell[Any]]]:
    from wavefront import cells

    kinds = {name: getattr(cells, name) for name in cells.__all__}
    return {
        name.lower(): kind
        for name, kind in sorted(kinds.items())
        if isinstance(kind, type) and issubclass(kind, Cell) and not isabstract(kind)
    }
