"""The settings of `forecast`: what is asked, how series are brought to one scale, and the network."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ForecastSettings"]


class ForecastSettings(BaseModel):
    """What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    # what is asked
    horizon: int | None = Field(None, ge=1, description="steps to forecast; two seasons of a day or shorter, one of a year")
    season: int | None = Field(None, ge=1, description="steps after which things repeat; 1: they do not")
    past: tuple[str, ...] = Field((), description="columns of covariates that are known up to the present")
    future: tuple[str, ...] = Field((), description="columns of covariates that are known in advance")
    static: tuple[str, ...] = Field((), description="columns that are the same in all rows of a series")
    calendar: bool = Field(True, description="the place of each step in the day, the week and the year as covariates, if there are dates")
    # how the file is read and cut
    repair: tuple[Literal["sort", "duplicates", "gaps"], ...] = Field((), description="what may be mended in the rows of a series")
    cutoff: str | int | None = Field(None, description="what comes after this time is not read")
    test: int | None = Field(None, ge=0, description="last steps of each series, kept for the test; the horizon")
    valid: int | None = Field(None, ge=0, description="steps before these, kept to choose by and to calibrate with")
    stride: int | None = Field(None, ge=1, description="steps from one backtest to the next; the horizon in the test")
    windows: int = Field(50_000, ge=1, description="at most so many windows of training, evenly taken from all series")
    # one scale for all series
    log: bool | None = Field(None, description="learn the logarithm; where all values are positive and what repeats grows with the level")
    level: Literal["last", "season", "mean", "none"] | None = Field(
        None, description="what is subtracted: the last value of the window, the mean of its last season, or of all of it"
    )
    scale: Literal["window", "series"] = Field("window", description="divide by the deviation of the window, or of the series in training")
    start: Literal["last", "drift", "seasonal", "seasonal_change"] | None = Field(
        None,
        description="the forecast that is corrected: the last value, the line through the first and it, the last season, or that shifted",
    )
    # the network
    kind: Literal["direct", "encoder_decoder", "autoregressive", "esn"] = Field(
        "direct", description="all steps at once; a second cell over the horizon; step by step from its own samples; an echo state network"
    )
    output: Literal["quantiles", "mean", "gaussian", "student_t", "negative_binomial"] | None = Field(
        None, description="what is said of each step"
    )
    window: int | None = Field(None, ge=1, description="steps of the past that are read")
    segment: int | None = Field(None, ge=1, description="steps that are read at once, and written at once, by one step of the recurrence")
    cell: str = Field("gru", description="the cell of the recurrence, any of `wavefront cells`")
    units: int | None = Field(None, ge=1, description="units of a layer")
    layers: int = Field(1, ge=1, description="layers of the recurrence")
    dropout: float = Field(0.1, ge=0, lt=1, description="of what the recurrence says")
    linear: bool = Field(True, description="a linear map from the window to the horizon beside the recurrence (direct, encoder_decoder)")
    identity: bool | None = Field(None, description="a vector for each series that training saw")
    members: int = Field(1, ge=1, description="networks that are trained side by side and whose forecasts are averaged")
    samples: int = Field(200, ge=20, description="paths that are drawn (autoregressive)")
    # esn
    spectral_radius: float = Field(0.9, gt=0, description="of the reservoir (esn)")
    leak: float = Field(0.3, gt=0, le=1, description="of the reservoir (esn)")
    input_scaling: float = Field(0.5, gt=0, description="of the reservoir (esn)")
    ridge: float | None = Field(None, gt=0, description="penalty of the readout; chosen by generalised cross-validation (esn)")
