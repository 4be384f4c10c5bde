"""translate: a sequence of symbols for another: spelling to phonemes, one language to another, a question to its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.cell import Cell
from wavefront.data import UNKNOWN
from wavefront.errors import DataError, SettingsError
from wavefront.generative import Autoregressive, Categorical, Copying, Ensemble, beam_search
from wavefront.generative.smoothing import smoothed_loss
from wavefront.networks.attending import Attending
from wavefront.networks.attention import Additive, Attention, Dot, General, Monotonic
from wavefront.networks.bridge import Bridge
from wavefront.networks.embedding import Symbols
from wavefront.networks.encoder import Encoder
from wavefront.networks.encoder_decoder import Encoded, EncoderDecoder, EncoderDecoders
from wavefront.networks.readout import AttentionPooled, LastStep, Pooled
from wavefront.tasks.inputs import about
from wavefront.tasks.pairs import Pairs, packed, padded_symbols, texts_of
from wavefront.tasks.side import Pieces, Side
from wavefront.tasks.task import Batch, Claim, Example, Prediction, cell_maker, validated
from wavefront.wrap import Dropout, Stack

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Translate", "TranslateSettings"]

SHORT = 64  # symbols: additive attention takes as many vectors for a pair as source times target
END = 0  # as a target, padding is the end: it never stands inside
SIDES = ({"source", "src", "input"}, {"target", "tgt", "trg", "output"})  # usual names


class TranslateSettings(BaseModel):
    """The network of `translate`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    source_pieces: Pieces | None = Field(None, description="what a source is cut into: characters, words (what blanks separate), subwords")
    target_pieces: Pieces | None = Field(None, description="what a target is cut into")
    source_vocabulary: int | None = Field(None, ge=1, description="at most so many source symbols; so many subwords are learned")
    target_vocabulary: int | None = Field(None, ge=1, description="at most so many target symbols")
    decompose: bool | None = Field(None, description="take characters apart (é is e and ´); where that halves their number")
    longest: int = Field(
        1000, ge=1, description="symbols of a sequence; a longer one is refused in training, and read so far in prediction"
    )
    cell: str = Field("lstm", description="the cell of encoder and decoder, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer and direction of the encoder")
    layers: int | None = Field(None, ge=1, description="bidirectional layers of the encoder")
    decoder_units: int | None = Field(None, ge=1, description="units of the decoder; twice those of the encoder")
    decoder_layers: int = Field(1, ge=1, description="layers of the decoder")
    symbol_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    attention: Literal["general", "dot", "additive", "location", "monotonic", "none"] | None = Field(
        None,
        description="how the decoder looks at the source; none: it is given the source in one vector. Additive for words of few symbols,"
        " general for sentences",
    )
    feeding: bool = Field(
        False, description="the decoder reads what it saw before (input feeding); without, all its steps are learned at once, twice as fast"
    )
    bridge: Literal["last", "mean", "learned", "none"] = Field(
        "last", description="what of the encoder the decoder's first state is made of"
    )
    copying: bool = Field(False, description="symbols may be copied from the source")
    tied: bool = Field(False, description="the decoder reads and writes symbols by the same vectors")
    members: int = Field(1, ge=1, description="networks that learn each on its own and write together, in the mean of their probabilities")
    dropout: float | None = Field(None, ge=0, lt=1, description="of whole features before each layer, and of what the decoder puts out")
    rare: float = Field(
        0.1, ge=0, description="a source symbol seen n times is taken for an unknown one with probability rare / (rare + n)"
    )
    smoothing: float = Field(0.1, ge=0, lt=1, description="share of a target's probability that is spread over all symbols")
    num_beams: int = Field(5, ge=1, description="beams of the search for the best target")
    length_penalty: float | None = Field(
        None,
        ge=0,
        description="how much long targets are favoured; 0: by their probability alone; 1 for sentences, which come out short else",
    )
    bleu: Literal["13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab"] = Field(
        "13a", description="how sacrebleu cuts sentences; none: they are cut at their blanks already"
    )


