"""Forecasting: what comes next in dated series, with intervals."""

from wavefront.tasks.forecast.forecast import Forecast

__all__ = ["Forecast"]
