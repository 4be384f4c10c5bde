"""forecast: nothing of the future is seen, samples follow the model they are drawn from, and every forecast is its own."""

import numpy as np
import pytest
import torch

from wavefront.app.fitting import fit
from wavefront.app.run import load
from wavefront.cell import Cell
from wavefront.data import open_source
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.forecast import Forecast
from wavefront.tasks.forecast.conformal import margins
from wavefront.tasks.forecast.forecast import start_of
from wavefront.tasks.forecast.metrics import ForecastErrors
from wavefront.tasks.forecast.networks import Paths, Shape, Windows
from wavefront.tasks.forecast.outputs import QUANTILES, Quantiles, ScaledCounts, quantiles_of, same_draws

SMALL = {"horizon": 6, "season": 12, "window": 24, "units": 8, "windows": 64, "epochs": 1}
KINDS = [
    {"kind": "direct"},
    {"kind": "encoder_decoder", "output": "gaussian"},
    {"kind": "autoregressive", "samples": 20},
    {"kind": "autoregressive", "samples": 20, "output": "negative_binomial"},
    {"kind": "esn"},
]


def wave(count, shift=0.0, level=100.0, seed=0):
    t = np.arange(count)
    return np.round(level + 20 * np.sin(2 * np.pi * (t + shift) / 12) + np.random.default_rng(seed).normal(size=count))


def long_file(path, series, first="2010-01", extra=None):
    """series: id -> values; extra: name -> function of (id, k)"""
    extra = extra or {}
    lines = [",".join(["unique_id", "ds", "y", *extra])]
    for key, values in series.items():
        months = np.datetime64(first, "M") + np.arange(len(values))
        for k, (month, value) in enumerate(zip(months, values)):
            cells = [key, str(month), "" if np.isnan(value) else f"{value:g}", *(f"{make(key, k):g}" for make in extra.values())]
            lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    return long_file(tmp_path_factory.mktemp("data") / "sales.csv", {"a": wave(90), "b": wave(80, 3, 50, 1), "c": wave(70, 6, 500, 2)})


def prepared(file, **settings):
    torch.manual_seed(0)
    source = open_source(file)
    task = Forecast({**{key: value for key, value in SMALL.items() if key != "epochs"}, **settings}, Forecast.claim(source, {}).columns)
    task.prepare(source)
    network = task.network()
    task.solve(network, [task.collate([task.encode(row) for row in task.rows(source, "train")])])
    return task, source, network.eval()


def forecasts(task, network, rows):
    batch = task.collate([task.encode(row) for row in rows])
    return np.stack([one["quantiles"] for one in task.decode(network, None, batch)])


# No leakage


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_forecasts_do_not_change_when_rows_are_appended_beyond_the_cutoff(panel, tmp_path, settings):
    longer = {
        key: np.append(values, 1000 + np.arange(30))
        for key, values in (("a", wave(90)), ("b", wave(80, 3, 50, 1)), ("c", wave(70, 6, 500, 2)))
    }
    file = long_file(tmp_path / "longer.csv", longer)
    task, _, network = prepared(panel, **settings)
    known, more = task.read(open_source(panel)).series, task.read(open_source(file)).series
    before, after = (
        forecasts(task, network, [{"series": one, "cut": cut} for one in many for cut in (40, 60, 70)]) for many in (known, more)
    )
    assert (before == after).all()


def test_a_run_with_a_cutoff_is_the_run_on_the_file_that_ends_there(tmp_path):
    values = wave(100)
    short, whole = long_file(tmp_path / "short.csv", {"a": values[:80]}), long_file(tmp_path / "whole.csv", {"a": values})
    runs = [fit(file, task="forecast", out=tmp_path / file.stem, set={**SMALL, "cutoff": "2016-08"}, quiet=True) for file in (short, whole)]
    scores = [{split: run.metrics[split] for split in ("train", "valid", "test")} for run in runs]
    assert scores[0] == scores[1]
    assert runs[0].forecast() == runs[1].forecast()


def test_training_sees_neither_validation_nor_test(panel):
    task, source, _ = prepared(panel)
    s = task.settings
    for row in task.rows(source, "train"):
        assert row["cut"] + s.horizon <= len(row["series"].y) - s.test - s.valid
    for split, end in (("valid", s.test), ("test", 0)):
        rows = list(task.rows(source, split))
        assert rows
        assert all(len(row["series"].y) - end - row["cut"] >= s.horizon for row in rows)
    assert all(row["cut"] >= len(row["series"].y) - s.test - s.valid for row in task.rows(source, "valid"))


