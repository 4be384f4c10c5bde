"""Symbols to numbers and back."""

import json
from collections import Counter

import pytest

from wavefront.data import PADDING, UNKNOWN, Labels, Vocabulary
from wavefront.errors import DataError

WORDS = [["b", "a", "c", "a", "b", "a"], ["d"]]


def test_most_frequent_first_then_by_spelling():
    vocabulary = Vocabulary.count(WORDS)
    assert vocabulary.symbols == ("a", "b", "c", "d")
    assert vocabulary.counts == (3, 2, 1, 1)
    assert vocabulary.encode(["d", "a", "never seen"]).tolist() == [5, 2, UNKNOWN]
    assert vocabulary.decode([PADDING, UNKNOWN, 2]) == ["<padding>", "<unknown>", "a"]
    assert len(vocabulary) == 6
    assert "a" in vocabulary
    assert "<unknown>" not in vocabulary


def test_min_count_and_max_size():
    assert Vocabulary.count(WORDS, min_count=2).symbols == ("a", "b")
    assert Vocabulary.count(WORDS, max_size=3).symbols == ("a", "b", "c")
    assert Vocabulary.of(Counter(a=1, b=1), max_size=1).symbols == ("a",)


@pytest.mark.parametrize("kind", [Vocabulary, Labels])
def test_saved_and_loaded_is_equal(kind):
    vocabulary = kind.count(WORDS)
    again = kind.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert again.counts == vocabulary.counts
    assert again.encode(["c", "a"]).tolist() == vocabulary.encode(["c", "a"]).tolist()
    assert Vocabulary(["a"]) != Labels(["a"])


def test_a_label_never_seen_is_an_error():
    labels = Labels.count(WORDS)
    assert labels.symbols == ("a", "b", "c", "d")
    assert labels.decode(labels.encode(["d", "a"])) == ["d", "a"]
    with pytest.raises(DataError, match=r"label 'x' was never seen in training; known: a, b, c, d"):
        labels.encode(["a", "x"])


def test_a_symbol_twice_is_an_error():
    with pytest.raises(DataError, match="'a' comes twice"):
        Vocabulary(["a", "b", "a"])
