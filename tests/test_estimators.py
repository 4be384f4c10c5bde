"""The estimators as scikit-learn would have them."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

import wavefront
from wavefront.errors import DataError

KINDS = [wavefront.EchoStateRegressor, wavefront.EchoStateClassifier]


def waves(n=24, seed=0):
    """Series of two channels and of different lengths, slow or fast; and which."""
    random = np.random.default_rng(seed)
    fast = np.arange(n) % 2
    series = []
    for f in fast:
        t = np.arange(random.integers(20, 40)) + random.uniform(0, 9)
        series.append(np.stack([np.sin(t * (0.3 + 0.5 * f)), np.cos(t * 0.2)], 1) + 0.1 * random.normal(size=(len(t), 2)))
    return series, np.array(["slow", "fast"])[fast]


def sine(steps=200):
    x = np.sin(np.arange(steps + 1) / 7)[:, None]
    return x[:-1], x[1:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_constructor_stores_and_nothing_else(kind):
    model = kind(units=33, random_state=4)
    parameters = model.get_params()
    assert {"units": 33, "random_state": 4}.items() <= parameters.items()
    assert vars(model) == parameters
    assert clone(model).get_params() == parameters
    assert model.set_params(leak=0.25).leak == 0.25
    assert (is_regressor(model), is_classifier(model)) == (kind is KINDS[0], kind is KINDS[1])


def test_fit_returns_itself_and_does_not_touch_what_it_is_given():
    x, y = sine()
    before = x.copy(), y.copy()
    model = wavefront.EchoStateRegressor(units=40, random_state=0)
    assert model.fit(x, y) is model
    np.testing.assert_array_equal((x, y[:, None]), (before[0], before[1][:, None]))
    assert model.n_features_in_ == 1
    assert model.score(x[20:], y[20:]) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_state_is_the_same_model_and_so_is_a_pickled_one(kind):
    series, labels = waves(8)
    y = labels if kind is KINDS[1] else series
    first, second = (kind(units=20, random_state=3).fit(series, y) for _ in range(2))
    again = pickle.loads(pickle.dumps(first))
    for a, b, c in zip(first.predict(series), second.predict(series), again.predict(series)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("kind", KINDS)
def test_before_fit_there_is_nothing_to_predict_with(kind):
    with pytest.raises(NotFittedError):
        kind().predict(waves(2)[0])


def test_several_series_and_several_outputs():
    series, _ = waves(6)
    targets = [np.cumsum(x, 0) / 10 for x in series]
    model = wavefront.EchoStateRegressor(units=60, random_state=0, washout=2).fit(series, targets)
    found = model.predict(series)
    assert [f.shape for f in found] == [t.shape for t in targets]
    assert model.score(series, targets) > 0.5


def test_an_array_ends_where_only_nan_follows():
    series, labels = waves()
    whole = np.full((len(series), 45, 2), np.nan)
    for row, x in zip(whole, series):
        row[: len(x)] = x
    a, b = (wavefront.EchoStateClassifier(units=30, random_state=0).fit(X, labels) for X in (series, whole))
    np.testing.assert_allclose(a.decision_function(series), b.decision_function(whole), rtol=1e-9)


def test_labels_of_whole_series():
    series, labels = waves(40)
    model = wavefront.EchoStateClassifier(units=50, random_state=0).fit(series[:20], labels[:20])
    assert model.score(series[20:], labels[20:]) == 1.0
    assert model.classes_.tolist() == ["fast", "slow"]
    probabilities = model.predict_proba(series[20:])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (model.classes_[probabilities.argmax(1)] == model.predict(series[20:])).all()


def test_rows_of_a_table_are_series_of_one_channel():
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(30, 25)), np.arange(30) % 2
    rows[labels == 1] += np.linspace(0, 4, 25)
    scores = cross_val_score(wavefront.EchoStateClassifier(units=30, random_state=0), rows, labels, cv=3)
    assert scores.mean() > 0.9
    search = GridSearchCV(wavefront.EchoStateClassifier(units=20, random_state=0), {"leak": [0.1, 1.0]}, cv=3).fit(rows, labels)
    assert search.best_params_["leak"] in (0.1, 1.0)


def test_one_class_and_a_constant_target():
    series, _ = waves(4)
    assert set(wavefront.EchoStateClassifier(units=10, random_state=0).fit(series, ["a"] * 4).predict(series)) == {"a"}
    model = wavefront.EchoStateRegressor(units=10, random_state=0, washout=0).fit(series, [np.full(len(x), 2.5) for x in series])
    np.testing.assert_allclose(np.concatenate(model.predict(series)), 2.5)


def test_what_cannot_be_learned_from_is_named():
    series, labels = waves(4)
    bad = [x.copy() for x in series]
    bad[2][3, 1] = np.nan
    with pytest.raises(DataError, match=r"series 2 of X has 1 values that are NaN"):
        wavefront.EchoStateClassifier(units=10).fit(bad, labels)
    with pytest.raises(DataError, match=r"longest series has .* the first 100 are the washout"):
        wavefront.EchoStateRegressor(units=10, washout=100).fit(series, series)
    with pytest.raises(ValueError, match="3 labels"):
        wavefront.EchoStateClassifier(units=10).fit(series, labels[:3])
    with pytest.raises(ValueError, match="has 1 channels, expected 2"):
        wavefront.EchoStateClassifier(units=10).fit([*series[:3], series[3][:, :1]], labels)
    with pytest.raises(DataError, match="has no step"):
        wavefront.EchoStateClassifier(units=10).fit([*series[:3], series[3][:0]], labels)
    with pytest.raises(DataError, match="no series"):
        wavefront.EchoStateClassifier(units=10).fit([], [])
