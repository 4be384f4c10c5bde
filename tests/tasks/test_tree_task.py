"""tree: labels at roots, at nodes and of pairs; what is learned, what is counted, what is refused."""

import random
import sys

import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront import Recurrent
from wavefront.app.cli import main
from wavefront.app.fitting import fit
from wavefront.data import open_source
from wavefront.data.trees import parse_tree
from wavefront.errors import DataError, SettingsError
from wavefront.structure import Tree as TreeStructure
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


def test_a_sequence_has_brackets_where_asked_for():
    rows = [
        {"first": "( ( not a ) ( or b ) )", "second": "a", "label": "<"},
        {"first": "( not ( a ( or b ) ) )", "second": "b", "label": "#"},
    ]
    data, columns = source(rows, first="text", second="text", label="text"), {"tree": "first", "second": "second", "label": "label"}
    task = prepared(Tree, data, columns, shape="chain", cell="lstm", brackets=True, units=4)
    for row in rows:
        example = task.encode(row)
        read = " ".join(task.symbols.decode(example["symbols"].tolist()))
        assert read == f"{row['first']} {row['second']}"
        count = len(row["first"].split())
        assert example["parent"].tolist() == [*range(1, count), -1, -1]
    with pytest.raises(SettingsError, match=r"it needs network\.shape=chain and a cell with one slot"):
        prepared(Tree, data, columns, brackets=True)


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
    tree = {"parent": [2, 2, -1], "words": ["a", "<unknown>", None], "labels": ["0", "1", "1"], "gold": [None] * 3}
    assert drawn == [{"trees": [tree], "gold": "0", "predicted": "1", "right": False}]


def test_two_trees_of_an_example_come_back():
    kinds = dict.fromkeys(("relation", "left", "right"), "text")
    rows = [{"relation": "=", "left": "( a ( b c ) )", "right": "a"}]
    task = prepared(Tree, source(rows, **kinds), {"tree": "left", "second": "right", "label": "relation"}, units=4)
    assert [tree.bracketed() for tree in task.decoded(task.encode(rows[0]))] == ["(a (b c))", "a"]
    assert task.row_text(rows[0], {"label": "="}) == "=\t(a (b c))\ta"
    assert task.drawn(rows[0], {"label": "="}) == "=\n·\n├─ a\n└─ ·\n   ├─ b\n   └─ c\na"


def test_from_files_to_trees_that_are_drawn_in_the_terminal_and_in_the_report(tmp_path, capsys):
    for split, count, seed in (("train", 40, 0), ("test", 10, 1)):
        (tmp_path / f"{split}.txt").write_text("\n".join(row["tree"] for row in formulas(count, 3, seed)) + "\n")
    run = fit(tmp_path, task="tree", out=tmp_path / "run", epochs=1, quiet=True, set={"network.units": 8})
    assert {"accuracy_root", "accuracy_nodes", "accuracy_by_size", "loss", "examples"} == set(run.metrics["test"])
    assert set(run.metrics["baselines"]) == {"most frequent label", "bag of words"}
    assert 'class="branch"' in (tmp_path / "run/report.html").read_text()
    capsys.readouterr()
    for arguments, lines in (([], 1), (["--explain"], 5)):
        sys.argv = ["wavefront", "predict", str(tmp_path / "run"), str(tmp_path / "one.txt"), *arguments]
        (tmp_path / "one.txt").write_text("(1 (1 t) (1 (- or) (0 f)))\n")
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) == lines


@pytest.mark.parametrize("cell", ["lstm", "childsumtreelstm"])
def test_a_chain_of_cells_with_one_slot_is_the_sequence_itself(cell):
    task = prepared(Tree, source(formulas(20, 3, 0)), shape="chain", cell=cell, units=6, word_size=5, dropout=0.0)
    tree = "(1 (0 f) (1 (- or) (1 t)))"
    example = task.encode({"tree": tree})
    assert (example["parent"].tolist(), [task.symbols.decode([n])[0] for n in example["symbols"]]) == ([1, 2, -1], ["f", "or", "t"])
    network = task.network().eval()
    outputs, _ = Recurrent(network.trees.recursive.cell)(network.reader(torch.from_numpy(example["symbols"])[None]))
    torch.testing.assert_close(network(**task.collate([example]).inputs).nodes, network.V(outputs[0]), rtol=1e-5, atol=1e-6)


def short_list(generator, depth):
    """[MAX 1 [MIN 0 2 ] ], in brackets: an operation, its values one after the other, and an end."""
    if depth == 0 or generator.random() < 0.4:
        value = generator.randrange(3)
        return value, str(value)
    which, values = generator.choice([("[MIN", min), ("[MAX", max)]), []
    text = which[0]
    for _ in range(2):
        value, part = short_list(generator, depth - 1)
        values.append(value)
        text = f"( {text} {part} )"
    return which[1](values), f"( {text} ] )"


