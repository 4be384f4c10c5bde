"""From a text file to a text: what is written, what is carried over, what is refused."""

import json
import os
import signal

import pytest
import torch
from typer.testing import CliRunner

from wavefront.app.cli import app
from wavefront.app.fitting import fit
from wavefront.app.run import load
from wavefront.data import open_source
from wavefront.errors import DataError, RunError, SettingsError
from wavefront.learning import Interrupted

SMALL = {"units": 12, "symbol_size": 8, "steps": 20, "batch_size": 4}
TEXT = "".join(f"line {k}: the cat sat on the mat{' today' * (k % 3)}\n\n" for k in range(60))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def written(book, tmp_path_factory):
    return fit(book, out=tmp_path_factory.mktemp("runs") / "book", set=SMALL, epochs=3, quiet=True)


def command(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


# What a run of a text is


def test_a_text_is_claimed_and_its_end_is_held_out(written, book):
    assert written.task.name == "language"
    assert written.metrics["rows"] == {"train": 103, "valid": 6, "test": 11}
    test = written.score(book, "test")
    assert test["nats_per_symbol"] == pytest.approx(written.metrics["test"]["nats_per_symbol"], rel=1e-5)
    assert set(written.metrics["baselines"]) == {"1-gram, Kneser-Ney", "2-gram, Kneser-Ney", "6-gram, Kneser-Ney"}
    report = (written.folder / "report.html").read_text()
    assert "What the loss is made of" in report
    assert "What the network writes" in report


def test_a_text_whose_lines_look_like_a_table_is_a_text_if_that_is_asked_for(tmp_path):
    (tmp_path / "verse.txt").write_text("a rose is\nthat which is\n\n" * 40)
    run = fit(tmp_path / "verse.txt", task="language", out=tmp_path / "run", set={"unit": "words"}, dry_run=True, quiet=True)
    assert run.metrics["config"]["data"]["format"] == "text"
    assert run.task.units.symbols(range(2, 4)) == ["\n", "is"]


def test_lines_are_scored_alone(written):
    found = written.predict(["line 3: the cat", "qqq"])
    assert found[0]["nats_per_symbol"] < found[1]["nats_per_symbol"]
    assert found[1]["unknown"] == 3
    assert [shown["symbol"] for shown in found[1]["surprising"]] == ["<unknown>"] * 3
    done = command("score", written.folder, "-", "--each", stdin="line 3: the cat\n")
    assert done.stdout == f"{found[0]['log_prob']:.4f}\tline 3: the cat\n"


@pytest.mark.parametrize("step", [7, 30])
def test_a_stream_that_is_stopped_and_resumed_is_uninterrupted(book, tmp_path, at_step, step):
    """Its state goes through the checkpoint: to the bit, in mid-epoch too."""
    settings = {**SMALL, "dropout": 0.3, "average": 0.9}
    whole = fit(book, out=tmp_path / "whole", set=settings, epochs=2, quiet=True)
    at_step(step, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(book, out=tmp_path / "parts", set=settings, epochs=2, quiet=True)
    at_step(0, lambda: None)
    parts = fit(book, out=tmp_path / "parts", resume=True, quiet=True)
    assert parts.metrics["steps"] == whole.metrics["steps"] > step
    same, other = whole.network.state_dict(), parts.network.state_dict()
    assert all(torch.equal(same[name], other[name]) for name in same)
    assert parts.metrics["test"] == whole.metrics["test"]


# What is written


def test_the_same_seed_writes_the_same(written):
    first, second = (command("generate", written.folder, "--length", 40, "--seed", 5) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    assert len(first.stdout.rstrip("\n")) <= 40
    assert command("generate", written.folder, "--length", 40, "--seed", 6).stdout != first.stdout
    assert "".join(written.generate(length=40, seed=5)) == first.stdout.removesuffix("\n") or first.stdout.endswith("\n")


def test_what_training_never_saw_in_a_prompt_is_said_and_read(written):
    done = command("generate", written.folder, "--prompt", "the Ω", "--length", 5, "--temperature", 0)
    assert done.exit_code == 0
    assert "never seen in training" in done.stderr
    assert "'Ω'" in done.stderr
    assert len(done.stdout) >= 5


def test_a_prompt_may_be_longer_than_anything_trained(written):
    done = command("generate", written.folder, "--prompt", "-", "--length", 3, "--json", stdin="the cat " * 5000)
    assert done.exit_code == 0
    assert len(done.stdout) > 40_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "song.mid"], "for a run of music"),
        (["--top-p", 0], "top_p is in (0, 1]"),
    ],
)
def test_what_cannot_be_written_is_said(written, options, message):
    done = command("generate", written.folder, *options)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_music_is_written_as_midi_too_where_there_is_a_folder_for_it(tmp_path):
    (tmp_path / "songs.json").write_text(json.dumps({"train": [[[60, 64], [60], []] * 4] * 12, "test": [[[60], []] * 4]}))
    run = fit(tmp_path / "songs.json", out=tmp_path / "run", set={"units": 8}, epochs=1, quiet=True)
    done = command("generate", run.folder, "--length", 5, "--out", tmp_path / "song.mid")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 5
    assert (tmp_path / "song.mid").read_bytes().startswith(b"MThd")
    lost = command("generate", run.folder, "--out", tmp_path / "nowhere" / "song.mid")
    assert lost.exit_code == 2
    assert not lost.stdout, "nothing is written before that is known"
    assert "there is no folder" in lost.stderr


