"""tree: labels of parsed sentences, formulas and other trees: at the root, at every node, or of two trees together."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.data import Labels, Vocabulary
from wavefront.data.trees import ReadTree, from_heads, labelled, parse_tree
from wavefront.errors import DataError
from wavefront.networks.embedding import Symbols
from wavefront.networks.tree_reader import TreePairs, TreeReader
from wavefront.structure import Tree as TreeStructure
from wavefront.tasks.inputs import about
from wavefront.tasks.metrics import Confusion
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
    label_numbers,
    validated,
)

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Tree", "TreeSettings"]

NEW = "a label never trained on"
SENTIMENT = ("0", "1", "2", "3", "4")  # very negative ... very positive; 2 is neutral  [Socher et al. 2013, section 3]
SAMPLE = 200


class TreeSettings(BaseModel):
    """The network of `tree`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    cell: str | None = Field(
        None, description="the cell at each node: treelstm where nodes have two children at most, else childsumtreelstm"
    )
    units: int | None = Field(None, ge=1, description="units of the state of a node")
    word_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    compare: int = Field(100, ge=1, description="units that compare two trees")
    dropout: float | None = Field(None, ge=0, lt=1, description="of vectors of symbols, and of states before they are read out")
    shape: Literal["given", "balanced", "chain"] = Field(
        "given", description="the trees of the data; or, over their words, balanced ones, or chains: a sequence"
    )
    labels: Literal["nodes", "root"] = Field("nodes", description="learn from every label in a tree, or from that of the root alone")
    penn: bool | None = Field(None, description="whether a bracket begins with its label")
    rare: float = Field(0.25, ge=0, description="a symbol seen n times is taken for an unknown one with probability rare / (rare + n)")
    largest_vocabulary: int = Field(100_000, ge=1, description="at most so many different symbols are known")


