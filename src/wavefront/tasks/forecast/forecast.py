"""forecast: what comes next in dated series, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from wavefront.data.frequency import Frequency
from wavefront.data.panel import Panel, Roles, Series, read_panel
from wavefront.errors import DataError, SettingsError
from wavefront.tasks.forecast.conformal import margins
from wavefront.tasks.forecast.echo import PENALTIES, Echo
from wavefront.tasks.forecast.kept import load_panel, save_panel
from wavefront.tasks.forecast.metrics import ForecastErrors
from wavefront.tasks.forecast.networks import Forecaster, Horizon, Members, Paths, Shape, Windows
from wavefront.tasks.forecast.outputs import MIDDLE, QUANTILES
from wavefront.tasks.forecast.settings import ForecastSettings
from wavefront.tasks.forecast.shrinkage import share_of
from wavefront.tasks.forecast.windows import Cuts, last_season, level_of, mean_of, spread_of, window
from wavefront.tasks.inputs import Moments
from wavefront.tasks.task import Batch, Claim, Example, Figure, Meter, Prediction, Task, cell_maker, validated

if TYPE_CHECKING:
    from wavefront.data import Source

__all__ = ["Forecast"]

TIMES, IDS, VALUES = (
    ("ds", "date", "time", "timestamp", "datetime", "day", "month", "year", "hour"),
    ("unique_id", "id", "series_id"),
    ("y", "value"),
)
TWO = 2  # values before the first cut-off of training: a level and a spread


class Forecast(Task):
    """What comes next in many series, each step with its quantiles.

    Rows are dated values in the long format: `unique_id` says which series, `ds` when, `y` what. Without `unique_id` there is one series,
    or one in each column of numbers (wide); without `ds` rows are equally far apart. Splits are in time: of each series the last `test`
    steps are the test, the `valid` steps before them choose and calibrate, and every window before those is learned from. One network
    learns from all series, each window brought to its own level and scale.
    """

    name = "forecast"
    command = "forecast {run}"
    roles = ("y", "ds", "unique_id")
    Settings = ForecastSettings
    metric = "mase"
    larger_is_better = False
    length_column = "y"

    def __init__(self, settings: BaseModel | Mapping[str, Any] | None, columns: Mapping[str, str]):
        super().__init__(settings, columns)
        self.frequency, self.style = Frequency("number", 1), "number"
        self.names: list[str] = []  # of the series of training
        self.values: tuple[str, ...] = ()  # the columns of the values
        self.past, self.future = Moments(), Moments()  # of the covariates
        self.categories: list[list[str]] = []  # of each static column that is text; empty: a number
        self.statics = Moments()
        self.sizes: list[tuple[float, float]] = []  # of the series: unit and spread
        self.windows = 0
        self.kept: Panel | None = None  # the series whose ends are forecast from
        self._panel: tuple[str, str | int | None, Panel] | None = None  # what was read last, from where and until when
        self._number: dict[str, int] = {}
        if self.settings.output == "mean":
            self.metric = "rmse"

    @property
    def chosen_by(self) -> str:
        return "loss"  # it weighs all series alike, and all quantiles

    @property
    def question(self) -> str:
        shown = ", ".join(self.values[:6]) + (", ..." if len(self.values) > 6 else "")
        return f"{shown}, {self.settings.horizon} steps ahead" + (
            f", for each {self.columns['unique_id']}" if "unique_id" in self.columns else ""
        )

    @property
    def needed(self) -> list[str]:
        return [*self.columns.values(), *(() if "y" in self.columns else self.values)]

    @classmethod
    def claim(cls, source: Source, columns: Mapping[str, str]) -> Claim | None:
        kinds = {column.name: column.kind for column in source.columns}
        numbers = [name for name, kind in kinds.items() if kind == "number"]
        whole = [name for name, kind in kinds.items() if kind == "series"]
        found = dict(columns)

        def look(role: str, names: Sequence[str], among: Iterable[str]) -> None:
            free = [name for name in among if name.lower() in names and name not in found.values()]
            if role not in found and len(free) == 1:
                found[role] = free[0]

        look("ds", TIMES, kinds)
        look("unique_id", IDS, kinds)
        if whole and "y" not in found:
            texts = [name for name, kind in kinds.items() if kind == "text"]
            found.setdefault("unique_id", texts[0]) if len(texts) == 1 else None
            return Claim({**found, "y": whole[0]}, False, f"each row of {whole[0]} is a series")
        look("y", VALUES, numbers)
        rest = [name for name in numbers if name not in found.values()]
        if "y" not in found and len(rest) == 1:
            found["y"] = rest[0]
        if "y" not in found and not rest:
            return None
        said = (
            f"{found['y']} over {found.get('ds', 'its rows')}" if "y" in found else f"{', '.join(rest[:6])} over {found.get('ds', 'rows')}"
        )
        ordered = {role: found[role] for role in cls.roles if role in found}
        return Claim(ordered, {"ds", "y"} <= found.keys(), said + (f", for each {found['unique_id']}" if "unique_id" in found else ""))

    def splits(self, source: Source) -> tuple[str, ...]:
        return ("train", *(split for split in ("valid", "test") if getattr(self.settings, split)))

    def prepare(self, source: Source) -> None:
        s = self.settings
        if source.shares:
            said = " and ".join(f"data.{split}_share" for split in source.shares)
            raise DataError(f"{source.path}: {said} would cut rows; a series is cut at its end, by steps: --set valid=24, --set test=48.")
        kinds = {column.name: column.kind for column in source.columns}
        named = {*self.columns.values(), *s.past, *s.future, *s.static}
        self.values = (
            (self.columns["y"],) if "y" in self.columns else tuple(n for n, k in kinds.items() if k == "number" and n not in named)
        )
        panel = self.kept = self.read(source, s.cutoff)
        self._panel = (source.path, s.cutoff, panel)
        self.frequency, self.style = panel.frequency, panel.style
        self.names = [series.id for series in panel.series]
        season = s.season or panel.frequency.season
        horizon = s.horizon or (2 * season if season > 12 else max(season, 6))
        self.settings = s = s.model_copy(update={"season": season, "horizon": horizon})
        self.settings = s = s.model_copy(update=self._cut(panel))
        training = [series.until(max(0, len(series.y) - s.test - s.valid)) for series in panel.series]
        for series in panel.series:
            self.check(series)
        self.settings = s = s.model_copy(update=self._sizes_of_network(panel, training))
        self._number = {name: number for number, name in enumerate(self.names, 1)}
        self.sizes = [self._sizes(series, len(series.y) - s.test, len(known.y)) for series, known in zip(panel.series, training)]
        for series in training:
            self.past.add(series.past)
            self.future.add(series.future[: len(series.y)])
        self._see_static(panel)
        self.windows = sum(len(self._cuts().of("train", len(series.y))) for series in panel.series)
        if not self.windows:
            raise DataError(
                f"{source.path}: the longest series has {max(len(series.y) for series in panel.series)} values; a horizon of {horizon} with"
                f" {s.valid} steps to choose by and {s.test} to test needs at least {TWO + horizon + s.valid + s.test}."
                " Set a shorter horizon, valid=0 or test=0."
            )
        if s.start is None:
            self.settings = s = s.model_copy(update={"start": self._best_start(training)})
        units = 300 if s.kind == "esn" else 128 if self.windows > 3000 else 64 if self.windows > 300 else 32
        self.settings = s.model_copy(update={"units": s.units or units})

    def _cut(self, panel: Panel) -> dict[str, Any]:
        """How many steps test and validation have, where nobody said it."""
        s, H = self.settings, self.settings.horizon
        middle = int(np.median([len(series.y) for series in panel.series]))
        test = s.test if s.test is not None else (H if middle >= 3 * H + TWO else 0)
        valid = s.valid if s.valid is not None else 0
        if s.valid is None and middle - test >= 3 * H + TWO:
            valid = min(max(2 * H, (middle - test) // 10), max(H, (middle - test) // 4))
        for name, given in (("test", test), ("valid", valid)):
            if 0 < given < H:
                raise SettingsError(f"network.{name}={given} is shorter than the horizon of {H} steps: no forecast fits into it.")
        windows = len(panel.series) * max(1, valid - H + 1)
        return {"test": test, "valid": valid, "stride": s.stride or (max(1, windows // 1000) if len(panel.series) < 20 else H)}

    def _sizes_of_network(self, panel: Panel, training: Sequence[Series]) -> dict[str, Any]:
        """What the network says and how much it reads, where nobody said it."""
        s = self.settings
        counts = s.output == "negative_binomial"
        output = s.output or {"esn": "mean", "autoregressive": "student_t"}.get(s.kind, "quantiles")
        if s.kind == "esn" and output != "mean":
            raise SettingsError(
                f'network.kind="esn" says the mean, and its quantiles are those of its errors; leave out output={output!r}.'
            )
        if s.kind == "autoregressive" and output == "mean":
            raise SettingsError(
                'network.kind="autoregressive" draws samples; output="mean" has none. Take quantiles, gaussian or student_t.'
            )
        log = s.log
        if log is None:
            positive = all(bool((series.y[~np.isnan(series.y)] > 0).all()) for series in panel.series)
            log = positive and not counts and grows(training, s.season)
        middle = int(np.median([len(series.y) for series in training]))
        length = s.window or min(max(4 * s.season, 3 * s.horizon, 16), max(2 * s.season, middle // 2, 4))
        return {
            "log": log and not counts,
            "level": "none" if counts else s.level or ("last" if s.season == 1 else "season"),
            "output": output,
            "identity": len(panel.series) > 1 if s.identity is None else s.identity,
            "window": length,
            "segment": s.segment or segment_of(length, s.season),
        }

    def _cuts(self) -> Cuts:
        s = self.settings
        return Cuts(s.horizon, s.valid, s.test, s.stride, max(TWO, min(s.season + 1, s.window)))

    def read(self, source: Source, cutoff: str | int | None = None, whole: bool = False) -> Panel:
        """The series of a source, as the network can read them; whole: without leaving out what is missing at their beginnings."""
        known = self.frequency if self.names else None  # from training
        panel = read_panel(source, self.roles_of, self.settings.repair, cutoff, known, whole)
        for series in panel.series if self.names else ():
            self.check(series)
        return panel

    @property
    def roles_of(self) -> Roles:
        s = self.settings
        return Roles(self.values, self.columns.get("ds"), self.columns.get("unique_id"), s.past, s.future, s.static)

    def check(self, series: Series) -> None:
        """Refuses values that the logarithm, or the distribution of counts, has no place for."""
        y = series.y[~np.isnan(series.y)]
        if self.settings.log and len(broken := y[y <= 0]):
            raise DataError(
                f"series {series.id!r} has {broken[0]:g}; the logarithm is learned (network.log), so that every value is above 0."
            )
        if self.settings.output == "negative_binomial" and len(broken := y[(y < 0) | (y != np.round(y))]):
            raise DataError(f"series {series.id!r} has {broken[0]:g}; output=negative_binomial is for counts, whole numbers from 0.")

    def _see_static(self, panel: Panel) -> None:
        for k, column in enumerate(self.settings.static):
            seen = [series.static[k] for series in panel.series]
            if any(value is None for value in seen):
                raise DataError(f"the static covariate {column!r} is empty in series {panel.series[seen.index(None)].id!r}.")
            self.categories.append(sorted({str(value) for value in seen}) if isinstance(seen[0], str) else [])
        self.statics.add(np.array([self._static_numbers(series) for series in panel.series]).reshape(len(panel.series), -1))

    def _best_start(self, training: Sequence[Series]) -> str:
        """The simple forecast with the smallest error on windows of training."""
        s = self.settings
        examples = [self.encode(row) for row in _windows(training, self._cuts()._replace(valid=0, test=0), "train", 2000)]
        y, target = (self._transformed(np.stack([example[name] for example in examples])) for name in ("y", "target"))
        spread = spread_of(y, level_of(y, "mean", 1), np.zeros(len(y)))[:, None]
        errors = {
            kind: np.nanmean(np.abs(target - start_of(y, kind, s.season, s.horizon)) / spread)
            for kind in (STARTS if s.season > 1 else STARTS[:2])
        }
        return min(errors, key=errors.__getitem__)

    def _transformed(self, y: np.ndarray) -> np.ndarray:
        return np.log(y) if self.settings.log else y

    def _as_values(self, z: np.ndarray) -> np.ndarray:
        return np.exp(z) if self.settings.log else z

    # Examples

    def rows(self, source: Source, split: str) -> Iterator[Mapping[str, Any]]:
        """The windows of a split; of "all": of cut-offs through all of the data."""
        cutoff = None if split == "all" else self.settings.cutoff
        if self._panel is None or self._panel[:2] != (source.path, cutoff):
            self._panel = (source.path, cutoff, self.read(source, cutoff))
        return _windows(self._panel[2].series, self._cuts(), split, self.settings.windows if split == "train" else None)

    def encode(self, row: Mapping[str, Any]) -> Example:
        """A window, {"series": Series, "cut": how many values are known}, as arrays."""
        s, series = self.settings, row["series"]
        number = self._number.get(series.id, 0)
        unit, spread = self.sizes[number - 1] if number else self._sizes(series, row["cut"], row["cut"])
        example = window(series, number, row["cut"], s.window, s.horizon, self.frequency, s.calendar, unit, spread)
        return example | {"static": np.array(self._static(series), np.float32)}

    def _sizes(self, series: Series, before_test: int, in_training: int) -> tuple[float, float]:
        """The mean absolute error of the seasonal naive forecast before the test, and the deviation in training."""
        y, season = series.y[:before_test], self.settings.season
        apart = np.abs(y[season:] - y[:-season]) if len(y) > season else np.zeros(0)
        known = self._transformed(series.y[:in_training])
        known = known[~np.isnan(known)]
        unit = float(np.nanmean(apart)) if (~np.isnan(apart)).any() else 0.0
        return unit, float(known.std()) if len(known) else 0.0

    def _static(self, series: Series) -> list[float]:
        """Numbers, brought to mean 0 and deviation 1, and a 1 at the place of each known text."""
        numbers = self.statics.scaled(np.array([self._static_numbers(series)]))[0].tolist() if self._static_numbers(series) else []
        places = [float(str(value) == name) for value, known in zip(series.static, self.categories) for name in known]
        return [*numbers, *places]

    def _static_numbers(self, series: Series) -> list[float]:
        return [float(value) for value, known in zip(series.static, self.categories) if not known]

    def length(self, example: Example) -> int:
        return len(example["y"])

    def collate(self, examples: Sequence[Example]) -> Batch:
        s = self.settings
        raw, target = (np.stack([example[name] for example in examples]) for name in ("y", "target"))
        y = self._transformed(raw)
        spread = np.array([float(example["spread"]) for example in examples])
        level = level_of(y, s.level, s.season)
        if s.output == "negative_binomial":
            scale = 1 + np.nan_to_num(mean_of(y))
        elif s.scale == "series":
            scale = spread_of(y[:, :0], level, spread)
        else:
            scale = spread_of(y, level, spread)
        start = start_of(y, s.start, s.season, s.horizon)
        past = self._covariates(np.stack([example["past"] for example in examples]), len(s.past))
        future = self._covariates(np.stack([example["future"] for example in examples]), 0)
        z = (y - level[:, None]) / scale[:, None]
        arrays = {
            "z": np.nan_to_num(z),
            "there": ~np.isnan(z),
            "start": np.nan_to_num((start - level[:, None]) / scale[:, None]),
            "past": past,
            "future": future,
            "static": np.stack([example["static"] for example in examples]),
            "log_scale": np.log(scale),
            "target": (self._transformed(target) - level[:, None]) / scale[:, None],
        }
        inputs = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
        inputs["series"] = torch.tensor([int(example["series"]) for example in examples])
        known = torch.from_numpy(target)
        about = [{"level": a, "scale": b, **example} for a, b, example in zip(level, scale, examples)]
        lengths = torch.full((len(examples),), s.window)
        return Batch(inputs, lengths, known if bool((~known.isnan()).any()) else None, about)

    def _covariates(self, values: np.ndarray, past: int) -> np.ndarray:
        """[B, T, past + future + calendar]: those of the file brought to mean 0 and deviation 1."""
        ahead = past + len(self.settings.future)
        parts = [self.past.scaled(values[..., :past])] if past else []
        parts += [self.future.scaled(values[..., past:ahead])] if ahead > past else []
        return np.concatenate([*parts, values[..., ahead:]], -1)

    # The network

    def network(self) -> nn.Module:
        s = self.settings
        calendar = self.frequency.calendar(np.zeros(1, "datetime64[s]")).shape[1] if s.calendar else 0
        future = len(s.future) + calendar
        static = sum(map(len, self.categories)) + sum(not known for known in self.categories)
        shape = Shape(s.window, s.horizon, len(s.past) + future, future, static, len(self.names))
        return Members([self._member(shape) for _ in range(s.members)])

    def _member(self, shape: Shape) -> Forecaster:
        s = self.settings
        identity = min(16, 2 + len(self.names) // 4) if s.identity else 0
        if s.kind == "esn":
            return Echo(shape, s.units, s.spectral_radius, s.leak, s.input_scaling)
        make = cell_maker(s.cell)
        if s.kind == "autoregressive":
            return Paths(shape, make, s.units, s.layers, s.output, identity, s.dropout, s.season, s.samples)
        decoder = s.kind == "encoder_decoder"
        return Horizon(shape, make, s.units, s.layers, s.segment, s.output, identity, s.dropout, s.linear, decoder)

    def training(self) -> dict[str, Any]:
        if self.settings.kind == "esn":
            return {"epochs": 1, "batch_size": 64}
        windows = min(self.windows, self.settings.windows)
        batch = 32 if windows < 1000 else 64 if windows < 10_000 else 128
        updates = 600 if windows < 1000 else 2000 if windows < 10_000 else 4000
        return {
            "learning_rate": 1e-3 if windows < 1000 else 2e-3,
            "batch_size": batch,
            "epochs": max(2, -(-updates // -(-windows // batch))),
            "weight_decay": 0.1,
            "clip_norm": 1.0,
            "average": 0.99,
            "patience": 15 if windows < 1000 else 5,
        }

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        if self.settings.kind == "esn":
            return torch.zeros(()), 0  # its readout is solved, not learned
        return super().loss(network, batch)

    def solve(self, network: Any, batches: Iterable[Batch]) -> None:
        penalties = PENALTIES if self.settings.ridge is None else (self.settings.ridge,)
        for member in network.networks if self.settings.kind == "esn" else ():
            member.solve((Windows(**batch.inputs) for batch in batches), penalties)

    def tunable(self) -> dict[str, tuple[float, float, bool]]:
        if self.settings.kind != "esn":
            return {}
        return {"spectral_radius": (0.1, 1.5, False), "leak": (0.05, 1.0, True), "input_scaling": (0.02, 3.0, True)}

    def criterion(self, network: Any, outputs: Any, batch: Batch) -> tuple[Tensor, int]:
        total, count = outputs
        return total / count.clamp(min=1), int(count)

    def decode(self, network: Any, outputs: Any, batch: Batch) -> list[Prediction]:
        """The forecast [H] and its quantiles [H, Q], in the unit of y, as arrays."""
        z = network.quantiles(**batch.inputs).double().numpy(force=True)
        found = []
        for quantiles, about in zip(z, batch.examples):
            values = self._as_values(about["level"] + about["scale"] * quantiles)
            found.append({"forecast": values[:, MIDDLE], "quantiles": values})
        return found

    def calibrate(self, network: Any, batches: Iterable[Batch]) -> None:
        """The share of the correction and margins of the quantiles, from the backtests of the validation part; what was learned from tells nothing
        about them."""
        if not self.settings.valid:
            return
        seen = [(network.quantiles(calibrated=False, **batch.inputs), batch.inputs["start"], batch.inputs["target"]) for batch in batches]
        quantiles, start, target = (torch.cat(parts) for parts in zip(*seen))
        if not network.networks[0].counts:
            found, simple, came = (part.double().numpy(force=True) for part in (quantiles, start, target))
            network.share.fill_(share_of(found, simple, came, QUANTILES))
            quantiles = network.shrunk(quantiles, start)
        residuals = (target[..., None] - quantiles).double().numpy(force=True)
        network.margins.copy_(torch.from_numpy(margins(residuals, QUANTILES)))

    # What a run keeps

    def keep(self, folder: Path) -> None:
        assert self.kept is not None
        save_panel(self.kept, folder, self.tail)

    def restore(self, folder: Path) -> None:
        self.kept = load_panel(folder)

    @property
    def tail(self) -> int:
        """So many steps of each series are kept: what the network reads, and some more to be drawn."""
        return max(self.settings.window, 3 * self.settings.horizon)

    def state(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "columns": self.columns,
            "values": self.values,
            "frequency": list(self.frequency),
            "style": self.style,
            "names": self.names,
            "sizes": self.sizes,
            "covariates": [moments.state() for moments in (self.past, self.future, self.statics)],
            "categories": self.categories,
            "windows": self.windows,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Forecast:
        task = cls(validated(cls.Settings, state["settings"]), state["columns"])
        task.values, task.frequency, task.style = tuple(state["values"]), Frequency(*state["frequency"]), state["style"]
        task.names, task.sizes = state["names"], [(unit, spread) for unit, spread in state["sizes"]]
        task.past, task.future, task.statics = (Moments(**moments) for moments in state["covariates"])
        task.categories, task.windows = state["categories"], state["windows"]
        task._number = {name: number for number, name in enumerate(task.names, 1)}
        return task

    # What is said of it

    def meter(self) -> Meter:
        return ForecastMeter(self)

    def row_text(self, row: Mapping[str, Any], prediction: Prediction) -> str:
        return f"{row['series'].id}\t" + " ".join(f"{value:.6g}" for value in prediction["forecast"])

    def figures(self, meter: Any) -> list[Figure]:
        return meter.figures()

    def baselines(self, train: Iterable[Example], test: Iterable[Example]) -> dict[str, dict[str, float]]:
        """The last value, and the value of the last season, always."""
        errors = {"last value": ForecastErrors()} | ({"seasonal naive": ForecastErrors()} if self.settings.season > 1 else {})
        for example in test:
            for name, found in errors.items():
                season = 1 if name == "last value" else self.settings.season
                forecast = start_of(example["y"][None], "seasonal", season, self.settings.horizon)[0]
                found.add(example["target"], np.nan_to_num(forecast), float(example["unit"]))
        return {name: found.scores() for name, found in errors.items()}


class ForecastMeter(Meter):
    """`ForecastErrors` over all windows, by step of the horizon; the first windows are kept to be drawn."""

    SHOWN = 6

    def __init__(self, task: Forecast):
        super().__init__()
        self.task, self.errors = task, ForecastErrors()
        self.by_step = np.zeros((2, task.settings.horizon))  # sums of |y - forecast| / unit, and counts
        self.shown: dict[int, dict[str, Any]] = {}  # by series, the last window of each

    def count(self, batch: Batch, predictions: Sequence[Prediction]) -> None:
        for example, prediction in zip(batch.examples, predictions):
            y, unit = example["target"], float(example["unit"])
            self.errors.add(y, prediction["forecast"], unit, prediction["quantiles"])
            if unit > 0:
                apart = np.abs(y - prediction["forecast"]) / unit
                self.by_step += np.stack([np.nan_to_num(apart), ~np.isnan(apart)])
            number = int(example["series"])
            before = self.shown.get(number)
            if len(self.shown) < self.SHOWN if before is None else int(example["cut"]) >= before["cut"]:
                self.shown[number] = {"cut": int(example["cut"]), "past": example["y"], "y": y, **prediction}

    def scores(self) -> dict[str, float]:
        return self.errors.scores()

    def figures(self) -> list[Figure]:
        sums, counts = self.by_step
        steps = [str(k + 1) for k in range(len(sums))]
        found = [
            Figure(
                "forecast",
                self.task.names[number - 1] if number and self.task.names[number - 1] else "Forecast",
                {
                    "past": one["past"].tolist()[-4 * len(one["y"]) :],
                    "y": one["y"].tolist(),
                    "forecast": one["forecast"].tolist(),
                    "bands": [[one["quantiles"][:, k].tolist(), one["quantiles"][:, -1 - k].tolist()] for k in (0, 2)],
                },
                "What was known, what was forecast with its intervals of 80 and 95 %, and what came.",
            )
            for number, one in self.shown.items()
        ]
        if counts.any():
            bars = {"labels": steps, "values": (sums / np.maximum(counts, 1)).tolist(), "axis": "mase"}
            found.append(Figure("bars", "Error by step of the horizon", bars))
        return found


STARTS = ("last", "drift", "seasonal", "seasonal_change")  # the first two of series without a season


def start_of(y: np.ndarray, kind: str, season: int, horizon: int) -> np.ndarray:
    """A simple forecast of windows y [B, L] with NaN, [B, horizon].

        last              y(t)
        drift             y(t) + h (y(t) - y(first)) / (t - first), between the first and the last value of the window
        seasonal          y(t + h - season), the latest of that place
        seasonal_change   the same, shifted by what the last season's mean is above that of the season before

    >>> start_of(np.array([[1.0, 2.0, 3.0, 4.0]]), "seasonal_change", 2, 3).tolist()
    [[5.0, 6.0, 5.0]]
    """
    last = np.repeat(last_season(y, 1), horizon, 1)
    if kind == "last":
        return last
    if kind == "drift":
        there, rows = ~np.isnan(y), np.arange(len(y))
        first, end = there.argmax(1), y.shape[1] - 1 - there[:, ::-1].argmax(1)
        slope = np.nan_to_num((y[rows, end] - y[rows, first]) / np.maximum(end - first, 1))
        return last + slope[:, None] * (y.shape[1] - end[:, None] + np.arange(horizon))
    latest = last_season(y, season)
    found = latest[:, np.arange(horizon) % season]
    if kind == "seasonal_change" and y.shape[1] > season:
        change = latest.mean(1) - last_season(y[:, :-season], season).mean(1)
        found = found + np.nan_to_num(change)[:, None]
    return found


def grows(training: Sequence[Series], season: int) -> bool:
    """Whether what varies within a season grows with the level, as in most of the series that change their level much: the slope of
    ln deviation over ln mean is above 1/2."""
    slopes = []
    for series in training:
        whole = series.y[len(series.y) % max(2, season) :].reshape(-1, max(2, season)) if season > 1 else np.zeros((0, 2))
        whole = whole[~np.isnan(whole).any(1)]
        mean, deviation = whole.mean(1), whole.std(1)
        keep = (mean > 0) & (deviation > 0)
        if keep.sum() >= 4 and mean[keep].max() > 1.5 * mean[keep].min():
            slopes.append(float(np.polyfit(np.log(mean[keep]), np.log(deviation[keep]), 1)[0]))
    return len(slopes) > len(training) / 2 and float(np.median(slopes)) > 0.5


def segment_of(window: int, season: int) -> int:
    """Steps read at once: a season or an even part of one, so that a window has eight segments or more.

    >>> segment_of(192, 24), segment_of(48, 12), segment_of(18, 1)
    (24, 6, 2)
    """
    if season == 1:
        return max(1, window // 8)
    parts = next((k for k in range(1, season + 1) if season % k == 0 and window * k >= 8 * season), season)
    return season // parts


def _windows(many: Sequence[Series], cuts: Cuts, split: str, most: int | None = None) -> Iterator[dict[str, Any]]:
    """{"series", "cut"} of every window of a split, or of `most`, evenly taken."""
    total = sum(len(cuts.of(split, len(series.y))) for series in many)
    every = max(1, -(-total // most)) if most else 1
    for k, series in enumerate(many):
        for cut in cuts.of(split, len(series.y))[k % every :: every]:
            yield {"series": series, "cut": cut}