class Translate(Pairs):
    """A sequence of symbols for another.

    Rows hold a `source` and a `target`, each text or a list of symbols: words and their phonemes, sentences of two languages. Several rows
    with one source are alternatives.
    """

    name = "translate"
    Settings = TranslateSettings

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        s = self.settings
        self.source = Side(s.source_pieces, s.source_vocabulary, s.decompose)
        self.target = Side(s.target_pieces, s.target_vocabulary, s.decompose)

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        able = [column.name for column in source.columns if column.kind in ("text", "symbols")]
        if not {*columns.values()} <= {*able}:
            return None
        if {"source", "target"} <= columns.keys():
            return Claim(dict(columns), True, "the columns were named")
        if source.format == "aligned" and len(able) == 2:
            one, two = _in_order(source.name, able)
            chosen = {"source": one, "target": two} if not columns else _other(columns, able)
            return Claim(chosen, True, f"line by line, {chosen['target']} from {chosen['source']}")
        named = [next((name for name in able if name.lower() in names), None) for names in SIDES]
        if None not in named and not columns:
            return Claim({"source": str(named[0]), "target": str(named[1])}, True, f"{named[1]} from {named[0]}")
        if len(able) != 2 or len(source.columns) != 2:
            return None
        chosen = _other(columns, able) if columns else dict(zip(("source", "target"), able))
        if any(not row[name] for row in islice(source.rows("train"), 50) for name in able):
            return None
        return Claim(chosen, bool(columns), f"{chosen['target']} from {chosen['source']}")

    def prepare(self, source: Source) -> None:
        for _, one, two in self.pairs_of(source):
            self.source.see(one)
            self.target.see(two)
        if not self.target.rows:
            raise DataError(f"{source.path}: no pair to learn from: its rows are empty, or so few that all are for the test.")
        for read, role in ((self.source, "source"), (self.target, "target")):
            read.settle(partial(texts_of, source, self.columns[role]))
            self.fitting(source, read, role)
        s, steps = self.settings, self.target.steps + self.source.steps
        large = steps > 200_000
        units = s.units or (256 if large else about(steps / 400, 32, 128))
        short = not self.target.sentences and max(self.source.longest, self.target.longest) <= SHORT
        chosen = {
            "source_pieces": self.source.pieces,
            "target_pieces": self.target.pieces,
            "units": units,
            "layers": s.layers or (2 if large else 1),
            "decoder_units": s.decoder_units or 2 * units,
            "attention": s.attention or ("additive" if short else "general"),
            "symbol_size": s.symbol_size or (256 if self.target.sentences and large else min(128, units)),
            "dropout": (0.3 if large else 0.4) if s.dropout is None else s.dropout,
            "length_penalty": float(self.target.sentences) if s.length_penalty is None else s.length_penalty,
        }
        self.settings = s.model_copy(update=chosen)

    def training(self) -> dict[str, Any]:
        rows = self.target.rows
        batch = 64 if rows > 5000 else 32 if rows > 500 else 8
        return {
            "learning_rate": 2e-3 if self.settings.units <= 128 else 1e-3,
            "batch_size": batch,
            "epochs": max(10, min(60, round(15_000 * batch / rows))),
            "weight_decay": 0.01,
            "clip_norm": 2.0,
            "average": 0.999 if rows > 5000 else 0.99,
            "patience": 6,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(),
            "columns": self.columns,
            "source": self.source.state(),
            "target": self.target.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Translate:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.source, task.target = Side.from_state(state["source"]), Side.from_state(state["target"])
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        value = self.checked(row, "source")
        symbols = self.source.symbols(value)[: self.settings.longest]
        example = {"source": self.source.vocabulary.encode(symbols), "text": packed(value if isinstance(value, str) else " ".join(value))}
        if self.settings.copying:
            example["copied"] = self.target.vocabulary.encode(symbols)
        return example | self.encode_target(row)

    def collate(self, examples: Sequence[Example]) -> Batch:
        lengths = torch.tensor([len(example["source"]) for example in examples])
        inputs = {"x": padded_symbols(examples, "source"), "lengths": lengths}
        if self.settings.copying:
            copied = padded_symbols(examples, "copied")
            inputs["symbols"] = copied.masked_fill(copied < 2, -1)  # what the target side does not know cannot be copied
        whole = all("target" in example for example in examples)
        return Batch(inputs, lengths, padded_symbols(examples, "target") if whole else None, examples)

    # The network

    def network(self) -> nn.Module:
        members = [self._member() for _ in range(self.settings.members)]
        if len(members) == 1:
            return members[0]
        decoders: list[Any] = [member.decoder for member in members]
        return EncoderDecoders(members, Ensemble(decoders))

    def _member(self) -> EncoderDecoder:
        s = self.settings
        encoder = Encoder(s.symbol_size, s.units, s.layers, cell_maker(s.cell), s.dropout)
        memory, reads = encoder.outputs, self._reads(encoder.outputs)
        cell = self._cell(s.symbol_size + reads)
        network: Any = cell
        if s.attention != "none":
            network = Attending(cell, self._attention(cell.outputs, memory), s.symbol_size if s.tied else None, feeding=s.feeding)
        features = cell.outputs if s.attention == "none" else network.outputs
        reader = nn.Embedding(len(self.target), s.symbol_size)
        nn.init.normal_(reader.weight, std=s.symbol_size**-0.5)
        tied = reader if s.tied else None
        if s.tied and features != s.symbol_size:
            raise SettingsError(f"network.tied needs attention, or decoder_units={s.symbol_size} as symbol_size; it is {features}.")
        output = Copying(features, len(self.target), memory) if s.copying else Categorical(features, len(self.target), tied)
        given: dict[str, Any] = {"context": memory, "context_as": "both"} if s.attention == "none" else {}
        decoder = Autoregressive(network, output, reader, end=END, **given)
        bridge = Bridge(memory, cell) if s.attention != "none" and s.bridge != "none" else None
        summary = None if bridge is None and s.attention != "none" else self._summary(memory)
        return EncoderDecoder(encoder, decoder, Symbols(self.source.counts, s.symbol_size, s.rare), summary, bridge)

    def _reads(self, memory: int) -> int:
        """What each step of the decoder reads beside the last symbol."""
        s = self.settings
        if s.attention == "none":
            return memory
        return (s.symbol_size if s.tied else s.decoder_units) if s.feeding else 0

    def _cell(self, inputs: int) -> Cell:
        s = self.settings
        make, layers = cell_maker(s.cell), []
        for layer in range(s.decoder_layers):
            layers.append(_dropped(make(inputs, s.decoder_units), s.dropout if layer == 0 else 0.0, s.dropout))
            inputs = s.decoder_units
        return layers[0] if len(layers) == 1 else Stack(*layers)

    def _attention(self, query: int, memory: int) -> Attention:
        kinds: dict[str, Callable[[], Attention]] = {
            "general": lambda: General(query, memory),
            "dot": lambda: Dot(query, memory),
            "additive": lambda: Additive(query, memory, query // 2),
            "location": lambda: Additive(query, memory, query // 2, location=(8, 7)),
            "monotonic": lambda: Monotonic(Additive(query, memory, query // 2)),
        }
        return kinds[str(self.settings.attention)]()

    def _summary(self, memory: int) -> nn.Module:
        kinds: dict[str, Callable[[], nn.Module]] = {
            "last": lambda: LastStep(forward=memory // 2),
            "mean": lambda: Pooled("mean"),
            "learned": lambda: AttentionPooled(memory, memory // 2),
            "none": lambda: LastStep(forward=memory // 2),
        }
        return kinds[self.settings.bridge]()

    # Learning and writing

    def criterion(self, network: nn.Module, outputs: Any, batch: Batch) -> tuple[Tensor, int]:
        """Nats per symbol, the end counted as one; in training smoothed."""
        y, lengths = self.targets_of(batch)
        smoothing = self.settings.smoothing if network.training else 0.0
        items = int(lengths.sum()) + len(y)
        return smoothed_loss(network.decoder, y, lengths, smoothing, **outputs._asdict()) / items, items  # type: ignore[arg-type]

    def log_prob(self, network: nn.Module, outputs: Any, y: Tensor, y_lengths: Tensor) -> Tensor:
        return network.decoder.log_prob(y, y_lengths, **outputs._asdict())  # type: ignore[operator,union-attr]

    def decode(self, network: nn.Module, outputs: Any, batch: Batch) -> list[Prediction]:
        found = beam_search(
            network.decoder,  # type: ignore[arg-type]
            len(batch),
            num_beams=self.search.num_beams,
            n_best=self.search.n_best,
            length_penalty=self.settings.length_penalty or 0.0,
            max_length=2 * self.target.longest + 10,
            without=(UNKNOWN,),
            **outputs._asdict(),
        )
        predictions = [self.prediction(candidates) for candidates in found]
        for prediction, example in zip(predictions, batch.examples):
            if unknown := int((example["source"] == UNKNOWN).sum()):
                prediction["unknown"] = unknown
        if self.search.explain and isinstance(network.decoder.network, Attending):  # type: ignore[union-attr]
            best = [candidates[0].symbols if candidates else [] for candidates in found[: self.search.explain]]
            for row, alignment in enumerate(self._alignments(network, outputs, batch, best)):
                predictions[row]["alignment"] = alignment
        return predictions

    def _alignments(self, network: Any, encoded: Encoded, batch: Batch, best: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
        """Where the decoder looked when it wrote each symbol and the end."""
        rows = [torch.tensor(symbols, dtype=torch.long) for symbols in best]
        y = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(batch.lengths.device)
        part = encoded.first(len(best))
        weights = network.decoder.aligned(y, [len(symbols) for symbols in best], **part._asdict())[1]
        explained = []
        for row, symbols in enumerate(best):
            places = int(batch.lengths[row])
            source = self.source.symbols(self.source_text(batch.examples[row]) or "")[:places]
            target = [*self.target.vocabulary.decode(symbols), "end"]
            shown = weights[row, : len(target), :places].tolist()
            explained.append({"source": source, "target": target, "weights": [[round(w, 4) for w in step] for step in shown]})
        return explained


def _dropped(cell: Cell, inputs: float, outputs: float) -> Cell:
    return Dropout(cell, inputs=inputs, outputs=outputs) if inputs or outputs else cell


def _in_order(name: str, languages: Sequence[str]) -> tuple[str, str]:
    """Two languages in the order that the name of the data has them in (multi30k_en_de), else in that of their names."""
    one, two = sorted(languages)
    return (two, one) if re.search(rf"(?<![a-z]){re.escape(two)}[^a-z]{re.escape(one)}(?![a-z])", name.lower()) else (one, two)


def _other(columns: Mapping[str, str], able: Sequence[str]) -> dict[str, str]:
    """Both columns, of which one was named."""
    role, name = next(iter(columns.items()))
    rest = next(other for other in able if other != name)
    return {"source": name, "target": rest} if role == "source" else {"source": rest, "target": name}
