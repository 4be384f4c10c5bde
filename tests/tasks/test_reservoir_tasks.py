"""classify and regress by an echo state network, and the search for its settings."""

import json

import numpy as np
import pytest
import torch

import wavefront
from tasks.helpers import Rows, prepared, reloaded, scored
from wavefront.app import tuning
from wavefront.errors import SettingsError
from wavefront.tasks import Classify, Regress

SERIES = {"series": "series", "label": "text"}
NUMBER = {"series": "series", "target": "number"}
SMALL = {"kind": "esn", "units": 30, "parts": 2}


def waves(n=40, seed=0):
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        t = np.arange(draw.integers(20, 40)) / 4
        frequency = draw.uniform(0.5, 1.5)
        wave = np.sin(frequency * t) if i % 2 else (frequency * t) % 1
        rows.append(
            {"series": wave[:, None].astype(np.float32), "label": "sine" if i % 2 else "saw", "target": 100 + 50 * float(frequency)}
        )
    return rows


def solved(task, source):
    torch.manual_seed(0)
    network = task.network().eval()
    rows = list(source.rows("train"))
    task.solve(network, [task.collate([task.encode(row) for row in rows[k : k + 16]]) for k in range(0, len(rows), 16)])
    return network


def test_a_label_is_solved_for():
    source = Rows(SERIES, train=waves(), test=waves(40, seed=1))
    task = prepared(Classify, source, **SMALL, members=2)
    network = solved(task, source)
    metrics = scored(task, network, source.rows("test")).metrics()
    assert metrics["accuracy"] > 0.95
    assert metrics["loss"] < 0.3
    assert not [p for p in network.parameters() if p.requires_grad]
    again = reloaded(task)
    other = again.network().eval()
    other.load_state_dict(network.state_dict())
    batch = task.collate([task.encode(row) for row in source.rows("test")])
    assert again.predict(other, batch) == task.predict(network, batch)


def test_a_number_is_solved_for_in_its_own_unit():
    source = Rows(NUMBER, train=waves(60), test=waves(30, seed=1))
    task = prepared(Regress, source, **SMALL)
    metrics = scored(task, solved(task, source), source.rows("test")).metrics()
    assert metrics["rmse"] < 0.5 * np.std([row["target"] for row in source.rows("test")])


def test_symbols_are_refused():
    source = Rows({"text": "text", "label": "text"}, train=[{"text": "a b", "label": "x"}, {"text": "c", "label": "y"}])
    with pytest.raises(SettingsError, match="reads numeric series; text is text"):
        prepared(Classify, source, kind="esn")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "waves.jsonl"
    path.write_text("\n".join(json.dumps({"series": row["series"][:, 0].tolist(), "label": row["label"]}) for row in waves(60)) + "\n")
    return path


def test_a_run_is_solved_tuned_and_used(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "TRIALS", 3)
    run = wavefront.fit(file, out=tmp_path / "run", set=SMALL, tune=True)
    told = capsys.readouterr().err
    assert "1/3" in told
    assert "3/3" in told
    assert "best" in told
    assert run.metrics["test"]["accuracy"] > 0.8
    again = wavefront.load(tmp_path / "run")
    assert again.task.settings == run.task.settings
    assert again.task.settings.ridge is not None or again.task.settings.spectral_radius == 0.9  # the best, or what it began with
    rows = [row["series"][:, 0].tolist() for row in waves(4, seed=3)]
    assert again.predict(rows) == run.predict(rows)


def test_the_best_trial_is_kept_and_the_test_split_is_not_looked_at(file, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "TRIALS", 4)
    seen = []

    def score(task, folds, learning):
        seen.append(task.settings.leak)
        assert all(len(np.intersect1d(chosen, judged)) == 0 for _, chosen, _, judged in folds)
        meter = task.meter()
        meter.metrics = lambda: {"accuracy": -abs(task.settings.leak - 0.3), "loss": 0.0}
        return meter

    monkeypatch.setattr(tuning, "_score", score)
    run = wavefront.fit(file, out=tmp_path / "run", set=SMALL, tune=True, quiet=True)
    assert run.task.settings.leak == min(seen, key=lambda leak: abs(leak - 0.3))
    assert len(seen) == 4


def test_only_what_is_solved_is_tuned(file, tmp_path):
    with pytest.raises(SettingsError, match="kind"):
        wavefront.fit(file, out=tmp_path / "run", tune=True, quiet=True)
