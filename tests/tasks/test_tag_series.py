"""tag over numeric series: a label for each step, from layers whose delays grow with the series' length."""

import json

import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.errors import DataError
from wavefront.tasks import Tag

KINDS = {"values": "series", "labels": "symbols"}


def series(n=24, steps=40, seed=0):
    """A step is high while the last marked value, some steps before, was."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(n):
        values, marks = torch.randn(steps, generator=draw), torch.rand(steps, generator=draw) < 0.15
        marks[0] = True
        last = torch.where(marks, torch.arange(steps), 0).cummax(0).values
        labels = ["high" if values[t] > 0 else "low" for t in last.tolist()]
        rows.append({"values": torch.stack([values, marks.float()], 1).tolist(), "labels": labels})
    return rows


@pytest.fixture(scope="module")
def source():
    return Rows(KINDS, train=series(), test=series(16, seed=1))


@pytest.mark.learning
def test_it_learns_what_a_step_alone_does_not_tell(source):
    task = prepared(Tag, source, units=12, channels=4, widths=(3, 7), dropout=0.0)
    assert task.settings.delays == (1, 4)
    network = trained(task, source, epochs=40, batch=8)
    scores = scored(task, network, source.rows("test")).scores()
    assert scores["accuracy"] > 0.8
    assert scored(reloaded(task), network, source.rows("test")).scores() == scores


def test_long_series_are_read_by_longer_delays():
    rows = Rows(KINDS, train=series(4, steps=300))
    task = prepared(Tag, rows)
    assert task.settings.delays == (1, 4, 16)
    network = task.network()
    assert [layer.ahead.skips for layer in network.encoder.layers] == [(1,), (4,), (16,)]
    assert [layer.back.skips for layer in network.encoder.layers] == [(1,), (4,), (16,)]
    assert prepared(Tag, rows, layers=2).settings.delays == (1, 4)
    assert task.input.shrink == 1  # every step has its label


def test_labels_are_shown_in_runs(source):
    task = prepared(Tag, source)
    row = {"values": [[0.0, 1.0]] * 4, "labels": ["low"] * 4}
    assert task.row_text(row, {"labels": ["low", "low", "high", "low"]}) == "0-1 low, 2 high, 3 low"
    baselines = task.baselines([task.encode(r) for r in source.rows("train")], [task.encode(r) for r in source.rows("test")])
    assert 0.4 < baselines["the most frequent label"]["accuracy"] < 0.6
    json.dumps(task.state())


def test_a_step_without_a_label_is_named():
    rows = series(3)
    rows[1]["labels"].pop()
    source = Rows(KINDS, train=rows)
    with pytest.raises(DataError, match="40 tokens have 39 labels"):
        prepared(Tag, source, {"tokens": "values", "labels": "labels"})
