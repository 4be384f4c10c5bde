"""language: a text cut anywhere and carried on is the whole text; what it is cut into says all of it; counted models are proper."""

import math
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tasks.helpers import Rows, prepared, reloaded
from wavefront.app.loader import loader, score
from wavefront.app.stream import StreamLoader
from wavefront.data import Store
from wavefront.errors import DataError, SettingsError
from wavefront.generative import KneserNey, beam_search, sample
from wavefront.learning import Average
from wavefront.tasks import Language
from wavefront.tasks.task import Manner
from wavefront.tasks.units import END, UNITS, Characters, Subwords, Words, unit_for

LINES = ["to be or not to be\n", "that is the question\n", "\n", "whether tis nobler\n"] * 12
SMALL = {"units": 8, "symbol_size": 6, "steps": 16}


def source(lines=LINES, format="text"):
    return Rows({"text": "text"}, format, train=[{"text": line} for line in lines])


def made(format="text", lines=LINES, **settings):
    torch.manual_seed(0)
    task = prepared(Language, source(lines, format), **{**SMALL, **settings})
    return task, task.network().double().eval()


def stored(task, tmp_path, lines=LINES):
    return Store.build(tmp_path / "store", (task.encode({"text": line}) for line in lines))


def as_one(store):
    values, _ = store.stream("symbols")
    return torch.from_numpy(np.array(values)).long()


# The stream


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("gru", 1)])
def test_a_text_cut_anywhere_and_carried_on_is_the_whole(tmp_path, cell, layers):
    task, network = made(cell=cell, layers=layers)
    store = stored(task, tmp_path, LINES[:5])
    y = as_one(store)
    whole = -network.log_prob(y[None]).item() / len(y)
    for steps in (1, 7, 1000):
        task.settings = task.settings.model_copy(update={"steps": steps})
        assert score(task, network, loader(task, store, 64)).metrics()["loss"] == pytest.approx(whole, rel=1e-12)


def test_scored_streams_count_every_symbol_once_and_begin_where_the_ones_before_end(tmp_path, monkeypatch):
    monkeypatch.setattr("wavefront.app.stream.WARM", 40)
    task, network = made()
    store = stored(task, tmp_path)
    y = as_one(store)
    batches = StreamLoader(task, store, 64)
    assert batches.streams == len(y) // 160 > 1
    counted = torch.cat([batch.targets[batch.targets >= 0] for batch in batches])
    assert sorted(counted.tolist()) == sorted(y.tolist())
    meter = score(task, network, batches)
    assert meter.counts.sum() == len(y)
    # what a stream reads before its own symbols leaves nearly the state that it would have
    assert meter.metrics()["loss"] == pytest.approx(-network.log_prob(y[None]).item() / len(y), rel=1e-3)


@pytest.mark.parametrize("streams", [1, 3, 8])
def test_training_streams_go_on_from_batch_to_batch(tmp_path, streams):
    task, _ = made()
    store = stored(task, tmp_path)
    batches = StreamLoader(task, store, streams, seed=3, epoch=2)
    pieces = [(batch.inputs["before"], batch.targets) for batch in batches]
    before, y = (torch.cat(part, 1) for part in zip(*pieces))
    assert torch.equal(before[:, 1:], y[:, :-1])
    text = as_one(store).tolist()
    for row in range(len(y)):
        assert any(text[k : k + y.shape[1]] == y[row].tolist() for k in range(len(text)))
    again = StreamLoader(task, store, streams, seed=3, epoch=2)
    assert torch.equal(again[len(again) - 1].targets, pieces[-1][1]), "a batch is the same whenever it is asked for"
    others = [StreamLoader(task, store, streams, seed=3, epoch=epoch).starts[0] for epoch in range(8)]
    assert len(set(others)) > 1, "the borders of batches move from epoch to epoch"


def test_gradients_end_at_the_border_of_a_batch_and_the_state_does_not(tmp_path):
    task, network = made()
    batches = StreamLoader(task, stored(task, tmp_path), 2, epoch=0)
    first, second = batches[0], batches[1]
    task.loss(network, first)
    state = {name: part.clone() for name, part in batches.memory.items()}
    assert state
    assert not any(part.requires_grad for part in state.values())
    carried = task.loss(network, second)[0]
    batches.memory.clear()
    assert task.loss(network, second)[0] != carried


def test_a_document_begins_anew_wherever_it_stands(tmp_path):
    documents = ["to be", "", "or not", "to be or"] * 6
    task, network = made("csv", documents)
    assert task.documents
    batch = task.collate([task.encode({"text": text}) for text in documents])
    alone = sum(found["log_prob"] for found in task.predict(network, batch))
    meter = score(task, network, loader(task, stored(task, tmp_path, documents), 64))
    assert -meter.nats.sum() == pytest.approx(alone, rel=1e-12)
    assert alone == pytest.approx(network.log_prob(*_padded(task, documents)).sum().item(), rel=1e-12), "each ends by a symbol of its own"


