"""What each format gives: its columns, their kinds, its rows."""

import csv
import gzip
import io

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from wavefront.data import open_source

CONLLU = "# text = I don't\n1\tI\tI\tPRON\tPRP\t_\t2\tnsubj\t_\t_\n2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
CONLLU += "2\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_\n3\tn't\tnot\tPART\tRB\t_\t2\tadvmod\t_\t_\n3.1\tx\tx\tX\tX\t_\t_\t_\t_\t_\n\n"
TS = "#about\n@problemName p\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n7:8:b\n"
FORMATS = {
    "reviews.csv": (
        'text,stars\n"good, really",5\nbad,\n',
        "csv",
        {"text": "text", "stars": "number"},
        {"text": "good, really", "stars": 5.0},
    ),
    "semicolon.csv": ("text;label\na,b;x\n", "csv", {"text": "text", "label": "text"}, {"text": "a,b", "label": "x"}),
    "quoted.csv": (
        'text,label\n"one\ntwo ""three""",x\n',
        "csv",
        {"text": "text", "label": "text"},
        {"text": 'one\ntwo "three"', "label": "x"},
    ),
    "windows.csv": ("\ufefftext,zip\r\na,007\r\n", "csv", {"text": "text", "zip": "text"}, {"text": "a", "zip": "007"}),
    "pandas.csv": (",text\n0,a\n", "csv", {"index": "number", "text": "text"}, {"index": 0.0, "text": "a"}),
    "phones.tsv": (
        "'CAUSE\tK AH Z\n\"EM\tAH M\n",
        "tsv",
        {"column1": "text", "column2": "text"},
        {"column1": "'CAUSE", "column2": "K AH Z"},
    ),
    "a_word_that_is_a_usual_name.tsv": (
        "name\tN EY M\nmane\tM EY N\nan\tAE N\n",
        "tsv",
        {"column1": "text", "column2": "text"},
        {"column1": "name", "column2": "N EY M"},
    ),
    "words.tsv": ("word\tphones\nname\tN EY M\n", "tsv", {"word": "text", "phones": "text"}, {"word": "name", "phones": "N EY M"}),
    "named.tsv": ("text\tlabel\na b\tx\n", "tsv", {"text": "text", "label": "text"}, {"text": "a b", "label": "x"}),
    "data.jsonl": (
        '{"tokens": ["In", "2009"], "tags": ["O", "B-YEAR"], "ok": true, "n": 2, "more": {"a": 1}}\n',
        "jsonl",
        {"tokens": "symbols", "tags": "symbols", "ok": "text", "n": "number", "more": "text"},
        {"tokens": ["In", "2009"], "tags": ["O", "B-YEAR"], "ok": "true", "n": 2.0, "more": '{"a": 1}'},
    ),
    "spans.jsonl": (
        '{"text": "In 2009", "spans": [{"start": 3, "end": 7, "label": "YEAR", "score": 1}]}\n{"text": "Now", "spans": []}\n',
        "jsonl",
        {"text": "text", "spans": "spans"},
        {"text": "In 2009", "spans": [{"start": 3, "end": 7, "label": "YEAR"}]},
    ),
    "ner.conll": (
        "-DOCSTART- -X- O\n\nIn IN O\n2009 CD B-YEAR\n\n# #  O\n",
        "conll",
        {"tokens": "symbols", "column2": "symbols", "tags": "symbols"},
        {"tokens": ["In", "2009"], "column2": ["IN", "CD"], "tags": ["O", "B-YEAR"]},
    ),
    "named.conll": (
        "# columns = word pos\nIn\tIN\n2009\tCD\n",
        "conll",
        {"word": "symbols", "pos": "symbols"},
        {"word": ["In", "2009"], "pos": ["IN", "CD"]},
    ),
    "seen.txt": (
        "In O\n2009 B-YEAR\n\nNow O\n",
        "conll",
        {"tokens": "symbols", "tags": "symbols"},
        {"tokens": ["In", "2009"], "tags": ["O", "B-YEAR"]},
    ),
    "ud.conllu": (
        CONLLU,
        "conllu",
        dict.fromkeys(("tokens", "lemma", "upos", "xpos", "feats", "head", "deprel"), "symbols"),
        {"tokens": ["I", "do", "n't"], "upos": ["PRON", "AUX", "PART"], "head": ["2", "0", "2"]},
    ),
    "lines.txt": ("first line \n\nsecond\n", "text", {"text": "text"}, {"text": "first line \n"}),
    "vowels.ts": (TS, "ts", {"series": "series", "label": "text"}, {"series": [[1, 4], [2, 5], [3, 6]], "label": "a"}),
    "target.ts": (
        "@targetlabel true\n@data\n1,2:0.5\n",
        "ts",
        {"series": "series", "target": "number"},
        {"series": [[1], [2]], "target": 0.5},
    ),
    "Gun_TRAIN.tsv": ("1" + "\t0.5" * 9 + "\tNaN\n", "ucr", {"series": "series", "label": "text"}, {"series": [[0.5]] * 9, "label": "1"}),
    "wide.csv": (
        "who," + ",".join(f"t{k}" for k in range(9)) + "\na" + ",1" * 9 + "\nb" + ",2" * 5 + "," * 4 + "\n",
        "csv",
        {"series": "series", "who": "text"},
        {"series": [[1]] * 9, "who": "a"},
    ),
    "series.jsonl": (
        '{"x": [1, 2], "y": [[1, 2], [3, 4]], "label": "a"}\n',
        "jsonl",
        {"x": "series", "y": "series", "label": "text"},
        {"x": [[1], [2]], "y": [[1, 2], [3, 4]], "label": "a"},
    ),
}


