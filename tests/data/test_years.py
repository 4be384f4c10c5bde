"""The years generator: a word alone does not tell, and what is tested was never trained on."""

from collections import Counter, defaultdict

import pytest

from wavefront.data import open_source, words
from wavefront.data.years import NUMBERED, TRAINED, Years, home


@pytest.fixture(scope="module")
def rows():
    source = open_source("years")
    return {split: list(source.rows(split)) for split in source.splits}


def numbers(rows):
    """(position, word, tag) of every number."""
    return [(k, w, t) for row in rows for k, (w, t) in enumerate(zip(row["tokens"], row["tags"])) if w.isdigit()]


def f1(pairs):
    """Span F1 of (predicted, true) tags; every span is one word."""
    hits = sum(p == t == "B-YEAR" for p, t in pairs)
    return 2 * hits / (sum(p == "B-YEAR" for p, _ in pairs) + sum(t == "B-YEAR" for _, t in pairs))


def table(rows, key):
    """The most frequent tag for each key, as a tagger that sees no more than that."""
    seen = defaultdict(Counter)
    for k, word, tag in numbers(rows):
        seen[key(k, word)][tag] += 1
    return {k: counts.most_common(1)[0][0] for k, counts in seen.items()}


@pytest.mark.parametrize("split", ["valid", "test", "long"])
def test_a_tagger_without_context_stays_below_the_bar(rows, split):
    by_word = table(rows["train"], lambda k, word: word)
    by_place = table(rows["train"], lambda k, word: k)
    found = numbers(rows[split])
    assert f1([(by_word.get(w, "O"), t) for _, w, t in found]) < 0.7
    assert f1([(by_place.get(k, "O"), t) for k, _, t in found]) < 0.7
    assert f1([("B-YEAR", t) for _, _, t in found]) < 0.7  # calling every number a year


def test_years_and_other_numbers_are_the_same_words_in_the_same_places(rows):
    found = numbers(rows["train"])
    years, others = ([x for x in found if (x[2] == "B-YEAR") is is_year] for is_year in (True, False))
    assert len({w for _, w, _ in years} & {w for _, w, _ in others}) > 0.95 * len({w for _, w, _ in found})
    for place in range(TRAINED - 2):
        at = [tag == "B-YEAR" for k, _, tag in found if k == place]
        assert 0.3 < sum(at) / len(at) < 0.65, place


def test_lengths_and_positions_of_test_were_never_trained_on(rows):
    lengths = {split: [len(row["tokens"]) for row in found] for split, found in rows.items()}
    assert max(lengths["train"]) == TRAINED
    assert min(lengths["test"]) > TRAINED
    assert min(lengths["long"]) >= 3 * TRAINED
    trained = {k for k, _, _ in numbers(rows["train"])}
    assert trained.isdisjoint(k for k, _, _ in numbers(rows["test"]))
    assert not {tuple(row["tokens"]) for row in rows["train"]} & {tuple(row["tokens"]) for row in rows["valid"]}


def test_a_template_is_of_one_split_and_every_split_has_some():
    fronts = [(), *[(adverb, *comma) for adverb in ("adverb", "plain adverb") for comma in ((), (",",))]]
    cores = [("person", "verb"), ("person", "object"), ("subject",)]
    backs = [(), ("adverb",), ("plain adverb",), ("adverb", "adverb"), ("adverb", "plain adverb"), ("plain adverb", "adverb")]
    templates = [f + c + b for f in fronts for c in cores for b in backs if {*f, *c, *b} & set(NUMBERED)]
    homes = Counter(home(template) for template in templates)
    assert homes["train"] > len(templates) / 2
    assert min(homes["valid"], homes["test"]) >= 8


def test_deterministic_by_seed(rows):
    assert list(Years("train").rows()) == rows["train"]
    assert list(Years("train", seed=1, count=50).rows()) != rows["train"][:50]
    assert Years("test").fingerprint() == Years("test").fingerprint() != Years("test", seed=1).fingerprint()


def test_tokens_are_those_that_predict_makes_of_the_sentence(rows):
    for row in rows["train"][:300] + rows["long"][:30]:
        assert words(" ".join(row["tokens"])) == row["tokens"]
        assert len(row["tokens"]) == len(row["tags"])