def _padded(task, documents):
    rows = [torch.from_numpy(task.encode({"text": text})["symbols"][:-1]).long() for text in documents]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


# The loss


def test_the_regularisers_are_what_they_say(tmp_path):
    task, network = made(dropout=0.0)
    batch = StreamLoader(task, stored(task, tmp_path), 2, epoch=0)[0]
    network.train()
    plain = task.loss(network, batch)[0]
    batch.memory.clear()
    raw = task.features(network, batch)
    for regulariser, extra in (
        ({"activation": 2.0}, 2 * raw.pow(2).mean()),
        ({"change": 0.5}, 0.5 * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()),
    ):
        task.settings = task.settings.model_copy(update=regulariser)
        batch.memory.clear()
        assert task.loss(network, batch)[0].item() == pytest.approx((plain + extra).item(), rel=1e-12)
        task.settings = task.settings.model_copy(update=dict.fromkeys(regulariser, 0.0))
    task.settings = task.settings.model_copy(update={"activation": 2.0})
    batch.memory.clear()
    assert task.loss(network.eval(), batch)[0].item() == pytest.approx(plain.item(), rel=1e-12), "they are of training only"


@pytest.mark.parametrize(
    "settings",
    [
        {"tied": True},
        {"adaptive": True, "pieces": None},
        {"dropout_weights": 0.5, "dropout_symbols": 0.2, "dropout_inputs": 0.2},
        {"unit": "words", "min_count": 1, "tied": True},
        {"unit": "bytes"},
        {"unit": "subwords", "subwords": 270},
    ],
    ids=str,
)
def test_every_recipe_gives_gradients_and_comes_back_from_its_state(tmp_path, settings):
    settings = {name: value for name, value in settings.items() if name != "pieces"}
    task, network = made(**settings)
    batch = StreamLoader(task, stored(task, tmp_path), 2, epoch=0)[0]
    loss, items = task.loss(network.train(), batch)
    loss.backward()
    assert items == batch.targets.numel()
    assert all(p.grad is not None for name, p in network.named_parameters() if name != "start" or END in batch.inputs["before"])
    again = reloaded(task)
    assert again.state() == task.state()
    example = {"text": "to be, or\n"}
    assert np.array_equal(again.encode(example)["symbols"], task.encode(example)["symbols"])
    other = again.network().double()
    other.load_state_dict(network.state_dict())
    batches = [t.collate([t.encode(example)]) for t in (task, again)]
    network.eval(), other.eval()
    assert task.predict(network, batches[0]) == again.predict(other, batches[1])


def test_the_plain_average_is_the_mean_of_all_weights_from_then_on():
    network = torch.nn.Linear(2, 2).double()
    average, seen = Average(network, 0.0), []
    for n in range(5):
        torch.nn.init.normal_(network.weight)
        seen.append(network.weight.detach().clone())
        average.add(n)
    average.swap()
    assert torch.allclose(network.weight, torch.stack(seen).mean(0), rtol=1e-12)


# Writing


def test_the_log_probability_of_what_was_written_is_what_was_collected():
    task, network = made()
    torch.manual_seed(1)
    w = task.read_on(network, "to be")
    drawn = sample(network, lengths=[30], state=w)
    prompt = torch.cat([torch.tensor([task.opening]), torch.from_numpy(task.encode({"text": "to be"})["symbols"]).long()])
    whole = network.log_prob_steps(torch.cat([prompt, drawn.y[0]])[None])[0, len(prompt) : -1]
    assert drawn.log_prob.item() == pytest.approx(whole.sum().item(), rel=1e-12)


@pytest.mark.parametrize("prompt", ["", "to be or not to be " * 30], ids=["none", "longer than trained"])
def test_text_is_written_on_from_a_prompt_of_any_length(prompt):
    task, network = made()
    best = "".join(task.write(network, prompt, Manner(12, temperature=0)))
    assert len(best) == 12
    numbers = torch.tensor([[task.opening, *task.units.encode(prompt).tolist()]])
    for symbol in task.units.encode(best).tolist():  # the whole anew for each symbol
        _, log_p = network.next(network.run(numbers)[1])
        log_p[:, :2] = -math.inf
        assert int(log_p.argmax()) == symbol
        numbers = torch.cat([numbers, torch.tensor([[symbol]])], 1)
    assert "".join(task.write(network, prompt, Manner(12, num_beams=1))) == best, "a search with one beam is greedy"


def test_the_unknown_symbol_is_read_and_never_written():
    task, network = made("text", ["a a a b\n"] * 30, unit="words", min_count=31)
    with torch.no_grad():
        network.output.V.bias[1] = 50.0  # of the unknown one
    assert task.not_known("a zebra") == ["zebra"]
    torch.manual_seed(0)
    assert "□" not in "".join(task.write(network, "a zebra b", Manner(40)))
    (found,) = beam_search(network, num_beams=2, without=(0, 1), lengths=[5])
    assert not {0, 1} & set(found[0].symbols)


