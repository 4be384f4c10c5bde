"""Metrics against scikit-learn and seqeval; spans read strictly."""

import random
from itertools import pairwise

import pytest
from seqeval.metrics import f1_score as seqeval_f1, precision_score, recall_score
from seqeval.scheme import IOB2, IOBES
from sklearn import metrics as sklearn_metrics

from wavefront.tasks.metrics import Confusion, Errors, SpanCounts
from wavefront.tasks.spans import follows, scheme_of, spans_of, tags_of, tokens_of

SCHEMES = {"IOB2": (IOB2, ["O", "B-a", "I-a", "B-b", "I-b"]), "BIOES": (IOBES, [p + "-" + k for p in "BIES" for k in "ab"] + ["O"])}


@pytest.mark.filterwarnings("ignore:A single label")
@pytest.mark.parametrize("labels", [["a", "b", "c"], ["a"], ["x" * k for k in range(1, 30)]])
def test_accuracy_and_macro_f1_are_scikit_learns(labels):
    draw = random.Random(1)
    confusion, gold, predicted = Confusion(), [], []
    for _ in range(20):
        y, guess = ([draw.choice(labels) for _ in range(9)] for _ in range(2))
        confusion.add(y, guess)
        gold, predicted = gold + y, predicted + guess
    assert confusion.accuracy == pytest.approx(sklearn_metrics.accuracy_score(gold, predicted), abs=1e-12)
    assert confusion.macro_f1 == pytest.approx(sklearn_metrics.f1_score(gold, predicted, average="macro"), abs=1e-12)
    names = confusion.labels
    assert confusion.table(names) == sklearn_metrics.confusion_matrix(gold, predicted, labels=names).tolist()


def test_a_label_that_was_only_predicted_counts_in_macro_f1():
    confusion = Confusion()
    confusion.add(["a", "a"], ["a", "b"])
    assert confusion.macro_f1 == pytest.approx(sklearn_metrics.f1_score(["a", "a"], ["a", "b"], average="macro"))


def test_different_numbers_of_labels_are_refused():
    with pytest.raises(ValueError):
        Confusion().add(["a", "b"], ["a"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_span_f1_is_seqevals_in_strict_mode_for_any_labels(scheme):
    kind, labels = SCHEMES[scheme]
    draw = random.Random(2)
    for _ in range(300):
        # half of the predictions are right, so that spans are found; the others are anything, forbidden transitions included
        gold = [[draw.choice(labels) for _ in range(draw.randint(1, 9))] for _ in range(4)]
        predicted = [[y if draw.random() < 0.6 else draw.choice(labels) for y in row] for row in gold]
        spans = SpanCounts()
        for y, guess in zip(gold, predicted):
            spans.add(spans_of(y, scheme), spans_of(guess, scheme))
        if not spans.gold or not spans.predicted:
            continue
        for ours, theirs in ((spans.f1, seqeval_f1), (spans.precision, precision_score), (spans.recall, recall_score)):
            assert ours == pytest.approx(theirs(gold, predicted, mode="strict", scheme=kind, zero_division=0), abs=1e-12)


def test_no_span_at_all_is_right_and_a_span_where_none_is_is_wrong():
    spans = SpanCounts()
    spans.add(set(), set())
    assert (spans.precision, spans.recall, spans.f1) == (1, 1, 1)
    spans.add(set(), {(0, 1, "a")})
    assert (spans.precision, spans.f1) == (0, 0)


def test_spans_by_label():
    spans = SpanCounts()
    spans.add({(0, 1, "a"), (2, 3, "b")}, {(0, 1, "a"), (2, 3, "a")})
    assert spans.by_label() == {"a": (0.5, 1.0, pytest.approx(2 / 3), 1), "b": (0.0, 0.0, 0.0, 1)}


def test_errors_are_scikit_learns():
    draw = random.Random(3)
    gold, predicted = ([draw.gauss(5, 3) for _ in range(50)] for _ in range(2))
    errors = Errors()
    errors.add(gold[:20], predicted[:20])
    errors.add(gold[20:], predicted[20:])
    assert errors.rmse == pytest.approx(sklearn_metrics.root_mean_squared_error(gold, predicted), rel=1e-12)
    assert errors.mae == pytest.approx(sklearn_metrics.mean_absolute_error(gold, predicted), rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_may_follow_is_what_loses_no_label_when_read_strictly(scheme):
    """A sequence is allowed from edge to edge exactly if writing its spans down again gives the same labels."""
    _, labels = SCHEMES[scheme]
    draw = random.Random(4)
    seen = set()
    for _ in range(4000):
        row = [draw.choice(labels) for _ in range(draw.randint(1, 4))]
        allowed = all(follows(before, after, scheme) for before, after in pairwise([None, *row, None]))
        again = ["O"] * len(row)
        for start, end, kind in spans_of(row, scheme):
            again[start:end] = ["B-" + kind] + ["I-" + kind] * (end - start - 1)
            if scheme == "BIOES":
                again[end - 1] = ("S-" if end - start == 1 else "E-") + kind
        assert allowed == (again == row), row
        seen.add(allowed)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (["O", "B-a", "I-a"], "IOB2"),
        (["B-a"], "IOB2"),
        (["O"], None),
        (["O", "I-a"], None),
        (["O", "B-a", "NOUN"], None),
        (["B-a", "E-a", "S-a", "I-a", "O"], "BIOES"),
        (["NOUN", "X"], None),
        ([], None),
    ],
)
def test_the_scheme_is_seen_from_the_labels(labels, scheme):
    assert scheme_of(labels) == scheme


def test_spans_of_characters_go_to_tokens_and_say_when_they_cut_one():
    tokens = tokens_of("born1990, in Zürich-Nord")
    assert [token.text for token in tokens] == ["born", "1990", ",", "in", "Zürich", "-", "Nord"]
    labels, exact = tags_of(tokens, [(4, 8, "year"), (13, 24, "place")])
    assert labels == ["O", "B-year", "O", "O", "B-place", "I-place", "I-place"]
    assert exact
    assert tags_of(tokens, [(2, 8, "year")]) == (["B-year", "I-year", "O", "O", "O", "O", "O"], False)
    assert tags_of(tokens, [(9, 10, "blank")])[1] is False  # holds no token
    assert tags_of(tokens_of("a b", "characters"), [(0, 3, "x")]) == (["B-x", "I-x", "I-x"], True)
