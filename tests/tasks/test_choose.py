"""The task and its columns are inferred where that is certain, and asked for where it is not."""

import numpy as np
import pytest

from tasks.helpers import Rows
from wavefront.errors import SettingsError
from wavefront.tasks import Classify, Regress, Tag, choose

SERIES = np.zeros((3, 1), np.float32)


@pytest.mark.parametrize(
    ("columns", "row", "task", "roles"),
    [
        ({"tokens": "symbols", "tags": "symbols"}, {"tokens": ["a"], "tags": ["O"]}, Tag, {"tokens": "tokens", "labels": "tags"}),
        ({"words": "symbols", "pos": "symbols"}, {"words": ["a"], "pos": ["N"]}, Tag, {"tokens": "words", "labels": "pos"}),
        ({"text": "text", "label": "text"}, {"text": "a b", "label": "x"}, Classify, {"input": "text", "label": "label"}),
        ({"text": "text", "class": "number"}, {"text": "a b", "class": 1.0}, Classify, {"input": "text", "label": "class"}),
        ({"series": "series", "label": "text"}, {"series": SERIES, "label": "1"}, Classify, {"input": "series", "label": "label"}),
        ({"series": "series", "target": "number"}, {"series": SERIES, "target": 0.5}, Regress, {"input": "series", "target": "target"}),
        ({"review": "text", "stars": "number"}, {"review": "good", "stars": 4.0}, Regress, {"input": "review", "target": "stars"}),
    ],
)
def test_what_is_certain_is_chosen(columns, row, task, roles):
    chosen, claim = choose(Rows(columns, train=[row] * 30))
    assert (chosen, claim.columns, claim.certain) == (task, roles, True)
    assert claim.because


def test_a_text_column_of_few_values_is_the_label_and_an_id_is_not_read():
    rows = [{"id": f"row {i}", "body": f"some words {i}", "mood": "ab"[i % 2]} for i in range(60)]
    columns = {"id": "text", "body": "text", "mood": "text"}
    with pytest.raises(SettingsError, match="If that is meant: --task classify"):
        choose(Rows(columns, train=rows))  # id and body could both be the input
    assert choose(Rows(columns, train=rows), None, {"input": "body", "label": "mood"})[0] is Classify


def test_two_tasks_on_one_folder_are_asked_for_by_name():
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-x"], "label": "y"}]
    source = Rows({"tokens": "symbols", "tags": "symbols", "label": "text"}, train=rows)
    with pytest.raises(SettingsError, match=r"more than one way, say which with --task: classify \(.*\); tag \("):
        choose(source)
    assert choose(source, "tag")[1].columns == {"tokens": "tokens", "labels": "tags"}
    assert choose(source, "classify")[1].columns == {"input": "tokens", "label": "label"}


def test_conllu_is_tagged_with_upos_unless_told():
    columns = dict.fromkeys(("tokens", "lemma", "upos", "xpos"), "symbols")
    source = Rows(columns, format="conllu", train=[{name: ["a"] for name in columns}])
    assert choose(source)[1].columns == {"tokens": "tokens", "labels": "upos"}
    assert choose(source, None, {"labels": "xpos"})[1].columns == {"tokens": "tokens", "labels": "xpos"}


def test_sentences_and_their_translations_are_not_tags_and_may_be_pairs():
    rows = [{"de": ["a", "b"], "en": ["c"]}]
    with pytest.raises(SettingsError, match=r"looks like one for translate \(en from de\).*If that is meant: --task translate"):
        choose(Rows({"de": "symbols", "en": "symbols"}, train=rows))


@pytest.mark.parametrize(
    ("task", "columns", "text"),
    [
        ("tagg", {}, "there is no task 'tagg'. Did you mean 'tag'\\? There are: classify, .*tag"),
        (None, {"lable": "label"}, "no task has a column 'lable'. Did you mean 'label'"),
        (None, {"label": "nope"}, "label=nope: the data has no such column. It has: text \\(text\\), label \\(text\\)"),
        ("regress", {}, "regress cannot tell its columns from .* Name them: --column input=COLUMN --column target=COLUMN"),
        ("tag", {"input": "text"}, "tag has no column 'input'. There are: tokens, labels, text, spans"),
    ],
)
def test_what_cannot_be_says_what_there_is(task, columns, text):
    source = Rows({"text": "text", "label": "text"}, train=[{"text": "a", "label": "b"}])
    with pytest.raises(SettingsError, match=text):
        choose(source, task, columns)


@pytest.mark.parametrize(("kind", "value", "task"), [("text", "a b c", "translate"), ("series", SERIES, "transcribe")])
def test_naming_source_and_target_leaves_what_is_certain_certain(kind, value, task):
    source = Rows({"heard": kind, "said": "text"}, train=[{"heard": value, "said": f"w{k}"} for k in range(30)])
    assert choose(source, None, {"source": "heard", "target": "said"})[0].name == task


def test_a_series_is_not_translated():
    source = Rows({"heard": "series", "said": "text"}, train=[{"heard": SERIES, "said": "a"}])
    with pytest.raises(SettingsError, match="translate cannot tell its columns from heard \\(series\\)"):
        choose(source, "translate", {"source": "heard", "target": "said"})
