"""language: each symbol of a text, foretold from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from wavefront import wrap
from wavefront.cell import Cell
from wavefront.data import UNKNOWN
from wavefront.errors import DataError
from wavefront.generative import AdaptiveCategorical, Autoregressive, Categorical, KneserNey, Writing, beam_search, stream
from wavefront.generative.symbols import SymbolOutput
from wavefront.networks.layers import Layers
from wavefront.tasks.inputs import padded
from wavefront.tasks.task import Batch, Claim, Example, Figure, Manner, Meter, Prediction, Task, cell_maker, in_row, validated
from wavefront.tasks.units import END, Bytes, Characters, Subwords, Units, Words, unit_for, unit_from

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Language", "LanguageSettings"]

NOT_COUNTED = -1  # a target that is read only
SMALL, LARGE = 100_000, 600_000  # symbols of training, below and above which networks are smaller and larger
MANY = 5_000  # symbols, from which on the softmax is adaptive
SAMPLE = 600  # symbols that a report shows
BASELINE_SYMBOLS = 2_000_000  # of training, at most, that the n-gram models count


class LanguageSettings(BaseModel):
    """The network of `language`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    unit: Literal["characters", "bytes", "words", "subwords"] | None = Field(
        None, description="what the text is cut into; words where marks stand apart as words do, else characters"
    )
    min_count: int | None = Field(None, ge=1, description="a word or character seen less often is unknown (words: 3, characters: 1)")
    largest_vocabulary: int = Field(100_000, ge=1, description="at most so many different words or characters are known")
    subwords: int = Field(2000, ge=257, description="how many subwords are learned")
    cell: str = Field("lstm", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer")
    layers: int = Field(1, ge=1, description="layers of the recurrence")
    symbol_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    tied: bool = Field(False, description="one table of vectors for reading and writing; the last layer then has symbol_size units")
    adaptive: bool | None = Field(None, description="softmax in two stages, frequent symbols and clusters of rare ones")
    steps: int | None = Field(None, ge=1, description="symbols that gradients go back through at most")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="of features, between the layers and after them; the same ones at all steps"
    )
    dropout_inputs: float | None = Field(None, ge=0, lt=1, description="of features of the vectors that are read")
    dropout_symbols: float = Field(0.0, ge=0, lt=1, description="of whole symbols, wherever they stand in a batch")
    dropout_weights: float = Field(0.0, ge=0, lt=1, description="of hidden-to-hidden weights")
    activation: float = Field(0.0, ge=0, description="weight of the mean square of the outputs in the loss (AR)")
    change: float = Field(0.0, ge=0, description="weight of the mean square of their change from step to step (TAR)")