def test_a_run_of_another_task_writes_nothing(finished):
    done = command("generate", finished.folder)
    assert done.exit_code == 2
    assert "writes nothing of its own" in " ".join(done.stderr.split())


# From the weights of another run


def test_a_run_starts_from_another_with_the_symbols_that_both_have(written, tmp_path, capsys):
    (tmp_path / "other.txt").write_text(TEXT.replace("cat", "Dog").replace("mat", "rug"))
    run = fit(
        tmp_path / "other.txt", out=tmp_path / "run", set={**SMALL, "learning_rate": 1e-9, "average": 0}, epochs=1, start=written.folder
    )
    mine, theirs = (r.task.numbered()["reader.weight"] for r in (run, written))
    common = [symbol for symbol in mine if symbol in theirs]
    assert 5 < len(common) < len(mine)
    for name in ("reader.weight", "output.V.weight"):
        a, b = (r.network.state_dict()[name] for r in (run, load(written.folder)))
        assert torch.allclose(a[[mine.index(s) for s in common]], b[[theirs.index(s) for s in common]], atol=1e-5)
        assert not torch.allclose(a[mine.index("D")], b).__bool__()
    said = " ".join(capsys.readouterr().err.split())
    assert f"reader.weight: of {len(common)} of {len(mine)} symbols" in said
    same = {name: t for name, t in run.network.state_dict().items() if name.startswith("network.")}
    assert all(torch.allclose(t, written.network.state_dict()[name], atol=1e-5) for name, t in same.items())


def test_what_does_not_fit_is_said_and_nonsense_refused(written, book, finished, tmp_path, capsys):
    fit(book, out=tmp_path / "larger", set={**SMALL, "units": 13}, epochs=1, start=written.folder)
    assert "not taken: network.layers.0.cell" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SettingsError, match="of classify, this one is of language"):
        fit(book, out=tmp_path / "no", set=SMALL, epochs=1, start=finished.folder, quiet=True)
    with pytest.raises(SettingsError, match=r"nothing of .* fits"):
        fit(
            book,
            out=tmp_path / "no",
            set={**SMALL, "units": 13, "symbol_size": 9, "unit": "bytes"},
            epochs=1,
            start=written.folder,
            quiet=True,
        )
    with pytest.raises(RunError, match=r"task\.json"):
        fit(book, out=tmp_path / "no", set=SMALL, epochs=1, start=tmp_path, quiet=True)
    with pytest.raises(SettingsError, match="resumed has its own weights"):
        fit(book, out=tmp_path / "larger", resume=True, start=written.folder, quiet=True)


# Files from outside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no row|no symbol|no rows"),
        (b"good\nb\xff\xfed\n", "line 2: bytes that are not UTF-8"),
    ],
)
def test_a_bad_text_is_an_error_with_its_place(tmp_path, content, message):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        fit(tmp_path / "bad.txt", out=tmp_path / "run", set=SMALL, epochs=1, quiet=True)


def test_a_line_of_a_megabyte_is_read_in_pieces(tmp_path):
    text = "word " * 200_000 + "\nshort\n" + "x" * 10_000
    (tmp_path / "long.txt").write_text(text)
    source = open_source(tmp_path / "long.txt")
    rows = [row["text"] for row in source.rows()]
    assert "".join(rows) == text
    assert max(map(len, rows)) <= 4096
    assert all(row.endswith((" ", "\n")) for row in rows[:240]), "no word is cut"
    sizes = {split: sum(len(row["text"]) for row in source.rows(split)) for split in source.splits}
    assert sizes["test"] == pytest.approx(0.1 * len(text), abs=4096)
    assert sizes["valid"] == pytest.approx(0.05 * len(text), abs=4096)
