"""tag: a label for each position of a sequence, or labelled spans of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from wavefront.data import Labels
from wavefront.errors import DataError
from wavefront.networks.convolution import Series
from wavefront.networks.crf import CRF
from wavefront.networks.embedding import Symbols, Words
from wavefront.networks.encoder import Encoder
from wavefront.networks.tagger import Tagger
from wavefront.tasks.baselines import fixed_length_tagger, lonely_word_tagger
from wavefront.tasks.inputs import SeriesInput, SymbolInput, about, input_from_state, padded, symbol_reader, text_of_runs
from wavefront.tasks.metrics import Confusion, SpanCounts
from wavefront.tasks.spans import Span, follows, iob2_of, scheme_of, spans_of, tags_of, tokens_of
from wavefront.tasks.task import (
    Batch,
    Claim,
    Example,
    Figure,
    Meter,
    Prediction,
    Task,
    cell_maker,
    confusion_figure,
    in_row,
    label_numbers,
    validated,
)

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Tag", "TagSettings"]

NEW = "a label never trained on"  # what a gold label is called that training never saw: no prediction is equal to it


class TagSettings(BaseModel):
    """The network of `tag`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    cell: str = Field("lstm", description="the cell of the recurrence over the sequence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of each layer and direction")
    layers: int | None = Field(None, ge=1, description="bidirectional layers")
    word_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    spelling: bool | None = Field(None, description="read each word letter by letter too")
    letter_cell: str = Field("lstm", description="the cell of the recurrence over letters")
    letter_size: int = Field(32, ge=1, description="size of the vector of a letter")
    letter_units: int = Field(48, ge=1, description="units of each direction over letters")
    decoder: Literal["softmax", "crf"] | None = Field(
        None, description="a label on its own, or the best sequence of labels; crf where labels mark spans"
    )
    pieces: Literal["words", "characters"] | None = Field(None, description="what a text is cut into; characters where a span cuts a word")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="of whole features, the same at all positions; before each layer and after the last"
    )
    rare: float = Field(0.25, ge=0, description="a symbol seen n times is taken for an unknown one with probability rare / (rare + n)")
    largest_vocabulary: int = Field(100_000, ge=1, description="at most so many different symbols are known")
    # numeric series
    delays: tuple[int, ...] | None = Field(
        None, description="of each layer's state, in steps: (1, 4, 16) where series are long, so that what is far is a few steps away"
    )
    channels: int = Field(32, ge=1, description="of each width of the convolutions over a numeric series")
    widths: tuple[int, ...] = Field((3, 9, 27), description="of the convolutions side by side, in steps; odd")


