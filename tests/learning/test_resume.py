"""Train N steps = train k, stop, resume: to the bit, wherever the cut is."""

import os
import signal

import pytest

from learning.toy_learning import SETTINGS, same, trainer, weights
from wavefront.errors import RunError
from wavefront.learning import Interrupted


def stop_at(*steps):
    """A listener that sends this process SIGINT after each of the steps."""

    def listen(event):
        if event["event"] == "step" and event["step"] in steps:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


def both(first, second):
    return lambda event: (first(event), second(event))


VARIANTS = {
    "adamw, cosine": SETTINGS,
    "nesterov, linear": SETTINGS.model_copy(update={"optimizer": "nesterov", "schedule": "linear"}),
    "averaged": SETTINGS.model_copy(update={"average": 0.9}),
    "averaged, last": SETTINGS.model_copy(update={"average": 0.9, "keep": "last"}),
    "patience": SETTINGS.model_copy(update={"patience": 2, "learning_rate": 0.3, "epochs": 9}),
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("cuts", [(1,), (12,), (17, 19), (5, 30, 47)], ids=str)
def test_stopped_and_resumed_is_uninterrupted(tmp_path, settings, cuts):
    """In mid-epoch, at the end of one, twice in one: the same weights, the same best, the same scores."""
    whole_events, parts_events = [], []
    whole = trainer(tmp_path / "whole", settings, listen=whole_events.append)
    end = whole.run()

    for cut in cuts:
        part = trainer(tmp_path / "parts", settings, listen=both(parts_events.append, stop_at(cut)))
        assert part.resume() == (cut != cuts[0])
        if cut <= end.steps:
            with pytest.raises(Interrupted) as interrupted:
                part.run()
            assert interrupted.value.exit_code == 130
            assert part.at.step == cut
    last = trainer(tmp_path / "parts", settings, listen=parts_events.append)
    assert last.resume()
    resumed = last.run()

    assert same(weights(whole), weights(last))
    assert resumed._replace(seconds=0) == end._replace(seconds=0)
    scores = [[(e["step"], e["valid"]) for e in events if e["event"] == "evaluation"] for events in (whole_events, parts_events)]
    assert scores[0] == scores[1]
    rates = [
        [(e["step"], e["learning_rate"], e["loss"]) for e in events if e["event"] == "step"] for events in (whole_events, parts_events)
    ]
    assert rates[0] == rates[1]


def test_resuming_a_run_that_is_over_changes_nothing(tmp_path):
    first = trainer(tmp_path)
    end = first.run()
    again = trainer(tmp_path)
    assert again.resume()
    assert again.run()._replace(seconds=0) == end._replace(seconds=0)
    assert same(weights(first), weights(again))


def test_the_same_seed_twice_is_the_same_run(tmp_path):
    runs = [trainer(tmp_path / str(i), SETTINGS) for i in range(2)]
    other = trainer(tmp_path / "other", SETTINGS.model_copy(update={"seed": 5}))
    ends = [run.run()._replace(seconds=0) for run in runs]
    other.run()
    assert ends[0] == ends[1]
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(other))


def test_checkpoints_and_evaluations_do_not_change_the_run(tmp_path):
    often = trainer(tmp_path / "often", SETTINGS.model_copy(update={"checkpoint_seconds": 0.0}))
    often.run()
    never = trainer(tmp_path / "never", SETTINGS.model_copy(update={"keep": "last"}), evaluate=None)
    never.run()
    last = trainer(tmp_path / "last", SETTINGS.model_copy(update={"keep": "last"}))
    last.run()
    best = trainer(tmp_path / "best")
    best.run()
    assert same(weights(never), weights(last))
    assert same(weights(often), weights(best))


def test_other_data_or_another_network_is_refused_with_the_difference(tmp_path):
    trainer(tmp_path, identity={"data": "abc", "vocabulary": "v1"}).run()
    with pytest.raises(RunError, match="data: the checkpoint has abc, now it is xyz") as refused:
        trainer(tmp_path, identity={"data": "xyz", "vocabulary": "v1"}).resume()
    assert "vocabulary" not in str(refused.value)
    wider = trainer(tmp_path, identity={"data": "abc", "vocabulary": "v1"})
    wider.network[3] = type(wider.network[3])(16, 2)
    with pytest.raises(RunError, match=r"3\.weight: the checkpoint has \[1, 16\], the network \[2, 16\]"):
        wider.resume()


def test_sigterm_leaves_with_143_and_a_signal_in_an_evaluation_leaves_it(tmp_path):
    def terminated(times):
        if times == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the evaluation went on")
        return 1.0 / times

    part = trainer(tmp_path, score=terminated)
    with pytest.raises(Interrupted) as interrupted:
        part.run()
    assert interrupted.value.exit_code == 143
    again = trainer(tmp_path, score=lambda times: 1.0 / (times + 1))
    again.resume()
    whole = trainer(tmp_path / "whole", score=lambda times: 1.0 / times)
    assert again.run()._replace(seconds=0) == whole.run()._replace(seconds=0)
    assert same(weights(again), weights(whole))


@pytest.fixture
def handled():
    """SIGINT as Python handles it, though whoever started the tests had it ignored, as a shell does for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handled")
def test_the_second_signal_leaves_at_once(tmp_path):
    def twice(event):
        if event["event"] == "step" and event["step"] == 3:
            signal.raise_signal(signal.SIGINT)  # to this thread, one after the other: two that wait are one
            signal.raise_signal(signal.SIGINT)

    part = trainer(tmp_path, listen=twice)
    with pytest.raises(KeyboardInterrupt) as left:
        part.run()
    assert not isinstance(left.value, Interrupted)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_stopped_by_hand_leaves_the_best_weights_in_the_network(tmp_path):
    part = trainer(tmp_path, score=lambda times: float(times), listen=stop_at(30))  # the first score is the best
    after_first = {}
    listen = part.listen
    part.listen = lambda event: (event["event"] == "evaluation" and after_first.setdefault("w", weights(part)), listen(event))
    with pytest.raises(Interrupted):
        part.run()
    assert same(weights(part), after_first["w"])
    assert not part.network.training
