"""The command line as a person and as a script meet it."""

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys

import pytest

from app.small import SMALL, write_reviews

ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "WAVEFRONT_DEBUG")}, "OMP_NUM_THREADS": "1"}
WAVEFRONT = [sys.executable, "-m", "wavefront"]
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def wavefront(*arguments, cwd=None, stdin="", environment=ENVIRONMENT, **options):
    return subprocess.run(
        [*WAVEFRONT, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, **options
    )


def command(*arguments):
    """Without a process of its own: (exit code), output through capsys."""
    from wavefront.app.cli import app

    try:
        app([str(argument) for argument in arguments], prog_name="wavefront")
    except SystemExit as left:
        return left.code
    return 0


def test_help_is_there_at_once_and_imports_nothing_heavy():
    seconds = []  # of the processor: what else the machine does is not ours
    for _ in range(3):
        began = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        done = wavefront("--help")
        seconds.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - began)
        assert done.returncode == 0
        assert "wavefront fit years" in done.stdout
    assert min(seconds) < 0.5
    heavy = "import sys, wavefront.app.cli; print([m for m in ('torch', 'numpy', 'duckdb', 'pydantic', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_command_has_help_with_an_example(capsys):
    for name in ("fit", "predict", "score"):
        assert command(name, "--help") == 0
        assert f"wavefront {name} " in capsys.readouterr().out.split("Examples:")[1]


def test_explain_says_what_runs_a_cell_and_a_run(finished, capsys):
    assert command("explain", "gru", "--units", 32) == 0
    assert "cells.GRU(inputs=64): compiled" in capsys.readouterr().out
    assert command("explain", finished.folder) == 0
    assert "carried" in capsys.readouterr().out
    assert command("explain", "gruu") == 2
    assert "Did you mean 'gru'?" in capsys.readouterr().err