# What a text is cut into


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_bytes_and_subwords_can_write_any_text(text):
    for name in ("bytes", "subwords"):
        units = _learned(name)
        numbers = units.encode(text)
        assert units.text(numbers.tolist()) == text
        assert units.characters()[numbers].sum() == len(text)
        assert not len(numbers) or numbers.min() >= 2


LEARNED = {}


def _learned(name):
    if name not in LEARNED:
        LEARNED[name] = Subwords(300) if name == "subwords" else UNITS[name]()
        LEARNED[name].learn(LINES)
    return LEARNED[name]


def test_words_and_characters_say_what_they_do_not_know():
    words, letters = Words(min_count=2), Characters()
    for units in (words, letters):
        units.learn(["a b b c\n", "b c\n"])
    assert words.text(words.encode("a b c d\n").tolist()) == "□ b c □\n"
    assert words.unknown("a b d d") == ["a", "d"]
    assert letters.unknown("abcd") == ["d"]


def test_how_a_text_is_cut_by_default():
    tokens = "the jury said , `` no evidence '' .\n"
    assert unit_for([tokens] * 12_000) == "words"
    assert unit_for([tokens]) == "characters", "too few words to learn from"
    assert unit_for([chr(k) for k in range(0x4E00, 0x4E00 + 6000)]) == "bytes"


@pytest.mark.parametrize("lines", [[], [""], ["\n", "  \n"]])
def test_a_text_of_nothing_but_blanks_is_refused(lines):
    with pytest.raises(DataError, match=f"no symbol to learn from in its {len(lines)} training rows"):
        made(lines=lines)


def test_subwords_need_a_symbol_for_every_byte():
    with pytest.raises(SettingsError, match="at least 257"):
        Subwords(200)


def test_bits_of_a_character_do_not_depend_on_what_the_text_is_cut_into():
    """A model that knows nothing has log 256 nats a byte."""
    for unit, size in (("bytes", 258), ("characters", None)):
        task, _ = made(unit=unit)
        symbols = task.units.encode("".join(LINES))
        found = task.meter().of(len(symbols) * math.log(256), symbols)
        assert found["bits_per_character"] == pytest.approx(8)
        assert found["perplexity"] == pytest.approx(256)
        assert size is None or len(task.units) == size
    task, _ = made(unit="words")
    assert "bits_per_character" not in task.meter().of(1.0, np.array([2]))
    assert (task.metric, made()[0].metric) == ("perplexity", "nats_per_symbol")


# What is counted


@pytest.mark.parametrize("order", [1, 2, 4])
def test_kneser_ney_is_a_distribution_at_every_step(order):
    draw = np.random.default_rng(0)
    model = KneserNey(order, 5).fit(draw.integers(0, 4, 200))  # symbol 4 is never seen
    past = draw.integers(0, 5, 9)
    for t in range(10):
        p = [np.exp(model.log_prob_steps([*past[:t], s])[-1]) for s in range(5)]
        assert sum(p) == pytest.approx(1, rel=1e-12)
        assert min(p) > 0


def test_kneser_ney_is_that_of_nltk():
    lm = pytest.importorskip("nltk.lm")
    from nltk.util import everygrams

    draw = np.random.default_rng(1)
    train, held_out = draw.integers(0, 4, 300), draw.integers(0, 4, 40)
    ours = np.exp(KneserNey(3, 4, discounts=[0, 0.6, 0.6]).fit(train).log_prob_steps(held_out))
    model = lm.KneserNeyInterpolated(3, discount=0.6)
    model.fit([list(everygrams([str(s) for s in train], max_len=3))], vocabulary_text=[str(s) for s in train])
    for t in range(2, 40):
        assert ours[t] == pytest.approx(model.score(str(held_out[t]), [str(s) for s in held_out[t - 2 : t]]), rel=1e-12)


@pytest.mark.learning
def test_what_cannot_be_counted_is_learned(tmp_path):
    """The case of a line's letters is told by its first one, beyond what a 6-gram sees."""
    from wavefront.app.fitting import fit

    draw = np.random.default_rng(0)
    lines = []
    for _ in range(400):
        letters = "".join(draw.choice(list(string.ascii_lowercase[:4]), 8))
        lines.append((f"{'A' if (big := draw.random() < 0.5) else 'a'}......" + (letters.upper() if big else letters)) + "\n")
    (tmp_path / "lines.txt").write_text("".join(lines))
    run = fit(tmp_path / "lines.txt", out=tmp_path / "run", set={"units": 32, "steps": 32, "learning_rate": 0.01}, epochs=25, quiet=True)
    counted = min(found["nats_per_symbol"] for found in run.metrics["baselines"].values())
    assert run.metrics["test"]["nats_per_symbol"] < counted - 0.03
