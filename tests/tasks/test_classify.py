"""classify and regress: text, symbols and series; and what happens to rows that are not as they should be."""

import math

import numpy as np
import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.errors import DataError
from wavefront.tasks import Classify, Regress
from wavefront.tasks.inputs import SeriesInput

SERIES = {"series": "series", "label": "text"}
NUMBER = {"series": "series", "target": "number"}
SMALL = {"units": 8, "channels": 4, "widths": (3, 5), "dropout": 0.0, "noise": 0.0, "stretch": 0.0}


def waves(n=30, seed=0):
    """Sines against saw teeth, of different lengths and phases; the target is the frequency."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        t = np.arange(draw.integers(20, 60)) / 8
        frequency, phase = draw.uniform(0.5, 1.5), draw.uniform(0, 6)
        wave = np.sin(frequency * 3 * t + phase) if i % 2 else (frequency * t + phase) % 1
        rows.append({"series": wave[:, None].astype(np.float32), "label": "sine" if i % 2 else "saw", "target": float(frequency)})
    return rows


def test_series_of_different_lengths_are_learned():
    source = Rows(SERIES, train=waves(), test=waves(40, seed=1))
    task = prepared(Classify, source, **SMALL)
    network = trained(task, source, epochs=15)
    meter = scored(task, network, source.rows("test"))
    assert meter.metrics()["accuracy"] > 0.9
    assert meter.metrics()["macro_f1"] > 0.9
    baseline = task.baselines(map(task.encode, source.rows("train")), map(task.encode, source.rows("test")))
    assert baseline == {"most frequent label": {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}}
    assert [figure.kind for figure in meter.figures()] == ["confusion"]
    again = reloaded(task)
    other = again.network().eval()
    other.load_state_dict(network.state_dict())
    batches = [t.collate([t.encode(row) for row in source.rows("test")]) for t in (task, again)]
    assert again.predict(other, batches[1]) == task.predict(network, batches[0])


def test_a_number_is_learned_in_its_own_unit():
    rows = [{**row, "target": 1000 + 50 * row["target"]} for row in waves(60)]
    source = Rows(NUMBER, train=rows)
    task = prepared(Regress, source, {"input": "series", "target": "target"}, **SMALL)
    network = trained(task, source, epochs=25)
    metrics = scored(task, network, rows).metrics()
    baseline = task.baselines(map(task.encode, rows), map(task.encode, rows))["mean"]
    assert metrics["rmse"] < 0.5 * baseline["rmse"]
    assert metrics["mae"] <= metrics["rmse"]
    assert baseline["rmse"] == pytest.approx(np.std([row["target"] for row in rows]))
    again = reloaded(task)
    assert (again.mean, again.deviation) == (task.mean, task.deviation)
    batch = task.collate([task.encode(rows[0])])
    assert again.predict(network, batch) == task.predict(network, batch)


@pytest.mark.parametrize(
    ("texts", "pieces", "first"),
    [(["Nepal", "Oslo", "São Paulo"], "characters", "N"), (["I went to Nepal", "we stayed at home in Oslo"], "words", "I")],
)
def test_names_are_read_by_characters_and_sentences_by_words(texts, pieces, first):
    rows = [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]
    task = prepared(Classify, Rows({"text": "text", "label": "text"}, train=rows))
    assert task.settings.pieces == pieces
    assert task.input.text(task.encode(rows[0]))[0] == first
    loss, items = task.loss(task.network(), task.collate([task.encode(row) for row in rows]))
    assert loss.isfinite()
    assert items == len(rows)


def test_text_beyond_the_longest_is_not_read():
    rows = [{"tokens": ["a"] * 50 + ["b"], "label": "x"}]
    task = prepared(Classify, Rows({"tokens": "symbols", "label": "text"}, train=rows), longest=10)
    assert task.collate([task.encode(rows[0])]).lengths.tolist() == [10]
    assert reloaded(task).collate([reloaded(task).encode(rows[0])]).lengths.tolist() == [10]


@pytest.mark.parametrize("members", [1, 3])
def test_batch_mates_and_padding_do_not_matter(members):
    task = prepared(Classify, Rows(SERIES, train=waves(8)), members=members, strides=(2, 3), **SMALL)
    network = task.network().double().eval()
    examples = [task.encode(row) for row in [*waves(4), {"series": np.zeros((0, 1), np.float32)}]]

    def outputs(some):
        batch = task.collate(some)
        return network(lengths=batch.lengths, values=batch.inputs["values"].double())

    with torch.no_grad():
        together = outputs(examples)
        assert together.shape == (members, 5, 2)
        for i, example in enumerate(examples):
            torch.testing.assert_close(together[:, i], outputs([example])[:, 0], rtol=1e-12, atol=1e-12)


def test_in_training_padding_does_not_count_either():
    """Batch normalisation sees the positions that are there, and nothing else."""
    task = prepared(Classify, Rows(SERIES, train=waves(8)), **SMALL)
    network = task.network().double()
    batch = task.collate([task.encode(row) for row in waves(4)])
    values = batch.inputs["values"].double()
    longer = torch.cat([values, torch.full_like(values, 7.0)], 1)
    torch.testing.assert_close(
        network(lengths=batch.lengths, values=values), network(lengths=batch.lengths, values=longer), rtol=1e-10, atol=1e-10
    )


def test_members_differ_and_their_probabilities_are_averaged():
    task = prepared(Classify, Rows(SERIES, train=waves(8)), members=2, **SMALL)
    network = task.network().eval()
    batch = task.collate([task.encode(row) for row in waves(4)])
    with torch.no_grad():
        outputs = network(**batch.inputs)
    assert not torch.equal(outputs[0], outputs[1])
    mean = outputs.softmax(-1).mean(0)
    for row, prediction in enumerate(task.predict(network, batch)):
        assert prediction["probability"] == pytest.approx(mean[row].max().item(), abs=1e-6)


def test_a_label_never_trained_on_is_left_out_of_the_loss_and_counts_as_wrong():
    task = prepared(Classify, Rows(SERIES, train=waves(8)), **SMALL)
    network = task.network().eval()
    row = {"series": waves(1)[0]["series"], "label": "noise"}
    metrics = scored(task, network, [row, row]).metrics()
    assert (metrics["accuracy"], metrics["macro_f1"]) == (0, 0)
    loss, items = task.loss(network, task.collate([task.encode(row)]))
    assert (loss.item(), items) == (0, 0)


def test_one_class_only_and_a_constant_target():
    rows = [{"series": row["series"], "label": "same", "target": 7.0} for row in waves(6)]
    classify, regress = prepared(Classify, Rows(SERIES, train=rows), **SMALL), prepared(Regress, Rows(NUMBER, train=rows), **SMALL)
    assert scored(classify, classify.network().eval(), rows).metrics() == {"loss": 0, "accuracy": 1, "macro_f1": 1}
    network = trained(regress, Rows(NUMBER, train=rows), epochs=30)
    assert scored(regress, network, rows).metrics()["rmse"] < 0.5
    assert regress.deviation == 1


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (None, "row 2 of train: target is empty"),
        (math.nan, "row 2 of train: target is nan"),
        (math.inf, "memory, row 2 of train: target is inf"),
    ],
)
def test_a_target_that_is_none_or_not_finite_stops_with_its_row(target, text):
    rows = [{**waves(1)[0]}, {**waves(1)[0], "target": target}]
    with pytest.raises(DataError, match=text):
        prepared(Regress, Rows(NUMBER, train=rows), {"input": "series", "target": "target"})


def test_an_empty_label_stops_with_its_row():
    with pytest.raises(DataError, match="row 1 of train: label is empty"):
        prepared(Classify, Rows(SERIES, train=[{**waves(1)[0], "label": ""}]), {"input": "series", "label": "label"})


def test_infinite_values_and_other_numbers_of_channels_are_refused():
    task = prepared(Classify, Rows(SERIES, train=waves(4)), **SMALL)
    with pytest.raises(DataError, match=r"a series of \[2, 1\] has 1 infinite value"):
        task.encode({"series": np.array([[1.0], [np.inf]])})
    with pytest.raises(DataError, match=r"expected a series of \[T, 1\], as in training; got one of \[5, 2\]"):
        task.encode({"series": np.zeros((5, 2))})


def test_a_bad_training_series_is_named_by_its_row():
    rows = [*waves(2), {"series": np.zeros((5, 2)), "label": "saw"}]
    with pytest.raises(DataError, match=r"memory, row 3 of train: expected a series of \[T, 1\]"):
        prepared(Classify, Rows(SERIES, train=rows), **SMALL)


def test_missing_values_are_the_mean_and_told_to_the_network():
    rows = waves(6)
    rows[0]["series"][3:5] = np.nan
    task = prepared(Classify, Rows(SERIES, train=rows), **SMALL)
    values = task.collate([task.encode(rows[0])]).inputs["values"]
    assert values.shape[2] == 2
    assert values[0, 2:6].tolist() == [
        [pytest.approx(values[0, 2, 0].item()), 1],
        [0, 0],
        [0, 0],
        [pytest.approx(values[0, 5, 0].item()), 1],
    ]
    assert scored(task, task.network().eval(), rows).metrics()["loss"] > 0


def test_scales_that_differ_by_orders_of_magnitude_are_seen_beside_the_shape():
    rows = [{**row, "series": row["series"] * 10.0 ** (i % 6)} for i, row in enumerate(waves(12))]
    task = prepared(Classify, Rows(SERIES, train=rows), **SMALL)
    assert (task.settings.view, task.input.features) == ("both", 3)
    small, large = (task.encode({"series": waves(1)[0]["series"] * scale})["values"] for scale in (1, 1e5))
    np.testing.assert_allclose(small[:, 1], large[:, 1], rtol=1e-4)  # the shape is the same
    assert large[0, 2] > small[0, 2] + 1  # its size is not
    assert prepared(Classify, Rows(SERIES, train=waves(12)), **SMALL).settings.view == "train"


def test_training_series_have_mean_0_and_deviation_1_whatever_their_offset():
    column = SeriesInput("train")
    rows = [1e6 + 3 * row["series"].astype(np.float64) for row in waves(20)]
    for row in rows:
        column.see(row)
    column.settle()
    values = np.concatenate([column.encode(row)["values"] for row in rows]).astype(np.float64)
    assert abs(values.mean()) < 1e-5
    assert abs(values.std() - 1) < 1e-5


def test_a_series_of_a_million_steps_is_read_in_means():
    rows = [{"series": np.sin(np.arange(1_000_000, dtype=np.float32) / 1e5)[:, None] * k, "label": str(k)} for k in (1, 2)]
    task = prepared(Classify, Rows(SERIES, train=rows), **SMALL)
    example = task.encode(rows[1])
    assert task.length(example) <= SeriesInput.MOST
    first = rows[1]["series"][: task.input.shrink].astype(np.float64)
    expected = (first.mean() - task.input._values.mean) / task.input._values.deviation
    assert example["values"][0, 0] == pytest.approx(expected[0], rel=1e-5)
    loss, _ = task.loss(task.network(), task.collate([task.encode(row) for row in rows]))
    loss.backward()


def test_a_series_shorter_than_every_width_and_one_of_length_0():
    task = prepared(Classify, Rows(SERIES, train=waves(6)), **SMALL)
    network = task.network().eval()
    rows = [{"series": np.ones((n, 1), np.float32)} for n in (0, 1, 2)]
    assert len(task.predict(network, task.collate([task.encode(row) for row in rows]))) == 3
    assert len(task.predict(network, task.collate([task.encode(rows[0])]))) == 1


def test_an_empty_text_is_classified():
    rows = [{"text": "some words here", "label": "a"}, {"text": "", "label": "b"}]
    task = prepared(Classify, Rows({"text": "text", "label": "text"}, train=rows))
    network = task.network().eval()
    assert scored(task, network, rows).metrics()["loss"] > 0


def test_whole_numbers_are_labels_without_their_point():
    rows = [{"text": "a b c", "label": float(k)} for k in (0, 1)]
    task = prepared(Classify, Rows({"text": "text", "label": "number"}, train=rows))
    assert task.labels.symbols == ("0", "1")


def test_rows_without_a_target_are_predicted_and_cannot_be_scored():
    task = prepared(Regress, Rows(NUMBER, train=waves(6)), {"input": "series", "target": "target"}, **SMALL)
    network = task.network().eval()
    batch = task.collate([task.encode({"series": waves(1)[0]["series"]})])
    prediction = task.predict(network, batch)[0]
    assert task.row_text({"series": waves(1)[0]["series"]}, prediction).startswith(f"{prediction['value']:.6g}\tseries of")
    with pytest.raises(DataError, match="the rows have no target: nothing to learn from or to score against"):
        task.loss(network, batch)
