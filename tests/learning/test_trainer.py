import itertools
import math
import time

import pytest
import torch
from torch import nn

from learning.toy_learning import SETTINGS, same, trainer, weights
from wavefront.errors import TrainingError
from wavefront.learning import Average, Log, Settings, clip_gradient, optimizer_for, random_gradient, rate, read_log


def changed(**values):
    return SETTINGS.model_copy(update=values)


# What is learned


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adamw", 0.02), ("adam", 0.02), ("nesterov", 0.1)])
def test_it_learns(tmp_path, optimizer, learning_rate):
    run = trainer(tmp_path, changed(epochs=40, optimizer=optimizer, learning_rate=learning_rate))
    before = run.evaluate()["rmse"]
    run.run()
    assert run.evaluate()["rmse"] < 0.7 * before


def test_the_optimisers_are_their_equations():
    """One matrix, one bias, three steps, in float64; decay of the matrix alone: of AdamW times the rate, of the others in the gradient."""
    for name in ("nesterov", "adam", "adamw"):
        torch.manual_seed(0)
        net = nn.Linear(3, 2).double()
        settings = Settings(optimizer=name, learning_rate=0.1, weight_decay=0.5, momentum=0.8)
        optimizer = optimizer_for(net, settings)
        expected = {"weight": net.weight.detach().clone(), "bias": net.bias.detach().clone()}
        first, second = ({key: torch.zeros_like(value) for key, value in expected.items()} for _ in range(2))
        for t in (1, 2, 3):
            gradients = {key: torch.randn_like(value) for key, value in expected.items()}
            for key, value in expected.items():
                g, decay = gradients[key], 0.5 if key == "weight" else 0.0
                if name != "adamw":
                    g, decay = g + decay * value, 0.0
                if name == "nesterov":
                    first[key] = g if t == 1 else 0.8 * first[key] + g
                    expected[key] = value - 0.1 * (g + 0.8 * first[key])
                else:
                    first[key] = 0.8 * first[key] + 0.2 * g
                    second[key] = 0.999 * second[key] + 0.001 * g * g
                    m, v = first[key] / (1 - 0.8**t), second[key] / (1 - 0.999**t)
                    expected[key] = value * (1 - 0.1 * decay) - 0.1 * m / (v.sqrt() + 1e-8)
            net.weight.grad, net.bias.grad = gradients["weight"], gradients["bias"]
            optimizer.step()
        assert torch.allclose(net.weight, expected["weight"], rtol=1e-12, atol=0)
        assert torch.allclose(net.bias, expected["bias"], rtol=1e-12, atol=0)


def test_the_average_is_its_equation():
    net = nn.Linear(2, 2).double()
    average, mean = Average(net, 0.9), net.weight.detach().clone()
    for n in range(1, 200):
        net.weight.data = torch.randn(2, 2, dtype=torch.float64)
        average.add(n)
        mean = mean + (1 - min(0.9, (1 + n) / (10 + n))) * (net.weight.detach() - mean)
    last = net.weight.detach().clone()
    average.swap()
    assert torch.allclose(net.weight, mean, rtol=1e-12)
    average.swap()
    assert torch.equal(net.weight, last)


def test_averaged_weights_are_scored_and_kept(tmp_path):
    seen = {}
    run = trainer(tmp_path, changed(average=0.99, keep="last", epochs=2))
    inner = run.evaluate
    run.evaluate = lambda: (seen.update(w=weights(run)), inner())[1]
    run.run()
    assert same(seen["w"], weights(run))
    plain = trainer(tmp_path / "plain", changed(keep="last", epochs=2))
    plain.run()
    assert not same(weights(plain), weights(run))


