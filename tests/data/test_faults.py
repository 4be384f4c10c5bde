"""What a file from outside may get wrong: one message each, with the place, what was expected, what came, and what to do."""

import gzip
import re

import numpy as np
import pytest

from wavefront.data import open_source
from wavefront.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refused(path, *parts: str, **options) -> str:
    """Reading it all is a DataError that names the file and has these parts, in this order."""
    with pytest.raises(DataError) as caught:
        for _ in open_source(path, **options).rows("all"):
            pass
    message = str(caught.value)
    assert re.search(".*".join(map(re.escape, (path.name, *parts))), message, re.DOTALL), message
    return message


CSV_FAULTS = {
    "a row too long": ("text,label\na,x\nb,y,z\n", ("line 3", "expected 2 cells, got 3", "b,y,z")),
    "a row too short": ("text,label\na,x\nb\n", ("line 3", "expected 2 cells, got 1")),
    "a quotation mark left open": ('text,label\na,x\n"b,y\nc,z\n', ("line 3", "opens and never closes")),
    "another delimiter": ("text^label\na^x\nb^y\n", ("line 1", "got one column", "'^'")),
    "a header that names a column twice": ("text,label,text\na,x,b\n", ("line 1", "'text' twice", "columns 1 and 3", "Rename")),
    "bytes that are not UTF-8": (b"text,label\na,x\nb\xff,y\n", ("line 3", "not UTF-8", "iconv")),
    "nothing at all": ("", ("no rows",)),
    "a header alone": ("text,label\n", ("no rows", "below the header")),
    "infinity": ("text,value\na,1.5\nb,1e999\nc,nan\n", ("row 2", "'value'", "infinite", 'missing="mask"', "2 values", "3 rows")),
}


@pytest.mark.parametrize("fault", CSV_FAULTS)
def test_csv_is_refused_with_the_line(write, fault):
    content, parts = CSV_FAULTS[fault]
    refused(write("data.csv", content), *parts)


def test_a_column_without_a_name_is_refused(write):
    path = write("data.csv", "text,,label\na,b,x\n")
    source = open_source(path)  # an empty cell in the first line: it is no header
    assert [c.name for c in source.columns] == ["column1", "column2", "column3"]
    refused(path, "line 1", "column 2 of 3 has no name", "header=False", header=True)


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_word_at_row_200_001_of_a_number_column(write, name):
    content = ("text,value\n" + "a,1\n" * 200_000 + "b,word\n").encode()
    path = write(name, gzip.compress(content, 1) if name.endswith(".gz") else content)
    message = refused(
        path, "line 200002", "'value' holds numbers so far", "'word'", 'kinds={"value": "text"} (--set data.kinds.value=text)'
    )
    assert "\n" not in message
    assert next(open_source(path, kinds={"value": "text"}).rows("all"))["value"] == "1"


def test_tsv_with_commas_is_refused(write):
    refused(write("data.tsv", "text,label\na,x\nb,y\n"), "line 1", "tab", "got one column", "','")


def test_missing_values_are_masked_as_asked_and_counted(write):
    source = open_source(write("data.csv", "text,value\na,1.5\nb,1e999\nc,nan\nd,\n"), missing="mask")
    assert [row["value"] for row in source.rows("all")] == [1.5, None, None, None]
    assert source.masked() == {"value": 2}  # an empty cell is no value; it was not masked


