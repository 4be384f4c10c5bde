"""tag: from rows to labels and spans, and what happens to rows that are not as they should be."""

from itertools import pairwise

import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.errors import DataError, SettingsError
from wavefront.tasks import Tag, choose

KINDS = {"tokens": "symbols", "tags": "symbols"}
SMALL = {"units": 16, "spelling": True, "word_size": 16, "letter_units": 8, "letter_size": 8, "dropout": 0.0}


def sentences(n=60, seed=0):
    """Numbers after "in" are years, after "for" they are not: a word alone does not tell."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(n):
        year = str(int(torch.randint(1900, 2000, (), generator=draw)))
        a, b = ("in", "B-year") if torch.rand((), generator=draw) < 0.5 else ("for", "O")
        before = ["we", "came"][: int(torch.randint(3, (), generator=draw))]
        rows.append({"tokens": [*before, a, year], "tags": ["O"] * len(before) + ["O", b]})
    return rows


@pytest.fixture(scope="module")
def source():
    return Rows(KINDS, train=sentences(), test=sentences(40, seed=1))


@pytest.fixture(scope="module")
def learned(source):
    task = prepared(Tag, source, **SMALL)
    return task, trained(task, source, epochs=25)


def test_it_learns_what_a_word_alone_does_not_tell(source, learned):
    task, network = learned
    scores = scored(task, network, source.rows("test")).metrics()
    assert task.metric == "span_f1"
    assert scores["span_f1"] > 0.95
    assert scores["accuracy"] > 0.95
    baselines = task.baselines([task.encode(row) for row in source.rows("train")], [task.encode(row) for row in source.rows("test")])
    assert set(baselines) == {"one word without context", "feed-forward, one weight per position"}
    assert baselines["one word without context"]["span_f1"] < 0.8 < scores["span_f1"]
    assert all(0 <= value <= 1 for metrics in baselines.values() for value in metrics.values())


def test_predictions_name_labels_and_spans_in_the_order_of_the_batch(source, learned):
    task, network = learned
    rows = [{"tokens": ["in", "1950"]}, {"tokens": ["we", "came", "for", "1950"]}, {"tokens": ["came", "in", "1921"]}]
    predictions = task.predict(network, task.collate([task.encode(row) for row in rows]))
    assert predictions == [
        {"labels": ["O", "B-year"], "spans": [{"start": 1, "end": 2, "label": "year"}]},
        {"labels": ["O", "O", "O", "O"], "spans": []},
        {"labels": ["O", "O", "B-year"], "spans": [{"start": 2, "end": 3, "label": "year"}]},
    ]
    assert task.row_text(rows[0], predictions[0]) == "in [year 1950]"


def test_batch_mates_do_not_matter(learned):
    task, network = learned
    network = network.double()
    rows = [{"tokens": ["in", "1950"]}, {"tokens": ["we"] * 9}, {"tokens": []}]
    examples = [task.encode(row) for row in rows]
    with torch.no_grad():
        together = network(**task.collate(examples).inputs)
        for i, example in enumerate(examples):
            n = len(rows[i]["tokens"])
            torch.testing.assert_close(together[i, :n], network(**task.collate([example]).inputs)[0, :n], rtol=1e-12, atol=1e-12)
    network.float()


def test_a_task_from_its_state_encodes_and_decodes_the_same(source, learned):
    task, network = learned
    again = reloaded(task)
    assert again.settings == task.settings
    assert again.metric == task.metric
    rows = list(source.rows("test"))
    batches = [t.collate([t.encode(row) for row in rows]) for t in (task, again)]
    assert all(torch.equal(batches[0].inputs[key], batches[1].inputs[key]) for key in batches[0].inputs)
    other = again.network()
    other.load_state_dict(network.state_dict())
    assert again.predict(other.eval(), batches[1]) == task.predict(network, batches[0])


@pytest.mark.parametrize("cell", ["gru", "elman", "lstm"])
def test_the_cell_is_a_setting(source, cell):
    task = prepared(Tag, source, cell=cell, letter_cell=cell, **SMALL)
    loss, _ = task.loss(task.network(), task.collate([task.encode(row) for row in source.rows("test")]))
    loss.backward()
    assert loss.isfinite()


def test_a_mistyped_cell_gets_the_nearest_that_there_is(source):
    with pytest.raises(SettingsError, match=r"network.cell = 'lstmm': there is no such cell. Did you mean 'lstm'\?"):
        prepared(Tag, source, cell="lstmm").network()


def test_settings_follow_from_labels():
    upos = Rows(KINDS, train=[{"tokens": ["a", "b"], "tags": ["NOUN", "VERB"]}])
    task = prepared(Tag, upos)
    assert (task.metric, task.settings.decoder, task.settings.spelling) == ("accuracy", "softmax", False)
    assert prepared(Tag, upos, decoder="crf").settings.decoder == "crf"
    assert None not in task.settings.model_dump().values()


def test_a_symbol_never_seen_is_unknown_and_does_not_stop(learned):
    task, network = learned
    batch = task.collate([task.encode({"tokens": ["zzz", "Ω" * 100, "1950"]})])
    assert batch.inputs["symbols"][0, :2].tolist() == [1, 1]
    assert batch.inputs["letters"].shape[1] == task.input.limit
    assert len(task.predict(network, batch)[0]["labels"]) == 3


def test_a_label_never_trained_on_is_left_out_of_the_loss_and_counts_as_wrong(learned):
    task, network = learned
    known = {"tokens": ["in", "1950"], "tags": ["O", "B-year"]}
    strange = {"tokens": ["in", "1950"], "tags": ["O", "B-era"]}
    assert scored(task, network, [known]).metrics()["accuracy"] == 1
    metrics = scored(task, network, [strange]).metrics()
    assert metrics["accuracy"] == 0.5
    assert metrics["span_f1"] == 0
    batch = task.collate([task.encode(strange)])
    loss, _ = task.loss(network, batch)
    assert loss == 0


def test_impossible_transitions_are_never_predicted(source):
    task = prepared(Tag, Rows(KINDS, train=[{"tokens": list("abc"), "tags": ["B-x", "I-x", "B-y"]}, {"tokens": ["d"], "tags": ["I-y"]}]))
    torch.manual_seed(0)
    network = task.network().eval()
    with torch.no_grad():
        network.V.weight.normal_(std=50)
    for prediction in task.predict(network, task.collate([task.encode({"tokens": list("abcdabdcabcd")}) for _ in range(5)])):
        labels = ["O", *prediction["labels"]]
        assert not any(b.startswith("I-") and a[2:] != b[2:] for a, b in pairwise(labels))


def test_one_class_only():
    rows = [{"tokens": ["a", "b"], "tags": ["O", "O"]}]
    task = prepared(Tag, Rows(KINDS, train=rows))
    network = task.network()
    loss, _ = task.loss(network, task.collate([task.encode(rows[0])]))
    loss.backward()
    assert loss == 0
    assert scored(task, network.eval(), rows).metrics() == {"loss": 0, "accuracy": 1}


def test_a_sequence_of_no_tokens_gives_no_labels_alone_or_among_others(learned):
    task, network = learned
    empty = task.encode({"tokens": [], "tags": []})
    assert task.predict(network, task.collate([empty])) == [{"labels": [], "spans": []}]
    assert task.predict(network, task.collate([empty, task.encode({"tokens": ["in", "1950"]})]))[0]["labels"] == []
    loss, items = task.loss(network, task.collate([empty]))
    assert (loss.item(), items) == (0, 0)


def test_rows_that_do_not_fit_say_so():
    task = prepared(Tag, Rows(KINDS, train=[{"tokens": ["a"], "tags": ["O"]}]))
    with pytest.raises(DataError, match="2 tokens have 1 labels; each needs one: a b"):
        task.encode({"tokens": ["a", "b"], "tags": ["O"]})
    with pytest.raises(DataError, match="row 1 of train: 1 tokens have 2 labels"):
        prepared(Tag, Rows(KINDS, train=[{"tokens": ["a"], "tags": ["O", "O"]}]), {"tokens": "tokens", "labels": "tags"})
    with pytest.raises(DataError, match="no position with a label in train"):
        prepared(Tag, Rows(KINDS, train=[]))
    with pytest.raises(DataError, match="memory, row 2 of train: no tags; every row to learn from needs them"):
        prepared(Tag, Rows(KINDS, train=[{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a"]}]), {"tokens": "tokens", "labels": "tags"})


def test_iob1_is_turned_to_iob2_and_iob2_is_left_alone():
    iob1 = [{"tokens": list("abcd"), "tags": ["I-x", "I-x", "B-x", "O"]}, {"tokens": list("ab"), "tags": ["I-y", "I-x"]}]
    task = prepared(Tag, Rows(KINDS, train=iob1))
    assert (task.scheme, task.metric) == ("IOB2", "span_f1")
    assert [task.labels.symbols[i] for i in task.encode(iob1[0])["labels"]] == ["B-x", "I-x", "B-x", "O"]
    assert reloaded(task).encode(iob1[1])["labels"].tolist() == task.encode(iob1[1])["labels"].tolist()
    iob2 = [{"tokens": list("abc"), "tags": ["B-x", "I-x", "O"]}, {"tokens": ["a"], "tags": ["I-x"]}]  # the last one is an error, and stays
    task = prepared(Tag, Rows(KINDS, train=iob2))
    assert [task.labels.symbols[i] for i in task.encode(iob2[1])["labels"]] == ["I-x"]


# text with labelled spans of characters

TEXT = {"text": "text", "spans": "spans"}


def letters(n=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(n):
        day, year = (int(torch.randint(low, high, (), generator=draw)) for low, high in ((1, 29), (1900, 2000)))
        text = f"born {day} May {year}, died."
        rows.append({"text": text, "spans": [{"start": 5, "end": text.index(","), "label": "date"}]})
    return rows


def test_spans_of_characters_come_back_as_spans_of_characters():
    source = Rows(TEXT, train=letters(), test=letters(10, seed=1))
    task, claim = choose(source)
    assert (task, claim.columns) == (Tag, {"text": "text", "spans": "spans"})
    task = prepared(Tag, source, **SMALL)
    assert task.settings.pieces == "words"
    network = trained(task, source, epochs=15)
    row = next(source.rows("test"))
    prediction = task.predict(network, task.collate([task.encode({"text": row["text"]})]))[0]
    assert prediction == {"spans": row["spans"]}
    assert task.row_text(row, prediction).endswith("(date)")
    meter = scored(task, network, source.rows("test"))
    assert meter.metrics()["span_f1"] == 1
    assert "accuracy" not in meter.metrics()
    assert [figure.kind for figure in meter.figures()] == ["bars", "table", "examples"]
    assert reloaded(task).encode(row)["gold"].tolist() == task.encode(row)["gold"].tolist()


def test_text_is_cut_into_characters_where_a_span_cuts_a_word():
    rows = [{"text": "unhappy dog", "spans": [{"start": 0, "end": 2, "label": "prefix"}]}]
    task = prepared(Tag, Rows(TEXT, train=rows))
    assert task.settings.pieces == "characters"
    batch = task.collate([task.encode(rows[0])])
    assert batch.lengths.tolist() == [11]
    assert [task.labels.symbols[i] for i in batch.targets[0, :4]] == ["B-prefix", "I-prefix", "O", "O"]


def test_a_gold_span_that_cuts_a_word_at_test_counts_as_it_is():
    rows = [{"text": "happy dog", "spans": [{"start": 0, "end": 5, "label": "x"}]}]
    task = prepared(Tag, Rows(TEXT, train=rows))
    example = task.encode({"text": "happy dog", "spans": [{"start": 0, "end": 3, "label": "x"}]})
    meter = task.meter()
    meter.count(task.collate([example]), [{"spans": [{"start": 0, "end": 5, "label": "x"}]}])
    assert meter.scores() == {"span_f1": 0}


@pytest.mark.parametrize(
    ("spans", "text"),
    [
        ([(0, 3), (2, 5)], "row 1 of train: two spans overlap at 2"),
        ([(0, 99)], "span 0..99 .* is not inside its text of 9 characters"),
        ([(4, 4)], "span 4..4"),
    ],
)
def test_spans_that_cannot_be_are_refused(spans, text):
    rows = [{"text": "happy dog", "spans": [{"start": start, "end": end, "label": "x"} for start, end in spans]}]
    with pytest.raises(DataError, match=text):
        prepared(Tag, Rows(TEXT, train=rows))


def test_a_text_without_any_span_and_an_empty_text():
    rows = [{"text": "happy dog", "spans": []}, {"text": "", "spans": []}]
    task = prepared(Tag, Rows(TEXT, train=rows))
    assert scored(task, task.network().eval(), rows).metrics()["span_f1"] == 1