def plain(row):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", FORMATS)
def test_columns_and_first_row(tmp_path, name, zipped):
    content, format, kinds, expected = FORMATS[name]
    path = tmp_path / (name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    source = open_source(path)
    assert source.format == format
    assert dict(source.columns) == kinds
    first = plain(next(source.rows("all")))
    assert {key: first[key] for key in expected} == expected
    assert set(first) == set(kinds)
    assert [plain(row) for row in source.rows("all")] == [plain(row) for row in source.rows("all")]
    assert source.name == name.split(".")[0]


def test_every_row_comes_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "numbers.csv"
    path.write_text("n,text\n" + "".join(f"{n},row {n}\n" for n in range(5000)))
    assert [int(row["n"]) for row in open_source(path).rows("all")] == list(range(5000))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), st.sampled_from([",", ";", "\t", "|"]), st.booleans())
def test_a_csv_that_python_writes_is_read_as_it_was(tmp_path_factory, rows, delimiter, zipped):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("first", "second"), *rows])
    path = tmp_path_factory.mktemp("csv") / ("data.csv.gz" if zipped else "data.csv")
    path.write_bytes(gzip.compress(text.getvalue().encode()) if zipped else text.getvalue().encode())
    source = open_source(path, kinds={"first": "text", "second": "text"})
    assert [(row["first"], row["second"]) for row in source.rows("all")] == rows


def test_long_cells(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "a long story, ".join(['"'] + [""] * 20_000 + ['",x\n']))
    (row,) = open_source(path).rows("all")
    assert (len(row["text"]), row["label"]) == (14 * 20_001, "x")
    path.write_text("text,label\n" + "a" * (9 << 20) + ",x\n")
    with pytest.raises(ValueError, match=r"long\.csv, line 2: a line of more than 8388608 bytes.*JSON lines"):
        list(open_source(path).rows("all"))


def test_kinds_overrule_what_is_seen(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("words,zip\nIn 2009 ,12\n")
    source = open_source(path, kinds={"words": "symbols", "zip": "text"})
    assert list(source.rows("all")) == [{"words": ["In", "2009"], "zip": "12"}]


def test_parquet_types(tmp_path):
    path = tmp_path / "data.parquet"
    duckdb.execute(
        "COPY (SELECT 'a' AS text, 1::DECIMAL(4,1) AS n, [[1,2],[3,4]] AS series, ['x','y'] AS tokens, DATE '2009-05-01' AS day, true AS ok,"
        f" [{{'start': 0, 'end': 1, 'label': 'L'}}] AS spans) TO '{path}'"
    )
    source = open_source(path)
    kinds = {"text": "text", "n": "number", "series": "series", "tokens": "symbols", "day": "text", "ok": "text", "spans": "spans"}
    assert dict(source.columns) == kinds
    assert plain(next(source.rows("all"))) == {
        "text": "a",
        "n": 1.0,
        "series": [[1, 2], [3, 4]],
        "tokens": ["x", "y"],
        "day": "2009-05-01",
        "ok": "true",
        "spans": [{"start": 0, "end": 1, "label": "L"}],
    }


def test_sql_over_a_database_and_over_a_folder(tmp_path):
    database = tmp_path / "shop.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE reviews AS SELECT * FROM (VALUES ('good', 5), ('bad', 1), ('so so', 3)) AS r(text, stars)")
    source = open_source(database, query="SELECT text, stars > 2 AS label FROM reviews WHERE stars <> 3 ORDER BY stars;")
    assert list(source.rows("all")) == [{"text": "bad", "label": "false"}, {"text": "good", "label": "true"}]
    assert source.format == "sql"
    with pytest.raises(ValueError, match=r"needs a query.*Its tables: reviews"):
        open_source(database)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "texts.csv").write_text("id,text\n1,good\n2,bad\n")
    (tmp_path / "folder" / "labels.tsv").write_text("id\tlabel\n1\tx\n2\ty\n")
    source = open_source(tmp_path / "folder", query="SELECT text, label FROM texts JOIN labels USING (id) ORDER BY id")
    assert list(source.rows("all")) == [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}]
    (tmp_path / "folder" / "broken.csv").write_text("")  # not of the query, and so not read
    assert list(open_source(tmp_path / "folder", query="SELECT count(*) AS n FROM texts -- all").rows("all")) == [{"n": 2.0}]
    assert list(open_source(tmp_path / "folder" / "texts.csv", query="SELECT text FROM texts WHERE id = 2").rows("all")) == [
        {"text": "bad"}
    ]