JSONL_FAULTS = {
    "no JSON": ('{"text": "a"}\n{"text": \n', ("line 2", "expected a JSON object")),
    "an array": ('[{"text": "a"}]\n', ("line 1", "jq -c")),
    "another kind": ('{"text": "a"}\n{"text": ["b"]}\n', ("line 2", "'text'", "expected text", '["b"]')),
    "a truth value for a number": ('{"value": 1}\n{"value": true}\n', ("line 2", "expected number", "true")),
    "a key twice": ('{"text": "a", "text": "b"}\n', ("line 1", "'text' comes twice")),
    "NaN": ('{"value": 1}\n{"value": NaN}\n{"value": 1e999}\n', ("line 2", "'value'", "2 values", "3 rows")),
    "a ragged series": ('{"series": [[1, 2], [3]]}\n', ("line 1", "equally long lists")),
    "bytes that are not UTF-8": (b'{"text": "a"}\n{"text": "\xff"}\n', ("line 2", "not UTF-8")),
    "nothing at all": ("\n", ("no rows",)),
    "a thousand brackets": ('{"text": ' + "[" * 100_000 + "\n", ("line 1", "expected a JSON object")),
}


@pytest.mark.parametrize("fault", JSONL_FAULTS)
def test_jsonl_is_refused_with_the_line(write, fault):
    content, parts = JSONL_FAULTS[fault]
    refused(write("data.jsonl", content), *parts)


def test_jsonl_key_after_the_first_thousand_lines(write):
    refused(write("data.jsonl", '{"a": "x"}\n' * 1000 + '{"a": "x", "b": "y"}\n'), "line 1001", "'b'", "none of the lines before")


OTHER_FAULTS = {
    "data.conll": ("In O\n2009 B-YEAR\n\nI\n", ("line 4", "expected 2 columns", "got 1")),
    "empty.conll": ("\n", ("no rows",)),
    "data.conllu": ("1\tI\tI\tPRON\n", ("line 1", "10 tab-separated columns", "got 4")),
    "order.conllu": ("\t".join(["2", *"abcdefghi"]) + "\n", ("line 1", "expected word 1", "'2'")),
    "GunPoint_TRAIN.tsv": (("1" + "\t0.5" * 9 + "\n") * 5 + "2\t0.5\tx\n", ("line 6", "value 2", "'x'")),
    "gap_TRAIN.tsv": ("1\tNaN\tNaN" + "\t0.5" * 9 + "\n" + "2" + "\t0.5" * 11 + "\n", ("line 1", "2 of 11", "2 values", "2 rows")),
    "data.ts": ("@classLabel true a b\n@data\n1,2:3,4:a\n1,2:3:b\n", ("line 4", "different lengths")),
    "label.ts": ("@classLabel true a b\n@data\n1,2:c\n", ("line 3", "'c'", "a, b")),
    "gap.ts": ("@classLabel true a b\n@data\n1,?,3:a\n1,2:b\n", ("line 3", "1 of 3", "1 values")),
    "stamps.ts": ("@timeStamps true\n@data\n(0,1):a\n", ("time stamps",)),
    "head.ts": ("@classLabel true a b\n", ("no rows", "@data")),
}


@pytest.mark.parametrize("name", OTHER_FAULTS)
def test_other_formats_are_refused_with_the_line(write, name):
    content, parts = OTHER_FAULTS[name]
    refused(write(name, content), *parts)


def test_ucr_gaps_are_masked_as_asked_and_padding_is_cut_off(write):
    path = write("gap_TRAIN.tsv", "1\tNaN\t2" + "\t0.5" * 8 + "\tNaN\n" + "2" + "\t0.5" * 11 + "\n")
    source = open_source(path, missing="mask")
    first, second = source.rows("all")
    assert first["series"].shape == (10, 1)
    assert np.isnan(first["series"][0, 0])
    assert second["series"].shape == (11, 1)
    assert source.masked() == {"series": 1}


def test_parallel_files_of_unequal_lines(write):
    write("snips/train/seq.out", "O O\nO\n")
    path = write("snips/train/seq.in", "a b\nc d\n")
    with pytest.raises(DataError, match=r"seq\.out, line 2: 1 tags for the 2 tokens"):
        list(open_source(path.parents[1]).rows("train"))
    write("snips/train/seq.out", "O O\n")
    with pytest.raises(DataError, match=r"seq\.out: ends before line 2"):
        list(open_source(path.parents[1]).rows("train"))