# Exactness


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_batched_forecasts_are_those_one_by_one_and_repeat(panel, settings):
    task, source, network = prepared(panel, **settings)
    rows = list(task.rows(source, "test"))
    together = forecasts(task, network, rows)
    alone = np.concatenate([forecasts(task, network, [row]) for row in rows])
    assert together == pytest.approx(alone, rel=1e-4)
    assert (forecasts(task, network, rows) == together).all()
    assert (np.diff(together, axis=2) >= 0).all()


class Linear(Cell):
    """o(t) = y(t-1), the first of its inputs: with a linear output an autoregression of order one."""

    def __init__(self, inputs, units):
        super().__init__(inputs, state=1, outputs=1)

    def step(self, state, x):
        return x[:, :1], x[:, :1]


def test_sampled_paths_have_the_mean_and_variance_of_the_linear_model():
    shape, a, sigma = Shape(window=3, horizon=5), 0.8, 0.5
    network = Paths(shape, Linear, 1, 1, "gaussian", season=100, samples=40_000)
    with torch.no_grad():
        network.output.V.weight.copy_(torch.tensor([[a], [0.0]]))
        network.output.V.bias.copy_(torch.tensor([0.0, np.log(np.expm1(sigma - 1e-4))]))
    empty = torch.zeros(1, 3, 0)
    z = torch.tensor([[0.3, -1.0, 2.0]])
    ones, none = torch.ones(1, 3), torch.zeros(1, 5)
    w = Windows(z, ones, none, empty, torch.zeros(1, 5, 0), torch.zeros(1, 0), torch.zeros(1, dtype=torch.long), torch.zeros(1), none)
    paths = network.paths(w)[0]
    h = torch.arange(1, 6)
    mean, variance = a**h * 2.0, sigma**2 * (1 - a ** (2.0 * h)) / (1 - a**2)
    assert paths.mean(0) == pytest.approx(mean.numpy(), abs=4 * (variance.max() / 40_000).sqrt().item())
    assert paths.var(0) == pytest.approx(variance.numpy(), rel=0.04)
    covariance = ((paths[:, 1] - mean[1]) * (paths[:, 4] - mean[4])).mean()  # of one path: a³ Var y(2)
    assert covariance == pytest.approx(a**3 * variance[1].item(), rel=0.06)


def test_a_fresh_network_forecasts_its_start(panel):
    task, source, network = prepared(panel, start="seasonal")
    rows = list(task.rows(source, "test"))
    inputs = task.collate([task.encode(row) for row in rows]).inputs
    network.networks[0].output.V.bias.data.zero_()
    assert network.quantiles(**inputs)[..., 6].detach().numpy() == pytest.approx(inputs["start"].numpy(), abs=1e-5)
    example = task.encode(rows[0])
    assert start_of(example["y"][None], "seasonal", 12, 6)[0].tolist() == example["y"][-12:-6].tolist()


def test_simple_forecasts():
    y = np.array([[np.nan, 1.0, 2.0, np.nan, 4.0, 6.0], [np.nan] * 6])
    assert start_of(y, "last", 3, 2)[0].tolist() == [6, 6]
    assert start_of(y, "drift", 3, 2)[0].tolist() == [7.25, 8.5]  # from 1 to 6 in four steps
    assert start_of(y, "seasonal", 3, 4)[0].tolist() == [3.25, 4, 6, 3.25]  # a place never seen: the mean
    assert start_of(y[:, 1:], "seasonal_change", 1, 1)[0].tolist() == [8]  # 6, and 2 more than before
    assert np.isnan(start_of(y, "last", 3, 2)[1]).all()


# Missing values


@pytest.mark.parametrize("settings", KINDS[:4], ids=str)
def test_missing_values_are_masked_in_the_past_and_do_not_count_in_the_target(tmp_path, settings):
    values = wave(90)
    values[[5, 30, 31, 77]] = np.nan
    task, source, network = prepared(long_file(tmp_path / "gaps.csv", {"a": values}), **settings)
    batch = task.collate([task.encode(row) for row in task.rows(source, "train")])
    assert bool((batch.inputs["z"][batch.inputs["there"] == 0] == 0).all())
    loss, items = task.loss(network, batch)
    hidden = {**batch.inputs, "target": torch.where(batch.inputs["target"].isnan(), torch.nan, batch.inputs["target"])}
    assert torch.isfinite(loss)
    target = torch.cat([batch.inputs["z"].where(batch.inputs["there"] > 0, torch.nan), hidden["target"]], 1)
    assert items == int((~(target if settings["kind"] == "autoregressive" else hidden["target"]).isnan()).sum())
    assert np.isfinite(forecasts(task, network, list(task.rows(source, "test")))).all()