# The schedule, clipping


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_warms_up_and_ends_where_it_should(tmp_path, schedule):
    events = []
    trainer(tmp_path, changed(schedule=schedule, warmup=0.25), listen=events.append).run()
    rates = [e["learning_rate"] / 0.02 for e in events if e["event"] == "step"]
    n = len(rates)
    assert n == 48
    assert rates[:12] == pytest.approx([(k + 0.5) / 12 for k in range(12)])
    if schedule == "constant":
        assert rates[12:] == [1.0] * 36
    else:
        assert all(a > b for a, b in itertools.pairwise(rates[12:]))
        assert rates[-1] < 0.02
        assert rates[12 + 18] == pytest.approx(0.5, abs=0.05)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="got 'exponential'"):
        rate(0.5, "exponential")


def parameters_with(*gradients):
    parameters = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.tensor(gradient)
    return parameters


def test_clipping_by_norm_keeps_the_direction_and_by_value_does_not():
    big = parameters_with([3.0, 0.0], [0.0, 4.0, 0.0])
    assert clip_gradient(big, norm=2.0) == 5.0
    assert torch.cat([p.grad for p in big]).tolist() == pytest.approx([1.2, 0, 0, 1.6, 0])
    small = parameters_with([0.3, 0.4])
    assert clip_gradient(small, norm=2.0) == pytest.approx(0.5)
    assert small[0].grad.tolist() == pytest.approx([0.3, 0.4])
    cut = parameters_with([3.0, -0.5], [-4.0])
    clip_gradient(cut, value=1.0)
    assert torch.cat([p.grad for p in cut]).tolist() == [1.0, -0.5, -1.0]
    both = parameters_with([3.0, -4.0])
    clip_gradient(both, norm=1.0, value=1.0)
    assert both[0].grad.tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)])
    assert clip_gradient([nn.Parameter(torch.zeros(2))], norm=1.0) == 0.0


def test_a_gradient_that_is_not_finite_is_told_and_left_alone():
    bad = parameters_with([1.0, math.inf])
    assert clip_gradient(bad, norm=1.0, value=1.0) == math.inf
    assert bad[0].grad.tolist() == [1.0, math.inf]
    assert math.isnan(clip_gradient(parameters_with([math.nan]), norm=1.0))


def test_a_random_gradient_has_the_norm_and_no_preferred_direction():
    torch.manual_seed(0)
    total = torch.zeros(3)
    for _ in range(2000):
        parameters = parameters_with([math.nan, 1.0], [math.inf])
        random_gradient(parameters, 0.5)
        gradient = torch.cat([p.grad for p in parameters])
        assert gradient.norm().item() == pytest.approx(0.5, rel=1e-5)
        total += gradient
    assert (total / 2000).norm() < 0.03


# The end of a run


def test_early_stopping_keeps_the_best(tmp_path):
    scores = [5.0, 3.0, 4.0, 3.0, 3.5, 1.0]
    seen = []
    run = trainer(tmp_path, changed(epochs=50, patience=3), score=lambda times: scores[times - 1])
    inner = run.evaluate
    run.evaluate = lambda: (seen.append(weights(run)), inner())[1]
    end = run.run()
    assert (end.stopped, end.epochs, end.best, end.best_epoch) == ("patience", 5, 3.0, 2)
    assert same(weights(run), seen[1])


def test_larger_is_better_and_a_score_that_is_not_finite_never_is(tmp_path):
    scores = [math.nan, 0.2, math.inf, 0.9, 0.9]
    end = trainer(tmp_path, changed(epochs=5), score=lambda times: scores[times - 1], larger_is_better=True).run()
    assert (end.best, end.best_epoch) == (0.9, 4)


def test_of_equal_scores_the_lower_loss_is_kept_but_patience_runs_on(tmp_path):
    scores = [(0.5, 3.0), (0.9, 2.0), (0.9, 2.5), (0.9, 1.0), (0.9, 0.5), (0.9, 0.4)]
    seen = []
    run = trainer(tmp_path, changed(epochs=50, patience=3), larger_is_better=True)
    run.evaluate = lambda: (seen.append(weights(run)), dict(zip(("rmse", "loss"), scores[len(seen) - 1])))[1]
    end = run.run()
    assert (end.stopped, end.epochs, end.best, end.best_epoch) == ("patience", 5, 0.9, 5)
    assert same(weights(run), seen[4])


