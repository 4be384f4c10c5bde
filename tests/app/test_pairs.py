"""Runs of `translate` from the command line: searched, explained, scored row by row."""

import json

import pytest
import torch
from typer.testing import CliRunner

from wavefront.app.cli import app
from wavefront.app.fitting import fit
from wavefront.app.run import load
from wavefront.data import open_source
from wavefront.errors import DataError, SettingsError

SIZES = {"network.units": 4, "network.decoder_units": 4, "network.symbol_size": 4}
WORDS = ("ab", "ba", "abba", "a", "b", "aab") * 5


def write(path, rows):
    path.write_text("source\ttarget\n" + "".join(f"{one}\t{two}\n" for one, two in rows))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data = write(folder / "pairs.tsv", [(word, " ".join(word.upper())) for word in WORDS])
    return fit(data, out=folder / "run", set=SIZES, epochs=1, quiet=True)


def wavefront(*arguments, text=""):
    done = CliRunner().invoke(app, [*map(str, arguments)], input=text)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_report_has_a_picture_of_where_it_looked(run):
    page = (run.folder / "report.html").read_text()
    assert "Where it looked" in page
    assert "places of the source in columns" in page


def test_predict_searches_and_explains(run):
    shown = wavefront("predict", run.folder, "-", "--num-beams", 3, "--n-best", 2, "--explain", text="ab\n").splitlines()
    assert shown[0].startswith("ab\t")
    assert shown[0].count("(-") == 2
    assert shown[1].split() == ["a", "b"]
    found = json.loads(wavefront("predict", run.folder, "-", "--num-beams", 3, "--n-best", 3, "--json", text="ab\n"))
    assert len(found["candidates"]) == 3
    assert found["target"] == found["candidates"][0]["target"]
    assert "<unknown>" not in {candidate["target"] for candidate in found["candidates"]}


def test_an_empty_line_is_answered_by_an_empty_one(run):
    one, two = wavefront("predict", run.folder, "-", text="ab\nba\n").splitlines()
    assert wavefront("predict", run.folder, "-", text="\nab\n\n \nba\n\n").splitlines() == ["", one, "", "", two, ""]
    assert wavefront("predict", run.folder, "-", text="") == ""


def test_members_write_together_and_are_kept(tmp_path):
    data = write(tmp_path / "pairs.tsv", [(word, " ".join(word.upper())) for word in WORDS])
    run = fit(data, out=tmp_path / "run", set=SIZES | {"network.members": 2}, epochs=1, quiet=True)
    (found,) = run.predict(["abb"], n_best=2, explain=True)
    one, two = run.network.members
    assert not torch.equal(one.decoder.output.V.weight, two.decoder.output.V.weight)
    assert all(len(step) == 3 for step in found["alignment"]["weights"])
    assert load(tmp_path / "run").predict(["abb"], n_best=2, explain=True) == [found]


def test_each_row_is_scored_by_its_log_probability(run, tmp_path):
    rows = write(tmp_path / "candidates.tsv", [("ab", "A B"), ("ab", "B")])
    lines = [line.split("\t") for line in wavefront("score", run.folder, rows, "--each").splitlines()]
    assert [line[1:] for line in lines] == [["ab", "A B"], ["ab", "B"]]
    best = run.predict(["ab"], num_beams=4)[0]
    assert all(float(line[0]) <= best["log_prob"] + 1e-3 for line in lines)


def test_an_error_about_a_row_that_is_scored_says_which_row(run, tmp_path):
    rows = write(tmp_path / "few.tsv", [("ab", "A B")] * 70 + [("ba", "")])
    with pytest.raises(DataError, match=r"few\.tsv, all, row 71: target is empty"):
        run.score(rows)
    with pytest.raises(DataError, match=r"few\.tsv, row 71: target is empty"):
        list(run.log_probs(rows))
    with pytest.raises(DataError, match="the inputs, row 2: source is empty"):
        run.predict(["ab", " "])


def test_a_pair_without_a_side_in_any_split_stops_with_its_row(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write(data / "train.tsv", [(word, " ".join(word.upper())) for word in WORDS])
    write(data / "dev.tsv", [("ab", "A B"), ("ba", "")])
    with pytest.raises(DataError, match="row 2 of valid: target is empty"):
        fit(data, out=tmp_path / "run", task="translate", set=SIZES, epochs=1, quiet=True)


def test_what_does_not_search_says_so(finished):
    with pytest.raises(SettingsError, match="classify does not search"):
        finished.predict(["a lovely room"], n_best=2)
    with pytest.raises(SettingsError, match="log-probabilities are of tasks that write sequences"):
        list(finished.log_probs([{"text": "a lovely room", "label": "good"}]))


def test_alternatives_of_a_source_are_cut_together(tmp_path):
    words = [f"w{n}" for n in range(300)]
    data = write(tmp_path / "pairs.tsv", [(word, f"{word} {k}") for word in words for k in range(2)])
    made = fit(data, task="translate", out=tmp_path / "run", set=SIZES, dry_run=True, quiet=True)
    assert made.metrics["config"]["data"]["groups"] == ["source"]
    source = open_source(data, groups=["source"])
    test, train = ({row["source"] for row in source.rows(split)} for split in ("test", "train"))
    assert test
    assert not test & train
    apart = fit(data, task="translate", out=tmp_path / "run", set=SIZES | {"data.groups": []}, dry_run=True, quiet=True)
    assert "groups" not in apart.metrics["config"]["data"]