def test_a_gzip_file_cut_short(write):
    content = gzip.compress("".join(f"a line, number {n}\n" for n in range(5000)).encode())
    refused(write("data.txt.gz", content[: len(content) // 2]), "gzip file is cut short")


def test_times_that_come_twice_are_refused_and_unsorted_ones_sorted(write):
    header = "unit,day,temp,label\n"
    path = write("long.csv", header + "u,2024-10-27T02:30:00,1,x\nu,2024-10-27T01:30:00,2,x\nv,2024-01-01,3,y\n")
    options = {"id": "unit", "time": "day", "series": ("temp",)}
    first, second = open_source(path, **options).rows("all")
    assert first["series"].tolist() == [[2.0], [1.0]]
    assert (first["unit"], first["label"], second["series"].tolist()) == ("u", "x", [[3.0]])
    path = write("long.csv", header + "u,2024-10-27T02:30:00,1,x\nu,2024-10-27T02:30:00,2,x\n")
    refused(path, "row 2", "second row with day", "UTC", **options)
    path = write("long.csv", header + "u,2024-10-27T02:30:00+02:00,1,x\nu,2024-10-27T02:30:00+01:00,2,x\n")
    assert next(open_source(path, **options).rows("all"))["series"].tolist() == [[1.0], [2.0]]
    path = write("long.csv", header + "u,27.10.2024,1,x\n")
    refused(path, "neither numbers nor ISO 8601", "27.10.2024", **options)
    path = write("long.csv", header + "u,1,1,x\nu,2,2,y\n")
    refused(path, "row 2", "'label' is 'y', but 'x' before", **options)


def test_what_is_not_there(tmp_path, write):
    write("reviews.csv", "text,label\na,x\n")
    with pytest.raises(DataError, match=r"no such file.*Did you mean 'reviews\.csv'"):
        open_source(tmp_path / "review.csv")
    with pytest.raises(DataError, match="Did you mean 'years'"):
        open_source("year")
    with pytest.raises(DataError, match=r"no format known by its ending '\.docx'"):
        open_source(write("text.docx", "x"))
    with pytest.raises(DataError, match=r"standard input can be read once.*save it to a file"):
        open_source("-")
    with pytest.raises(DataError, match="expected one data set"):
        open_source(write("mixed/a.csv", "a,b\nc,d\n").parent.parent)


def test_files_of_one_data_set_must_agree(write):
    write("set/train.csv", "text,label\na,x\n")
    path = write("set/test.csv", "text,class\na,x\n")
    with pytest.raises(DataError, match=r"test\.csv: has columns .*class.*need the same columns"):
        open_source(path.parent)


def test_pickle_is_no_format(write):
    with pytest.raises(DataError, match="no format known"):
        open_source(write("data.pkl", b"\x80\x04."))


def test_sql_errors_name_the_data(write, tmp_path):
    write("folder/reviews.csv", "text,label\na,x\nb,y,z\n")
    with pytest.raises(DataError, match="line 3: expected 2 cells"):
        list(open_source(tmp_path / "folder", query="SELECT * FROM reviews").rows("all"))
    write("folder/reviews.csv", "text,label\na,x\n")
    with pytest.raises(DataError, match=r"folder: .*missing_table"):
        open_source(tmp_path / "folder", query="SELECT * FROM missing_table")


def test_arrays_that_are_no_archive_are_refused_without_a_word_of_pickle(write):
    message = refused(write("frames.npz", "hello"), "expected a zip archive", "numpy.savez")
    assert "pickle" not in message


def test_a_file_of_tests_alone_is_scored_but_not_learned_from(write):
    source = open_source(write("songs.json", '{"test": [[[60, 64]]]}'))
    assert len(list(source.rows("test"))) == 1
    with pytest.raises(DataError, match=r"songs\.json: expected rows to train on, got test alone"):
        list(source.rows("train"))