# Outputs, metrics, margins


def test_metrics_are_their_formulas():
    y, forecast = np.array([10.0, 0.0, np.nan, 8.0]), np.array([12.0, 0.0, 5.0, 4.0])
    spread = forecast[:, None] + np.linspace(-3, 3, len(QUANTILES))
    errors = ForecastErrors()
    errors.add(y, forecast, 2.0, spread)
    scores = errors.scores()
    assert scores["mae"] == pytest.approx(2.0)
    assert scores["rmse"] == pytest.approx(np.sqrt(20 / 3))
    assert scores["mase"] == pytest.approx(1.0)
    assert scores["smape"] == pytest.approx((2 * 2 / 22 + 0 + 2 * 4 / 12) / 3)
    there = [0, 1, 3]
    pinball = [max(q * (y[t] - spread[t, k]), (q - 1) * (y[t] - spread[t, k])) for t in there for k, q in enumerate(QUANTILES)]
    assert scores["crps"] == pytest.approx(2 * np.mean(pinball))
    assert scores["coverage_95"] == pytest.approx(2 / 3)
    assert np.isnan(ForecastErrors().scores()["mase"])


def test_margins_make_wrong_intervals_cover_what_they_say():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 3.0])  # the second step is harder
    y = rng.standard_normal((4000, 2)) * scale
    added = margins(y[:2000, :, None] - np.zeros(len(QUANTILES)), QUANTILES)
    fresh = y[2000:]
    for low, high, share in ((0, -1, 0.95), (2, -3, 0.8)):
        within = (fresh >= added[:, low]) & (fresh <= added[:, high])
        assert within.mean(0) == pytest.approx([share, share], abs=0.03)


def test_of_a_correction_that_is_not_worth_it_only_a_share_is_taken(panel, tmp_path):
    walk = {key: 100 + np.random.default_rng(seed).normal(size=300).cumsum() for seed, key in enumerate("ab")}
    for file, least, most in ((long_file(tmp_path / "walk.csv", walk), 0.0, 0.5), (panel, 0.8, 1.0)):
        task, source, network = prepared(file, kind="esn", start="last", ridge=1e-3)
        batch = task.collate([task.encode(row) for row in task.rows(source, "valid")])
        with torch.no_grad():
            whole = network.quantiles(calibrated=False, **batch.inputs)
            task.calibrate(network, [batch])
            found = network.shrunk(whole, batch.inputs["start"])
        share, start, middle = network.share.item(), batch.inputs["start"].numpy(), QUANTILES.index(0.5)
        assert least <= share <= most
        assert found[..., middle].numpy() == pytest.approx(start + share * (whole[..., middle].numpy() - start), abs=1e-5)