def test_without_validation_the_last_weights_are_kept(tmp_path):
    run = trainer(tmp_path, changed(patience=1), evaluate=None)
    end = run.run()
    assert (end.stopped, end.epochs, end.best) == ("epochs", 4, None)


def test_the_end_may_be_a_time_and_the_schedule_follows_it(tmp_path):
    """Every step takes 5 ms, an evaluation 20 ms; the time to leave for what comes after is asked for, and left."""
    asked = []

    def slow(epoch, k, x, y):
        time.sleep(0.005)
        return x, y

    def reserve(evaluation_seconds):
        asked.append(evaluation_seconds)
        return 0.3

    events = []
    settings = changed(epochs=0, minutes=2.0 / 60)
    run = trainer(tmp_path, settings, spoil=slow, score=lambda times: time.sleep(0.02) or 1 / times, listen=events.append, reserve=reserve)
    began = time.monotonic()
    end = run.run()
    assert end.stopped == "time"
    assert 1.55 < time.monotonic() - began < 1.85
    assert asked[-1] == pytest.approx(0.02, rel=0.5)
    rates = [e["learning_rate"] for e in events if e["event"] == "step"]
    assert rates[-1] < 0.05 * max(rates)
    evaluations = [e for e in events if e["event"] == "evaluation"]
    assert 3 < len(evaluations) < 14
    assert evaluations[-1]["step"] == end.steps, "the last weights are scored too"
    assert end.best_epoch == pytest.approx(end.epochs)


def test_time_spent_before_training_and_before_a_stop_counts(tmp_path):
    run = trainer(tmp_path, changed(epochs=0, minutes=1 / 60), began=time.monotonic() - 0.9)
    began = time.monotonic()
    run.run()
    assert time.monotonic() - began < 0.5
    again = trainer(tmp_path, changed(epochs=0, minutes=1 / 60))
    again.resume()
    assert again.run().stopped == "time"
    assert again.at.step == run.at.step


def test_a_run_needs_an_end(tmp_path):
    with pytest.raises(TrainingError, match=r"learning\.epochs"):
        trainer(tmp_path, changed(epochs=0))


# When something is wrong


def spoiled(epoch_of, batch_of, how):
    def spoil(epoch, k, x, y):
        return how(x, y) if (epoch, k) == (epoch_of, batch_of) else (x, y)

    return spoil


def test_nan_stops_with_the_batch_named_and_the_best_weights_kept(tmp_path):
    seen = []
    run = trainer(tmp_path, spoil=spoiled(2, 4, lambda x, y: (x * math.nan, y)))
    inner = run.evaluate
    run.evaluate = lambda: (seen.append(weights(run)), inner())[1]
    with pytest.raises(TrainingError) as error:
        run.run()
    message = str(error.value)
    assert "the loss is nan in batch 5 of 12 in epoch 3 (rows " in message
    assert "The best weights so far, of epoch 2, are kept." in message
    for remedy in ("learning.learning_rate (now 0.02)", "learning.clip_norm (now 1)", "learning.nonfinite=random_step"):
        assert remedy in message
    assert same(weights(run), seen[1])


def test_nan_before_any_score_leaves_finite_weights(tmp_path):
    run = trainer(tmp_path, spoil=spoiled(0, 4, lambda x, y: (x, y * math.inf)))
    with pytest.raises(TrainingError, match="the loss is inf in batch 5 of 12 in epoch 1"):
        run.run()
    assert all(tensor.isfinite().all() for tensor in weights(run).values())


