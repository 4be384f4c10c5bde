"""From a file to a folder: what is in it, what it remembers, what is refused."""

import json
import os
import shutil
import signal
import time
import tomllib

import pytest
import torch
from safetensors.torch import load_file

from app.small import SMALL, write_reviews
from wavefront.app.fitting import fit
from wavefront.app.folder import locked
from wavefront.app.run import load
from wavefront.errors import DataError, RunError, SettingsError, TrainingError
from wavefront.learning import Interrupted, read_log, write_whole
from wavefront.tasks import Classify

FILES = {"config.toml", "task.json", "model.safetensors", "metrics.jsonl", "metrics.json", "report.html", "checkpoints"}


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def evaluations(folder):
    return [event for event in read_log(folder / "metrics.jsonl") if event["event"] == "evaluation"]


# What a run leaves


def test_the_folder_is_complete_in_itself(finished, reviews, tmp_path):
    assert {path.name for path in finished.folder.iterdir()} == FILES
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished.folder, moved)
    texts = ["a lovely room", "the food was awful"]
    assert load(moved).predict(texts) == finished.predict(texts)
    metrics = json.loads((moved / "metrics.json").read_text())
    assert metrics["task"] == "classify"
    assert metrics["rows"] == {split: metrics[split]["examples"] for split in ("train", "valid", "test")}
    assert sum(metrics["rows"].values()) == 300
    assert metrics["parameters"] == sum(t.numel() for t in weights(moved).values())
    assert metrics["stopped"] == "epochs"
    assert metrics["seed"] == 0
    assert 0 < metrics["best_epoch"] <= 12
    assert set(metrics["test"]) >= {"loss", "accuracy", "macro_f1"}
    assert metrics["baselines"]["most frequent label"]["accuracy"] < 0.8


def test_it_has_learned(finished):
    assert finished.metrics["test"]["accuracy"] > 0.95
    assert [p["label"] for p in finished.predict(["we had a splendid room", "it was a poor and broken room"])] == ["good", "bad"]


def test_the_log_is_a_json_line_per_event(finished):
    events = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "end"
    evaluations = [e for e in events if e["event"] == "evaluation"]
    assert [e["epochs"] for e in evaluations] == list(range(1, 13))
    assert max(e["valid"]["accuracy"] for e in evaluations) == finished.metrics["valid"]["accuracy"]


def test_the_resolved_configuration_trains_the_same_run_again(finished, reviews, tmp_path):
    again = fit(reviews, out=tmp_path / "again", config=finished.folder / "config.toml", quiet=True)
    assert same(again.folder, finished.folder)
    assert (again.folder / "config.toml").read_text() == (finished.folder / "config.toml").read_text()


def test_flag_over_set_over_file_over_default(reviews, tmp_path):
    (tmp_path / "c.toml").write_text("[learning]\nepochs = 7\nbatch_size = 16\npatience = 5\n[network]\nunits = 8\n")
    fit(reviews, out=tmp_path / "r", config=tmp_path / "c.toml", set={"learning.epochs": 3, "batch_size": 50}, epochs=1, seed=4, quiet=True)
    config = tomllib.loads((tmp_path / "r" / "config.toml").read_text())
    assert (config["learning"]["epochs"], config["learning"]["batch_size"], config["learning"]["patience"]) == (1, 50, 5)
    assert (config["learning"]["seed"], config["network"]["units"], config["network"]["layers"]) == (4, 8, 1)
    assert config["task"] == "classify"
    assert config["columns"] == {"input": "text", "label": "label"}