@pytest.mark.learning
def test_trees_are_found_as_they_were_taught_and_what_they_mean_with_them():
    generator = random.Random(0)
    kinds, columns = dict.fromkeys(("tree", "label"), "text"), {"tree": "tree", "label": "label"}
    rows = [{"tree": text, "label": str(value)} for value, text in (short_list(generator, 3) for _ in range(500)) if "(" in text]
    data = source(rows[100:], **kinds)
    task = prepared(Tree, data, columns, shape="learned", units=24, word_size=8, dropout=0.0)
    network = trained(task, data, epochs=9, rate=0.01)
    unseen = [row | {"tree": "( " + row["tree"].replace("(", "").replace(")", "") + " )"} for row in rows[:100]]  # words alone
    meter = scored(task, network, unseen)
    assert meter.metrics()["accuracy_root"] > 0.9
    predictions = task.predict(network, task.collate([task.encode(row) for row in unseen]))
    found = [task._said(row, prediction)[0]._replace(labels=[None] * 999).bracketed() for row, prediction in zip(unseen, predictions)]
    right = [parse_tree(row["tree"])._replace(labels=[None] * 999).bracketed() for row in rows[:100]]
    assert sum(a == b for a, b in zip(found, right)) > 90


@pytest.mark.parametrize("merges", ["score", "gumbel"])
@pytest.mark.parametrize("pair", [False, True])
def test_trees_that_are_found_are_drawn(merges, pair):
    columns = {"tree": "a", "label": "label"} | ({"second": "b"} if pair else {})
    rows = [{"a": "( ( x y ) z )", "b": "( z x )", "label": "u"}, {"a": "( z ( x y ) )", "b": "z", "label": "v"}]
    data = source(rows, **dict.fromkeys(("a", "b", "label"), "text"))
    task = prepared(Tree, data, columns, shape="learned", merges=merges, units=4)
    network = task.network()
    batch = task.collate([task.encode(row) for row in rows])
    loss, items = task.loss(network, batch)
    loss.backward()
    assert items == 2
    assert all(p.grad is not None for p in network.parameters())
    predictions = task.predict(network.eval(), batch)
    alone = [task.predict(network, task.collate([task.encode(row)]))[0] for row in rows]
    assert [p["parent"] for p in alone] == [p["parent"] for p in predictions]
    for row, prediction in zip(rows, predictions):
        written = task.row_text(row, prediction).split("\t")
        assert [parse_tree(text, penn=not pair).words.count("z") for text in written[1:]] == ([1, 1] if pair else [1])
        assert written[0] == prediction["label"]
    meter = task.meter()
    meter.add(batch, predictions, 0.0, 2)
    assert [sum(len(tree["parent"]) for tree in shown["trees"]) for shown in meter.shown] == ([8, 6] if pair else [5, 5])
    assert all(tree["gold"] is None for shown in meter.shown for tree in shown["trees"])  # the true labels are of other nodes


def test_merges_by_score_need_binary_trees_to_learn_from():
    with pytest.raises(
        DataError, match=r"row 1 of train: network.merges=score learns from binary trees.*gumbel learns from the labels alone"
    ):
        prepared(Tree, source([{"tree": "(1 (0 a) (0 b) (0 c))"}]), shape="learned")
    with pytest.raises(SettingsError, match=r"network.cell=lstm takes 1 before it; nodes of network.shape=given have 2. Cells .*treelstm"):
        prepared(Tree, source([{"tree": "(1 (0 a) (0 b))"}]), cell="lstm")


def test_back_down_each_node_hears_of_the_whole_tree():
    task = prepared(Tree, source(formulas(20, 3, 0)), down="gru", units=6, word_size=5, dropout=0.0)
    network = task.network().double().eval()
    tree = "(1 (0 f) (1 (- or) (1 t)))"
    outputs = [network(**task.collate([task.encode({"tree": t})]).inputs).nodes for t in (tree, tree.replace("t)", "f)"))]
    assert ((outputs[0] - outputs[1]).abs().sum(1) > 0).all()  # without the way down the first word would not hear of the last


def test_what_an_autoencoder_cannot_tell_is_a_loss_of_its_own():
    rows = formulas(20, 3, 0)
    losses = []
    for weight in (0.0, 1.0, 2.0):
        task = prepared(Tree, source(rows), cell="recursiveautoencoder", units=6, reconstruction=weight, dropout=0.0)
        torch.manual_seed(0)
        network = task.network().eval()
        loss, _ = task.loss(network, task.collate([task.encode(row) for row in rows]))
        losses.append(loss.item())
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)
    assert losses[1] > losses[0]


