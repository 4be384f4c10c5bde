"""The split by hash: the same tomorrow, wherever a row stands."""

import hashlib
import random

import numpy as np
import pytest

from wavefront.data import open_source
from wavefront.data.split import HashSplit, position
from wavefront.errors import DataError


def rows(count, seed=0):
    return [{"text": f"row {n}", "label": "ab"[n % 2]} for n in random.Random(seed).sample(range(10**6), count)]


def test_splits_cover_every_row_once_and_have_their_shares():
    data = rows(5000)
    split = HashSplit(lambda: data, {"test": 0.1, "valid": 0.1})
    parts = {name: list(split.select(name)) for name in ("train", "valid", "test")}
    assert sorted(r["text"] for part in parts.values() for r in part) == sorted(r["text"] for r in data)
    assert len(parts["test"]) == pytest.approx(500, abs=65)  # three standard deviations
    assert len(parts["valid"]) == pytest.approx(500, abs=65)


def test_order_and_company_do_not_matter():
    data = rows(5000)
    shuffled = random.Random(1).sample(data, len(data)) + rows(3000, seed=2)
    first = HashSplit(lambda: data, {"test": 0.1, "valid": 0.1})
    second = HashSplit(lambda: shuffled, {"test": 0.1, "valid": 0.1})
    assert [first.split_of(row) for row in data] == [second.split_of(row) for row in data]


def test_equal_rows_fall_together():
    data = rows(300) * 2
    split = HashSplit(lambda: data, {"test": 0.2})
    assert not {r["text"] for r in split.select("test")} & {r["text"] for r in split.select("train")}


@pytest.mark.parametrize("count", [3, 10, 30, 999])
def test_no_split_of_a_small_file_is_empty(tmp_path, count):
    path = tmp_path / "small.csv"
    path.write_text("text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in rows(count)))
    source = open_source(path)
    sizes = {split: len(list(source.rows(split))) for split in source.splits}
    assert min(sizes.values()) >= 1
    assert sum(sizes.values()) == count
    assert sizes["test"] == max(1, round(count / 10))


def test_no_split_is_empty_where_few_rows_are_said_often():
    data = rows(5) * 40
    split = HashSplit(lambda: data, {"test": 0.1, "valid": 0.1})
    assert [len(list(split.select(name))) for name in ("train", "valid", "test")] == [120, 40, 40]


def test_a_group_is_in_one_split_and_rows_of_two_are_in_none(tmp_path):
    pairs = [(a, b) for a in range(60) for b in range(60)]
    (tmp_path / "pairs.csv").write_text("one,other,y\n" + "".join(f"s{a},s{b},{(a + b) % 3}\n" for a, b in pairs))
    source = open_source(tmp_path / "pairs.csv", groups=["one", "other"])
    found = {split: [(row["one"], row["other"]) for row in source.rows(split)] for split in source.splits}
    said = {split: {value for pair in rows for value in pair} for split, rows in found.items()}
    assert all(rows for rows in found.values())
    assert len(set().union(*said.values())) == sum(map(len, said.values()))
    assert all(len(found[split]) == len(said[split]) ** 2 for split in found)
    again = open_source(tmp_path / "pairs.csv", like=source.describe())  # as a run that was saved reads it
    assert [(row["one"], row["other"]) for row in again.rows("test")] == found["test"]
    with pytest.raises(DataError, match=r"groups names 'patient', which is no column\. There are"):
        open_source(tmp_path / "pairs.csv", groups=["patient"])


def given_two(folder, train):
    (folder / "a_train.csv").write_text("text\n" + "".join(f"{r['text']}\n" for r in rows(train)))
    (folder / "a_test.csv").write_text("text\n" + "".join(f"test {n}\n" for n in range(7)))
    return open_source(folder)


def test_a_split_that_the_files_give_is_not_cut(tmp_path):
    source = given_two(tmp_path, train=600)
    assert (source.given, source.splits) == (("train", "test"), ("train", "valid", "test"))
    assert [row["text"] for row in source.rows("test")] == [f"test {n}" for n in range(7)]
    assert len(list(source.rows("valid"))) == 60
    assert len(list(source.rows("train"))) == 540


def test_no_valid_is_cut_from_a_small_file_for_training(tmp_path):
    source = given_two(tmp_path, train=499)
    assert source.splits == ("train", "test")
    assert len(list(source.rows("train"))) == 499


def test_the_position_is_of_the_content():
    series = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert position({"series": series, "label": "a"}) == position({"label": "a", "series": series.copy()})
    assert position({"series": series}) != position({"series": series.reshape(2, 3)})
    assert position({"a": "bc"}) != position({"ab": "c"})


def test_the_position_is_the_same_on_every_machine():
    digest = hashlib.sha256(b"4 3 text'a'").hexdigest()  # lengths of name and content, name, content
    assert position({"text": "a"}) == int(digest[:16], 16) / 2**64


def texts_of(source):
    return {split: [row["text"] for row in source.rows(split)] for split in source.splits}


@pytest.mark.parametrize("name", ["rows.csv", "stream.txt"])
def test_shares_are_cut_as_asked_and_none_of_what_is_asked_to_be_none(tmp_path, name):
    lines = [f"row {n:04}" for n in range(2000)]
    (tmp_path / name).write_text("\n".join((["text"] if name == "rows.csv" else []) + lines) + "\n")
    found = texts_of(open_source(tmp_path / name, valid_share=0.0, test_share=0.3))
    assert found.keys() == {"train", "test"}
    assert sorted(line.rstrip("\n") for part in found.values() for line in part) == lines
    assert len(found["test"]) == pytest.approx(600, abs=0.5 if name == "stream.txt" else 60)
    whole = texts_of(open_source(tmp_path / name, valid_share=0.0, test_share=0.0))
    assert [line.rstrip("\n") for line in whole["train"]] == lines
    assert whole.keys() == {"train"}


def test_a_saved_run_cuts_the_same_shares_again(tmp_path):
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"row {n}\n" for n in range(1200)))
    source = open_source(tmp_path / "rows.csv", valid_share=0.02, test_share=0.4)
    assert texts_of(open_source(tmp_path / "rows.csv", like=source.describe())) == texts_of(source)


def test_a_share_of_few_rows_is_cut_where_it_is_asked_for(tmp_path):
    given_two(tmp_path, train=100)
    assert open_source(tmp_path).splits == ("train", "test")
    assert len(list(open_source(tmp_path, valid_share=0.2).rows("valid"))) == 20


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"test_share": 0.1}, "has files for test, so no share of the others is cut for it; leave test_share out"),
        ({"valid_share": 1.5}, r"0 or more and below 1; got valid = 1\.5"),
    ],
)
def test_a_share_that_cannot_be_cut_is_said(tmp_path, shares, said):
    given_two(tmp_path, train=10)
    with pytest.raises(DataError, match=said):
        open_source(tmp_path, **shares)


def test_shares_leave_something_to_train_on(tmp_path):
    (tmp_path / "rows.csv").write_text("text\na\nb\n")
    with pytest.raises(DataError, match=r"shares of 1\.1 for test and valid leave nothing to train on"):
        open_source(tmp_path / "rows.csv", valid_share=0.5, test_share=0.6)