def test_learned_quantiles_are_those_of_the_data():
    torch.manual_seed(0)
    y, output = torch.randn(1000, 1) * 2 + 1, Quantiles(1)
    optimizer = torch.optim.Adam(output.parameters(), 0.1)
    for _ in range(200):
        loss = -output.log_prob(torch.ones(len(y), 1), y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wanted = torch.quantile(y, torch.tensor(QUANTILES))
    assert output.at(torch.ones(1))[1:-1].detach().numpy() == pytest.approx(wanted[1:-1].numpy(), abs=0.15)
    drawn = same_draws(output, torch.ones(1, 20_000, 1))[0]
    assert drawn.median().item() == pytest.approx(wanted[6].item(), abs=0.1)


def test_scaled_counts_have_the_mean_and_variance_that_they_say():
    torch.manual_seed(0)
    output = ScaledCounts(3)
    o = torch.cat([torch.randn(1, 3), torch.full((1, 1), np.log(50.0))], 1)
    drawn = same_draws(output, o[:, None].expand(-1, 40_000, -1))[0].squeeze(-1)
    nb = output(o)
    assert drawn.mean().item() == pytest.approx(nb.mean.item(), rel=0.03)
    assert drawn.var().item() == pytest.approx(nb.variance.item(), rel=0.06)
    assert (quantiles_of(output, o[:, None])[0, 0].diff() >= 0).all()


def test_the_readout_of_an_echo_state_network_is_ridge_regression(panel):
    task, source, network = prepared(panel, kind="esn")
    member = network.networks[0].double()
    inputs = task.collate([task.encode(row) for row in task.rows(source, "train")]).inputs
    w = Windows(**{name: value.double() if value.is_floating_point() else value for name, value in inputs.items()})
    member.solve([w], [0.01])
    f, y = member.read(w).numpy(), (w.target - w.start).numpy()
    apart = f - f.mean(0)
    penalty = 0.01 * (apart**2).sum(0).mean()
    V = np.linalg.solve(apart.T @ apart + penalty * np.eye(f.shape[1]), apart.T @ (y - y.mean(0)))
    assert member(w)[1].numpy() == pytest.approx(w.start.numpy() + apart @ V + y.mean(0), abs=1e-6)


# What is not as it should be


def test_a_series_that_is_constant_or_short_does_no_harm(tmp_path):
    file = long_file(
        tmp_path / "odd.csv", {"flat": np.full(90, 7.0), "zero": np.zeros(90), "short": np.array([3.0, 4.0, 5.0]), "a": wave(90)}
    )
    run = fit(file, task="forecast", out=tmp_path / "run", set=SMALL, quiet=True)
    rows = run.forecast()
    assert len(rows) == 4 * 6
    assert [row["y"] for row in rows if row["unique_id"] == "flat"] == pytest.approx([7.0] * 6, rel=0.05)
    assert all(np.isfinite(row["y"]) for row in rows)
    assert np.isfinite(run.metrics["test"]["mase"])


def test_series_that_are_all_too_short_are_told_how_long_they_have_to_be(tmp_path):
    file = long_file(tmp_path / "short.csv", {"a": wave(10)})
    with pytest.raises(DataError, match=r"the longest series has 10 values; a horizon of 20 .* needs at least 22"):
        fit(file, task="forecast", out=tmp_path / "run", set={"horizon": 20}, quiet=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test": 3}, "network.test=3 is shorter than the horizon of 6 steps"),
        ({"kind": "autoregressive", "output": "mean"}, "draws samples"),
        ({"kind": "esn", "output": "gaussian"}, "says the mean"),
        ({"past": ["price"]}, "no column 'price'"),
        ({"horizon": 0}, "horizon"),
        ({"data.test_share": 0.2}, "data.test_share would cut rows; a series is cut at its end"),
    ],
)
def test_settings_that_cannot_be(panel, tmp_path, settings, said):
    with pytest.raises((SettingsError, DataError), match=said):
        fit(panel, task="forecast", out=tmp_path / "run", set={**SMALL, **settings}, quiet=True)


def test_values_that_the_output_has_no_place_for_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"series 'a' has -1; the logarithm is learned"):
        prepared(long_file(tmp_path / "log.csv", {"a": np.append(wave(90), -1.0)}), log=True)
    with pytest.raises(DataError, match=r"series 'a' has 0.5; output=negative_binomial is for counts"):
        prepared(long_file(tmp_path / "counts.csv", {"a": np.append(wave(90), 0.5)}), output="negative_binomial")


# A run: forecasts, new rows, covariates


@pytest.fixture(scope="module")
def run(panel, tmp_path_factory):
    return fit(panel, task="forecast", out=tmp_path_factory.mktemp("runs") / "sales", set=SMALL, quiet=True)


def test_forecasts_come_in_the_long_format_from_the_end_of_each_series(run, panel):
    rows = load(run.folder).forecast(horizon=3, level=(50, 80))
    assert [row["unique_id"] for row in rows] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [row["ds"] for row in rows[:3]] == ["2017-07", "2017-08", "2017-09"]
    assert list(rows[0]) == ["unique_id", "ds", "y", "y-lo-50", "y-hi-50", "y-lo-80", "y-hi-80"]
    assert all(row["y-lo-80"] <= row["y-lo-50"] <= row["y"] <= row["y-hi-50"] <= row["y-hi-80"] for row in rows)
    assert rows == run.forecast(panel, horizon=3, level=(50, 80))  # the run kept what the file says
    assert {"last value", "seasonal naive"} <= run.metrics["baselines"].keys()
    assert run.forecast(panel, cutoff="2016-12")[0]["ds"] == "2017-01"


