"""The task: which columns, how a row becomes nodes, what is learned, what is said."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.data import Labels, Vocabulary
from wavefront.data.trees import ReadTree, TreeText, from_heads, labelled, parse_tree
from wavefront.errors import DataError, SettingsError
from wavefront.networks.embedding import Symbols
from wavefront.networks.tree_reader import GivenTrees, LearnedTrees, TreePairs, TreeReader, TreeScores
from wavefront.structure import Tree as TreeStructure
from wavefront.tasks.inputs import about
from wavefront.tasks.task import Batch, Claim, Example, Figure, Prediction, Task, cell_maker, label_numbers, validated
from wavefront.tasks.tree.baseline import bag_of_words
from wavefront.tasks.tree.meter import NEW, SENTIMENT, TreeMeter
from wavefront.tasks.tree.settings import TreeSettings
from wavefront.tasks.tree.shapes import in_order, is_binary, over_words, sequence, with_parents, words_of
from wavefront.tasks.vectors import own_vectors

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Tree"]

SAMPLE = 200


class Tree(Task):
    """A label for each tree, for every node of a tree, or for two trees together.

    Rows hold a `tree`: text in brackets with labels (Penn), without, as JSON, or in Newick's notation; or `tokens` and their `heads`. The
    label is the root's own, or a `label` column; with a `second` tree it is of the pair. `size`, a column of whole numbers, is what
    accuracy_by_size goes by; the words of the tree, of two the longer one's, unless told.
    """

    name = "tree"
    roles = ("tree", "second", "tokens", "heads", "label", "size")
    Settings = TreeSettings
    settings: TreeSettings
    length_column = "symbols"
    larger_is_better = True

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.symbols, self.labels, self.arity = Vocabulary([]), Labels([]), 2
        self.count = 0

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
        rest = [name for name, kind in kinds.items() if kind in ("text", "number") and name not in (first, second, columns.get("size"))]
        label = columns.get("label") or next((name for name in rest if name.lower() == "label"), rest[0] if rest else None)
        found = {"tree": first} | ({"second": second} if second else {}) | ({"label": label} if label else {})
        found |= {"size": columns["size"]} if "size" in columns else {}
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
        if s.brackets and not self._sequential:
            raise SettingsError(
                "network.brackets=true reads brackets as words of a sequence: it needs network.shape=chain and a cell with one slot,"
                " such as network.cell=lstm."
            )
        arity = 1
        for number, row in enumerate(source.rows("train"), 1):
            where = f"{source.path}, row {number} of train"
            trees = self._read(row, where)
            target = self._target(row, trees, where)
            if target is None:
                raise DataError(f"{where}: no label. Every row to learn from needs one: {self._expected()}.")
            labels[target] += 1
            self.count += 1
            for tree in trees:
                words.update(word for word in (self._shaped(tree) if s.brackets else tree).words if word is not None)
                if not self.pairs and s.labels == "nodes":
                    labels.update(label for label in tree.labels if label is not None)
                arity = max(arity, *np.bincount(np.array(tree.parent) + 1)[1:], 1)
                if s.shape == "learned" and s.merges == "score" and not is_binary(tree):
                    raise DataError(
                        f"{where}: network.merges=score learns from binary trees with words at the leaves, this is none."
                        " network.merges=gumbel learns from the labels alone."
                    )
        if not self.count:
            raise DataError(f"{source.path}: there is no tree in train.")
        self.symbols, self.labels = Vocabulary.of(words, max_size=s.largest_vocabulary), Labels.of(labels)
        if s.classes is not None:
            self.labels = Labels(sorted(s.classes), [labels[name] for name in sorted(s.classes)])
            for split in source.splits:
                self._check_labels(source, split)
        self.arity = 2 if s.shape != "given" else int(arity)
        self._check_slots(s.cell)
        self.settings = s.model_copy(
            update={
                "cell": s.cell or ("treelstm" if self.arity <= 2 else "childsumtreelstm"),
                "tensor": s.cell == "rntn" if s.tensor is None else s.tensor,
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
            "batch_size": 25 if self.count < 20_000 else 64,
            "epochs": max(5, min(60 if self.pairs else 40, -(-trees // max(1, self.count)))),
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
            "count": self.count,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Tree:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.symbols, task.labels = Vocabulary.from_json(state["symbols"]), Labels(**state["labels"])
        task.arity, task.count = state["arity"], state["count"]
        return task

    def encode(self, row: Mapping[str, Any]) -> Example:
        """symbols, parent, labels [nodes], of both trees one after the other; the size; and the target."""
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
        example = {"symbols": symbols, "parent": parent, "labels": labels, "size": np.int64(self._size(row, trees))}
        return example if target is None else example | {"target": label_numbers(self.labels, [target]).reshape(())}

    def decoded(self, example: Example, prediction: Prediction | None = None) -> list[ReadTree]:
        """The trees of an example, with symbols for its words and its own labels, or as a prediction says that they are."""
        names = [*self.labels.symbols, None, NEW]  # -2 is no label, -1 a new one
        words = [None if n == 0 else self.symbols.decode([n])[0] for n in example["symbols"].tolist()]
        labels = [names[n] for n in example["labels"].tolist()]
        parent = example["parent"].tolist()
        starts = [0, parent.index(-1) + 1, len(parent)] if self.pairs else [0, len(parent)]  # the root of a written tree is its last node
        trees = [
            ReadTree([p - a if p >= 0 else -1 for p in parent[a:b]], words[a:b], labels[a:b], [None] * (b - a)) for a, b in pairwise(starts)
        ]
        return trees if prediction is None else _as_said(trees, prediction)

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
        cell = self._cell(s.cell or "treelstm", s.word_size or 1, s.units or 1)
        down = None if s.down is None else cell_maker(s.down)(cell.outputs, s.units or 1)
        if down is not None and s.shape == "learned":
            raise SettingsError("network.down goes back over trees that are given: network.shape is given, balanced or chain.")
        trees = LearnedTrees(cell, s.merges) if s.shape == "learned" else GivenTrees(cell, down)
        if self.pairs:
            return TreePairs(reader, trees, len(self.labels), s.compare, s.dropout or 0.0, bool(s.tensor), s.shared)
        return TreeReader(reader, trees, len(self.labels), s.dropout or 0.0)

    def solve(self, network: nn.Module, batches: Iterable[Batch]) -> None:
        """With vectors=own, where the vectors of symbols start."""
        if self.settings.vectors == "own":
            table: Tensor = network.reader.table.weight  # type: ignore[union-attr, assignment]
            vectors = own_vectors(self._sentences(batches), *table.shape)
            table[vectors.any(1)] = vectors[vectors.any(1)].to(table)

    def criterion(self, network: nn.Module, outputs: TreeScores, batch: Batch) -> tuple[Tensor, int]:  # type: ignore[override]
        """Cross-entropy at each root, or at each node with a label; labels never seen are left out. And the loss of the trees themselves."""
        if batch.targets is None:
            raise DataError(f"the rows have no label: nothing to learn from or to score against. Expected: {self._expected()}.")
        scores, wanted = outputs.roots, batch.targets
        if self.settings.labels == "nodes" and outputs.nodes is not None and outputs.found is None:
            scores, wanted = outputs.nodes, torch.from_numpy(np.concatenate([example["labels"] for example in batch.examples])).to(wanted)
            wanted[batch.inputs["parent"] < 0] = batch.targets
        items = int((wanted >= 0).sum())
        loss = F.cross_entropy(scores, wanted.clamp(min=-1), ignore_index=-1, reduction="sum") / max(1, items)
        if outputs.loss is not None:
            loss = loss + (1.0 if self.settings.shape == "learned" else self.settings.reconstruction) * outputs.loss
        return loss, items

    def decode(self, network: nn.Module, outputs: TreeScores, batch: Batch) -> list[Prediction]:  # type: ignore[override]
        """The label and its probability; of one tree also `labels`, of its nodes in their order; of trees that were found their `parent`s,
        each node after its children, left to right.
        """
        names = self.labels.symbols
        at_root = outputs.roots.softmax(-1)
        found: list[Prediction] = [
            {"label": names[n], "probability": round(p, 6)} for p, n in zip(*(best.tolist() for best in at_root.max(-1)))
        ]
        of_nodes = [] if outputs.nodes is None else outputs.nodes.argmax(-1).tolist()
        if outputs.found is not None:
            trees = list(in_order(outputs.found))
            each = 2 if self.pairs else 1
            for k, prediction in enumerate(found):
                prediction["parent"] = [parent for _, parent in trees[each * k : each * (k + 1)]]
                if not self.pairs:
                    prediction["parent"], prediction["labels"] = trees[k][1], [names[of_nodes[node]] for node in trees[k][0]]
        elif not self.pairs:
            first = 0
            for prediction, count in zip(found, batch.lengths.tolist()):
                prediction["labels"] = [names[n] for n in of_nodes[first : first + count]]
                first += count
        if not self.pairs and names == SENTIMENT:
            for prediction, p in zip(found, at_root):
                prediction["positive"] = round(float(p[3:].sum() / (p[3:].sum() + p[:2].sum())), 6)
        return found

    def meter(self) -> TreeMeter:
        return TreeMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The label, and the tree in brackets with a label at each node; or the two trees."""
        return "\t".join([prediction["label"], *(tree.bracketed() for tree in self._said(row, prediction))])

    def drawn(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        """The trees with the labels of their nodes, a node a line."""
        return "\n".join([*([prediction["label"]] if self.pairs else []), *(tree.drawn() for tree in self._said(row, prediction))])

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The most frequent label, always; and a bag of words."""
        wanted = [int(example["target"]) for example in test]
        if not wanted:
            return {}
        most = np.bincount([max(0, int(example["target"])) for example in train], minlength=len(self.labels)).argmax()
        guesses = {
            "most frequent label": [int(most)] * len(wanted),
            "bag of words": bag_of_words(train, test, len(self.symbols), len(self.labels), self.pairs),
        }
        return {name: {self.metric: sum(a == b for a, b in zip(guess, wanted)) / len(wanted)} for name, guess in guesses.items() if guess}

    def _said(self, row: Mapping[str, Any], prediction: Prediction) -> list[ReadTree]:
        """The trees of a row as a prediction says that they are."""
        return _as_said([self._shaped(tree) for tree in self._read(row)], prediction)

    def _sentences(self, batches: Iterable[Batch]) -> Iterable[np.ndarray]:
        """The symbols of each tree, left to right."""
        for batch in batches:
            for example in batch.examples:
                roots = np.flatnonzero(example["parent"] < 0)
                yield from (symbols[symbols > 0] for symbols in np.split(example["symbols"], roots[:-1] + 1))

    def _cell(self, name: str, inputs: int, units: int) -> Cell[Any]:
        kind: Any = cell_maker(name)
        several = {"slots": self.arity} if "slots" in inspect.signature(kind).parameters else {}
        return kind(inputs, units, **several)

    def _check_slots(self, name: str | None) -> None:
        """A cell that cannot be over these trees is refused before anything is made."""
        if name is None:
            return
        slots = self._cell(name, 4, 4).slots
        needed = 1 if self.settings.shape == "chain" else self.arity
        if (isinstance(slots, int) and slots < needed) or (self.settings.shape == "learned" and slots != 2):
            fitting = (
                "treelstm, treernn, rntn, mvrnn" if needed == 2 else "treelstm, treernn, or, for any number, childsumtreelstm, treegru"
            )
            raise SettingsError(
                f"network.cell={name} takes {slots} before it; nodes of network.shape={self.settings.shape} have {needed}. Cells for them: {fitting}."
            )

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

    def _check_labels(self, source: Source, split: str) -> None:
        """Every label is one of the classes that were named."""
        for number, row in enumerate(source.rows(split), 1):
            trees = self._read(row)
            target = self._target(row, trees)
            said = [] if self.pairs else [label for tree in trees for label in tree.labels if label is not None]
            for label in [*said, *([] if target is None else [target])]:
                if label not in self.labels:
                    text, place = row.get(self.columns.get("tree", "")), f"{source.path}, row {number} of {split}"
                    if isinstance(text, TreeText):
                        found = re.search(rf"\(\s*({re.escape(label)})(?=[\s()])", text)
                        place = text.place(found.start(1) if found else None)
                    raise DataError(f"{place}: the label {label!r} is none of network.classes: {', '.join(self.labels.symbols)}.")

    def _size(self, row: Mapping[str, Any], trees: Sequence[ReadTree]) -> int:
        """What accuracy_by_size goes by."""
        if "size" not in self.columns:
            return max(len(words_of(tree)) for tree in trees)
        value = row.get(self.columns["size"])
        try:
            return int(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise DataError(f"column {self.columns['size']!r}: a size is a whole number, got {value!r}.") from None

    @cached_property
    def _sequential(self) -> bool:
        """Whether a chain is the sequence itself: of a cell with two slots it is a tree."""
        return self.settings.shape == "chain" and self._cell(self.settings.cell or "treelstm", 4, 4).slots in (1, "any")

    def _shaped(self, tree: ReadTree) -> ReadTree:
        """The tree itself, or another one over its words. Trees that will be found are read as their words, or, to learn from, as they are."""
        s = self.settings
        if s.shape == "given" or (s.shape == "learned" and s.merges == "score" and is_binary(tree)):
            return tree
        if s.shape == "learned" or self._sequential:
            return sequence(tree, s.brackets)
        return over_words((TreeStructure.balanced if s.shape == "balanced" else TreeStructure.chain)([len(words_of(tree))]), tree)

    def _expected(self) -> str:
        return f"a column {self.columns['label']!r}" if "label" in self.columns else "a label at the root of each tree"


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


def _as_said(trees: Sequence[ReadTree], prediction: Prediction) -> list[ReadTree]:
    """Trees with the labels of a prediction at their nodes, over the parents that it found."""
    if "parent" in prediction:
        found = prediction["parent"] if len(trees) > 1 else [prediction["parent"]]
        trees = [with_parents(tree, parent) for tree, parent in zip(trees, found)]
    if len(trees) > 1:
        return [*trees]
    return [trees[0]._replace(labels=prediction["labels"])] if "labels" in prediction else [*trees]
