"""translate: pairs of sequences; how they are cut, searched, counted, explained; and pairs that are not as they should be."""

import json
import random

import pytest
import torch
from sacrebleu import corpus_bleu

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.errors import DataError, SettingsError
from wavefront.generative import smoothed_loss
from wavefront.tasks import Translate
from wavefront.tasks.pairs import drawn_alignment
from wavefront.tasks.references import References
from wavefront.tasks.side import Side

PAIR = {"source": "text", "target": "text"}
SMALL = {"units": 12, "layers": 1, "decoder_units": 16, "symbol_size": 8, "dropout": 0.0, "smoothing": 0.0}


def spelled(n=40, seed=0):
    """Words and what they sound like: each letter a symbol, C before A a K, else an S."""
    draw = random.Random(seed)
    rows = []
    for _ in range(n):
        word = "".join(draw.choice("ABC") for _ in range(draw.randint(1, 5)))
        sounds = [{"A": "AH", "B": "B"}.get(c) or ("K" if word[i + 1 : i + 2] == "A" else "S") for i, c in enumerate(word)]
        rows.append({"source": word, "target": " ".join(sounds)})
    return rows


@pytest.fixture(scope="module")
def sounding():
    source = Rows(PAIR, train=spelled(200), test=spelled(40, seed=1))
    task = prepared(Translate, source, **SMALL)
    return task, trained(task, source, epochs=12), source


def test_words_become_phonemes_and_a_reloaded_task_says_the_same(sounding):
    task, network, source = sounding
    assert (task.settings.source_pieces, task.settings.target_pieces, task.metric) == ("characters", "words", "word_error")
    metrics = scored(task, network, source.rows("test")).metrics()
    assert metrics["word_error"] < 0.4
    assert 0 <= metrics["symbol_error"] < metrics["word_error"]
    assert metrics["nats_per_symbol"] == metrics["loss"]
    baseline = task.baselines(map(task.encode, source.rows("train")), map(task.encode, source.rows("test")))
    assert metrics["word_error"] < baseline["target of the most similar source"]["word_error"] < 1
    again = reloaded(task)
    other = again.network().eval()
    other.load_state_dict(network.state_dict())
    batches = [t.collate([t.encode(row) for row in source.rows("test")]) for t in (task, again)]
    assert again.predict(other, batches[1]) == task.predict(network, batches[0])


@pytest.mark.parametrize(
    ("word", "asked", "attention"), [("AB", {}, "additive"), ("A" * 80, {}, "general"), ("AB", {"attention": "dot"}, "dot")]
)
def test_short_words_are_looked_at_by_additive_attention(word, asked, attention):
    rows = [*spelled(), {"source": word, "target": "AH"}]
    assert prepared(Translate, Rows(PAIR, train=rows), **SMALL, **asked).settings.attention == attention
    talk = [{"source": "a small talk of words", "target": "ein kleines Gerede aus Worten"}] * 3
    assert prepared(Translate, Rows(PAIR, train=talk), **SMALL).settings.attention == "general"


def test_candidates_come_best_first_with_their_exact_log_probabilities(sounding):
    task, network, _ = sounding
    task.searching(num_beams=4, n_best=3, explain=1)
    predictions = task.predict(network, task.collate([task.encode({"source": word}) for word in ("CAB", "A")]))
    task.search = type(task.search)()
    for word, prediction in zip(("CAB", "A"), predictions):
        found = prediction["candidates"]
        assert [c["score"] for c in found] == sorted((c["score"] for c in found), reverse=True)
        assert len({c["target"] for c in found}) == 3
        rows = [{"source": word, "target": c["target"] or "AH"} for c in found]
        exact = task.log_probs(network, task.collate([task.encode(row) for row in rows]))
        said = [c["log_prob"] for c in found]
        assert all(abs(a - b) < 1e-3 for a, b, c in zip(exact, said, found) if c["target"])
    looked = predictions[0]["alignment"]
    assert looked["source"] == list("CAB")
    assert looked["target"] == [*predictions[0]["target"].split(), "end"]
    assert all(abs(sum(step) - 1) < 1e-2 for step in looked["weights"])
    assert "alignment" not in predictions[1]  # of one row a batch was asked
    assert drawn_alignment(looked).splitlines()[0].split() == list("CAB")
    assert "\t" in task.row_text({"source": "CAB"}, predictions[0])
    json.dumps(predictions, allow_nan=False)