def test_the_seed_decides(reviews, tmp_path):
    runs = [fit(reviews, out=tmp_path / str(k), set=SMALL, seed=seed, quiet=True).folder for k, seed in enumerate((1, 1, 2))]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_dry_run_prints_the_configuration_and_writes_nothing(reviews, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(reviews, set=SMALL, dry_run=True)
    out = capsys.readouterr()
    assert tomllib.loads(out.out)["network"]["units"] == 8
    assert "nothing was trained" in out.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_is_json_if_asked_and_tells_a_resumed_run_too(finished, reviews, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    fit(reviews, out=finished.folder, resume=True, epochs=30, dry_run=True, as_json=True)
    config = json.loads(capsys.readouterr().out)
    assert (config["learning"]["epochs"], config["network"]["units"]) == (30, 8)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before


def test_the_same_command_resumes_whatever_it_said_of_the_data(finished, reviews, tmp_path, capsys):
    shutil.copytree(finished.folder, tmp_path / "r")
    config = tmp_path / "r" / "config.toml"
    config.write_text(config.read_text().replace("[columns]", '[data.kinds]\ntext = "text"\n\n[columns]'))
    for said in ({"data.kinds.text": "text"}, {"data.kinds": {"text": "text"}}):
        fit(reviews, out=tmp_path / "r", resume=True, set=said)
        assert "is finished already" in capsys.readouterr().err


def test_the_end_may_be_a_time_everything_included(reviews, tmp_path):
    began = time.monotonic()
    run = fit(reviews, out=tmp_path / "r", minutes=0.12, set={"units": 8}, quiet=True)
    seconds = time.monotonic() - began
    assert 0.9 * 7.2 < seconds < 1.1 * 7.2
    assert run.metrics["stopped"] == "time"
    assert run.metrics["seconds"] == pytest.approx(seconds, abs=0.3)
    assert run.metrics["steps"] > 0
    assert run.metrics["valid"]["accuracy"] == max(e["valid"]["accuracy"] for e in evaluations(run.folder))
    assert (run.folder / "report.html").exists()


@pytest.mark.parametrize(("share", "there"), [(1000.0, True), (0.0, False)])
def test_the_scores_to_beat_have_their_share_of_the_time(tmp_path, monkeypatch, share, there):
    monkeypatch.setattr("wavefront.app.job.BASELINE_SHARE", share)
    lines = (f"{who} {does} {k}" for k in range(40) for who, does in (("dogs", "bark"), ("cats", "sleep"), ("birds", "sing")))
    sentences = ["\n".join(f"{word}\t{word[0].upper()}" for word in line.split()) for line in lines]
    (tmp_path / "pets.conll").write_text("\n\n".join(sentences) + "\n")
    run = fit(tmp_path / "pets.conll", out=tmp_path / "r", minutes=0.06, set={"units": 8}, quiet=True)
    assert run.task.name == "tag"
    assert run.metrics["stopped"] == "time"
    assert len(run.metrics.get("baselines", {})) == (2 if there else 0)


def test_train_and_test_files_without_validation_rows(tmp_path):
    (tmp_path / "data").mkdir()
    write_reviews(tmp_path / "data" / "train.csv", 60)
    write_reviews(tmp_path / "data" / "valid.csv", 20, seed=1)
    run = fit(tmp_path / "data", out=tmp_path / "r", set=SMALL, quiet=True)
    assert "test" not in run.metrics
    assert run.metrics["valid"]["examples"] == 20
    assert run.metrics["baselines_on"] == "valid"
    assert "on valid" in (run.folder / "report.html").read_text()


# Stopped and carried on


def test_ctrl_c_leaves_a_usable_model_and_resume_ends_as_if_nothing_had_been(reviews, tmp_path, at_step):
    whole = fit(reviews, out=tmp_path / "whole", set=SMALL, quiet=True)
    at_step(11, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match=r"at step 11; everything is saved.*\n.*--resume"):
        fit(reviews, out=tmp_path / "part", set=SMALL, quiet=True)
    stopped = load(tmp_path / "part")
    assert stopped.metrics["stopped"] == "interrupted"
    assert len(stopped.predict(["a lovely room"])) == 1
    assert "not scored" in stopped.summary()
    at_step(13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        fit(reviews, out=tmp_path / "part", resume=True, quiet=True)
    at_step(-1, None)
    resumed = fit(reviews, out=tmp_path / "part", resume=True, quiet=True)
    assert same(whole.folder, resumed.folder)
    unequal = {"seconds", "started"}
    assert {k: v for k, v in whole.metrics.items() if k not in unequal} == {k: v for k, v in resumed.metrics.items() if k not in unequal}


def test_killed_before_the_first_checkpoint_a_run_starts_anew(reviews, tmp_path, at_step):
    whole = fit(reviews, out=tmp_path / "whole", set=SMALL, quiet=True)

    def die():
        raise ZeroDivisionError

    at_step(4, die)
    with pytest.raises(ZeroDivisionError):
        fit(reviews, out=tmp_path / "part", set=SMALL, quiet=True)
    at_step(-1, None)
    with pytest.raises(RunError, match=r"no model yet.*--resume"):
        load(tmp_path / "part")
    assert same(fit(reviews, out=tmp_path / "part", resume=True, quiet=True).folder, whole.folder)


def test_a_finished_run_is_finished_and_more_epochs_carry_it_on(reviews, tmp_path, capsys):
    first = fit(reviews, out=tmp_path / "r", set=SMALL, quiet=True)
    assert fit(reviews, out=tmp_path / "r", resume=True).metrics == first.metrics
    assert "is finished already" in capsys.readouterr().err
    more = fit(reviews, out=tmp_path / "r", resume=True, epochs=4, quiet=True)
    assert (more.metrics["epochs"], more.metrics["steps"]) == (4, 2 * first.metrics["steps"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 9}, "learning.seed: the run has 0, now it is 9"),
        ({"set": {"units": 9}}, "network.units: the run has 8, now it is 9"),
        ({"set": {"batch_size": 9}}, "learning.batch_size"),
        ({"task": "tag"}, "task: the run has 'classify', now it is 'tag'"),
        ({"columns": {"label": "text"}}, "columns.label: the run has 'label', now it is 'text'"),
    ],
)
def test_resuming_another_network_is_refused_with_the_difference(finished, reviews, options, message):
    with pytest.raises(SettingsError, match=message):
        fit(reviews, out=finished.folder, resume=True, quiet=True, **options)


def test_resuming_with_other_data_is_refused(tmp_path, at_step):
    data = write_reviews(tmp_path / "d.csv")
    at_step(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(data, out=tmp_path / "r", set=SMALL, quiet=True)
    write_reviews(data, seed=1)
    with pytest.raises(RunError, match=r"started on other data, .*d.csv, or the file has changed"):
        fit(data, out=tmp_path / "r", resume=True, quiet=True)


def test_resume_takes_the_checkpoint_before_a_damaged_one(reviews, tmp_path, at_step, capsys):
    whole = fit(reviews, out=tmp_path / "whole", set=SMALL, quiet=True)
    at_step(11, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(reviews, out=tmp_path / "part", set={**SMALL, "checkpoint_seconds": 0.0}, quiet=True)
    newest = sorted((tmp_path / "part" / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    at_step(-1, None)
    resumed = fit(reviews, out=tmp_path / "part", resume=True, quiet=True)
    assert f"{newest} is damaged" in capsys.readouterr().err
    assert same(whole.folder, resumed.folder)


def test_nothing_to_resume(reviews, tmp_path):
    with pytest.raises(RunError, match="holds no run to resume"):
        fit(reviews, out=tmp_path / "none", resume=True)


# When training fails


def test_nan_leaves_the_best_weights_and_names_the_batch(reviews, tmp_path, monkeypatch):
    calls, original = [], Classify.loss

    def loss(self, network, batch):
        calls.append(len(batch))
        value, items = original(self, network, batch)
        return (value * float("nan") if len(calls) == 12 else value), items

    monkeypatch.setattr(Classify, "loss", loss)
    with pytest.raises(TrainingError, match=r"the loss is nan in batch \d+ of \d+ in epoch 2 \(training rows .* steps long\)") as error:
        fit(reviews, out=tmp_path / "r", set=SMALL, quiet=True)
    assert "learning.learning_rate" in str(error.value)
    run = load(tmp_path / "r")
    assert run.metrics["stopped"] == "failed"
    assert "the loss is nan" in run.summary()
    assert all(t.isfinite().all() for t in weights(run.folder).values())


def test_out_of_memory_says_what_to_lower(reviews, tmp_path, monkeypatch):
    def loss(self, network, batch):
        raise MemoryError

    monkeypatch.setattr(Classify, "loss", loss)
    with pytest.raises(TrainingError, match=r"memory ran out in batch 1 .*Lower learning\.batch_size \(now 32\)"):
        fit(reviews, out=tmp_path / "r", set={**SMALL, "batch_size": 32}, quiet=True)


# Folders


def test_a_run_is_not_overwritten_unless_asked(finished, reviews, tmp_path):
    with pytest.raises(RunError, match=r"holds a run already.*--resume.*--overwrite.*--out"):
        fit(reviews, out=finished.folder, quiet=True)
    shutil.copytree(finished.folder, tmp_path / "r")
    run = fit(reviews, out=tmp_path / "r", overwrite=True, set=SMALL, quiet=True)
    assert not same(run.folder, finished.folder)
    assert {path.name for path in run.folder.iterdir()} == FILES


def test_a_folder_with_anything_else_is_left_alone_even_when_asked(reviews, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds what is not of a run \(thesis\.tex\)"):
        fit(reviews, out=tmp_path, overwrite=True, quiet=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_that_cannot_be_written(reviews, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        fit(reviews, out=tmp_path / "file", quiet=True)
    with pytest.raises(RunError, match=r"cannot write to .*Not a directory.*--out"):
        fit(reviews, out=tmp_path / "file" / "below", quiet=True)


def test_two_do_not_train_in_one_folder(finished, reviews, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "r")
    with locked(tmp_path / "r"), pytest.raises(RunError, match="another process is training"):
        fit(reviews, out=tmp_path / "r", resume=True, epochs=20, quiet=True)
    for name in ("config.toml", "report.html"):
        assert (tmp_path / "r" / name).read_bytes() == (finished.folder / name).read_bytes()


def test_a_folder_stays_locked_from_its_first_lost_file_to_the_end(finished, reviews, tmp_path, monkeypatch):
    """A second --overwrite does not come in between emptying and training."""
    seen = []

    def second(path, text):
        if path.name == "config.toml" and not seen:
            seen.append([*(tmp_path / "r").iterdir()])
            with pytest.raises(RunError, match="another process is training"):
                fit(reviews, out=tmp_path / "r", overwrite=True, set=SMALL, quiet=True)
        write_whole(path, text)

    shutil.copytree(finished.folder, tmp_path / "r")
    monkeypatch.setattr("wavefront.app.fitting.write_whole", second)
    fit(reviews, out=tmp_path / "r", overwrite=True, set=SMALL, epochs=1, quiet=True)
    assert seen == [[tmp_path / "r" / "work"]]
    assert {path.name for path in (tmp_path / "r").iterdir()} == FILES


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unitss": 3}, "there is no setting 'unitss'. Did you mean 'units'"),
        ({"learning.learnin_rate": 3}, "Did you mean 'learning.learning_rate'"),
        ({"lerning.epochs": 3}, "there is no 'lerning' .* Did you mean 'learning'"),
        ({"learning_rate": -1}, r"learning\.learning_rate = -1: input should be greater than 0"),
        ({"epochs": "many"}, r"learning\.epochs = 'many'"),
        ({"network.decoder": "crf"}, r"network\.decoder"),
        ({"network.cell": "os.system"}, "there is no such cell"),
        ({"data.kinds.text": "words"}, "words"),
        ({"task": "os.system"}, "there is no task 'os.system'"),
        ({"columns.label": "kind"}, "the data has no such column"),
    ],
)
def test_settings_that_cannot_be(reviews, tmp_path, settings, message):
    with pytest.raises((SettingsError, DataError), match=message):
        fit(reviews, out=tmp_path / "r", set=settings, quiet=True)
    assert not (tmp_path / "r").exists()


def test_a_configuration_that_is_no_toml_or_names_code(reviews, tmp_path):
    (tmp_path / "c.toml").write_text("learning = [")
    with pytest.raises(SettingsError, match="is not TOML"):
        fit(reviews, config=tmp_path / "c.toml", quiet=True)
    (tmp_path / "c.toml").write_text('_target_ = "os.system"\n')
    with pytest.raises(SettingsError, match="there is no setting '_target_'"):
        fit(reviews, config=tmp_path / "c.toml", quiet=True)
    with pytest.raises(SettingsError, match=r"cannot read the configuration .*No such file"):
        fit(reviews, config=tmp_path / "none.toml", quiet=True)
