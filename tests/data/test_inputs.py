"""Inputs to predict from: without labels, in their order, from files, standard input and memory."""

import io
import sys

import numpy as np
import pytest

from wavefront.data import open_source, read_inputs, words
from wavefront.errors import DataError

TAGGER = {"format": "conll", "columns": {"tokens": "symbols", "tags": "symbols"}, "options": {}}
REVIEWS = {"format": "csv", "columns": {"text": "text", "label": "text"}, "options": {"kinds": {"label": "text"}}}
SENSOR = {"format": "ts", "columns": {"series": "series", "label": "text"}, "options": {}}
SENTENCES = [["I", "went", "to", "Nepal", "in", "2009", "."], ["Now", "."]]
FILES = {
    "lines.txt": "I went to Nepal in 2009.\n\nNow.\n",
    "words.txt": "I\nwent\nto\nNepal\nin\n2009\n.\n\nNow\n.\n",
    "words.conll": "I\nwent\nto\nNepal\nin\n2009\n.\n\nNow\n.\n",
    "labelled.conll": "".join(f"{w} O\n" for w in SENTENCES[0]) + "\nNow O\n. O\n",
    "data.jsonl": '{"text": "I went to Nepal in 2009.", "tokens": ["I", "went", "to", "Nepal", "in", "2009", "."]}\n{"tokens": "Now."}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_sentences_for_a_tagger(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    assert [row["tokens"] for row in read_inputs(tmp_path / name, TAGGER, ["tokens"]) if row] == SENTENCES


def test_an_empty_line_of_text_is_an_empty_row(tmp_path):
    (tmp_path / "lines.txt").write_text("\nNot now.\n \n\nNow.\n")
    assert [bool(row) for row in read_inputs(tmp_path / "lines.txt", TAGGER, ["tokens"])] == [False, True, False, False, True]


@pytest.mark.parametrize("name", ["lines.txt", "data.jsonl"])
def test_standard_input(monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FILES[name].encode())))
    assert [row["tokens"] for row in read_inputs("-", TAGGER, ["tokens"]) if row] == SENTENCES


def test_standard_input_is_read_line_by_line(monkeypatch):
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:4] = b"Now\n"
            return 4

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless(), 8)))
    stream = read_inputs("-", TAGGER, ["tokens"])
    assert [next(stream)["tokens"] for _ in range(3)] == [["Now"]] * 3


def test_a_csv_without_the_label_and_with_it(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("id,text\n1,good\n2,7\n")
    assert [row["text"] for row in read_inputs(path, REVIEWS, ["text"])] == ["good", "7"]
    path.write_text("text,label\n7,1\n8,2\n")
    assert list(read_inputs(path, REVIEWS, ["text"])) == [{"text": "7", "label": "1"}, {"text": "8", "label": "2"}]
    path.write_text("txt\na\n")
    with pytest.raises(DataError, match=r"new\.csv: needs the column 'text' that the model was trained on; its columns: txt"):
        list(read_inputs(path, REVIEWS, ["text"]))


def test_a_table_as_plain_text_is_refused_by_its_header(tmp_path):
    for header in ("text,label", "label\ttext", '"text";"label"'):
        (tmp_path / "a.txt").write_text(f"{header}\ngood,pos\n")
        with pytest.raises(DataError, match=r"a\.txt, line 1: .* is the header of a table"):
            list(read_inputs(tmp_path / "a.txt", REVIEWS, ["text"]))


def test_a_text_given_as_the_path_is_told_where_it_belongs():
    with pytest.raises(DataError, match="A text itself is given by standard input"):
        list(read_inputs("cold soup and a rude waiter", REVIEWS, ["text"]))


def test_keys_of_other_names_are_told():
    with pytest.raises(DataError, match=r"'text' is missing or empty; the model needs it\. There: review"):
        list(read_inputs([{"review": "good"}], REVIEWS, ["text"]))


def test_text_stays_as_it_is(tmp_path):
    (tmp_path / "a.txt").write_text("Good, really.\nBad!\n")
    assert list(read_inputs(tmp_path / "a.txt", REVIEWS, ["text"])) == [{"text": "Good, really."}, {"text": "Bad!"}]


def test_series_from_memory_and_files(tmp_path):
    series = np.arange(6).reshape(3, 2)
    for value in (series, series.tolist(), {"series": series}):
        (row,) = read_inputs([value], SENSOR, ["series"])
        assert row["series"].dtype == np.float32
        np.testing.assert_array_equal(row["series"], series)
    (tmp_path / "a.ts").write_text("@classLabel false\n@data\n0,2,4:1,3,5\n")
    (row,) = read_inputs(tmp_path / "a.ts", SENSOR, ["series"])
    np.testing.assert_array_equal(row["series"], series)
    with pytest.raises(DataError, match=r"input 1, key 'series': 1 of 2 values missing, NaN or infinite"):
        list(read_inputs([[1.0, float("nan")]], SENSOR, ["series"]))
    with pytest.raises(DataError, match=r"input 2: the model needs a series"):
        list(read_inputs([[1.0], "a text"], SENSOR, ["series"]))


def test_missing_inputs_are_refused_with_their_place(tmp_path):
    with pytest.raises(DataError, match=r"input 2: 'tokens' is missing or empty"):
        list(read_inputs([{"tokens": ["a"]}, {"text": "b"}], TAGGER, ["tokens"]))
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a"]}\n{"tokens": [1]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2.*expected symbols"):
        list(read_inputs(tmp_path / "a.jsonl", TAGGER, ["tokens"]))


def test_another_file_read_as_the_training_data_was(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "new.csv").write_text("text,label\n1,2\n")
    like = open_source(tmp_path / "train.csv").describe()
    assert next(open_source(tmp_path / "new.csv").rows("all")) == {"text": 1.0, "label": 2.0}
    assert next(open_source(tmp_path / "new.csv", like=like).rows("all")) == {"text": "1", "label": "2"}


def test_words_of_text_that_is_split_already_stay():
    text = "`` It 's 3.5 % , is n't it ? '' -- she said ... ( U.S. ) :-)"
    pieces = text.split()
    assert words(text)[: len(pieces) - 1] == pieces[:-1]
    assert words('(In 2009, "I" paid $5.)') == ["(", "In", "2009", ",", '"', "I", '"', "paid", "$", "5", ".", ")"]
    assert words("") == []
