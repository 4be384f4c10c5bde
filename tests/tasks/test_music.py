"""music: rolls are what was written, the notes of a step are one distribution, no note is lost when a piece is moved."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.helpers import Rows, prepared, reloaded, scored
from wavefront.app.generating import steps_of, write_midi
from wavefront.data import open_source
from wavefront.errors import DataError, SettingsError
from wavefront.generative import NADE
from wavefront.tasks import Music
from wavefront.tasks.music import transposed
from wavefront.tasks.task import Manner

PIECES = [[[60, 64, 67], [60, 64, 67], [], [59, 62]], [[62]], [[48, 60], [50, 62], [52, 64]], []]


def made(**settings):
    torch.manual_seed(0)
    source = Rows({"notes": "notes"}, "rolls", train=[{"notes": piece} for piece in PIECES])
    task = prepared(Music, source, **{"units": 6, "nade_units": 5, **settings})
    return task, task.network().double().eval()


def batch_of(task, pieces):
    batch = task.collate([task.encode({"notes": piece}) for piece in pieces])
    batch.inputs["y"] = batch.inputs["y"].double()
    return batch


def test_a_roll_has_the_notes_of_each_step():
    task, _ = made()
    for piece in PIECES:
        roll = task.roll(task.encode({"notes": piece}))
        assert [[21 + int(k) for k in step.nonzero()[0]] for step in roll] == piece
    assert reloaded(task).state() == task.state()


@pytest.mark.parametrize("output", ["nade", "bernoulli"])
def test_learning_begins_at_how_often_each_note_sounds(output):
    _, network = made(output=output)
    bias = network.output.b.bias if output == "nade" else network.output.V.bias
    steps = [step for piece in PIECES for step in piece]
    for note in (21, 60, 62, 67):
        n = sum(note in step for step in steps)
        assert bias[note - 21].item() == pytest.approx(math.log((n + 1) / (len(steps) - n + 1)), rel=1e-6)


def test_nade_is_its_definition():
    torch.manual_seed(2)
    output = NADE(3, size=6, units=4).double()
    o, y = torch.randn(5, 3).double(), torch.randint(2, (5, 6)).double()
    y[0], y[1] = 0, 1
    for row in range(5):
        total, h = 0.0, output.a(o[row])
        for i in range(6):
            total += -F.binary_cross_entropy_with_logits(output.b(o[row])[i] + output.R[i] @ h.sigmoid(), y[row, i])
            h = h + output.W[i] * y[row, i]
        assert output.log_prob(o[row], y[row]).item() == pytest.approx(total.item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda o, W: _with(output, W).log_prob(o, y), (o.requires_grad_(), output.W.detach().requires_grad_()))


def _with(output, W):
    class Other:
        a, b, R = output.a, output.b, output.R

        def log_prob(self, o, y):
            return NADE.log_prob(self, o, y)

    Other.W = W
    return Other()


@pytest.mark.parametrize("output", ["nade", "bernoulli"])
def test_the_metric_is_the_mean_over_all_steps_and_padding_does_not_matter(output):
    task, network = made(output=output)
    alone = [-network.log_prob(batch_of(task, [piece]).inputs["y"]).item() for piece in PIECES[:3]]
    batch = batch_of(task, PIECES)
    predictions, loss, items = task.assess(network, batch)
    assert items == 8
    assert loss == pytest.approx(sum(alone) / 8, rel=1e-12)
    assert [-found["log_prob"] for found in predictions[:3]] == pytest.approx(alone, rel=1e-12)
    assert task.log_probs(network, batch)[3] == 0
    assert scored(task, network.float(), [{"notes": piece} for piece in PIECES]).metrics()["nll_per_step"] == pytest.approx(loss, rel=1e-5)
    worst = predictions[0]["surprising"][0]
    assert worst["notes"] == PIECES[0][worst["step"]]


def test_a_piece_is_moved_whole():
    torch.manual_seed(0)
    y = torch.zeros(200, 3, 12)
    y[:, 0, 1] = y[:, 1, 4] = y[:, 2, 10] = 1
    moved = transposed(y, 5)
    shifts = moved.argmax(-1) - torch.tensor([1, 4, 10])
    assert (moved.sum((1, 2)) == 3).all()
    assert (shifts == shifts[:, :1]).all()
    assert set(shifts[:, 0].tolist()) == {-1, 0, 1}, "no further than the keys go"
    edge = torch.zeros(50, 1, 12)
    edge[:, 0, 0] = 1
    assert (transposed(edge, 5).sum((1, 2)) == 1).all()


def test_the_scores_to_beat_are_those_of_the_counts():
    task, _ = made()
    examples = [task.encode({"notes": piece}) for piece in PIECES]
    found = task.baselines(examples, examples)
    rolls = np.concatenate([task.roll(example) for example in examples])
    p = (rolls.sum(0) + 3) / (len(rolls) + 6)  # one of each added, in each of the three pasts
    expected = -(rolls * np.log(p) + (1 - rolls) * np.log(1 - p)).sum() / len(rolls)
    assert found["how often each note sounds"]["nll_per_step"] == pytest.approx(expected)
    assert math.isfinite(found["the step before"]["nll_per_step"])


# Writing


def test_steps_are_written_on_from_a_piece():
    task, network = made()
    network.float()
    torch.manual_seed(3)
    written = list(steps_of(task.write(network, json.dumps(PIECES[0]), Manner(6))))
    assert len(written) == 6
    y = torch.from_numpy(task.roll(task.encode({"notes": PIECES[0]})))[None]
    torch.manual_seed(3)
    drawn = network.sample(1, lengths=[6], state=network.run(y)[1])
    assert [[21 + k for k in step.nonzero().flatten().tolist()] for step in drawn.y[0]] == written
    with pytest.raises(SettingsError, match="temperature 1, or 0"):
        next(task.write(network, "", Manner(6, temperature=0.5)))
    for prompt, message in (("60 64", "a piece as JSON"), ("[60]", "step 1: expected a list"), ("[[1]]", "note 1 is outside")):
        with pytest.raises(DataError, match=message):
            next(task.write(network, prompt, Manner(1)))


def test_a_midi_file_has_the_notes_of_each_step(tmp_path):
    mido = pytest.importorskip("mido")
    steps = [[60, 64], [60, 65], [], [62]]
    write_midi(steps, tmp_path / "song.mid")
    file, sounding, at, found = mido.MidiFile(tmp_path / "song.mid"), set(), 0, {}
    for message in file.tracks[0]:
        if message.time:
            found |= {t: sorted(sounding) for t in range(at, at + message.time, file.ticks_per_beat)}
            at += message.time
        if message.type in ("note_on", "note_off"):
            (sounding.add if message.type == "note_on" else sounding.discard)(message.note)
    assert [found[file.ticks_per_beat * k] for k in range(4)] == steps
    assert not sounding, "every note ends"


# Files


def test_a_folder_of_midi_files_is_read_as_it_was_written(tmp_path):
    pieces = [[[60, 64], [60, 65], [], [62]], [[], [40], [40], [40, 41]]]
    for per_quarter in (1, 4):
        for name, piece in zip("ab", pieces):
            write_midi(piece, tmp_path / f"{name}.mid", per_quarter)
        source = open_source(tmp_path, steps_per_quarter=per_quarter)
        assert source.format == "midi"
        assert [row["notes"] for row in source.rows("all")] == pieces
        assert [row["notes"] for row in open_source(tmp_path, like=source.describe()).rows("all")] == pieces


def test_midi_of_many_tracks_goes_to_the_nearest_step_without_the_drums(tmp_path):
    from mido import Message, MidiFile, MidiTrack

    file = MidiFile(ticks_per_beat=100)
    events = [
        [(0, "on", 60, 0), (140, "off", 60, 0), (20, "on", 62, 0), (5, "off", 62, 0)],  # 60: 0 to 1.4; 62: a short one at 1.6
        [(90, "on", 64, 1), (170, "on", 64, 1), (40, "end", 64, 1)],  # 64: 0.9 to 2.6, struck again, 2.6 to 3
        [(0, "on", 35, 9), (500, "off", 35, 9)],
    ]
    for track in events:
        file.tracks.append(MidiTrack())
        for time, what, note, channel in track:
            kind, velocity = ("note_on", 0) if what == "end" else (f"note_{what}", 64)
            file.tracks[-1].append(Message(kind, note=note, velocity=velocity, channel=channel, time=time))
    file.save(tmp_path / "song.mid")
    (row,) = open_source(tmp_path / "song.mid").rows("all")
    assert row["notes"] == [[60], [64], [62, 64], [64]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no MIDI file, or a damaged one"),
        (b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60MTrk\x00\x00\x00\xff\x00\x90", "no MIDI file, or a damaged one"),
        (b"MThd\x00\x00\x00\x06\x00\x02\x00\x00\x00\x60", "type 2"),
        (b"MThd\x00\x00\x00\x06\x00\x01\x00\x00\xe7\x28", "SMPTE"),
        (b"MThd\x00\x00\x00\x06\x00\x01\x00\x00\x00\x60", "there is no note in it"),
    ],
)
def test_what_is_no_piece_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "song.mid").write_bytes(content)
    with pytest.raises(DataError, match=f"song.mid.*{message}"):
        list(open_source(tmp_path).rows("all"))


def test_a_file_of_rolls_holds_its_splits(tmp_path):
    path = tmp_path / "songs.json"
    path.write_text(json.dumps({"train": PIECES, "valid": PIECES[:1], "test": PIECES[1:2]}))
    source = open_source(path)
    assert (source.format, source.splits, source.given) == ("rolls", ("train", "valid", "test"), ("train", "valid", "test"))
    assert [row["notes"] for row in source.rows("train")] == PIECES
    assert [row["notes"] for row in source.rows("test")] == PIECES[1:2]
    assert len(list(source.rows("all"))) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": [[[60, 200]]]}', "piece 1 of train, step 1: expected a list of MIDI note numbers, 0 to 127"),
        ('{"train": [[[60, 60]]]}', "a note is there twice"),
        ('{"train": [[[60]], [60]]}', "piece 2 of train, step 1: expected a list"),
        ('{"train": [[[60]]], "dev": []}', "train, valid, test; got 'dev'"),
        ('{"train": [[[60', "is not JSON"),
    ],
)
def test_a_bad_roll_is_an_error_with_its_place(tmp_path, content, message):
    path = tmp_path / "songs.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(open_source(path).rows("train"))


def test_all_notes_of_a_step_together_sum_to_one():
    output = NADE(2, size=4, units=3).double()
    o = torch.randn(2).double()
    y = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()
    assert output.log_prob(o.expand(16, 2), y).exp().sum().item() == pytest.approx(1, rel=1e-12)
