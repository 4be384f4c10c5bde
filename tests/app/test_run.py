"""A run that was trained: predictions, scores, and what is refused of a folder from outside."""

import json
import pickle
import shutil

import pytest

from app.small import write_reviews
from wavefront.app.run import load
from wavefront.errors import DataError, RunError, TrainingError


def test_inputs_of_all_kinds_give_the_same_in_their_order(finished, tmp_path):
    texts = [f"the {word} room" for word in ("lovely", "awful", "warm", "dull")] * 40
    expected = finished.predict(texts)
    assert [p["label"] for p in expected[:4]] == ["good", "bad", "good", "bad"]
    assert len(expected) == 160
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "b.csv").write_text("text\n" + "\n".join(texts))
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"text": text, "label": "unseen"}) for text in texts))
    for source in (tmp_path / "a.txt", str(tmp_path / "b.csv"), tmp_path / "c.jsonl", [{"text": text} for text in texts]):
        assert [p["label"] for p in finished.predict(source)] == [p["label"] for p in expected]
    one_by_one = [finished.predict([text])[0] for text in texts[:4]]
    for alone, together in zip(one_by_one, expected):
        assert alone["label"] == together["label"]


def test_predictions_are_json(finished):
    json.dumps(finished.predict(["a warm room"]), allow_nan=False)


def test_an_input_without_what_is_needed(finished):
    with pytest.raises(DataError, match="input 1: 'text' is missing"):
        finished.predict([{"title": "x"}])


def test_scores_are_those_of_the_run_on_its_own_data_and_of_all_rows_elsewhere(finished, reviews, tmp_path):
    for name, value in finished.score(reviews).items():
        assert value == pytest.approx(finished.metrics["test"][name], rel=1e-5)
    assert finished.score(reviews, split="valid")["accuracy"] == finished.metrics["valid"]["accuracy"]
    other = write_reviews(tmp_path / "other.csv", 50, seed=7)
    metrics, split = finished.scores(other)
    assert (metrics["examples"], split) == (50, "all")
    assert metrics["accuracy"] > 0.9


def test_a_label_that_training_never_saw_counts_as_wrong(finished, tmp_path):
    other = write_reviews(tmp_path / "other.csv", 50, seed=7, labels=("good", "horrible"))
    assert 0.2 < finished.score(other)["accuracy"] < 0.8


def test_rows_without_the_target_cannot_be_scored(finished, tmp_path):
    (tmp_path / "x.csv").write_text("text\nfine\n")
    with pytest.raises(DataError, match="has no column 'label'"):
        finished.score(tmp_path / "x.csv")


def test_what_a_run_says_of_itself(finished, capsys):
    finished.show()
    said = capsys.readouterr().out
    for part in (
        "reviews.csv",
        "classify: label from text",
        "units 8",
        "12 epochs",
        "accuracy",
        "train",
        "valid",
        "test",
        "most frequent label",
    ):
        assert part in said
    assert repr(finished).startswith(f"Run({str(finished.folder)!r}: classify on ")


# A folder from outside


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is no folder: a run folder holds"):
        load(tmp_path / "none")
    with pytest.raises(RunError, match=r"has no task\.json"):
        load(tmp_path)


def test_weights_that_are_a_pickle_or_of_another_run(copied):
    (copied / "model.safetensors").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(RunError, match="is a pickle"):
        load(copied)
    (copied / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="is not a whole safetensors file"):
        load(copied)


@pytest.mark.parametrize("damage", ["", "[1, 2]", '{"format": 1, "task": "classify", "state": {}, "data": {}}', "{"])
def test_a_damaged_state(copied, damage):
    (copied / "task.json").write_text(damage)
    with pytest.raises(RunError, match=r"task\.json.*(damaged|cannot be read)"):
        load(copied)


def test_another_format_or_a_task_that_names_code(copied):
    about = json.loads((copied / "task.json").read_text())
    (copied / "task.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(RunError, match="has format 99, this Wavefront reads 1"):
        load(copied)
    (copied / "task.json").write_text(json.dumps({**about, "task": "os.system"}))
    with pytest.raises(RunError, match=r"is of the task 'os.system'"):
        load(copied)


def test_memory_that_runs_out_at_use_says_what_to_do(finished, reviews, monkeypatch):
    def greedy(*arguments):
        raise MemoryError

    monkeypatch.setattr(finished.task, "predict", greedy)
    with pytest.raises(TrainingError, match="memory ran out in a prediction for 1 rows at once"):
        finished.predict(["a lovely room"])
    monkeypatch.setattr(finished.task, "assess", greedy)
    with pytest.raises(TrainingError, match="memory ran out in the scoring of rows 1 to "):
        finished.score(reviews)
