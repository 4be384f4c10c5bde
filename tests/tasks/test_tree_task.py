"""tree: labels at roots, at nodes and of pairs; what is learned, what is counted, what is refused."""

import random

import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.data import open_source
from wavefront.errors import DataError, SettingsError
from wavefront.tasks import Tree, choose


def logic(generator, depth):
    """A formula over t and f, in brackets with the value at each node: what no bag of words tells."""
    if depth == 0 or generator.random() < 0.2:
        value = generator.random() < 0.5
        return value, f"({int(value)} {'t' if value else 'f'})"
    if generator.random() < 0.3:
        value, text = logic(generator, depth - 1)
        return not value, f"({int(not value)} (- not) {text})"
    (a, left), (b, right) = (logic(generator, depth - 1) for _ in range(2))
    value = a and b if (which := generator.choice(["and", "or"])) == "and" else a or b
    return value, f"({int(value)} {left} (- {which} {right}))"


def formulas(count, depth, seed):
    generator = random.Random(seed)
    return [{"tree": logic(generator, depth)[1]} for _ in range(count)]


def source(rows, test=(), **columns):
    return Rows(columns or {"tree": "text"}, format="trees" if not columns else "tsv", train=rows, test=list(test))


def test_files_of_trees_are_claimed_and_others_are_asked_for(tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"(1 (0 a) (1 b{n}))\n(0 c{n})\n" for n in range(9)))
    task, claim = choose(open_source(tmp_path / "train.txt"))
    assert (task, claim.columns, claim.certain) == (Tree, {"tree": "tree"}, True)
    pairs = Rows(
        {"relation": "text", "a": "text", "b": "text"},
        train=[{"relation": "=", "a": "( not x )", "b": "y"}, {"relation": "#", "a": "x", "b": "( not y )"}],
    )
    assert choose(pairs, "tree")[1].columns == {"tree": "a", "second": "b", "label": "relation"}
    with pytest.raises(SettingsError, match="tree cannot tell its columns"):
        choose(Rows({"text": "text", "label": "text"}, train=[{"text": "no tree (at all", "label": "x"}]), "tree")


@pytest.mark.parametrize("cell", ["treelstm", "treernn", "rntn", "mvrnn", "childsumtreelstm", "treegru", "recursiveautoencoder"])
def test_every_cell_over_trees_may_be_named(cell):
    task = prepared(Tree, source(formulas(20, 3, 0)), cell=cell, units=6, word_size=5)
    network = task.network()
    batch = task.collate([task.encode(row) for row in formulas(5, 3, 1)])
    loss, items = task.loss(network, batch)
    loss.backward()
    assert items >= 5
    assert all(p.grad is not None for p in network.V.parameters())
    assert [set(p) for p in task.predict(network.eval(), batch)] == [{"label", "probability", "labels"}] * 5


def test_the_value_of_formulas_is_learned_and_holds_for_deeper_ones():
    task = prepared(Tree, source(formulas(150, 3, 0)), units=24, word_size=8, dropout=0.0)
    network = trained(task, source(formulas(150, 3, 0)), epochs=12, rate=0.02)
    metrics = scored(task, network, formulas(80, 5, 1)).metrics()
    assert metrics["accuracy_root"] > 0.97
    assert metrics["accuracy_nodes"] > 0.97
    assert (
        task.baselines([task.encode(r) for r in formulas(150, 3, 0)], [task.encode(r) for r in formulas(80, 5, 1)])["most frequent label"][
            "accuracy_root"
        ]
        < 0.7
    )


def test_pairs_are_learned_and_their_order_matters():
    def pair(generator):
        (a, left), (b, right) = (logic(generator, 2) for _ in range(2))
        plain = [text.replace("(0 ", "( ").replace("(1 ", "( ").replace("(- ", "( ").replace(")", " )") for text in (left, right)]
        return {"relation": "=" if a == b else "<" if a < b else ">", "left": plain[0], "right": plain[1]}

    generator = random.Random(0)
    rows = [pair(generator) for _ in range(200)]
    kinds = dict.fromkeys(("relation", "left", "right"), "text")
    columns = {"tree": "left", "second": "right", "label": "relation"}
    data = source(rows, **kinds)
    task = prepared(Tree, data, columns, units=24, word_size=8, dropout=0.0, compare=16)
    assert task.needed == ["left", "right"]
    network = trained(task, data, epochs=15, rate=0.02)
    meter = scored(task, network, [pair(generator) for _ in range(60)])
    assert meter.metrics()["accuracy"] > 0.9
    assert sum(count for _, count in meter.sizes.values()) == 60


def test_metrics_are_those_counted_by_hand():
    rows = [{"tree": "(4 (2 a) (3 b))"}, {"tree": "(2 (2 a) (0 b))"}, {"tree": "(0 (1 a) (9 b))"}, {"tree": "(3 c)"}]
    every = [{"tree": f"({n} (2 a) ({n} b))"} for n in range(5)]
    task = prepared(Tree, source(every), units=4)
    batch = task.collate([task.encode(row) for row in rows])

    def said(label, positive, *labels):
        return {"label": label, "probability": 1.0, "labels": [*labels], "positive": positive}

    found = [said("4", 0.9, "2", "2", "4"), said("2", 0.4, "2", "0", "2"), said("1", 0.2, "1", "3", "1"), said("1", 0.3, "1")]
    meter = task.meter()
    meter.add(batch, found, 0.5, 4)
    metrics = meter.metrics()
    assert metrics["loss"] == 0.5
    assert metrics["accuracy_root"] == 2 / 4
    assert metrics["accuracy_root_binary"] == 2 / 3  # without the neutral one
    assert metrics["accuracy_nodes"] == 6 / 10  # a label never trained on is wrong
    assert metrics["accuracy_by_size"] == {"1": 0.0, "2": 2 / 3}