def test_own_vectors_are_where_words_start():
    rows = [{"tree": f"(1 (0 {a}) (1 (0 b) (1 {c})))"} for a in ("cat", "dog") for c in ("x", "y", "z")] * 3
    task = prepared(Tree, source(rows), vectors="own", word_size=3, units=4)
    network = task.network()
    with torch.no_grad():
        task.solve(network, [task.collate([task.encode(row) for row in rows])])
    cat, dog, b = (network.reader.table.weight[task.symbols.encode([word])[0]] for word in ("cat", "dog", "b"))
    assert cat @ dog > 0.99 > 0.5 > cat @ b
    assert float(cat.detach().norm()) == pytest.approx(1)


def test_sizes_may_be_a_column_and_large_ones_are_put_together():
    kinds, columns = {"tree": "text", "size": "number"}, {"tree": "tree", "size": "size"}
    data = source([{"tree": "(1 (0 a) (1 b))", "size": 3.0}], **kinds)
    assert Tree.claim(data, {"size": "size"}).columns == columns
    task = prepared(Tree, data, columns, units=4)
    meter = task.meter()
    for size in (3, 16, 17, 32, 33):
        batch = task.collate([task.encode({"tree": "(1 (0 a) (1 b))", "size": size})])
        meter.add(batch, [{"label": "1", "probability": 1.0, "labels": ["0", "1", "1" if size < 20 else "0"]}], 0.0, 1)
    assert meter.metrics()["accuracy_by_size"] == {"3": 1.0, "16": 1.0, "17-32": 1.0, "33-64": 1.0}
    with pytest.raises(DataError, match="column 'size': a size is a whole number, got 'x'"):
        task.encode({"tree": "(1 (0 a) (1 b))", "size": "x"})


def test_a_bag_of_words_tells_what_words_tell_and_no_more():
    words = [{"tree": f"({int('good' in text)} (0 {text}) (0 {other}))"} for text in ("good", "bad") for other in "abcdef"] * 4
    task = prepared(Tree, source(words), units=4)
    examples = [task.encode(row) for row in words]
    assert task.baselines(examples, examples)["bag of words"]["accuracy_root"] == 1.0
    order = [{"a": f"( {a} {b} )", "b": "x", "label": str(int(a < b))} for a in "abcd" for b in "abcd" if a != b] * 4
    kinds = dict.fromkeys(("a", "b", "label"), "text")
    pairs = prepared(Tree, source(order, **kinds), {"tree": "a", "second": "b", "label": "label"}, units=4)
    examples = [pairs.encode(row) for row in order]
    assert pairs.baselines(examples, examples)["bag of words"]["accuracy"] <= 0.75
    overlap = [{"a": f"( {a} {b} )", "b": c, "label": str(int(c in (a, b)))} for a in "abcd" for b in "abcd" for c in "abcd"] * 9
    examples = [pairs.encode(row) for row in overlap]
    assert pairs.baselines(examples, examples)["bag of words"]["accuracy"] == 1.0  # which words are in both is seen


def test_a_label_outside_of_the_classes_is_named_with_line_and_column(tmp_path):
    (tmp_path / "train.txt").write_text("(1 (0 a) (1 b))\n(0 (0 a) (0 b))\n" * 5)
    (tmp_path / "test.txt").write_text("(1 (0 a) (1 b))\n\n  (0 (0 a) (7 b))\n")
    with pytest.raises(DataError, match=r"test.txt, line 3, column 13: the label '7' is none of network.classes: 0, 1, 2"):
        prepared(Tree, open_source(tmp_path), {"tree": "tree"}, classes=("0", "1", "2"))
    (tmp_path / "test.txt").write_text("(1 (0 a) (1 b))\n")
    assert prepared(Tree, open_source(tmp_path), {"tree": "tree"}, classes=("2", "0", "1")).labels.symbols == ("0", "1", "2")


def test_words_that_stand_in_both_trees_say_so():
    rows = [{"a": "( x ( y new ) )", "b": "( y z )", "label": "u"}, {"a": "( z y )", "b": "( new x )", "label": "v"}]
    data = source([{"a": "( x y )", "b": "z", "label": label} for label in "uv"], **dict.fromkeys(("a", "b", "label"), "text"))
    task = prepared(Tree, data, {"tree": "a", "second": "b", "label": "label"}, shared=True, units=4)
    network = task.network().eval()
    batch = task.collate([task.encode(row) for row in rows])
    symbols, parent = batch.inputs["symbols"], batch.inputs["parent"]
    added = network.inputs(symbols, TreeStructure(parent)) - network.reader(symbols)
    y, shared = task.symbols.encode(["y"])[0], network.shared.detach()
    first = torch.arange(len(symbols)) < len(batch.examples[0]["symbols"])
    torch.testing.assert_close(added.detach(), ((symbols == y) & first)[:, None] * shared)  # the unknown word is not known to be the same