def test_a_horizon_or_level_that_was_not_trained_is_refused(run):
    with pytest.raises(SettingsError, match=r"horizon is 7; .* trained for 1 to 6 steps"):
        run.forecast(horizon=7)
    with pytest.raises(SettingsError, match="level is 99"):
        run.forecast(level=(99,))


def test_new_rows_move_the_end_without_training(run, panel, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    weights = (folder / "model.safetensors").read_bytes()
    grown = {"a": np.append(wave(90), [101.0, 102.0]), "b": wave(80, 3, 50, 1), "d": wave(40, 1, 80, 5)}
    whole = long_file(tmp_path / "grown.csv", grown)
    assert load(folder).update(whole) == {"a": 2, "b": 0, "d": 40}
    again = load(folder)
    assert (folder / "model.safetensors").read_bytes() == weights
    rows = {key: [row for row in again.forecast() if row["unique_id"] == key] for key in "abcd"}
    assert rows["a"][0]["ds"] == "2017-09"
    assert rows["c"] == [row for row in run.forecast() if row["unique_id"] == "c"]
    for row, fresh in zip([*rows["a"], *rows["b"], *rows["d"]], run.forecast(whole), strict=True):
        assert row == {name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for name, value in fresh.items()}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,2017-08,1", "the next row of series 'a' is 2017-07, got 2017-08"),
        ("a,2017-06,1", "2017-06 of series 'a' is 1, but"),
        ("a,2017-07,x", "'x'"),
    ],
)
def test_new_rows_that_do_not_follow_are_refused_and_nothing_is_written(run, tmp_path, line, said):
    before = (run.folder / "series.safetensors").read_bytes()
    file = tmp_path / "new.csv"
    file.write_text(f"unique_id,ds,y\n{line}\n")
    with pytest.raises(DataError, match=said):
        load(run.folder).update(file)
    assert (run.folder / "series.safetensors").read_bytes() == before


def test_covariates_known_in_advance_are_asked_for(tmp_path):
    promo = {"promo": lambda key, k: float(k % 5 == 0), "size": lambda key, k: {"a": 1.0, "b": 2.0}[key]}
    file = long_file(tmp_path / "promo.csv", {"a": wave(90), "b": wave(90, 2)}, extra=promo)
    run = fit(file, task="forecast", out=tmp_path / "run", set={**SMALL, "future": ["promo"], "static": ["size"]}, quiet=True)
    with pytest.raises(DataError, match="the covariates promo are needed for 6 steps after the end of series 'a'"):
        run.forecast()
    ahead = tmp_path / "ahead.csv"
    months = [str(np.datetime64("2017-07", "M") + k) for k in range(6)]
    ahead.write_text("unique_id,ds,promo\n" + "".join(f"{key},{month},0\n" for key in "ab" for month in months))
    assert len(run.forecast(future=ahead)) == 12
    ahead.write_text("unique_id,ds,promo\n" + "".join(f"a,{month},0\n" for month in months[1:]))
    with pytest.raises(DataError, match="no promo for 2017-07 of series 'a'"):
        run.forecast(future=ahead)


def test_wide_files_and_files_without_dates(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("ds,north,south\n" + "".join(f"{k},{x:g},{y:g}\n" for k, (x, y) in enumerate(zip(wave(90), wave(90, 5)))))
    rows = fit(file, task="forecast", out=tmp_path / "wide", set=SMALL, quiet=True).forecast(horizon=1)
    assert [(row["unique_id"], row["ds"]) for row in rows] == [("north", 90), ("south", 90)]
    file.write_text("y\n" + "".join(f"{x:g}\n" for x in wave(90)))
    task, source, network = prepared(file)
    assert task.columns == {"y": "y"}
    assert forecasts(task, network, list(task.rows(source, "test"))).shape == (1, 6, len(QUANTILES))


@pytest.mark.learning
def test_a_small_seasonal_series_is_forecast_better_than_by_its_last_season(tmp_path):
    t = np.arange(144)
    values = np.exp(4.8 + 0.009 * t + 0.2 * np.sin(2 * np.pi * t / 12) + 0.02 * np.random.default_rng(0).normal(size=144))
    file = long_file(tmp_path / "growing.csv", {"a": values})
    run = fit(file, task="forecast", out=tmp_path / "run", set={"epochs": 60}, quiet=True)
    assert run.task.settings.log
    assert run.metrics["test"]["mase"] < 0.6 * run.metrics["baselines"]["seasonal naive"]["mase"]
