"""transcribe: symbols that run along with a sequence: frames of sound or of sensors, strokes of a pen; letters too."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from math import ceil, prod
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.errors import DataError
from wavefront.generative import CTC, Read, Transcriber, Transcribers, Transducer
from wavefront.networks.convolution import Series
from wavefront.networks.embedding import Symbols
from wavefront.networks.encoder import Encoder
from wavefront.tasks.inputs import SeriesInput, about
from wavefront.tasks.pairs import Pairs, packed, padded_symbols, texts_of
from wavefront.tasks.side import Pieces, Side
from wavefront.tasks.task import Batch, Claim, Example, Prediction, cell_maker, in_row, validated

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Transcribe", "TranscribeSettings"]

NAMES = ("target", "transcript", "transcription", "symbols", "phonemes", "phones")
FIRST = 2  # numbers 0 and 1 are padding and unknown, which are never written


class TranscribeSettings(BaseModel):
    """The network of `transcribe`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    writer: Literal["ctc", "transducer"] = Field(
        "ctc", description="ctc: each step writes by itself; transducer: it knows what was written, and may write more than there are steps"
    )
    target_pieces: Pieces | None = Field(None, description="what a target is cut into: characters, words (what blanks separate), subwords")
    target_vocabulary: int | None = Field(None, ge=1, description="at most so many target symbols")
    source_pieces: Pieces | None = Field(None, description="what a source that is text is cut into")
    decompose: bool | None = Field(None, description="take characters apart (é is e and ´); where that halves their number")
    longest: int = Field(
        20_000, ge=1, description="symbols of a sequence; a longer one is refused in training, and read so far in prediction"
    )
    impossible: Literal["refuse", "skip"] = Field(
        "refuse", description="targets with more symbols than there are steps to write them (ctc)"
    )
    cell: str = Field("lstm", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer and direction")
    layers: int = Field(2, ge=1, description="bidirectional layers")
    members: int = Field(1, ge=1, description="networks that learn each on its own and write together, in the mean of their probabilities")
    dropout: float = Field(0.3, ge=0, lt=1, description="of whole features before each layer")
    symbol_size: int = Field(128, ge=1, description="size of the vector of a symbol")
    widen: int | None = Field(None, ge=1, description="so many steps for each symbol of a source that is text")
    predictor_units: int = Field(128, ge=1, description="units of the network that remembers what was written (transducer)")
    view: Literal["train", "series", "both"] | None = Field(
        None, description="scale channels by the training data, each series by its own, or both side by side"
    )
    channels: int = Field(32, ge=1, description="of each width of the convolutions over frames")
    widths: tuple[int, ...] = Field((3, 7), description="of the convolutions side by side, in steps; odd")
    strides: tuple[int, ...] | None = Field(None, description="one a layer of convolutions: every so many frames become one step")
    noise: float = Field(0.1, ge=0, description="deviation of noise on the values in training, where theirs is 1")
    stretch: float = Field(0.1, ge=0, description="deviation of the random factor of a whole channel in training")
    num_beams: int = Field(10, ge=1, description="beams of the search for the best target")
    bleu: Literal["13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab"] = Field("13a", description="how sacrebleu cuts sentences")


class Transcribe(Pairs):
    """Symbols that run along with a sequence of frames (or of letters), of which nobody says which belong to which.

    Rows hold a `source`, a numeric series or text, and a `target`, text or a list of symbols. By CTC, or by a transducer.
    """

    name = "transcribe"
    Settings = TranscribeSettings

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.source: SeriesInput | Side = SeriesInput(self.settings.view)
        self.target = Side(self.settings.target_pieces, self.settings.target_vocabulary, self.settings.decompose)

    @property
    def length_column(self) -> str:  # type: ignore[override]
        return "values" if isinstance(self.source, SeriesInput) else "source"

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "symbol_error"

    larger_is_better = False

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        frames = [name for name, kind in kinds.items() if kind == "series"]
        written = [name for name, kind in kinds.items() if kind in ("symbols", "text")]
        named = [name for name in written if name.lower() in NAMES]
        symbols = [name for name in written if kinds[name] == "symbols"]
        one = columns.get("source") or (frames[0] if len(frames) == 1 else None)
        two = columns.get("target") or next((found[0] for found in (named, symbols, written) if len(found) == 1), None)
        if one is None or two is None or kinds[one] not in ("series", "symbols", "text") or one == two:
            return None
        certain = kinds[one] == "series"  # symbols for symbols are translated unless told
        sample = [str(row[two]) for row in islice(source.rows("train"), 500)]
        if len(columns) < 2 and len(set(sample)) <= max(2, len(sample) // 10):  # labels, not texts
            return None
        return Claim({"source": one, "target": two}, certain, f"{two} runs along with {one}")

    def prepare(self, source: Source) -> None:
        s, kind = self.settings, next(c.kind for c in source.columns if c.name == self.columns["source"])
        if kind != "series":
            self.source = Side(s.source_pieces, None, s.decompose)
        for number, one, two in self.pairs_of(source):
            with in_row(source, number):
                self.source.see(one)
            self.target.see(two)
        if not self.target.rows:
            raise DataError(f"{source.path}: no pair to learn from: its rows are empty, or so few that all are for the test.")
        self.target.settle(partial(texts_of, source, self.columns["target"]))
        self.fitting(source, self.target, "target")
        if isinstance(self.source, Side):
            self.source.settle(partial(texts_of, source, self.columns["source"]))
            self.fitting(source, self.source, "source")
        else:
            self.source.settle()
        sizes = [self._sizes(one, two) for _, one, two in self.pairs_of(source)]
        chosen: dict[str, Any] = {"target_pieces": self.target.pieces, "units": s.units or about(self.target.steps / 200, 64, 128)}
        if isinstance(self.source, Side):
            fewest = max((ceil(needed / max(1, steps)) for steps, needed in sizes), default=1)
            chosen |= {"source_pieces": self.source.pieces, "widen": s.widen or (min(8, max(1, fewest)) if s.writer == "ctc" else 1)}
        else:
            chosen |= {"view": self.source.view, "strides": s.strides or _strides(sizes)}
        self.settings = s.model_copy(update=chosen)
        if s.writer == "ctc":
            self._possible(source, sizes)

    def _sizes(self, one: Any, two: Any) -> tuple[int, int]:
        """Steps of a source, and how many its target needs by CTC: one a symbol, and one between two that are alike."""
        if isinstance(self.source, Side):
            steps = len(self.source.symbols(one))
        else:
            steps = ceil(len(one) / self.source.shrink)
        symbols = self.target.symbols(two)
        return steps, len(symbols) + sum(a == b for a, b in pairwise(symbols))

    def _possible(self, source: Source, sizes: Sequence[tuple[int, int]]) -> None:
        """Refuses targets that are too long to be written, or says how many there are."""
        impossible = [(n, steps, needed) for n, (steps, needed) in enumerate(sizes, 1) if needed > self._steps(steps)]
        if not impossible:
            return
        number, steps, needed = impossible[0]
        lower = "network.strides" if isinstance(self.source, SeriesInput) else "network.widen"
        said = f"{len(impossible):,} target(s) of {len(sizes):,} need more steps than their source has"
        first = f"the first is row {number} of train: its target needs {needed} steps, its source has {self._steps(steps)} of {steps}"
        if self.settings.impossible == "refuse" or len(impossible) == len(sizes):
            remedies = f"Leave the rows out, give more steps ({lower}), --set network.impossible=skip, or --set network.writer=transducer."
            raise DataError(f"{source.path}: {said}; {first}. {remedies}")
        warnings.warn(f"{source.path}: {said}; nothing is learned from these; {first}.", stacklevel=2)

    def _steps(self, steps: int) -> int:
        """The steps that can write, of a source so long."""
        if isinstance(self.source, Side):
            return steps * self.settings.widen
        for stride in self.settings.strides:
            steps = ceil(steps / stride)
        return steps

    def training(self) -> dict[str, Any]:
        rows = self.target.rows
        batch = 32 if rows > 2000 else 16 if rows > 500 else 8
        return {
            "learning_rate": 2e-3,
            "batch_size": batch,
            "epochs": max(10, min(100, round(6000 * batch / rows))),
            "weight_decay": 0.01,
            "clip_norm": 5.0,
            "average": 0.998 if rows > 2000 else 0.99,
            "patience": 0 if rows < 2000 else 8,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "frames": self.source.state() if isinstance(self.source, SeriesInput) else None,
            "source": self.source.state() if isinstance(self.source, Side) else None,
            "target": self.target.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Transcribe:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        if state["source"] is not None:
            task.source = Side.from_state(state["source"])
        else:
            task.source = SeriesInput()
            task.source.restore(state["frames"])
        task.target = Side.from_state(state["target"])
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        value = self.checked(row, "source")
        if isinstance(self.source, SeriesInput):
            return self.source.encode(value) | self.encode_target(row)
        symbols = self.source.symbols(value)[: self.settings.longest]
        text = packed(value if isinstance(value, str) else " ".join(value))
        return {"source": self.source.vocabulary.encode(symbols), "text": text} | self.encode_target(row)

    def length(self, example: Example) -> int:
        return len(example[self.length_column])

    def collate(self, examples: Sequence[Example]) -> Batch:
        if isinstance(self.source, SeriesInput):
            inputs, lengths = self.source.collate(examples)
            inputs = {"x": inputs["values"]}
        else:
            lengths = torch.tensor([len(example["source"]) for example in examples])
            inputs = {"x": padded_symbols(examples, "source")}
        inputs["lengths"] = lengths
        whole = all("target" in example for example in examples)
        return Batch(inputs, lengths, padded_symbols(examples, "target") if whole else None, examples)

    def network(self) -> nn.Module:
        members = [self._member() for _ in range(self.settings.members)]
        return members[0] if len(members) == 1 else Transcribers(members)

    def _member(self) -> Transcriber:
        s = self.settings
        reader: nn.Module
        if isinstance(self.source, SeriesInput):
            reader = Series(self.source.features, s.channels, s.widths, s.strides, noise=s.noise, stretch=s.stretch)
        else:
            reader = Symbols(self.source.counts, s.symbol_size)
        encoder = Encoder(cast(int, reader.outputs), s.units, s.layers, cell_maker(s.cell), s.dropout)
        symbols = len(self.target) - FIRST
        if s.writer == "ctc":
            return Transcriber(reader, encoder, CTC(encoder.outputs, symbols), s.widen or 1)
        predictor = cell_maker(s.cell)(s.symbol_size, s.predictor_units)
        table = nn.Embedding(symbols, s.symbol_size)
        return Transcriber(reader, encoder, Transducer(encoder.outputs, symbols, predictor, table, 2 * s.predictor_units), s.widen or 1)

    # Learning and writing

    def criterion(self, network: nn.Module, outputs: Any, batch: Batch) -> tuple[Tensor, int]:
        """Nats per symbol. Targets that cannot be written, or have a symbol that training never saw, are left out; nothing is learned from these."""
        y, lengths = self.targets_of(batch)
        rows = self._able(outputs, y, lengths).nonzero().squeeze(1)
        items = int(lengths[rows].sum())
        if not items:
            return outputs.h.sum() * 0, 0
        writer, h = cast(Transcriber, network).writer, outputs.h[rows]
        learning = writer.each(h) if network.training else [(writer, h)]
        shifted = (y[rows] - FIRST).clamp(min=0)
        log_p = [one.log_prob(part, shifted, outputs.lengths[rows], lengths[rows]).sum() for one, part in learning]
        return -torch.stack(log_p).mean() / items, items

    def log_prob(self, network: nn.Module, outputs: Any, y: Tensor, y_lengths: Tensor) -> Tensor:
        """-inf where the target cannot be written, or has a symbol that training never saw."""
        found = torch.full((len(y),), -torch.inf)
        able = self._able(outputs, y, y_lengths).nonzero().squeeze(1)
        if len(able):
            writer = cast(Transcriber, network).writer
            shifted = (y[able] - FIRST).clamp(min=0)
            found[able] = writer.log_prob(outputs.h[able], shifted, outputs.lengths[able], y_lengths[able]).to(found)
        return found

    def _able(self, outputs: Read, y: Tensor, lengths: Tensor) -> Tensor:
        """Which targets can be written at all, [B]."""
        inside = torch.arange(y.shape[1], device=y.device) < lengths[:, None]
        able = ~(inside & (y < FIRST)).any(1)
        return able & (CTC.needed(y, lengths) <= outputs.lengths) if self.settings.writer == "ctc" else able

    def decode(self, network: nn.Module, outputs: Any, batch: Batch) -> list[Prediction]:
        writer, read = cast(Transcriber, network).writer, cast(Read, outputs)
        search = self.search
        if search.num_beams == 1:
            found = writer.greedy(read.h, read.lengths)
            predictions: list[Prediction] = [{"target": self._said(symbols)} for symbols in found]
            best: list[list[int]] = found
        else:
            searched = writer.beam_search(read.h, read.lengths, num_beams=search.num_beams, n_best=search.n_best)
            shifted = [[h._replace(symbols=[n + FIRST for n in h.symbols]) for h in candidates] for candidates in searched]
            predictions = [self.prediction(candidates) for candidates in shifted]
            best = [candidates[0].symbols if candidates else [] for candidates in searched]
        for row in range(min(search.explain, len(best))):
            predictions[row]["alignment"] = self._alignment(writer, read, batch, row, best[row])
        return predictions

    def _said(self, symbols: Sequence[int]) -> str:
        return self.target.text([n + FIRST for n in symbols])

    def _alignment(self, writer: CTC | Transducer, read: Read, batch: Batch, row: int, symbols: Sequence[int]) -> dict[str, Any]:
        """At which steps each symbol was written."""
        steps = int(read.lengths[row])
        y = torch.tensor([list(symbols)], dtype=torch.long, device=read.h.device)
        weights = writer.alignments(read.h[row : row + 1, :steps], y)[0]
        target = self.target.vocabulary.decode(n + FIRST for n in symbols)
        if isinstance(self.source, Side):
            written = self.source.symbols(self.source_text(batch.examples[row]) or "")
            source = [symbol if k == 0 else "" for symbol in written for k in range(self.settings.widen)][:steps]
        else:
            each = prod(self.settings.strides) * self.source.shrink
            source = [str(k * each) if k % 10 == 0 else "" for k in range(steps)]
        return {"source": source, "target": target, "weights": [[round(w, 4) for w in symbol] for symbol in weights.tolist()]}


def _strides(sizes: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Strides that leave every target half as many steps again as it needs, as far as there are so many."""
    room = min((steps / (1.5 * max(1, needed)) for steps, needed in sizes), default=1.0)
    return (2, 2) if room >= 4 else (2, 1) if room >= 2 else (1, 1)