LAYOUTS = {
    "files": {"en-ud-train.csv": "a", "en-ud-dev.csv": "b", "en-ud-test.csv": "c", "LICENSE.txt": None, "phones.txt": None},
    "upper case": {"Gun_TRAIN.csv": "a", "Gun_VALID.csv": "b", "Gun_TEST.csv": "c", "README_dataset.txt": None},
    "folders": {"train/x.csv": "a", "validation/x.csv": "b", "test/x.csv": "c", "SOURCES.md": None},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_with_splits_is_one_data_set(tmp_path, name):
    for file, content in LAYOUTS[name].items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("no data" if content is None else f"text,label\n{content},x\n")
    source = open_source(tmp_path)
    assert source.splits == source.given == ("train", "valid", "test")
    assert {split: [row["text"] for row in source.rows(split)] for split in source.splits} == {
        "train": ["a"],
        "valid": ["b"],
        "test": ["c"],
    }
    assert {path.name for path in source.ignored} == {file for file, content in LAYOUTS[name].items() if content is None}


def test_parallel_files_by_folder_and_by_name(tmp_path):
    for split in ("train", "valid", "test"):
        folder = tmp_path / "snips" / split
        folder.mkdir(parents=True)
        for file, line in {"seq.in": "play this ", "seq.out": "O B-song ", "label": "PlayMusic"}.items():
            (folder / f"{file}.gz").write_bytes(gzip.compress((line + "\n").encode()))
    (tmp_path / "snips" / "LICENSE.txt").write_text("no data")
    source = open_source(tmp_path / "snips")
    assert next(source.rows("test")) == {"tokens": ["play", "this"], "tags": ["O", "B-song"], "label": "PlayMusic"}
    assert [path.name for path in source.ignored] == ["LICENSE.txt"]
    (tmp_path / "by_name").mkdir()
    for file, line in {"train.words": "a b", "train.tags": "X Y", "test.words": "c", "test.tags": "Z"}.items():
        (tmp_path / "by_name" / file).write_text(line + "\n")
    source = open_source(tmp_path / "by_name")
    assert dict(source.columns) == {"tokens": "symbols", "tags": "symbols"}
    assert next(source.rows("test")) == {"tokens": ["c"], "tags": ["Z"]}


def test_one_file_or_one_folder_a_class(tmp_path):
    for path, text in {"names/Greek.txt": "Adamou\n\nKalou\n", "names/Irish.txt": "Adam\n", "names/README.txt": "about"}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    source = open_source(tmp_path / "names")
    rows = [{"text": "Adamou", "label": "Greek"}, {"text": "Kalou", "label": "Greek"}, {"text": "Adam", "label": "Irish"}]
    assert list(source.rows("all")) == rows
    assert [path.name for path in source.ignored] == ["README.txt"]
    for path, text in {
        "films/train/pos/1.txt": "good\nfilm",
        "films/train/neg/1.txt": "bad",
        "films/test/pos/1.txt": "x",
        "films/test/neg/1.txt": "y",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    source = open_source(tmp_path / "films")
    assert list(source.rows("test")) == [{"text": "y", "label": "neg"}, {"text": "x", "label": "pos"}]
    assert [row["text"] for row in source.rows("train")] == ["bad", "good\nfilm"]


def test_a_fingerprint_changes_with_the_content_and_the_way_of_reading(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,n\na,1\n")
    first = open_source(path).fingerprint()
    assert open_source(path).fingerprint() == first
    assert open_source(path, kinds={"n": "text"}).fingerprint() != first
    path.write_text("text,n\na,2\n")
    assert open_source(path).fingerprint() != first


def test_a_column_guessed_differently_in_two_files_is_text(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,1\n")
    (tmp_path / "test.csv").write_text("text,label\nc,1\n")
    source = open_source(tmp_path)
    assert next(source.rows("test")) == {"text": "c", "label": "1"}