def test_a_batch_is_translated_as_each_source_alone(sounding):
    task, network, _ = sounding
    task.searching(num_beams=3)
    examples = [task.encode({"source": word}) for word in ("C", "CABBACCA", "BA", "ACC")]
    together = task.predict(network, task.collate(examples))
    alone = [task.predict(network, task.collate([example]))[0] for example in examples]
    task.search = type(task.search)()
    assert [p["target"] for p in together] == [p["target"] for p in alone]
    assert all(abs(a["log_prob"] - b["log_prob"]) < 1e-4 for a, b in zip(together, alone))


@pytest.mark.parametrize(
    "how",
    [
        {"attention": "none"},
        {"attention": "location", "bridge": "learned", "feeding": True},
        {"attention": "monotonic", "bridge": "none"},
        {"copying": True, "tied": False, "decoder_layers": 2, "dropout": 0.2},
        {"attention": "dot", "decoder_units": 24, "bridge": "mean", "tied": True, "smoothing": 0.1},
    ],
    ids=str,
)
def test_every_network_learns_a_step_and_writes(how):
    source = Rows(PAIR, train=spelled(12))
    task = prepared(Translate, source, **{**SMALL, **how})
    network = trained(task, source, epochs=1)
    task.searching(num_beams=2, n_best=2, explain=1)
    rows = list(source.rows("train"))[:3]
    predictions = task.predict(network, task.collate([task.encode(row) for row in rows]))
    assert all(prediction["log_prob"] < 0 for prediction in predictions)
    assert ("alignment" in predictions[0]) == (how.get("attention") != "none")


@torch.no_grad()
def test_smoothing_spreads_a_share_of_each_target(sounding):
    task, network, _ = sounding
    batch = task.collate([task.encode({"source": "CAB", "target": "K AH B"})])
    encoded, (y, lengths) = network(**batch.inputs), task.targets_of(batch)
    plain, smooth = (float(smoothed_loss(network.decoder, y, lengths, share, **encoded._asdict())) for share in (0.0, 0.25))
    expected, (w, _) = 0.0, network.decoder.begin(1, **encoded._asdict())
    for symbol in [*y[0].tolist(), 0]:  # the equation, one step at a time
        w, log_p = network.decoder.next(w, context=encoded.context)
        expected -= float(0.75 * log_p[0, symbol] + 0.25 * log_p[0].mean())
        w = network.decoder.write(w, torch.tensor([symbol]))
    assert smooth == pytest.approx(expected, rel=1e-4)
    assert plain == pytest.approx(-sum(task.log_probs(network, batch)), rel=1e-5)


def test_alternatives_of_one_source_are_all_right():
    seen = References(str.split)
    for reference in ("R IY D", "R EH D"):
        seen.add("READ", "R EH D", reference)
    seen.add("LEAD", "L D", "L EH D")
    assert (seen.word_error, seen.symbol_error) == (0.5, pytest.approx(1 / 6))


def test_bleu_is_sacrebleu_s_over_alternatives():
    seen = References(str.split)
    pairs = [
        ("a", "the cat sat on the mat", ["the cat sat on a mat", "a cat sat on the mat"]),
        ("b", "there is a dog here", ["there is one dog here"]),
    ]
    for source, found, references in pairs:
        for reference in references:
            seen.add(source, found, reference)
    expected = corpus_bleu([p[1] for p in pairs], [["the cat sat on a mat", "there is one dog here"], ["a cat sat on the mat", None]])
    score, signature = seen.bleu()
    assert score == pytest.approx(expected.score)
    assert "tok:13a" in signature


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        (["K AH Z", "K AE T", "T AE K"] * 5, "words"),
        (["house", "mouse", "spouse"] * 3, "characters"),
        (["the house is red", "a mouse was blue"] * 3, "words"),
        ([["a", "b"], ["c"]], "words"),
    ],
)
def test_what_a_side_is_cut_into_is_seen_from_the_data(values, pieces):
    side = Side()
    for value in values:
        side.see(value)
    side.settle(lambda: values)
    assert side.pieces == pieces
    for value in values:
        assert side.text(side.encode(value)) == (value if isinstance(value, str) else " ".join(value))


def test_subwords_are_learned_and_give_the_text_back():
    texts = ["the lowest river flows", "a lower river", "the newest flow is slower"] * 4
    side = Side("subwords", largest=60)
    for text in texts:
        side.see(text)
    side.settle(lambda: texts)
    again = Side.from_state(json.loads(json.dumps(side.state())))
    for text in [*texts, "newer rivers"]:
        assert again.encode(text).tolist() == side.encode(text).tolist()
        assert side.text(side.encode(text)) == text