def test_fit_predict_score_show(reviews, tmp_path, capsys, monkeypatch):
    """The whole of it, in a folder of one's own: data on standard output, everything else on standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_bytes(reviews.read_bytes())
    assert command("fit", "mine.csv", *SETTINGS, "--epochs", 12, "--set", "learning_rate=0.02", "--json") == 0
    out, err = capsys.readouterr()
    metrics = json.loads(out)
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["learning"]["epochs"] == 12
    for told in ("classify: ", "to beat, on test", "valid loss", "runs/mine/report.html"):
        assert told in err

    (tmp_path / "new.txt").write_text("a lovely room\n\nthe food was awful\n")
    assert command("predict", "runs/mine", "new.txt") == 0
    out, err = capsys.readouterr()
    assert [("good" in line, "bad" in line) for line in out.splitlines()] == [(True, False), (False, False), (False, True)]
    assert err == ""
    assert command("predict", "runs/mine", "new.txt", "--json") == 0
    assert [json.loads(line).get("label") for line in capsys.readouterr().out.splitlines()] == ["good", None, "bad"]

    assert command("score", "runs/mine", "mine.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["examples"] == metrics["test"]["examples"]
    assert command("score", "runs/mine", "mine.csv", "--split", "all") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "all"

    assert command("show", "runs/mine") == 0
    assert "classify: label from text" in capsys.readouterr().out
    assert command("show", "runs/mine", "--json") == 0
    assert json.loads(capsys.readouterr().out) == metrics

    assert command("fit", "mine.csv") == 1
    assert "holds a run already" in capsys.readouterr().err
    assert command("fit", "mine.csv", "--overwrite", "--quiet", *SETTINGS) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out
    assert err == ""


def test_predict_reads_standard_input(finished):
    done = wavefront("predict", finished.folder, stdin="a lovely room\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit"], 2, "DATA"),
        (["fit", "x.csv", "--epoch", "3"], 2, "--epochs"),
        (["fti"], 2, "Did you mean 'fit'"),
        (["fit", "yeers"], 1, "Did you mean 'years'"),
        (["fit", "years", "--set", "unitss=3", "--out", "none"], 2, "Did you mean 'units'"),
        (["fit", "years", "--set", "units", "--out", "none"], 2, "--set takes NAME=VALUE, got 'units'"),
        (["fit", "years", "--epochs", "0", "--out", "none"], 2, "--epochs"),
        (["fit", "years", "--resume", "--overwrite"], 2, "--resume carries a run on, --overwrite replaces it"),
        (["fit", "years", "--resume", "--out", "none"], 1, "holds no run to resume"),
        (["fit", "years", "--task", "tga", "--out", "none"], 2, "Did you mean 'tag'"),
        (["fit", "years", "--column", "label=labels", "--column", "token=tokens", "--out", "none"], 2, "Did you mean 'tokens'"),
        (["predict", "none"], 1, "none is no folder"),
        (["show", "."], 1, "has no task.json"),
    ],
)
def test_what_cannot_be_is_one_message_and_a_code(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == code
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_debug_shows_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVEFRONT_DEBUG", "0")
    assert command("--debug", "show", "none") == 1
    assert "Traceback" in capsys.readouterr().err


def test_tasks_and_cells_are_listed(capsys):
    assert command("tasks") == 0
    out = capsys.readouterr().out
    for name in ("classify", "regress", "tag", "network.units"):
        assert name in out
    assert command("cells") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"lstm", "gru", "elman"} <= {line.split()[0] for line in lines}
    assert all(len(line.split()) > 2 for line in lines), "each with a line of its docstring"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_leave_with_their_code(tmp_path, number, code):
    write_reviews(tmp_path / "d.csv")
    process = subprocess.Popen(
        [*WAVEFRONT, "fit", "d.csv", *SETTINGS, "--epochs", "100000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert any("best" in line for line in process.stderr), "the first evaluation"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "everything is saved" in err
    assert "Traceback" not in err
    assert out == ""
    assert wavefront("predict", "runs/d", cwd=tmp_path, stdin="a lovely room\n").returncode == 0


def test_an_output_that_is_closed_is_no_crash(finished, tmp_path):
    (tmp_path / "many.txt").write_text("a lovely room\n" * 3000)
    piped = f"{' '.join(WAVEFRONT)} predict {finished.folder} {tmp_path}/many.txt | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr == ""
    assert "good" in done.stdout
    assert done.stdout.endswith("\n1\n")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-"])
def test_outputs_that_are_closed_do_not_end_a_run(reviews, tmp_path, closed):
    fit = f"{' '.join(WAVEFRONT)} fit {reviews} --out {tmp_path}/r {' '.join(SETTINGS)} {closed}"
    done = subprocess.run(["bash", "-c", fit], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0
    assert "accuracy" in (done.stdout if closed == "2>&-" else done.stderr)
    assert (tmp_path / "r" / "report.html").exists()


def on_a_terminal(arguments, environment):
    """What a terminal gets to see."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([*WAVEFRONT, *arguments], stderr=follower, stdout=subprocess.DEVNULL, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    assert process.wait() == 0
    return seen.decode()


def test_a_bar_on_a_terminal_plain_lines_elsewhere_and_no_colour_where_none_is_wanted(reviews, tmp_path):
    colour = re.compile(r"\x1b\[[0-9;]*3[0-7]m|\x1b\[38")
    terminal = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "100"}
    arguments = ["fit", str(reviews), *SETTINGS, "--epochs", "3", "--overwrite", "--out", str(tmp_path / "r")]
    seen = on_a_terminal(arguments, terminal)
    assert "steps/s" in seen
    assert "epoch 3/3" in seen or "epoch 2/3" in seen
    assert colour.search(seen)
    seen = on_a_terminal(arguments, {**terminal, "NO_COLOR": "1"})
    assert "steps/s" in seen
    assert not colour.search(seen)
    plain = wavefront(*arguments)
    assert "\x1b" not in plain.stderr + plain.stdout
    assert "\r" not in plain.stderr
    assert "valid loss" in plain.stderr