class Tree(Task):
    """A label for each tree, for every node of a tree, or for two trees together.

    Rows hold a `tree`: text in brackets with labels (Penn), without, as JSON, or in Newick's notation; or `tokens` and their `heads`. The
    label is the root's own, or a `label` column; with a `second` tree it is of the pair.
    """

    name = "tree"
    roles = ("tree", "second", "tokens", "heads", "label")
    Settings = TreeSettings
    settings: TreeSettings
    length_column = "symbols"
    larger_is_better = True

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.symbols, self.labels, self.arity = Vocabulary([]), Labels([]), 2
        self.nodes, self.rows = 0, 0

    @property
    def pairs(self) -> bool:
        return "second" in self.columns

    @property
    def metric(self) -> str:  # type: ignore[override]
        return "accuracy" if self.pairs else "accuracy_root"

    @property
    def needed(self) -> list[str]:
        """The columns that a prediction is made from."""
        return [self.columns[role] for role in ("tree", "second", "tokens", "heads") if role in self.columns]

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        if source.format == "conllu" and not columns.keys() & {"tree", "second"}:
            chosen = {"tokens": "tokens", "heads": "head", "label": "upos"} | dict(columns)
            return Claim(chosen, False, f"words with their heads, and a {chosen['label']} at each, in CoNLL-U")
        if {"tokens", "heads"} <= columns.keys():
            return Claim(dict(columns), True, "the columns were named")
        sample = list(islice(source.rows("train"), SAMPLE))
        trees = [name for name, kind in kinds.items() if kind == "text" and _trees(row[name] for row in sample)]
        first = columns.get("tree") or (trees[0] if trees else None)
        if first is None:
            return None
        others = [name for name in trees if name != first]
        second = columns.get("second") or (others[0] if others else None)
        rest = [name for name, kind in kinds.items() if kind in ("text", "number") and name not in (first, second)]
        label = columns.get("label") or next((name for name in rest if name.lower() == "label"), rest[0] if rest else None)
        found = {"tree": first} | ({"second": second} if second else {}) | ({"label": label} if label else {})
        if label is None and (second or not labelled(row[first] for row in sample)):
            return None
        what = f"{label} of each {first}" if label else f"a label at the nodes of each {first}"
        return Claim(
            found, source.format == "trees" or columns.keys() >= found.keys(), what + (f" and {second} together" if second else "")
        )

    def prepare(self, source: Source) -> None:
        s = self.settings
        words: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        if s.penn is None and "tree" in self.columns:
            sample = islice(source.rows("train"), SAMPLE)
            self.settings = s = s.model_copy(update={"penn": labelled(row[self.columns["tree"]] for row in sample)})
        arity = 1
        for number, row in enumerate(source.rows("train"), 1):
            where = f"{source.path}, row {number} of train"
            trees = self._read(row, where)
            target = self._target(row, trees, where)
            if target is None:
                raise DataError(f"{where}: no label. Every row to learn from needs one: {self._expected()}.")
            labels[target] += 1
            self.rows += 1
            for tree in trees:
                self.nodes += len(tree.parent)
                words.update(word for word in tree.words if word is not None)
                if not self.pairs and s.labels == "nodes":
                    labels.update(label for label in tree.labels if label is not None)
                arity = max(arity, *np.bincount(np.array(tree.parent) + 1)[1:], 1)
        if not self.rows:
            raise DataError(f"{source.path}: there is no tree in train.")
        self.symbols, self.labels = Vocabulary.of(words, max_size=s.largest_vocabulary), Labels.of(labels)
        self.arity = 2 if s.shape != "given" else int(arity)
        self.settings = s.model_copy(
            update={
                "cell": s.cell or ("treelstm" if self.arity <= 2 else "childsumtreelstm"),
                "units": s.units or (100 if len(self.symbols) > 1000 else 64),
                "word_size": s.word_size or about(4 * len(self.symbols) ** 0.5, 16, 128),
                "dropout": s.dropout
                if s.dropout is not None
                else 0.5
                if len(self.symbols) > 1000
                else 0.0
                if len(self.symbols) < 100
                else 0.2,
            }
        )

    def training(self) -> dict[str, Any]:
        trees = 600_000 if self.pairs else 150_000  # that are seen in training; how two relate takes longer
        return {
            "learning_rate": 2e-3,
            "batch_size": 25 if self.rows < 20_000 else 64,
            "epochs": max(5, min(60 if self.pairs else 40, -(-trees // max(1, self.rows)))),
            "weight_decay": 0.01,
            "clip_norm": 5.0,
            "average": 0.998,
            "patience": 5,
        }

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "symbols": self.symbols.to_json(),
            "labels": self.labels.to_json(),
            "arity": self.arity,
            "rows": self.rows,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tree:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.symbols, task.labels = Vocabulary.from_json(state["symbols"]), Labels(**state["labels"])
        task.arity, task.rows = state["arity"], state["rows"]
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        """symbols, parent, labels [nodes], of both trees one after the other; and the target."""
        trees = self._read(row)
        target = self._target(row, trees)
        nodes: list[np.ndarray] = []
        first = 0
        for tree in map(self._shaped, trees):
            parent = np.array(tree.parent, np.int64)
            known = [word for word in tree.words if word is not None]
            symbols = np.zeros(len(parent), np.int64)
            symbols[[word is not None for word in tree.words]] = self.symbols.encode(known)
            labels = np.full(len(parent), -2, np.int64)  # -2: no label, -1: one that training never saw
            there = np.array([label is not None for label in tree.labels], bool)
            labels[there] = label_numbers(self.labels, [label for label in tree.labels if label is not None])
            nodes.append(np.stack([symbols, np.where(parent < 0, -1, parent + first), labels], 1))
            first += len(parent)
        symbols, parent, labels = np.concatenate(nodes).T.copy()
        example = {"symbols": symbols, "parent": parent, "labels": labels}
        return example if target is None else example | {"target": label_numbers(self.labels, [target]).reshape(())}

    def decoded(self, example: Example, labels: Sequence[str | None] | None = None) -> list[ReadTree]:
        """The trees of an example, with symbols for its words, and the labels given or its own."""
        names = [*self.labels.symbols, None, NEW]  # -2 is no label, -1 a new one
        words = [None if n == 0 else self.symbols.decode([n])[0] for n in example["symbols"].tolist()]
        said = [names[n] for n in example["labels"].tolist()] if labels is None else list(labels)
        parent = example["parent"].tolist()
        starts = [0, parent.index(-1) + 1, len(parent)] if self.pairs else [0, len(parent)]  # the root of a written tree is its last node
        return [
            ReadTree([p - a if p >= 0 else -1 for p in parent[a:b]], words[a:b], said[a:b], [None] * (b - a)) for a, b in pairwise(starts)
        ]

    def length(self, example: Example) -> int:
        return len(example["symbols"])

    def collate(self, examples: Sequence[Example]) -> Batch:
        first = np.cumsum([0, *(len(example["symbols"]) for example in examples)])
        parent = [np.where(e["parent"] < 0, -1, e["parent"] + start) for e, start in zip(examples, first)]
        inputs = {"symbols": torch.from_numpy(np.concatenate([e["symbols"] for e in examples]))}
        inputs["parent"] = torch.from_numpy(np.concatenate(parent))
        known = all("target" in example for example in examples)
        targets = torch.from_numpy(np.stack([example["target"] for example in examples])) if known else None
        return Batch(inputs, torch.from_numpy(np.diff(first)), targets, examples)

    def network(self) -> nn.Module:
        s = self.settings
        reader = Symbols([0, 0, *self.symbols.counts], s.word_size or 1, s.rare)
        kind: Any = cell_maker(s.cell or "treelstm")
        several = {"slots": self.arity} if "slots" in inspect.signature(kind).parameters else {}
        cell = kind(s.word_size or 1, s.units or 1, **several)
        if self.pairs:
            return TreePairs(reader, cell, len(self.labels), s.compare, s.dropout or 0.0)
        return TreeReader(reader, cell, len(self.labels), s.dropout or 0.0)

    def criterion(self, network: nn.Module, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Cross-entropy at each root, or at each node with a label; labels never seen are left out."""
        if batch.targets is None:
            raise DataError(f"the rows have no label: nothing to learn from or to score against. Expected: {self._expected()}.")
        if self.pairs:
            wanted = batch.targets
        elif self.settings.labels == "nodes":
            wanted = torch.from_numpy(np.concatenate([example["labels"] for example in batch.examples])).to(outputs.device)
            wanted[self._roots(batch)] = batch.targets
        else:
            wanted, outputs = batch.targets, outputs[self._roots(batch)]
        items = int((wanted >= 0).sum())
        return F.cross_entropy(outputs, wanted.clamp(min=-1), ignore_index=-1, reduction="sum") / max(1, items), items

    def decode(self, network: nn.Module, outputs: Tensor, batch: Batch) -> list[Prediction]:
        """The label and its probability; of one tree also `labels`, of its nodes in their order."""
        names = self.labels.symbols
        probabilities = outputs.softmax(-1)
        at_root = probabilities if self.pairs else probabilities[self._roots(batch)]
        found = [{"label": names[n], "probability": round(p, 6)} for p, n in (best for best in zip(*(v.tolist() for v in at_root.max(-1))))]
        if self.pairs:
            return found
        of_nodes = outputs.argmax(-1).split(batch.lengths.tolist())
        for prediction, nodes, p in zip(found, of_nodes, at_root):
            prediction["labels"] = [names[n] for n in nodes.tolist()]
            if self.labels.symbols == SENTIMENT:
                prediction["positive"] = round(float(p[3:].sum() / (p[3:].sum() + p[:2].sum())), 6)
        return found

    def meter(self) -> TreeMeter:
        return TreeMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The label, and the tree in brackets with a label at each node; or the two trees."""
        trees = [self._shaped(tree) for tree in self._read(row)]
        return "\t".join([prediction["label"], *(tree.bracketed(prediction.get("labels")) for tree in trees)])

    def drawn(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The trees with the labels of their nodes, a node a line."""
        return "\n".join(self._shaped(tree).drawn(prediction.get("labels")) for tree in self._read(row))

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The most frequent label, always."""
        most = np.bincount([max(0, int(example["target"])) for example in train], minlength=len(self.labels)).argmax()
        right = [int(example["target"]) == most for example in test]
        return {"most frequent label": {self.metric: sum(right) / len(right)}} if right else {}

    def _roots(self, batch: Batch) -> Tensor:
        return (batch.inputs["parent"] < 0).nonzero().flatten()

    def _read(self, row: Mapping[str, Any], where: str = "") -> list[ReadTree]:
        """The trees of a row: one, or two."""
        if "tree" not in self.columns:
            labels = row.get(self.columns.get("label", ""))
            return [
                from_heads(row[self.columns["tokens"]], row[self.columns["heads"]], labels if isinstance(labels, list) else None, where)
            ]
        names = [self.columns[role] for role in ("tree", "second") if role in self.columns]
        place = f"{where}, " if where else ""
        return [parse_tree(row[name], f"{place}column {name!r}", self.settings.penn) for name in names]

    def _target(self, row: Mapping[str, Any], trees: Sequence[ReadTree], where: str = "") -> str | None:
        """The label of the row: that of its own column, or of the root."""
        value = row.get(self.columns["label"]) if "label" in self.columns else None
        if value is None or value == "" or isinstance(value, list):
            return None if self.pairs else trees[0].labels[trees[0].parent.index(-1)]
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    def _shaped(self, tree: ReadTree) -> ReadTree:
        """The tree itself, or another one over its words."""
        if self.settings.shape == "given":
            return tree
        words = [(word, label) for word, label in zip(tree.words, tree.labels) if word is not None]
        over = (TreeStructure.balanced if self.settings.shape == "balanced" else TreeStructure.chain)([len(words)])
        return _in_order(over, words, tree.labels[tree.parent.index(-1)])

    def _expected(self) -> str:
        return f"a column {self.columns['label']!r}" if "label" in self.columns else "a label at the root of each tree"


class TreeMeter(Meter):
    """Accuracy at roots and at nodes, for sentiments without the neutral ones too, and by the number of words; a few trees."""

    SHOWN, LONGEST = 4, 25  # right ones and wrong ones; words of a tree that is drawn

    def __init__(self, task: Tree):
        super().__init__()
        self.task, self.names, self.pairs = task, [*task.labels.symbols, NEW], task.pairs
        self.roots, self.binary = Confusion(), Confusion()
        self.nodes = [0, 0]
        self.sizes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.shown: list[dict[str, Any]] = []

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        assert batch.targets is not None
        words = [int((symbols > 0).sum()) for symbols in batch.inputs["symbols"].split(batch.lengths.tolist())]
        gold = [self.names[n] for n in batch.targets.tolist()]
        self.roots.add(gold, [prediction["label"] for prediction in predictions])
        for true, prediction, size, example in zip(gold, predictions, words, batch.examples):
            self.sizes[size][0] += true == prediction["label"]
            self.sizes[size][1] += 1
            if size <= self.LONGEST and sum(shown["right"] == (true == prediction["label"]) for shown in self.shown) < self.SHOWN:
                labels = None if self.pairs else prediction["labels"]
                text = "\n".join(tree.drawn() for tree in self.task.decoded(example, labels))
                self.shown.append({"text": text, "gold": true, "predicted": prediction["label"], "right": true == prediction["label"]})
            if "positive" in prediction and true in SENTIMENT and true != "2":
                self.binary.add(["+" if true > "2" else "-"], ["+" if prediction["positive"] > 0.5 else "-"])
            if not self.pairs:
                for wanted, found in zip(example["labels"].tolist(), prediction["labels"]):
                    self.nodes[0] += wanted != -2 and self.names[wanted] == found
                    self.nodes[1] += wanted != -2

    def scores(self) -> dict[str, float]:
        if self.pairs:
            return {"accuracy": self.roots.accuracy, "macro_f1": self.roots.macro_f1}
        found = {"accuracy_root": self.roots.accuracy}
        if self.nodes[1] > self.roots.items:  # labels at other nodes than the roots
            found["accuracy_nodes"] = self.nodes[0] / self.nodes[1]
        if self.binary.items:
            found["accuracy_root_binary"] = self.binary.accuracy
        return found

    def by_size(self) -> dict[int, float]:
        """accuracy_by_size: of the rows with so many words, the share that is right."""
        return {size: right / count for size, (right, count) in sorted(self.sizes.items())}

    def figures(self) -> list[Figure]:
        by_size = self.by_size()
        points = {"x": list(by_size), "y": list(by_size.values()), "x_axis": "words", "y_axis": "accuracy"}
        return [confusion_figure(self.roots), Figure("points", "Accuracy by size", points), Figure("trees", "Trees", {"rows": self.shown})]


def _trees(values: Iterable[Any]) -> bool:
    """Are these all trees, one with more than one node at least?"""
    found = False
    for value in values:
        if not isinstance(value, str) or not value.strip():
            return False
        try:
            found |= len(parse_tree(value).parent) > 1
        except DataError:
            return False
    return found


def _in_order(over: TreeStructure, words: Sequence[tuple[str, str | None]], root: str | None) -> ReadTree:
    """A binary tree over words, numbered so that siblings stand in their order: each node after its children, left to right."""
    nodes = over.nodes
    children = over.in_slots(2)
    tree = ReadTree([], [], [], [])
    if nodes == 1:
        tree.node((), words[0][0], root if root is not None else words[0][1])
        return tree
    number: dict[int, int] = {}
    order = over.order.tolist()
    place = {node: position for position, node in enumerate(order)}
    todo = [place[int(over.roots[0])]]
    while todo:  # from the root down, right before left; read backwards it is children first, left to right
        at = todo.pop()
        number[at] = len(number)
        todo += [child for child in children[at].tolist() if child >= 0]
    made: dict[int, int] = {}
    for at in reversed(number):
        below = [made[child] for child in children[at].tolist() if child >= 0]
        word, label = (None, None) if below else words[order[at]]
        made[at] = tree.node(below, word, label)
    tree.labels[-1] = root
    return tree