def test_by_choice_a_random_step_is_taken_and_training_goes_on(tmp_path):
    events = []
    settings = changed(nonfinite="random_step", clip_norm=0.5)
    run = trainer(tmp_path, settings, spoil=spoiled(1, 3, lambda x, y: (x * math.nan, y)), listen=events.append)
    assert run.run().stopped == "epochs"
    warnings = [e["message"] for e in events if e["event"] == "warning"]
    assert len(warnings) == 1
    assert "the loss is nan in batch 4 of 12 in epoch 2" in warnings[0]
    assert "a random step of norm 0.5 is taken" in warnings[0]
    assert all(tensor.isfinite().all() for tensor in weights(run).values())
    assert run.evaluate()["rmse"] < 1


def test_random_steps_do_not_go_on_for_ever(tmp_path):
    events = []
    run = trainer(tmp_path, changed(nonfinite="random_step"), spoil=lambda epoch, k, x, y: (x * math.nan, y), listen=events.append)
    with pytest.raises(TrainingError, match="the loss is nan"):
        run.run()
    assert 5 < sum(e["event"] == "warning" for e in events) < 100


def test_an_explosion_that_stays_finite_stops_too(tmp_path):
    settings = changed(optimizer="nesterov", learning_rate=30.0, clip_norm=0.0, warmup=0.0, schedule="constant", epochs=100)
    run = trainer(tmp_path, settings, spoil=lambda epoch, k, x, y: (x, y * (1 + 1e3 * epoch)))
    with pytest.raises(TrainingError, match=r"(exploded|not finite|is (nan|inf)).* in batch \d+ of 12 in epoch \d+.*clip_norm=1"):
        run.run()
    assert all(tensor.isfinite().all() for tensor in weights(run).values())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_out_of_memory_says_what_to_lower(tmp_path, error):
    def fails(x, y):
        raise error

    run = trainer(tmp_path, spoil=spoiled(1, 0, fails))
    with pytest.raises(TrainingError, match=r"memory ran out in batch 1 of 12 in epoch 2.*batch_size \(now 8\)"):
        run.run()
    assert all(p.grad is None for p in run.network.parameters())


def test_other_errors_pass_as_they_are(tmp_path):
    def fails(x, y):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer(tmp_path, spoil=spoiled(0, 0, fails)).run()


def test_a_batch_with_nothing_to_learn_changes_no_weight(tmp_path):
    run = trainer(tmp_path, changed(epochs=1, keep="last"))
    before = weights(run)
    inner = run.loss
    run.loss = lambda batch: (inner(batch)[0] * math.nan, 0)
    run.run()
    assert same(before, weights(run))


def test_no_batches_is_an_error(tmp_path):
    run = trainer(tmp_path)
    run.batches = lambda epoch: []
    with pytest.raises(TrainingError, match="nothing to train on"):
        run.run()


# The log


def test_the_log_is_a_json_line_per_event_and_is_read_without_what_was_done_twice(tmp_path):
    log = Log(tmp_path / "metrics.jsonl", every=2)
    for event in (
        {"event": "step", "step": 1},
        {"event": "step", "step": 2, "loss": math.nan},
        {"event": "evaluation", "step": 4, "valid": {"f": math.inf}},
    ):
        log(event)
    assert read_log(log.path) == [
        {"event": "step", "step": 2, "loss": None},
        {"event": "evaluation", "step": 4, "valid": {"f": None}},
    ]
    log({"event": "resumed", "step": 3})
    log({"event": "evaluation", "step": 4, "valid": {"f": 1.0}})
    with open(log.path, "a") as file:
        file.write('{"event": "eval')
    assert [e["step"] for e in read_log(log.path)] == [2, 3, 4]


def test_settings_refuse_what_cannot_be():
    for wrong in (
        {"learning_rate": -1},
        {"learning_rate": math.nan},
        {"optimizer": "sgd"},
        {"batch_size": 0},
        {"rate": 1},
        {"device": "tpu"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)
