"""What a run that forecasts is used for: forecasts from the ends of its series or of a file, new rows, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wavefront.data import Source, open_source
from wavefront.data.dates import read_times
from wavefront.data.panel import Panel, Series
from wavefront.errors import DataError, RunError, SettingsError
from wavefront.tasks.forecast import Forecast
from wavefront.tasks.forecast.kept import save_panel
from wavefront.tasks.forecast.outputs import QUANTILES

if TYPE_CHECKING:
    from wavefront.app.run import Run

__all__ = ["Forecasted", "draw", "forecasts", "rows", "update"]

AT_ONCE = 64  # series that go through the network together
DRAWN = 12  # series that a picture shows at most


class Forecasted(NamedTuple):
    """The forecast of one series.

    series  what was known; at: the times that are forecast; y: the forecast (the median, or the mean if that was learned)
    bands   level in % -> (low, high)
    """

    series: Series
    at: np.ndarray
    y: np.ndarray
    bands: dict[float, tuple[np.ndarray, np.ndarray]]


def forecasts(
    run: Run,
    data: str | Path | None = None,
    horizon: int | None = None,
    level: Sequence[float] = (80, 95),
    future: str | Path | None = None,
    cutoff: str | int | None = None,
) -> Iterator[Forecasted]:
    """One forecast for each series, from its end.

    data     the series to forecast; None: those of training, with the rows that `update` has added since
    horizon  steps, at most those that were trained; None: these
    level    of the intervals, in %, at most 95
    future   a file with the covariates of the steps to come, where they are known in advance and not in the data
    cutoff   what comes after this time is not looked at
    """
    import torch

    task = forecaster(run)
    trained = task.settings.horizon
    horizon = trained if horizon is None else horizon
    if not 1 <= horizon <= trained:
        raise SettingsError(
            f"horizon is {horizon}; the run in {run.folder} was trained for 1 to {trained} steps. Fit one with --set horizon={horizon}."
        )
    widest = 100 * (QUANTILES[-1] - QUANTILES[0])
    if wrong := [one for one in level if not 0 < one <= widest]:
        raise SettingsError(f"level is {wrong[0]:g}; intervals are of more than 0 and at most {widest:g} %.")
    source = None if data is None else open_source(data, like=run.like)
    panel = task.kept if source is None else task.read(source, cutoff)
    assert panel is not None
    if source is None and cutoff is not None:
        panel = _until(panel, cutoff)
    many = [_with_future(series, ahead, task) for series, ahead in zip(panel.series, _futures(future, panel, task))]
    for begin in range(0, len(many), AT_ONCE):
        chunk = many[begin : begin + AT_ONCE]
        batch = task.collate([task.encode({"series": series, "cut": len(series.y)}) for series in chunk])
        with torch.no_grad():
            found = task.decode(run.network, None, batch.to(next(run.network.parameters()).device))
        for series, prediction in zip(chunk, found):
            quantiles = prediction["quantiles"][:horizon]
            bands = {float(one): (_quantile(quantiles, 0.5 - one / 200), _quantile(quantiles, 0.5 + one / 200)) for one in level}
            yield Forecasted(series, panel.frequency.after(series.at[-1], horizon), prediction["forecast"][:horizon], bands)


def rows(run: Run, found: Forecasted) -> Iterator[dict[str, Any]]:
    """A forecast in the long format, under the names of the columns of training: unique_id, ds, y, y-lo-80, y-hi-80, ..."""
    from wavefront.data.dates import written

    task = forecaster(run)
    ids, ds, y = task.columns.get("unique_id", "unique_id"), task.columns.get("ds", "ds"), task.columns.get("y", "y")
    y = "y" if y == "series" else y
    for k, time in enumerate(written(found.at, task.style)):
        row: dict[str, Any] = {ids: found.series.id} if found.series.id else {}
        row |= {ds: time, y: float(found.y[k])}
        for one, (low, high) in found.bands.items():
            row |= {f"{y}-lo-{one:g}": float(low[k]), f"{y}-hi-{one:g}": float(high[k])}
        yield row


def update(run: Run, data: str | Path) -> dict[str, int]:
    """Appends new rows to the series of a run, which is then forecast from their ends: nothing is trained. -> how many rows each series got

    Rows that are known already may be in the file again, if they say the same; what is new follows without a gap. A series that the run
    does not know is added to it. All is read and checked before anything is written.
    """
    task = forecaster(run)
    kept = task.kept
    assert kept is not None
    source = open_source(data, like=run.like)
    new = task.read(source, whole=True)
    known = {series.id: series for series in kept.series}
    added = {}
    for series in new.series:
        old = known.get(series.id)
        known[series.id] = series if old is None else _joined(old, series, task, source)
        added[series.id] = len(series.y) if old is None else len(known[series.id].y) - len(old.y)
    task.kept = kept._replace(series=tuple(known.values()))
    save_panel(task.kept, run.folder, task.tail)
    return added


def draw(found: Sequence[Forecasted], path: str | Path) -> None:
    """A picture of forecasts, .svg, .png or .pdf: what was known, what is forecast, and its intervals; the first dozen series."""
    if Path(path).suffix.lower() not in (".svg", ".png", ".pdf"):
        raise SettingsError(f"--plot draws .svg, .png and .pdf; got {path}.")
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import dates, pyplot

    shown = found[:DRAWN]
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    height = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(
        height, columns, figsize=(5.6 * columns + 1.4 * (columns == 1), 3.1 * height), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis, one in zip(axes.flat, shown):
        past = max(3 * len(one.y), 24)
        axis.plot(one.series.at[-past:], one.series.y[-past:], color="#6a6e78", linewidth=1.2, label="known")
        for shade, (level, (low, high)) in zip((0.16, 0.28, 0.4), sorted(one.bands.items(), reverse=True)):
            axis.fill_between(one.at, low, high, color="#2f6db5", alpha=shade, linewidth=0, label=f"{level:g} %")
        axis.plot(one.at, one.y, color="#2f6db5", linewidth=1.8, marker="o" if len(one.y) == 1 else None, label="forecast")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e3e3de", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.set_title(one.series.id, fontsize=10, loc="left")
        if one.at.dtype.kind == "M":
            axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}.") from error
    finally:
        pyplot.close(figure)


def forecaster(run: Run) -> Forecast:
    """The task of a run that forecasts."""
    if not isinstance(run.task, Forecast):
        raise SettingsError(f"{run.folder} is a run of {run.task.name}, which does not forecast. Fit one with --task forecast.")
    return run.task


def _quantile(quantiles: np.ndarray, q: float) -> np.ndarray:
    return np.array([np.interp(q, QUANTILES, step) for step in quantiles])


def _until(panel: Panel, cutoff: str | int) -> Panel:
    last = read_times([cutoff], "cutoff", "the settings").at[0]
    cut = [series.until(int((series.at <= last).sum())) for series in panel.series]
    if not all(len(series.y) for series in cut):
        raise SettingsError(
            f"cutoff is {cutoff!r}, and the run keeps only the ends of its series. Name the data: wavefront forecast RUN DATA."
        )
    return panel._replace(series=tuple(cut))


def _joined(old: Series, new: Series, task: Forecast, source: Source) -> Series:
    """The old series and what of the new one comes after it."""
    from wavefront.data.dates import written

    if "ds" not in task.columns:  # rows without times follow those before
        new = new._replace(at=task.frequency.after(old.at[-1], len(new.y)))
    first = int(np.searchsorted(new.at, old.at[-1], side="right"))
    again = dict(zip(old.at.tolist(), old.y.tolist()))
    for time, value in zip(new.at[:first].tolist(), new.y[:first].tolist()):
        before = again.get(time, value)
        if before != value and not (np.isnan(before) and np.isnan(value)):
            said = written(np.array([time], old.at.dtype), task.style)[0]
            raise DataError(
                f"{source.path}: {said} of series {new.id!r} is {value:g}, but {before:g} in the run. Fit a new run on corrected data."
            )
    if first == len(new.y):
        return old
    expected = task.frequency.after(old.at[-1], 1)[0]
    if new.at[first] != expected:
        got, wanted = (written(np.array([time], old.at.dtype), task.style)[0] for time in (new.at[first], expected))
        raise DataError(
            f"{source.path}: the next row of series {new.id!r} is {wanted}, got {got}. Add the rows between, with an empty value."
        )
    at, y, past = (np.concatenate([getattr(old, name), getattr(new, name)[first:]]) for name in ("at", "y", "past"))
    return old._replace(at=at, y=y, past=past, future=np.concatenate([old.future[: len(old.y)], new.future[first:]]))


def _futures(file: str | Path | None, panel: Panel, task: Forecast) -> Iterator[np.ndarray | None]:
    """The covariates of the horizon of each series, from a file of their own."""
    names = task.settings.future
    if file is None or not names:
        if file is not None:
            raise SettingsError("--future is for covariates known in advance; the run was trained without (--set 'future=[...]').")
        yield from (None for _ in panel.series)
        return
    source = open_source(file)
    ids, ds = task.columns.get("unique_id"), task.columns.get("ds")
    table = list(source.rows("all"))
    there = {column.name for column in source.columns}
    if absent := [name for name in (*names, *(name for name in (ids, ds) if name)) if name not in there]:
        raise DataError(f"{file}: has no column {absent[0]!r}. It has: {', '.join(sorted(there))}.")
    found: dict[tuple[str, Any], Mapping[str, Any]] = {}
    times = read_times([row[ds] for row in table], ds, str(file)).at.tolist() if ds else None
    seen: dict[str, int] = {}
    for k, row in enumerate(table):
        key = "" if ids is None else str(int(row[ids])) if isinstance(row[ids], float) and row[ids].is_integer() else str(row[ids])
        seen[key] = seen.get(key, 0) + 1
        found[key, times[k] if times is not None else seen[key]] = row
    for series in panel.series:
        at = panel.frequency.after(series.at[-1], task.settings.horizon)
        values = []
        for k, time in enumerate(at.tolist()):
            covariates = found.get((series.id, time if times is not None else k + 1))
            if covariates is None or any(covariates[name] is None for name in names):
                raise DataError(
                    f"{file}: no {', '.join(names)} for {panel.times(at[k : k + 1])[0]}"
                    + (f" of series {series.id!r}." if series.id else ".")
                )
            values.append([covariates[name] for name in names])
        yield np.array(values, np.float64)


def _with_future(series: Series, ahead: np.ndarray | None, task: Forecast) -> Series:
    """The series with the covariates of its horizon."""
    if not task.settings.future:
        return series
    known, wanted = series.future[: len(series.y)], len(series.y) + task.settings.horizon
    series = series if ahead is None else series._replace(future=np.concatenate([known, ahead]))
    if len(series.future) < wanted:
        raise DataError(
            f"the covariates {', '.join(task.settings.future)} are needed for {task.settings.horizon} steps after the end of series {series.id!r},"
            f" {len(series.future) - len(series.y)} are known. Give them in a file of their own (--future FILE), or as rows without a value."
        )
    return series