class Language(Task):
    """Each symbol of a text, given all before it.  [Goodfellow et al. 2016, 10.2.3; recipes of Merity et al. 2018, arXiv:1708.02182]

    A text file is one stream: it is cut into parallel streams that are read side by side, and the state goes on from batch to batch, gradients as far
    as `steps`. Rows of a table that has one column of text are documents: the state begins anew with each, and each ends by a symbol of its own.

    nats_per_symbol    -Σ log p / symbols, natural logarithms
    bits_per_character the same in bits over the characters of the text, whatever it was cut into; not for words, which do not say all characters
    perplexity         exp(nats_per_symbol). For words the ends of lines count as words, and the unknown word as one word wherever it stands
    """

    name = "language"
    roles = ("text",)
    Settings = LanguageSettings
    larger_is_better = False
    length_column = "symbols"
    stream = True
    command = "generate {run}"

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.units: Units = Characters()
        self.documents = False  # whether rows stand for themselves
        self.seen = 0  # symbols of training
        self.sample = ""  # of what the trained network writes, for the report

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "perplexity" if isinstance(self.units, Words) else "nats_per_symbol"

    @property
    def steps_at_once(self) -> int:  # type: ignore[override]
        return self.settings.steps

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        able = [column.name for column in source.columns if column.kind == "text"]
        chosen = columns.get("text") or (able[0] if len(able) == 1 else None)
        if chosen not in able:
            return None
        if source.format == "text":
            return Claim({"text": chosen}, True, "a text, as one stream")
        return Claim({"text": chosen}, False, f"each {chosen} is a document") if columns or len(source.columns) == 1 else None

    def prepare(self, source: Source) -> None:
        self.documents = source.format != "text"
        s = self.settings
        unit = s.unit or unit_for(self._texts(source))
        count = s.min_count or (3 if unit == "words" else 1)
        makers: dict[str, Callable[[], Units]] = {
            "characters": lambda: Characters(s.largest_vocabulary, count),
            "bytes": Bytes,
            "words": lambda: Words(s.largest_vocabulary, count),
            "subwords": lambda: Subwords(s.subwords),
        }
        self.units = makers[unit]()
        self.units.learn(self._texts(source))
        sizes = [len(self.units.encode(text)) for text in islice(self._texts(source), 5000)]
        rows = sum(1 for _ in self._texts(source))
        self.seen = round(sum(sizes) / max(1, len(sizes)) * rows)
        if not self.seen or not any(text.strip() for text in self._texts(source)):
            raise DataError(f"{source.path}: there is no symbol to learn from in its {rows} training rows, only blanks at most.")
        few, many = self.seen < SMALL, self.seen > LARGE
        words = unit == "words"
        chosen = {
            "unit": unit,
            "min_count": count,
            "units": s.units or (128 if few else 512 if many and not words else 256),
            "symbol_size": s.symbol_size or ((s.units or 256) if words or s.tied else 64),
            "adaptive": (len(self.units) > MANY and not s.tied) if s.adaptive is None else s.adaptive,
            "steps": s.steps or (64 if words else 128),
            "dropout": (0.5 if words else 0.3) if s.dropout is None else s.dropout,
            "dropout_inputs": (0.3 if words else 0.0) if s.dropout_inputs is None else s.dropout_inputs,
        }
        self.settings = s.model_copy(update=chosen)

    def _texts(self, source: Source) -> Iterator[str]:
        column = self.columns["text"]
        for number, row in enumerate(source.rows("train"), 1):
            with in_row(source, number):
                if row[column] is None:
                    raise DataError(f"{column} is missing. Every document needs its text, if only an empty one.")
            yield row[column]

    def training(self) -> dict[str, Any]:
        batch = max(1, min(32, self.seen // (8 * self.settings.steps)))
        updates = self.seen / (batch * self.settings.steps)  # an epoch
        return {
            "learning_rate": 3e-3,
            "batch_size": batch,
            "epochs": max(3, min(40, math.ceil(6000 / updates))),
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "average": 0.998,
            "patience": 4,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "unit": self.units.name,
            "units": self.units.state(),
            "documents": self.documents,
            "seen": self.seen,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Language:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.units = unit_from(state["unit"], state["units"])
        task.documents, task.seen = state["documents"], state["seen"]
        return task

    # From text to numbers

    def encode(self, row: Mapping[str, Any]) -> Example:
        numbers = self.units.encode(row[self.columns["text"]] or "")
        return {"symbols": (np.append(numbers, END) if self.documents else numbers).astype(np.int32)}

    def length(self, example: Example) -> int:
        return len(example["symbols"])

    @property
    def opening(self) -> int:
        """What is read before a text that stands alone: of a stream the end of a line, as if one had just ended; of documents nothing."""
        if not self.documents:
            line = self.units.encode("\n").tolist()
            if len(line) == 1 and line[0] != UNKNOWN:
                return line[0]
        return END

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Texts that each stand alone."""
        lengths = torch.tensor([len(example["symbols"]) for example in examples])
        y = padded([example["symbols"] for example in examples], NOT_COUNTED).long()
        before = torch.cat([torch.full((len(y), 1), self.opening), y[:, :-1].clamp(min=UNKNOWN)], 1)
        return Batch({"before": before}, lengths, y, examples)

    # The network

    def network(self) -> Autoregressive:
        s, make, symbols = self.settings, cell_maker(self.settings.cell), len(self.units)
        sizes = [s.symbol_size] + [s.units] * (s.layers - 1) + [s.symbol_size if s.tied else s.units]

        def layer(below: int, above: int) -> Cell[Any]:
            cell = make(below, above)
            return wrap.WeightDropped(cell, s.dropout_weights) if s.dropout_weights else cell

        layers = Layers([layer(below, above) for below, above in pairwise(sizes)], (s.dropout_inputs, s.dropout, s.dropout))
        reader = nn.Embedding(symbols, s.symbol_size)
        nn.init.normal_(reader.weight, std=s.symbol_size**-0.5)
        output: SymbolOutput
        if s.adaptive:
            output = AdaptiveCategorical(layers.outputs, symbols, cutoffs_for(symbols))
        else:
            output = Categorical(layers.outputs, symbols, reader if s.tied else None)
        return Autoregressive(layers, output, reader, ending="symbol" if self.documents else "given", end=END)

    def features(self, network: Autoregressive, batch: Batch) -> Tensor:
        """What the layers give at each step, before the last dropout; the state goes on from the batch before, if the batch has a memory."""
        before = batch.inputs["before"]
        vectors = network.reader(before)  # type: ignore[misc]
        if network.training and self.settings.dropout_symbols:
            kept = vectors.new_ones(len(self.units), 1).bernoulli_(1 - self.settings.dropout_symbols) / (1 - self.settings.dropout_symbols)
            vectors = vectors * kept[before]
        first = before == END
        begins = bool(first.any())
        if begins:
            vectors = torch.where(first[..., None], network.start, vectors)
        state = network.network.initial_state(len(before))
        if batch.memory:
            form = pytree.tree_structure(state)
            state = pytree.tree_unflatten([batch.memory[str(k)] for k in range(form.num_leaves)], form)
        raw, state = network.network.features(vectors, state, None, first if begins else None)
        if batch.memory is not None:
            batch.memory.update({str(k): leaf.detach() for k, leaf in enumerate(pytree.tree_leaves(state))})
        return raw

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy; in training with the regularisers of activation and of its change.

        loss = -log p / symbols + α mean (m ⊙ o(t))² + β mean (o(t) - o(t-1))²        [Merity et al. 2018, 4.5; m is the last dropout]
        """
        assert isinstance(network, Autoregressive)
        raw = self.features(network, batch)
        dropped = network.network.dropped(raw)
        loss, items = self.criterion(network, dropped, batch)
        if network.training and self.settings.activation:
            loss = loss + self.settings.activation * dropped.square().mean()
        if network.training and self.settings.change and raw.shape[1] > 1:
            loss = loss + self.settings.change * raw.diff(dim=1).square().mean()
        return loss, items

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        counted = self._targets(batch) != NOT_COUNTED
        items = int(counted.sum())
        return -self.each_log_prob(network, outputs, batch).sum() / max(1, items), items

    def each_log_prob(self, network: nn.Module, outputs: Tensor, batch: Batch) -> Tensor:
        """Of each symbol given those before it, [B, T]; 0 where none is counted."""
        targets, head = self._targets(batch), network.output
        if isinstance(head, Categorical):  # torch's own loss needs less memory than all log-probabilities
            flat = F.cross_entropy(head.V(outputs).flatten(0, 1), targets.flatten(), ignore_index=NOT_COUNTED, reduction="none")
            return -flat.view(targets.shape)
        assert isinstance(head, SymbolOutput)
        counted = targets != NOT_COUNTED
        return outputs.new_zeros(targets.shape).masked_scatter(counted, head.log_prob(outputs[counted], targets[counted]))

    def _targets(self, batch: Batch) -> Tensor:
        assert batch.targets is not None
        return batch.targets

    def predict(self, network: nn.Module, batch: Batch) -> list[Prediction]:
        return self.assess(network, batch)[0]

    @torch.no_grad()
    def assess(self, network: nn.Module, batch: Batch) -> tuple[list[Prediction], float, int]:
        assert isinstance(network, Autoregressive)
        outputs = network.network.dropped(self.features(network, batch))
        log_p = self.each_log_prob(network, outputs, batch)
        items = int((self._targets(batch) != NOT_COUNTED).sum())
        found = [{"log_probs": log_p, "targets": batch.targets}] if batch.memory is not None else self._predictions(log_p, batch)
        return found, -float(log_p.sum()) / max(1, items), items

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        return self._predictions(self.each_log_prob(network, outputs, batch), batch)

    def _predictions(self, log_p: Tensor, batch: Batch) -> list[Prediction]:
        found = []
        for row, example in zip(log_p, batch.examples):
            numbers = example["symbols"].tolist()
            nats, shown = (-row[: len(numbers)]).tolist(), self.units.symbols(numbers)
            worst = sorted(range(len(nats)), key=nats.__getitem__, reverse=True)[:5]
            found.append(
                {
                    "log_prob": -sum(nats),
                    "nats_per_symbol": sum(nats) / max(1, len(nats)),
                    "symbols": len(nats),
                    "unknown": numbers.count(UNKNOWN),
                    "surprising": [{"position": t, "symbol": shown[t], "nats": round(nats[t], 4)} for t in worst],
                }
            )
        return found

    def log_probs(self, network: nn.Module, batch: Batch) -> list[float]:
        return [found["log_prob"] for found in self.predict(network, batch)]

    # Writing

    def not_known(self, prompt: str) -> list[str]:
        return self.units.unknown(prompt)

    def write(self, network: nn.Module, prompt: str, manner: Manner) -> Iterator[str]:
        """The text that goes on from the prompt; without one, what comes after the end of a line. The unknown symbol is never written."""
        assert isinstance(network, Autoregressive)
        never = (UNKNOWN,) if self.documents else (UNKNOWN, END)
        w = self.read_on(network, prompt)
        if manner.num_beams:
            length = {"max_length": manner.length} if self.documents else {"lengths": torch.tensor([manner.length])}
            (found,) = beam_search(network, num_beams=manner.num_beams, without=never, state=w, **length)
            numbers: Iterable[int] = found[0].symbols if found else ()
        else:
            drawn = stream(network, temperature=manner.temperature, top_k=manner.top_k, top_p=manner.top_p, without=never, state=w)
            numbers = islice(drawn, manner.length)
        yield from self.units.pieces(numbers)

    @torch.no_grad()
    def read_on(self, network: Autoregressive, prompt: str) -> Writing:
        """The state after a prompt of any length, read piece by piece."""
        w, _ = network.begin(1)
        opening = [] if self.opening == END else [self.opening]
        read = torch.tensor([*opening, *self.units.encode(prompt).tolist()], dtype=torch.long, device=network.start.device)
        for piece in read.split(self.steps_at_once):
            _, w = network.run(piece[None], state=w)
        return w

    def numbered(self) -> dict[str, list[str]]:
        spelled = self.units.spellings()
        named = dict.fromkeys(("reader.weight", "output.V.weight", "output.V.bias"), spelled)
        # in two stages a row stands for a symbol among its cluster: only the very same vocabulary has the same rows
        stages = ("output.V.head.weight", "output.V.head.bias", *(f"output.V.tail.{k}.1.weight" for k in range(2)))
        return named | {name: ["\n".join(spelled)] for name in stages}

    def calibrate(self, network: nn.Module, batches: Iterable[Batch]) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.sample = "".join(self.write(network, "", Manner(SAMPLE, temperature=0.8)))

    # What is said of it

    def meter(self) -> LanguageMeter:
        return LanguageMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        worst = " ".join(f"{shown['symbol']!r}@{shown['position']}" for shown in prediction["surprising"][:3])
        unknown = f"\t{prediction['unknown']} unknown" if prediction["unknown"] else ""
        text = row[self.columns["text"]].rstrip("\n")
        return f"{prediction['log_prob']:.2f}\t{prediction['nats_per_symbol']:.3f}\t{text}\t{worst}{unknown}"

    def figures(self, meter: Any) -> list[Figure]:
        written = Figure("text", "What the network writes", {"text": self.sample}, f"{SAMPLE} symbols at temperature 0.8")
        return [*([written] if self.sample else []), *meter.figures()]

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """Counted: n-gram models with interpolated Kneser-Ney smoothing, of single symbols, of pairs, and of six characters or five words."""
        learned, scored = _joined(train), _joined(test)
        longest = 5 if isinstance(self.units, Words | Subwords) else 6
        meter, symbols = LanguageMeter(self), len(self.units)
        return {
            f"{order}-gram, Kneser-Ney": meter.of(-float(KneserNey(order, symbols).fit(learned).log_prob_steps(scored).sum()), scored)
            for order in (1, 2, longest)
        }


def cutoffs_for(symbols: int) -> list[int]:
    """Where the clusters of an adaptive softmax begin: few, for each is a product of its own.

    >>> cutoffs_for(16_000), cutoffs_for(300)
    ([2000, 8000], [37, 150])
    """
    return [symbols // 8, symbols // 2]


def _joined(examples: Iterable[Example]) -> np.ndarray:
    """The stream that examples are, up to `BASELINE_SYMBOLS`."""
    found, size = [np.zeros(0, np.int64)], 0
    for example in examples:
        found.append(example["symbols"])
        size += len(example["symbols"])
        if size > BASELINE_SYMBOLS:
            break
    return np.concatenate(found)


class LanguageMeter(Meter):
    """Nats of every symbol, by what it is."""

    SHOWN = 40

    def __init__(self, task: Language):
        super().__init__()
        self.task = task
        self.nats, self.counts = np.zeros(len(task.units)), np.zeros(len(task.units), np.int64)

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        if batch.memory is None:
            raise DataError("the metrics of a text are those of its stream: each batch of it goes on from the one before.")
        log_p, targets = predictions[0]["log_probs"], predictions[0]["targets"]
        counted = targets != NOT_COUNTED
        symbols = targets[counted].cpu().numpy()
        self.nats += np.bincount(symbols, -log_p[counted].double().cpu().numpy(), minlength=len(self.nats))
        self.counts += np.bincount(symbols, minlength=len(self.counts))

    def scores(self) -> dict[str, float]:
        return self._scores(self.nats.sum(), self.counts)

    def of(self, nats: float, symbols: np.ndarray) -> dict[str, float]:
        """The metrics of another model that gave these symbols so many nats in all."""
        return self._scores(nats, np.bincount(symbols, minlength=len(self.counts)))

    def _scores(self, nats: float, counts: np.ndarray) -> dict[str, float]:
        each = nats / max(1, counts.sum())
        found = {"nats_per_symbol": float(each), "perplexity": math.exp(min(each, 700.0))}
        if self.task.units.lossless:
            found["bits_per_character"] = float(nats / math.log(2) / max(1, (counts * self.task.units.characters()).sum()))
        return found

    def figures(self) -> list[Figure]:
        total = max(1.0, self.nats.sum())
        order = np.argsort(-self.nats)[: self.SHOWN]
        names = self.task.units.symbols(order.tolist())
        rows = [
            [repr(name), int(self.counts[k]), float(self.nats[k] / max(1, self.counts[k])), f"{100 * self.nats[k] / total:.1f} %"]
            for k, name in zip(order.tolist(), names)
            if self.counts[k]
        ]
        head = ["symbol", "times", "nats each", "share of all nats"]
        found = [Figure("table", "What the loss is made of", {"head": head, "rows": rows}, "the symbols that cost most")]
        unknown = int(self.counts[UNKNOWN])
        if unknown:
            share = f"{unknown:,} of {int(self.counts.sum()):,} symbols are unknown: seen too rarely in training, or never"
            found[0] = found[0]._replace(note=f"{found[0].note}; {share}")
        return found