def test_syllables_of_hangul_are_taken_apart_and_put_together():
    side = Side()
    for word in ["가각간갇", "나낙난낟", "다닥단닫", "라락란랃"]:
        side.see(word)
    side.settle(list)
    assert side.decompose
    assert len(side.symbols("각")) == 3
    assert side.text(side.encode("각난")) == "각난"


def test_columns_are_claimed_by_name_by_language_and_else_asked_for():
    rows = spelled(5)
    assert Translate.claim(Rows(PAIR, train=rows), {}).certain
    other = Rows({"word": "text", "sound": "text"}, train=[{"word": r["source"], "sound": r["target"]} for r in rows])
    claim = Translate.claim(other, {})
    assert (claim.columns, claim.certain) == ({"source": "word", "target": "sound"}, False)
    assert Translate.claim(other, {"source": "sound"}).columns == {"source": "sound", "target": "word"}
    aligned = Rows({"de": "text", "en": "text"}, format="aligned", train=[{"de": "ja", "en": "yes"}])
    aligned.name = "talks_en_de"
    assert Translate.claim(aligned, {}).columns == {"source": "en", "target": "de"}
    assert Translate.claim(Rows({"text": "text", "label": "text", "n": "number"}, train=rows), {}) is None


def test_a_pair_with_one_side_stops_with_its_row_and_symbols_never_seen_do_not():
    rows = spelled(12)
    for broken in ({"source": "AB", "target": ""}, {"source": None, "target": "AH"}, {"source": "  ", "target": "AH"}):
        with pytest.raises(DataError, match=r"row 13 of train.*is empty.*one side"):
            prepared(Translate, Rows(PAIR, train=[*rows, broken]), **SMALL)
    task = prepared(Translate, Rows(PAIR, train=rows), **SMALL)
    network = task.network().eval()
    batch = task.collate([task.encode({"source": "AÿB", "target": "AH ??? B"})])
    assert batch.inputs["x"][0].tolist()[1] == 1
    (prediction,) = task.predict(network, batch)
    assert prediction["unknown"] == 1
    assert task.row_text({"source": "AÿB"}, prediction).endswith("\t1 unknown")
    meter = task.meter()
    meter.add(batch, *task.assess(network, batch))
    assert meter.scores()["word_error"] == 1.0


@pytest.mark.parametrize("words", [False, True])
def test_the_metric_is_told_by_the_length_of_the_source_too(words):
    """What is said is right for short sources and wrong for long ones."""
    blank = " " if words else ""
    rows = [{"source": blank.join("ABCDEFGH"[:n]), "target": f"dort stehen {n} Häuser" if words else "K " * n} for n in range(1, 9)] * 40
    task = prepared(Translate, Rows(PAIR, train=rows), target_pieces="words", **SMALL)
    meter, seen = task.meter(), rows[:8]
    batch = task.collate([task.encode(row) for row in seen])
    said = [{"target": row["target"] if n <= 5 else "nichts davon stimmt hier"} for n, row in enumerate(seen, 1)]
    meter.add(batch, said, 0.0, 1)
    scores = meter.scores()
    if not words:
        assert scores["word_error_by_length"] == {"up to 1": 0, "up to 2": 0, "up to 4": 0, "up to 8": 0.75}
        return
    assert scores["bleu_by_length"].keys() == {"up to 5", "up to 10"}
    assert scores["bleu_by_length"]["up to 5"] == pytest.approx(100)
    assert scores["bleu_by_length"]["up to 10"] == pytest.approx(0, abs=1e-6)
    assert 0 < scores["bleu"] < 100
    assert scores["bleu_signature"].startswith("nrefs:1|")


def test_a_line_of_a_megabyte_is_refused_in_training_and_read_so_far_in_prediction():
    rows = spelled(12)
    with pytest.raises(DataError, match=r"row 13 of train.*1,000,000 symbols; at most 1,000.*longest=1000000"):
        prepared(Translate, Rows(PAIR, train=[*rows, {"source": "A" * 1_000_000, "target": "AH"}]), **SMALL)
    task = prepared(Translate, Rows(PAIR, train=rows), **SMALL)
    assert len(task.encode({"source": "A" * 1_000_000})["source"]) == 1000


def test_more_candidates_than_beams_are_refused(sounding):
    with pytest.raises(SettingsError, match="2 beams gives 1 to 2 candidates, not 3"):
        sounding[0].searching(num_beams=2, n_best=3)