class Tag(Task):
    """A label for each position.

    Rows hold `tokens` and `labels`, lists of equal length, tokens being symbols or the steps of a numeric series; or a `text` and its `spans` of
    characters. Long series are read by layers whose delays grow, in both directions. Labels of the schemes IOB2 and BIOES
    mark spans: then a CRF decodes (what cannot be is never decoded) and whole spans are scored, else each label by itself. Labels of IOB1
    are turned to IOB2.
    """

    name = "tag"
    roles = ("tokens", "labels", "text", "spans")
    Settings = TagSettings
    input: SymbolInput | SeriesInput
    larger_is_better = True

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.of_text = "text" in self.columns
        self.input = SymbolInput()
        self.labels = Labels([])
        self.scheme: str | None = None
        self.iob1 = False  # the rows are: their labels are turned to IOB2

    @property
    def length_column(self) -> str:  # type: ignore[override]
        return self.input.column

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "span_f1" if self.scheme else "accuracy"

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        texts, symbols = ([name for name, kind in kinds.items() if kind == wanted] for wanted in ("text", "symbols"))
        spans = columns.get("spans") or next((name for name, kind in kinds.items() if kind == "spans"), None)
        text = columns.get("text") or ("text" if "text" in texts else texts[0] if len(texts) == 1 else None)
        if spans and text and "tokens" not in columns:
            return Claim({"text": text, "spans": spans}, True, f"{text} has labelled spans of characters in {spans}")
        if "tokens" in columns and "labels" in columns:
            return Claim({"tokens": columns["tokens"], "labels": columns["labels"]}, True, "the columns were named")
        if source.format == "conllu":
            chosen = {"tokens": "tokens", "labels": "upos"} | dict(columns)
            return Claim(chosen, True, f"words with their {chosen['labels']} in CoNLL-U")
        series = [name for name, kind in kinds.items() if kind == "series"]
        if len(series) == 1 and len(symbols) == 1:  # a label for each step of a series
            symbols = [*series, *symbols]
        tokens = columns.get("tokens") or _first(("tokens", "words"), symbols, symbols[:1])
        others = [name for name in symbols if name != tokens]
        labels = columns.get("labels") or _first(("tags", "labels"), others, others[-1:])
        if tokens is None or labels is None or any(len(row[tokens]) != len(row[labels]) for row in islice(source.rows("train"), 50)):
            return None
        certain = len(symbols) == 2 or {tokens, labels} <= {"tokens", "words", "tags", "labels"} or bool(columns)
        return Claim({"tokens": tokens, "labels": labels}, certain, f"{labels} has a label for each of the {tokens}")

    def prepare(self, source: Source) -> None:
        settings = self.settings
        counts, as_iob2, begun_by = Counter[str](), Counter[str](), Counter[str]()
        pieces = settings.pieces or ("characters" if self.of_text and self._spans_cut_words(source) else "words")
        of_series = any(c.name == self.columns.get("tokens") and c.kind == "series" for c in source.columns)
        self.input = SeriesInput(whole=True) if of_series else SymbolInput(pieces, settings.spelling, settings.largest_vocabulary)
        for number, row in enumerate(source.rows("train"), 1):
            with in_row(source, number):
                symbols, labels = self._row(row)
                if labels is None:
                    raise DataError(f"no {self.columns['spans' if self.of_text else 'labels']}; every row to learn from needs them.")
                self.input.see(symbols)
            counts.update(labels)
            as_iob2.update(iob2_of(labels))
            begun = [label for last, label in zip(["O", *labels], labels) if label[1:2] == "-" and last[2:] != label[2:]]
            begun_by.update(label[:2] for label in begun)
        if not counts:
            raise DataError(f"{source.path}: there is no position with a label in train; expected sequences of at least one.")
        self.input.settle()
        self.iob1 = set(begun_by) == {"I-"} and {label[:2] for label in counts} <= {"O", "B-", "I-"}
        counts = as_iob2 if self.iob1 else counts
        if self.of_text:  # a label whose spans were all of one word may have longer ones
            counts.update({"I-" + label[2:]: 0 for label in counts if label != "O"})
        self.labels = Labels.of(counts)
        self.scheme = self._scheme()
        size = self.input.steps
        self.settings = settings.model_copy(
            update=self._chosen_for_series() if isinstance(self.input, SeriesInput) else self._chosen(size, pieces)
        )

    def _chosen_for_series(self) -> dict[str, Any]:
        s = self.settings
        delays = s.delays or delays_for(self.input.longest)
        if s.layers not in (None, len(delays)):
            delays = (delays * s.layers)[: s.layers]
        return {
            "units": s.units or 48,
            "layers": len(delays),
            "delays": delays,
            "decoder": s.decoder or ("crf" if self.scheme else "softmax"),
            "dropout": 0.2 if s.dropout is None else s.dropout,
            "spelling": False,
        }

    def _chosen(self, size: int, pieces: str) -> dict[str, Any]:
        settings, symbols = self.settings, cast(SymbolInput, self.input)
        layers = settings.layers or (1 if size < 100_000 else 2)
        return {
            "units": settings.units or (about(size / 1000, 32, 64) if size < 100_000 else 200),
            "layers": layers,
            "delays": settings.delays or (1,) * layers,
            "word_size": settings.word_size or (about(size / 1000, 32, 64) if size < 100_000 else 100),
            "spelling": symbols.spelling,
            "decoder": settings.decoder or ("crf" if self.scheme else "softmax"),
            "pieces": pieces,
            "dropout": 0.33 if settings.dropout is None else settings.dropout,
        }

    def training(self) -> dict[str, Any]:
        rows = self.input.rows
        if isinstance(self.input, SeriesInput):
            batch = max(2, min(16, rows // 8))
            return {
                "learning_rate": 3e-3,
                "batch_size": batch,
                "epochs": max(5, min(200, ceil(1500 / ceil(rows / batch)))),
                "patience": 0 if rows < 200 else 8,
                "weight_decay": 0.01,
                "clip_norm": 5.0,
                "average": 0.99,
            }
        return {
            "learning_rate": 3e-3,
            "batch_size": 32 if rows > 1000 else 8,
            "epochs": 8 if rows > 10_000 else 20 if rows > 1000 else 30,
            "patience": 3,
            "weight_decay": 0.01,
            "clip_norm": 5.0,
            "average": 0.998 if rows > 1000 else 0.99,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(),
            "columns": self.columns,
            "input": self.input.state(),
            "labels": self.labels.to_json(),
            "iob1": self.iob1,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tag:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.input = input_from_state(state["input"])
        task.labels = Labels(**state["labels"])
        task.scheme, task.iob1 = task._scheme(), state["iob1"]
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        symbols, labels = self._row(row)
        example = self.input.encode(symbols)
        if labels is not None:
            example["labels"] = label_numbers(self.labels, labels)
        if self.of_text:
            tokens = tokens_of(row[self.columns["text"]], cast(SymbolInput, self.input).pieces)
            example["offsets"] = np.array([(token.start, token.end) for token in tokens], np.int32).reshape(-1, 2)
            if labels is not None:  # the gold spans as they are, even where they cut a token
                names = {name: i for i, name in enumerate(self._span_names())}
                gold = [(s["start"], s["end"], names.get(s["label"], -1)) for s in row[self.columns["spans"]]]
                example["gold"] = np.array(gold, np.int32).reshape(-1, 3)
        return example

    def length(self, example: Example) -> int:
        return len(example[self.input.column])

    def collate(self, examples: Sequence[Example]) -> Batch:
        inputs, lengths = self.input.collate(examples)
        inputs["lengths"] = lengths
        whole = all("labels" in example for example in examples)
        targets = padded([example["labels"] for example in examples], fill=-1).long() if whole else None
        return Batch(inputs, lengths, targets, examples)

    def network(self) -> nn.Module:
        s = self.settings
        reader: Series | Symbols | Words
        if isinstance(self.input, SeriesInput):
            reader = Series(self.input.features, s.channels, s.widths, (1, 1))
        else:
            reader = symbol_reader(self.input, s)
        encoder = Encoder(reader.outputs, s.units, s.layers, cell_maker(s.cell), s.dropout, s.delays)
        crf = CRF(len(self.labels), self._allowed()) if s.decoder == "crf" else None
        return Tagger(reader, encoder, len(self.labels), crf, s.dropout)

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        if batch.targets is None:
            raise DataError(
                f"the rows have no {self.columns.get('labels', self.columns.get('spans'))}: nothing to learn from or to score against."
            )
        likelihood, items = cast(Tagger, network).log_likelihood(outputs, batch.targets, batch.lengths)
        return -likelihood / max(1, items), items

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        names = self.labels.symbols
        predictions: list[Prediction] = []
        for row, numbers in enumerate(cast(Tagger, network).decode(outputs, batch.lengths)):
            labels = [names[n] for n in numbers]
            prediction: Prediction = {} if self.of_text else {"labels": labels}
            if self.scheme:
                spans = sorted(spans_of(labels, self.scheme))
                if self.of_text:
                    offsets = batch.examples[row]["offsets"].tolist()
                    spans = [(offsets[start][0], offsets[end - 1][1], label) for start, end, label in spans]
                prediction["spans"] = [{"start": start, "end": end, "label": label} for start, end, label in spans]
            predictions.append(prediction)
        return predictions

    def meter(self) -> TagMeter:
        return TagMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """word/label word/label ...; where labels mark spans word [LABEL word word] word; of a text its spans after it."""
        if self.of_text:
            text = row[self.columns["text"]]
            found = ", ".join(f"{text[s['start'] : s['end']]} ({s['label']})" for s in prediction["spans"])
            return f"{text}\t{found or '-'}"
        if isinstance(self.input, SeriesInput):
            return text_of_runs(prediction["labels"])
        tokens = list(row[self.columns["tokens"]])
        if not self.scheme:
            return " ".join(f"{token}/{label}" for token, label in zip(tokens, prediction["labels"]))
        for span in reversed(prediction["spans"]):  # from the end, so that places before stay what they are
            tokens[span["start"] : span["end"]] = [f"[{span['label']} {' '.join(tokens[span['start'] : span['end']])}]"]
        return " ".join(tokens)

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """One word without its context, and a feed-forward network with one weight per position: what a network with memory is compared with."""
        if isinstance(self.input, SeriesInput):
            counts = sum(
                (np.bincount(example["labels"][example["labels"] >= 0], minlength=len(self.labels)) for example in train), np.zeros(1)
            )
            return {"the most frequent label": self._score_tagger(lambda example: [int(counts.argmax())] * len(example["values"]), test)}
        taggers: dict[str, Any] = {
            "one word without context": lonely_word_tagger(train, self.input.text),
            "feed-forward, one weight per position": fixed_length_tagger(train, len(self.input.vocabulary), len(self.labels)),
        }
        return {name: self._score_tagger(tagger, test) for name, tagger in taggers.items()}

    def _score_tagger(self, tagger: Any, test: Iterable[Example]) -> dict[str, float]:
        meter = self.meter()
        names = self.labels.symbols
        for example in test:
            labels = [names[n] for n in tagger(example)]
            prediction: Prediction = {"labels": labels}
            if self.scheme:
                prediction["spans"] = [{"start": s, "end": e, "label": label} for s, e, label in spans_of(labels, self.scheme)]
            meter.count_row([[*names, NEW][n] for n in example["labels"].tolist()], prediction)
        return meter.scores()

    def _row(self, row: Mapping[str, Any]) -> tuple[Any, list[str] | None]:
        """What `self.input` sees of a row, and its labels."""
        if not self.of_text:
            symbols, labels = row[self.columns["tokens"]], row.get(self.columns["labels"])
            if labels is not None and len(labels) != len(symbols):
                raise DataError(f"{len(symbols)} tokens have {len(labels)} labels; each needs one: {' '.join(map(str, symbols[:8]))} ...")
            return symbols, iob2_of(labels) if self.iob1 and labels is not None else labels
        text, spans = row[self.columns["text"]], row.get(self.columns["spans"])
        tokens = tokens_of(text, cast(SymbolInput, self.input).pieces)
        return [token.text for token in tokens], None if spans is None else tags_of(tokens, _checked_spans(spans, text))[0]

    def _spans_cut_words(self, source: Source) -> bool:
        for number, row in enumerate(source.rows("train"), 1):
            text, spans = row[self.columns["text"]], row.get(self.columns["spans"]) or []
            with in_row(source, number):
                checked = _checked_spans(spans, text)
            if not tags_of(tokens_of(text), checked)[1]:
                return True
        return False

    def _scheme(self) -> str | None:
        return "IOB2" if self.of_text else scheme_of(self.labels.symbols)

    def _span_names(self) -> list[str]:
        return sorted({label[2:] for label in self.labels.symbols if label != "O"})

    def _allowed(self) -> Tensor:
        """Which label may follow which, as `CRF` takes it."""
        names: list[str | None] = [*self.labels.symbols, None]
        if self.scheme is None:
            return torch.ones(len(names), len(names), dtype=torch.bool)
        return torch.tensor([[follows(before, after, self.scheme) for after in names] for before in names])


class TagMeter(Meter):
    """Accuracy of labels, strict F1 of spans, and both by length; a few examples are kept to be shown."""

    SHOWN = 8  # right ones and wrong ones

    def __init__(self, task: Tag):
        super().__init__()
        self.task = task
        self.labels, self.spans = Confusion(), SpanCounts()
        self.by_length: dict[int, tuple[Confusion, SpanCounts]] = {}
        self.examples: list[dict[str, Any]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        names, kinds = [*self.task.labels.symbols, NEW], [*self.task._span_names(), NEW]  # -1, never seen, is the last
        for row, prediction in enumerate(predictions):
            gold = [names[i] for i in batch.targets[row, : int(batch.lengths[row])].tolist()]
            spans = None
            if self.task.of_text:
                spans = {(start, end, kinds[kind]) for start, end, kind in batch.examples[row]["gold"].tolist()}
            right = self.count_row(gold, prediction, spans)
            if sum(shown["right"] == right for shown in self.examples) < self.SHOWN:
                self.examples.append(self._shown(batch.examples[row], gold, prediction, spans) | {"right": right})

    def count_row(self, gold: list[str], prediction: Prediction, spans: set[Span] | None = None) -> bool:
        """One sequence; `spans` are the gold ones where they are not those of the labels. Was all of it right?"""
        length = 1 << max(0, len(gold) - 1).bit_length()  # lengths are counted in classes up to 1, 2, 4, 8, ...
        counted = [(self.labels, self.spans), self.by_length.setdefault(length, (Confusion(), SpanCounts()))]
        found = {(span["start"], span["end"], span["label"]) for span in prediction.get("spans", ())}
        if spans is None and self.task.scheme:
            spans = spans_of(gold, self.task.scheme)
        for labels, counts in counted:
            if "labels" in prediction:
                labels.add(gold, prediction["labels"])
            if spans is not None:
                counts.add(spans, found)
        return found == spans if spans is not None else prediction["labels"] == gold

    def scores(self) -> dict[str, float]:
        scores = {} if self.task.of_text else {"accuracy": self.labels.accuracy}
        return scores | ({"span_f1": self.spans.f1} if self.task.scheme else {})

    def figures(self) -> list[Figure]:
        lengths = sorted(self.by_length)
        values = [spans.f1 if self.task.scheme else labels.accuracy for labels, spans in (self.by_length[n] for n in lengths)]
        bars = {"labels": [f"up to {n}" for n in lengths], "values": values, "axis": self.task.metric}
        figures = [Figure("bars", f"{self.task.metric} by length", bars, "positions of a sequence")]
        if self.task.scheme:
            rows = [[label, *(round(value, 4) for value in row[:3]), row[3]] for label, row in self.spans.by_label().items()]
            figures.append(Figure("table", "Spans by label", {"head": ["label", "precision", "recall", "F1", "spans"], "rows": rows}))
        if self.labels.items:
            figures.append(confusion_figure(self.labels))
        return [*figures, Figure("examples", "Examples", {"rows": self.examples})]

    def _shown(self, example: Example, gold: list[str], prediction: Prediction, spans: set[Span] | None) -> dict[str, Any]:
        if isinstance(self.task.input, SeriesInput):
            steps = f"series of {len(gold)} steps"
            return {"text": steps, "gold": text_of_runs(gold), "predicted": text_of_runs(prediction["labels"])}
        words = self.task.input.text(example)
        if self.task.of_text:
            starts = {start: i for i, (start, _) in enumerate(example["offsets"].tolist())}
            ends = {end: i + 1 for i, (_, end) in enumerate(example["offsets"].tolist())}

            def inside(found: set[Span]) -> str:
                return ", ".join(f"{' '.join(words[starts.get(s, 0) : ends.get(e, len(words))])} ({k})" for s, e, k in sorted(found))

            found = {(span["start"], span["end"], span["label"]) for span in prediction["spans"]}
            return {"text": " ".join(words), "gold": inside(spans or set()), "predicted": inside(found)}
        return {"text": list(words), "gold": list(gold), "predicted": list(prediction["labels"])}


def delays_for(steps: int) -> tuple[int, ...]:
    """Delays of the layers over series of so many steps: four times longer from one to the next, until eight of the last cross the series.

    >>> delays_for(40), delays_for(300), delays_for(5000)
    ((1, 4), (1, 4, 16), (1, 4, 16, 64))
    """
    delays = [1]
    while len(delays) < 4 and 8 * 4 * delays[-1] <= steps:
        delays.append(4 * delays[-1])
    return tuple(delays)


def _first(names: Sequence[str], there: Sequence[str], otherwise: Sequence[str]) -> str | None:
    return next((name for name in (*names, *otherwise) if name in there), None)


def _checked_spans(spans: Sequence[Mapping[str, Any]], text: str) -> list[Span]:
    """The spans of a text, each inside it, none over another: one label a position is all that a tagger can give."""
    checked = sorted((span["start"], span["end"], span["label"]) for span in spans)
    for (start, end, label), (after, *_) in zip(checked, [*checked[1:], (len(text), 0, "")]):
        if not 0 <= start < end <= len(text):
            raise DataError(f"span {start}..{end} ({label}) is not inside its text of {len(text)} characters: {text[:60]!r}")
        if after < end:
            raise DataError(f"two spans overlap at {after} ({label} ends at {end}): {text[:60]!r}. A tagger gives one label a position.")
    return checked