def test_labels_never_seen_are_left_out_of_the_loss():
    task = prepared(Tree, source([{"tree": "(0 (0 a) (1 b))"}]), units=4, dropout=0.0)
    network = task.network().eval()
    one, other = (task.loss(network, task.collate([task.encode({"tree": text})])) for text in ("(0 (0 a) (7 b))", "(0 (0 a) (1 b))"))
    assert (one[1], other[1]) == (2, 3)


def test_learning_from_the_root_alone_and_from_a_label_column():
    rows = [{"expression": "( ( a b ) c )", "label": "x"}, {"expression": "( c b )", "label": "y"}]
    columns = {"tree": "expression", "label": "label"}
    task = prepared(Tree, source(rows, expression="text", label="text"), columns, units=4)
    _, items = task.loss(task.network(), task.collate([task.encode(row) for row in rows]))
    assert items == 2
    root = prepared(Tree, source([{"tree": "(0 (0 a) (1 b))"}, {"tree": "(1 (0 a) (1 b))"}]), labels="root", units=4)
    assert root.loss(root.network(), root.collate([root.encode({"tree": "(0 (0 a) (1 b))"})]))[1] == 1


def test_dependency_trees_have_a_word_and_a_label_at_each_node():
    rows = [{"tokens": ["the", "cat", "sleeps"], "head": ["2", "3", "0"], "upos": ["DET", "NOUN", "VERB"]}] * 2
    data = Rows(dict.fromkeys(("tokens", "head", "upos"), "symbols"), format="conllu", train=rows)
    claim = Tree.claim(data, {})
    assert not claim.certain
    task = prepared(Tree, data, claim.columns, units=4)
    assert task.labels.symbols == ("DET", "NOUN", "VERB")
    assert task.settings.cell == "treelstm"
    example = task.encode(rows[0])
    assert example["parent"].tolist() == [1, 2, -1]
    assert (example["symbols"] > 0).all()
    assert int(example["target"]) == 2


@pytest.mark.parametrize("shape", ["balanced", "chain"])
def test_other_trees_over_the_same_words(shape):
    task = prepared(Tree, source([{"tree": "(1 (0 a) (1 (0 b) (1 (0 c) (1 d))))"}, {"tree": "(0 a)"}]), shape=shape, units=4)
    example = task.encode({"tree": "(1 (0 a) (1 (0 b) (1 (0 c) (1 d))))"})
    words = [task.symbols.decode([n])[0] for n in example["symbols"] if n]
    assert words == ["a", "b", "c", "d"]
    assert example["parent"].tolist() == ([2, 2, 6, 5, 5, 6, -1] if shape == "balanced" else [2, 2, 4, 4, 6, 6, -1])
    assert example["labels"].tolist()[-1] == 1
    assert task.encode({"tree": "(0 a)"})["parent"].tolist() == [-1]


def test_saved_is_loaded_and_a_batch_is_one_at_a_time():
    rows = formulas(30, 4, 3)
    task = prepared(Tree, source(rows), units=8)
    torch.manual_seed(0)
    network = task.network().eval()
    again = reloaded(task)
    examples = [task.encode(row) for row in rows]
    together = task.predict(network, task.collate(examples))
    alone = [task.predict(network, again.collate([again.encode(row)]))[0] for row in rows]
    assert [p["labels"] for p in together] == [p["labels"] for p in alone]
    assert [p["probability"] for p in together] == pytest.approx([p["probability"] for p in alone], abs=2e-6)
    assert again.settings == task.settings


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            [{"tree": "(1 (0 a) (1 b))"}, {"tree": "(1 (0 a) (1 b)"}],
            "memory, row 2 of train, column 'tree', character 1: the tree that begins here is not closed",
        ),
        ([{"tree": "(1 (0 a) (1 b))"}, {"tree": "a"}], "memory, row 2 of train: no label"),
        ([], "there is no tree in train"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_named(rows, text):
    with pytest.raises(DataError, match=text):
        prepared(Tree, source(rows), {"tree": "tree"})


def test_predictions_are_written_in_brackets_and_drawn_with_the_label_at_each_node():
    task = prepared(Tree, source([{"tree": "(1 (0 a) (1 b))"}]), units=4)
    row, prediction = {"tree": "(a b)"}, {"label": "1", "probability": 1.0, "labels": ["0", "1", "1"]}
    task.settings.penn = False
    assert task.row_text(row, prediction) == "1\t(1 (0 a) (1 b))"
    assert task.drawn(row, prediction) == "1\n├─ 0 a\n└─ 1 b"
    meter = task.meter()
    meter.add(
        task.collate([task.encode(row | {"tree": "(a c)"}) | {"target": task.encode({"tree": "a"})["labels"][0] * 0}]), [prediction], 0.0, 1
    )
    drawn = next(figure for figure in task.figures(meter) if figure.kind == "trees").data["rows"]
    assert drawn == [{"text": "1\n├─ 0 a\n└─ 1 <unknown>", "gold": "0", "predicted": "1", "right": False}]


def test_two_trees_of_an_example_come_back():
    kinds = dict.fromkeys(("relation", "left", "right"), "text")
    rows = [{"relation": "=", "left": "( a ( b c ) )", "right": "a"}]
    task = prepared(Tree, source(rows, **kinds), {"tree": "left", "second": "right", "label": "relation"}, units=4)
    assert [tree.bracketed() for tree in task.decoded(task.encode(rows[0]))] == ["(a (b c))", "a"]
    assert task.row_text(rows[0], {"label": "="}) == "=\t(a (b c))\ta"
