"""Readers of pairs: aligned files, and arrays with ragged rows."""

import gzip

import numpy as np
import pytest

from wavefront.data import open_source, read_inputs
from wavefront.errors import DataError


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_files_in_two_languages_are_read_line_by_line(tmp_path):
    folder = write(tmp_path / "talks", train_en="one\n\ntwo words\n", train_de="eins\n\nzwei Wörter\n", dev_en="yes\n", dev_de="ja\n")
    source = open_source(folder)
    assert (source.format, [c.name for c in source.columns]) == ("aligned", ["de", "en"])
    assert list(source.rows("train")) == [{"de": "eins", "en": "one"}, {"de": "zwei Wörter", "en": "two words"}]
    assert list(source.rows("valid")) == [{"de": "ja", "en": "yes"}]
    alone = tmp_path / "new.en"
    alone.write_text("three\nfour\n")
    assert list(read_inputs(alone, source.describe(), ["en"])) == [{"en": "three"}, {"en": "four"}]


def test_zipped_files_are_read_too(tmp_path):
    for name, text in {"train.tok.en.gz": "one\n", "train.tok.de.gz": "eins\n"}.items():
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    assert list(open_source(tmp_path / "train.tok.en.gz").rows("all")) == [{"de": "eins", "en": "one"}]


def test_files_that_do_not_go_together_stop_with_their_line(tmp_path):
    short = write(tmp_path / "short", train_en="one\ntwo\n", train_de="eins\n")
    with pytest.raises(DataError, match=r"train\.de: ends before line 2, train\.en goes on"):
        list(open_source(short).rows("train"))
    empty = write(tmp_path / "empty", train_en="one\n\n", train_de="eins\nzwei\n")
    with pytest.raises(DataError, match=r"train\.en, line 2: empty, but train\.de has a line there"):
        list(open_source(empty).rows("train"))


def test_arrays_with_ragged_rows(tmp_path):
    path = tmp_path / "spoken.npz"
    frames = np.arange(12, dtype=np.float16).reshape(6, 2)
    np.savez(path, frames=frames, frames_offsets=np.array([0, 2, 6]), digits=np.array(["1 2", "3"]), speaker=np.array([4, 5]))
    source = open_source(path)
    assert {c.name: c.kind for c in source.columns} == {"frames": "series", "digits": "text", "speaker": "number"}
    first, second = source.rows("all")
    assert first["frames"].tolist() == [[0, 1], [2, 3]]
    assert second["frames"].shape == (4, 2)
    assert (first["digits"], second["speaker"]) == ("1 2", 5.0)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 4)), "y": np.zeros(2)}, "as many rows as the others; there are x 3, y 2"),
        ({"x": np.zeros((3, 4)), "x_offsets": np.array([0, 5])}, "x_offsets goes from 0 to the 3 steps of x"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "cannot be read as arrays"),
        ({"x": np.zeros((2, 2, 2, 2))}, r"at most \[rows, T, channels\]"),
        ({"x": np.full((2, 3), np.nan)}, "row 1.*missing, NaN or infinite"),
    ],
)
def test_arrays_that_are_no_rows_are_told(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        list(open_source(tmp_path / "a.npz").rows("all"))
