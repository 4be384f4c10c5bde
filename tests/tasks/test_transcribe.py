"""transcribe: frames to symbols by CTC and by a transducer, letters too; and targets that cannot be written."""

import numpy as np
import pytest
import torch

from tasks.helpers import Rows, prepared, reloaded, scored, trained
from wavefront.errors import DataError
from wavefront.tasks import Transcribe

FRAMES = {"frames": "series", "symbols": "symbols"}
SMALL = {"units": 12, "layers": 1, "channels": 4, "widths": (3,), "dropout": 0.0, "noise": 0.0, "stretch": 0.0}


def tones(n=60, seed=0):
    """Each symbol a plateau of its own height, a few frames long, and a pause."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        symbols = [str(draw.choice(list("abc"))) for _ in range(draw.integers(1, 4))]
        parts = []
        for symbol in symbols:
            parts += [np.full(draw.integers(4, 8), 1.0 + "abc".index(symbol)), np.zeros(draw.integers(4, 6))]
        frames = np.concatenate(parts) + 0.05 * draw.normal(size=sum(map(len, parts)))
        rows.append({"frames": frames[:, None].astype(np.float32), "symbols": symbols})
    return rows


def test_plateaus_are_transcribed_in_a_batch_as_alone_and_again_after_reloading():
    source = Rows(FRAMES, train=tones(120), test=tones(30, seed=1))
    task = prepared(Transcribe, source, **SMALL)
    network = trained(task, source, epochs=12)
    assert scored(task, network, source.rows("test")).metrics()["symbol_error"] < 0.1
    task.searching(num_beams=4, n_best=2, explain=1)
    rows = list(source.rows("test"))[:6]
    together = task.predict(network, task.collate([task.encode(row) for row in rows]))
    for row, prediction in zip(rows, together):
        alone = task.predict(network, task.collate([task.encode(row)]))[0]
        assert prediction["target"] == alone["target"]
        assert prediction["log_prob"] == pytest.approx(alone["log_prob"], abs=1e-3)
    said = together[0]["target"].split()
    exact = task.log_probs(network, task.collate([task.encode({**rows[0], "symbols": said})]))
    assert exact[0] == pytest.approx(together[0]["log_prob"], abs=1e-3)
    looked = np.array(together[0]["alignment"]["weights"])
    assert looked.shape[0] == len(said)
    assert (np.diff(looked.argmax(1)) > 0).all()  # one symbol after the other
    again = reloaded(task)
    again.search = task.search
    other = again.network().eval()
    other.load_state_dict(network.state_dict())
    assert again.predict(other, again.collate([again.encode(row) for row in rows])) == together


@pytest.mark.parametrize("writer", ["ctc", "transducer"])
def test_letters_are_transcribed_too(writer):
    rows = [{"source": word, "target": " ".join(word.upper() * 2)} for word in ("ab", "ba", "aab", "b", "abba") * 3]
    source = Rows({"source": "text", "target": "text"}, train=rows)
    columns = {"source": "source", "target": "target"}
    task = prepared(Transcribe, source, columns, units=8, layers=1, symbol_size=6, predictor_units=6, writer=writer)
    assert task.settings.widen == (3 if writer == "ctc" else 1)  # B B needs three steps of the one letter of b
    network = trained(task, source, epochs=1)
    task.searching(num_beams=2, explain=1)
    prediction = task.predict(network, task.collate([task.encode(row) for row in rows[:2]]))[0]
    weights = torch.tensor(prediction["alignment"]["weights"])
    assert len(weights) == len(prediction["target"].split())


@pytest.mark.parametrize("writer", ["ctc", "transducer"])
def test_members_learn_each_on_its_own_and_write_together(writer):
    rows = [{"source": word, "target": " ".join(word.upper())} for word in ("ab", "ba", "aab", "b", "abba") * 3]
    source = Rows({"source": "text", "target": "text"}, train=rows)
    sizes = {"units": 8, "layers": 1, "symbol_size": 6, "predictor_units": 6, "dropout": 0.0}
    task = prepared(Transcribe, source, {"source": "source", "target": "target"}, writer=writer, members=2, **sizes)
    torch.manual_seed(0)
    network, batch = task.network(), task.collate([task.encode(row) for row in rows])
    loss, _ = task.loss(network, batch)
    each = [task.loss(member, batch)[0] for member in network.members]
    torch.testing.assert_close(loss, sum(each) / 2)
    assert task.loss(network.eval(), batch)[0] < loss  # Jensen: together they say more
    task.searching(num_beams=3, n_best=2, explain=1)
    found = task.predict(network, batch)
    best = found[0]["candidates"][0]
    (exact,) = (
        task.log_probs(network, task.collate([task.encode({**rows[0], "target": best["target"]})]))
        if best["target"]
        else [best["log_prob"]]
    )
    assert exact == pytest.approx(best["log_prob"], abs=1e-4)
    assert len(found[0]["alignment"]["weights"]) == len(found[0]["target"].split())


def test_targets_too_long_to_be_written_are_refused_with_their_row_or_left_out_with_their_count():
    rows = [*tones(20), {"frames": np.ones((3, 1), np.float32), "symbols": list("abca")}]
    with pytest.raises(DataError, match=r"1 target\(s\) of 21.*row 21 of train.*needs 4 steps.*has 3.*impossible=skip"):
        prepared(Transcribe, Rows(FRAMES, train=rows), strides=(1,), **SMALL)
    with pytest.warns(UserWarning, match=r"1 target\(s\) of 21 need more steps"):
        task = prepared(Transcribe, Rows(FRAMES, train=rows), strides=(1,), impossible="skip", **SMALL)
    network = task.network()
    batch = task.collate([task.encode(row) for row in rows[-2:]])
    loss, items = task.loss(network, batch)
    assert items == len(rows[-2]["symbols"])
    assert torch.isfinite(loss)
    assert task.log_probs(network.eval(), batch)[1] == -torch.inf


def test_repeats_count_among_the_steps_that_are_needed():
    rows = [*tones(20), {"frames": np.ones((3, 1), np.float32), "symbols": ["a", "a"]}]
    prepared(Transcribe, Rows(FRAMES, train=rows), strides=(1,), **SMALL)
    rows[-1]["symbols"] = ["a", "a", "b"]
    with pytest.raises(DataError, match="needs 4 steps"):
        prepared(Transcribe, Rows(FRAMES, train=rows), strides=(1,), **SMALL)


def test_series_with_labels_are_not_claimed_and_strings_of_symbols_are():
    assert Transcribe.claim(Rows(FRAMES, train=tones(5)), {}).certain
    labels = [{"frames": row["frames"], "kind": "x" if i % 2 else "y"} for i, row in enumerate(tones(40))]
    assert Transcribe.claim(Rows({"frames": "series", "kind": "text"}, train=labels), {}) is None
