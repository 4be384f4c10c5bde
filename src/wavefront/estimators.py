"""Echo state networks as scikit-learn has its estimators: parameters in the constructor, `fit`, `predict`, `score`.

X is a list of series [T, channels] of any lengths, or an array [series, T, channels], in which a series ends where only NaN follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from wavefront.cells import Reservoir
from wavefront.errors import DataError
from wavefront.networks.echo_state import EchoState
from wavefront.networks.echo_summary import EchoSummary
from wavefront.networks.ridge import Ridge

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(f"the estimators need scikit-learn ({error}): pip install 'wavefront[sklearn]'") from error

__all__ = ["EchoStateClassifier", "EchoStateRegressor"]

PENALTIES = tuple(10.0**k for k in range(-8, 3))


class EchoStateRegressor(RegressorMixin, BaseEstimator):
    """An echo state network that gives numbers at every step of a series.

    X  one series [T, channels], or several: see the module. y is of the same kind, [T] or [T, outputs] for each series.

    units, spectral_radius, density, leak, bias, noise, topology  as in `cells.Reservoir`
    input_scaling  as there, of inputs brought to mean 0 and deviation 1
    ridge          the penalty, or several, of which generalised cross-validation takes one
    washout        steps at the start of each series that are not learned from
    squares        the readout sees squares of the states too
    random_state   of the weights: a number, a `numpy.random.RandomState`, or None

    >>> x = np.sin(np.arange(300) / 7)[:, None]
    >>> model = EchoStateRegressor(units=50, random_state=0).fit(x[:-1], x[1:, 0])
    >>> model.predict(x[:-1]).shape, bool(model.score(x[:-1], x[1:, 0]) > 0.999)
    ((299,), True)
    """

    def __init__(
        self,
        units: int = 500,
        *,
        spectral_radius: float = 0.9,
        density: float = 0.1,
        leak: float = 1.0,
        input_scaling: float | Sequence[float] = 1.0,
        bias: float = 0.2,
        noise: float = 0.0,
        topology: str = "random",
        ridge: float | Sequence[float] = PENALTIES,
        washout: int = 20,
        squares: bool = False,
        random_state: Any = None,
    ):
        self.units = units
        self.spectral_radius = spectral_radius
        self.density = density
        self.leak = leak
        self.input_scaling = input_scaling
        self.bias = bias
        self.noise = noise
        self.topology = topology
        self.ridge = ridge
        self.washout = washout
        self.squares = squares
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> EchoStateRegressor:
        one = _is_one(X)
        series = _series([X] if one else X, "X")
        targets = [np.asarray(t, np.float64) for t in ([y] if one else y)]
        if len(targets) != len(series):
            raise ValueError(f"X has {len(series)} series, y has {len(targets)}.")
        for number, (x, t) in enumerate(zip(series, targets)):
            if len(t) < len(x) or (one and len(t) != len(x)):
                raise ValueError(f"series {number} of X has {len(x)} steps, of y {len(t)}.")
        self.flat_ = targets[0].ndim == 1
        columns = [(t[:, None] if self.flat_ else t)[: len(x)] for x, t in zip(series, targets)]
        if {c.shape[1] for c in columns} != {columns[0].shape[1]}:
            raise ValueError(f"the series of y have different numbers of outputs: {sorted({c.shape[1] for c in columns})}.")
        self.n_features_in_ = series[0].shape[1]
        self.mean_, self.scale_ = _moments(series)
        cell = _reservoir(self, self.n_features_in_, _seed(self.random_state), self.noise)
        self.network_ = EchoState(cell, columns[0].shape[1], squares=self.squares)
        self.network_.train(self.noise > 0)
        batches = ((self._scaled(x), torch.from_numpy(np.ascontiguousarray(t))[None], None) for x, t in zip(series, columns))
        self.network_.fit_batches(batches, self.washout, self.ridge)
        self.network_.eval()
        self.ridge_ = self.network_.penalty
        return self

    @torch.no_grad()
    def predict(self, X: Any) -> Any:
        """For one series an array [T] or [T, outputs], for several a list of such."""
        check_is_fitted(self)
        one = _is_one(X)
        found = []
        for x in _series([X] if one else X, "X", self.n_features_in_):
            outputs, _ = self.network_(self._scaled(x))
            found.append(outputs[0, :, 0].numpy() if self.flat_ else outputs[0].numpy())
        return found[0] if one else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² over all steps of all series."""
        from sklearn.metrics import r2_score

        found = self.predict(X)
        if not _is_one(X):
            found, y = np.concatenate(found), np.concatenate([np.asarray(t)[: len(f)] for t, f in zip(y, found)])
        return float(r2_score(y, found, sample_weight=sample_weight))

    def _scaled(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((x - self.mean_) / self.scale_)[None]


class EchoStateClassifier(ClassifierMixin, BaseEstimator):
    """An echo state network that gives a label to each whole series.

    X  series: see the module; a two-dimensional array is one series of one channel in each row. y has a label for each.

    parts        the mean states over so many parts of each series are read
    both         a second reservoir hears each series from its end
    ridge        the penalty, or several, of which generalised cross-validation takes one
    the others   as in `EchoStateRegressor`

    `decision_function` gives the readout for each class, `predict_proba` its softmax with a temperature that fits the training data.

    >>> rows = np.random.default_rng(0).normal(size=(40, 30)).cumsum(1); rows[:20] *= -1; rows += np.linspace(0, 30, 30)
    >>> labels = np.array(["down"] * 20 + ["up"] * 20); rows[:20] -= 2 * np.linspace(0, 30, 30)
    >>> EchoStateClassifier(units=50, random_state=0).fit(rows, labels).score(rows, labels)
    1.0
    """

    def __init__(
        self,
        units: int = 200,
        *,
        spectral_radius: float = 0.9,
        density: float = 0.1,
        leak: float = 0.5,
        input_scaling: float | Sequence[float] = 0.5,
        bias: float = 0.2,
        topology: str = "random",
        parts: int = 4,
        both: bool = True,
        ridge: float | Sequence[float] = PENALTIES,
        random_state: Any = None,
    ):
        self.units = units
        self.spectral_radius = spectral_radius
        self.density = density
        self.leak = leak
        self.input_scaling = input_scaling
        self.bias = bias
        self.topology = topology
        self.parts = parts
        self.both = both
        self.ridge = ridge
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> EchoStateClassifier:
        series = _series(_rows(X), "X")
        self.classes_, numbers = np.unique(np.asarray(y), return_inverse=True)
        if len(numbers) != len(series):
            raise ValueError(f"X has {len(series)} series, y has {len(numbers)} labels.")
        self.n_features_in_ = series[0].shape[1]
        self.mean_, self.scale_ = _moments(series)
        seed = _seed(self.random_state)
        ahead = _reservoir(self, self.n_features_in_, seed)
        back = _reservoir(self, self.n_features_in_, seed + 1) if self.both else None
        self.network_ = EchoSummary(ahead, len(self.classes_), self.parts, back)
        targets = torch.nn.functional.one_hot(torch.from_numpy(numbers), len(self.classes_)).double()
        summary = self._summary(series)
        sums = Ridge(self.network_.features, len(self.classes_))
        sums.add(summary, targets)
        penalties = [self.ridge] if isinstance(self.ridge, (int, float)) else list(self.ridge)
        self.ridge_, readout = sums.best(penalties)
        self.network_.take(readout)
        self.temperature_ = _temperature(summary @ readout.V.T + readout.c, torch.from_numpy(numbers))
        return self

    @torch.no_grad()
    def transform(self, X: Any) -> np.ndarray:
        """What the readout reads of each series, its mean states: [series, features]."""
        check_is_fitted(self)
        return self._summary(_series(_rows(X), "X", self.n_features_in_)).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """The readout, [series, classes]: about 1 for the class that it is, about 0 for the others."""
        return self.transform(X) @ self.network_.V.T.numpy() + self.network_.c.numpy()

    def predict(self, X: Any) -> np.ndarray:
        outputs = self.decision_function(X)
        return self.classes_[outputs.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        outputs = torch.from_numpy(self.decision_function(X))
        return outputs.mul(self.temperature_).softmax(1).numpy()

    def _summary(self, series: list[np.ndarray], together: int = 64) -> torch.Tensor:
        """Series of like length go together."""
        order = np.argsort([len(x) for x in series], kind="stable")
        found = torch.zeros(len(series), self.network_.features, dtype=torch.float64)
        for at in range(0, len(order), together):
            chosen = order[at : at + together]
            lengths = [len(series[i]) for i in chosen]
            x = np.zeros((len(chosen), max(lengths), self.n_features_in_))
            for row, i in enumerate(chosen):
                x[row, : lengths[row]] = (series[i] - self.mean_) / self.scale_
            found[torch.from_numpy(chosen)] = self.network_.summary(torch.from_numpy(x), lengths)
        return found


def _is_one(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype != object and X.ndim == 2


def _rows(X: Any) -> Any:
    return X[:, :, None] if _is_one(X) else X


def _series(X: Any, name: str, channels: int | None = None) -> list[np.ndarray]:
    """Each series [T, channels], its padding cut off, all of it finite."""
    found = []
    for number, given in enumerate(X):
        x = np.asarray(given, np.float64)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2:
            raise ValueError(f"series {number} of {name}: expected [T, channels], got {list(x.shape)}.")
        there = np.flatnonzero(~np.isnan(x).all(1))
        x = x[: there[-1] + 1 if len(there) else 0]
        if not len(x):
            raise DataError(f"series {number} of {name} has no step.")
        if not np.isfinite(x).all():
            raise DataError(
                f"series {number} of {name} has {int((~np.isfinite(x)).sum())} values that are NaN or infinite. Fill them first."
            )
        channels = channels or x.shape[1]
        if x.shape[1] != channels:
            raise ValueError(f"series {number} of {name} has {x.shape[1]} channels, expected {channels}.")
        found.append(x)
    if not found:
        raise DataError(f"{name} has no series.")
    return found


def _moments(series: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel; a constant channel has deviation 1."""
    rows = np.concatenate(series)
    deviation = rows.std(0)
    return rows.mean(0), np.where(deviation > 1e-12 * np.maximum(1, np.abs(rows).max(0)), deviation, 1.0)


def _reservoir(model: Any, inputs: int, seed: int, noise: float = 0.0) -> Reservoir:
    names = ("spectral_radius", "density", "leak", "input_scaling", "bias", "topology")
    return Reservoir(inputs, model.units, **{name: getattr(model, name) for name in names}, noise=noise, seed=seed, dtype=torch.float64)


def _seed(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(2**31 - 1))


def _temperature(outputs: torch.Tensor, numbers: torch.Tensor) -> float:
    """β of the softmax of β times the outputs, of the highest likelihood, up to 100."""
    betas = torch.logspace(0, 2, 41, dtype=outputs.dtype)
    losses = [float(torch.nn.functional.cross_entropy(beta * outputs, numbers)) for beta in betas]
    return float(betas[int(np.argmin(losses))])
