"""watch: alarms as often as asked on what is normal, on what is not always; a stream says the same whole or step by step."""

import numpy as np
import pytest
import torch

from tasks.helpers import Rows, prepared
from wavefront.app.fitting import fit
from wavefront.app.run import load
from wavefront.data import open_source
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.watch import LEAD, Watch, rank


def stream(path, count=800, seed=0):
    random, t = np.random.default_rng(seed), np.arange(count)
    a, b = np.sin(t / 5), np.cos(t / 5)
    lines = [f"{x:.3f},{y:.3f}" for x, y in zip(a + 0.05 * random.normal(size=count), b + 0.05 * random.normal(size=count))]
    path.write_text("a,b\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch")
    settings = {"units": 8, "epochs": 3, "learning_rate": 0.02, "false_alarms": 0.02}
    return fit(stream(folder / "sensor.csv"), task="watch", out=folder / "run", set=settings, quiet=True)


def test_a_stream_is_judged_step_by_step_as_at_once(numbers):
    rows = [{"a": float(np.sin(t / 5)), "b": float(np.cos(t / 5))} for t in range(60)]
    model = load(numbers.folder)
    one_by_one = [prediction["score"] for _, prediction in model.predictions(rows, at_once=1)]
    at_once = [prediction["score"] for _, prediction in model.predictions(rows, at_once=60)]
    assert one_by_one == pytest.approx(at_once, abs=1e-4)
    assert [prediction["score"] for prediction in model.predict(rows)] == pytest.approx(one_by_one, abs=1e-4)  # a new stream begins anew


def test_what_was_never_seen_is_an_alarm_that_names_its_channel(numbers):
    rows = [{"a": float(np.sin(t / 5)), "b": float(np.cos(t / 5))} for t in range(80)]
    rows[60]["b"] = 9.0
    found = numbers.predict(rows)
    assert found[60]["alarm"]
    assert found[60]["channels"] == ["b"]
    assert not any(one["alarm"] for one in found[:LEAD])  # too early to tell
    assert sum(one["alarm"] for one in found[LEAD:60]) <= 3


def test_a_share_of_normal_steps_as_asked_is_an_alarm(numbers):
    assert numbers.metrics["valid"]["alarms"] == pytest.approx(0.02, abs=0.02)
    assert numbers.metrics["test"]["alarms"] <= 0.1


def test_the_state_of_a_stream_does_not_grow(numbers):
    model = load(numbers.folder)
    sizes = []
    for count in (3, 50):
        model.predict([{"a": 0.0, "b": 1.0}] * count)
        writing, was = model.task._state
        sizes.append([part.numel() for part in [*torch.utils._pytree.tree_leaves(writing), was] if isinstance(part, torch.Tensor)])
    assert sizes[0] == sizes[1]


def test_the_threshold_is_what_a_share_of_fresh_scores_exceeds():
    random = np.random.default_rng(0)
    above = [np.mean(random.normal(size=2000) > rank(random.normal(size=99), 0.1)) for _ in range(200)]
    assert np.mean(above) == pytest.approx(0.1, abs=0.01)


def test_lines_are_scored_each_by_itself_and_odd_positions_are_told():
    words = ["get", "put", "ok", "done"]
    rows = [{"line": [words[k % 4], words[(k + 1) % 4], words[(k + 2) % 4]]} for k in range(200)]
    source = Rows({"line": "symbols"}, train=rows, valid=rows[:40])
    task = prepared(Watch, source, {"input": "line"}, units=16)
    torch.manual_seed(0)
    network = task.network()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    batch = task.collate([task.encode(row) for row in rows])
    for _ in range(60):
        loss, items = task.loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert items == 800  # three symbols and the end of each
    network.eval()
    with torch.no_grad():
        task.calibrate(network, [task.collate([task.encode(row) for row in rows[:40]])])
    odd = [{"line": ["get", "put", "ok"]}, {"line": ["get", "get", "ok"]}, {"line": ["get", "never", "ok"]}, {"line": []}]
    found = [task.predict(network, task.collate([task.encode(row)]))[0] for row in odd]
    assert [one["alarm"] for one in found] == [False, True, True, True]
    assert 1 in found[1]["positions"]
    assert 1 in found[2]["positions"]
    together = task.predict(network, task.collate([task.encode(row) for row in odd]))
    assert [one["score"] for one in together] == pytest.approx([one["score"] for one in found], abs=1e-4)
    again = Watch.from_state(task.state())
    assert again.encode(odd[0])["symbols"].tolist() == task.encode(odd[0])["symbols"].tolist()


def test_shares_of_a_stream_are_cut_as_asked(tmp_path):
    source = open_source(stream(tmp_path / "a.csv"), test_share=0.5)
    task = prepared(Watch, source)
    steps = {split: sum(len(piece["values"]) - piece["lead"] for piece in task.rows(source, split)) for split in task.splits(source)}
    assert steps == {"train": 280, "valid": 120, "test": 400}


def test_what_cannot_be_watched(tmp_path):
    with pytest.raises(DataError, match="200 rows; a stream to learn what is normal from has at least 256"):
        fit(stream(tmp_path / "short.csv", 200), task="watch", out=tmp_path / "run", quiet=True)
    with pytest.raises(SettingsError, match="channels: 'c' is no column"):
        fit(stream(tmp_path / "a.csv", 400), task="watch", out=tmp_path / "run", set={"channels": ["c"]}, quiet=True)


def test_a_line_of_numbers_is_a_step(numbers, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"0.0 1.0\n0.2, 0.98\n")))
    assert len(load(numbers.folder).predict("-")) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"0.0\n")))
    with pytest.raises(DataError, match=r"line 1: expected 2 number\(s\), a, b; got '0.0'"):
        load(numbers.folder).predict("-")


def test_lines_of_a_log_are_as_normal_through_a_pipe_as_in_the_file(tmp_path):
    (tmp_path / "app.log").write_text("".join(f"open {k % 3}\nclose {k % 3}\n" for k in range(150)))
    model = fit(tmp_path / "app.log", task="watch", out=tmp_path / "run", set={"units": 8, "epochs": 6, "learning_rate": 0.02}, quiet=True)
    scored, _ = model.scores(tmp_path / "app.log")
    piped = [one for _, one in model.predictions(["open 1", "close 1", "open 2"])]
    rows = [one for _, one in model.predictions([{"text": "open 1\n"}, {"text": "close 1\r\n"}, {"text": "open 2"}])]
    assert [one["score"] for one in piped] == pytest.approx([one["score"] for one in rows])
    assert max(one["score"] for one in piped) < 2 * scored["nats_per_symbol"] + 0.1
