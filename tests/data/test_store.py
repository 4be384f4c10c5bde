"""Encoded examples on disk: what went in comes out, one by one."""

import numpy as np
import pytest

from wavefront.data import Store
from wavefront.errors import DataError


def examples(count=200):
    random = np.random.default_rng(0)
    for n in range(count):
        length = int(random.integers(0, 9))
        yield {
            "tokens": random.integers(0, 50, length),
            "series": random.standard_normal((length, 3)).astype(np.float32),
            "label": np.int64(n),
            "weight": np.array(n / 2),
        }


def test_what_goes_in_comes_out(tmp_path):
    store = Store.build(tmp_path / "store", examples())
    again = Store.open(tmp_path / "store")
    assert len(store) == len(again) == 200
    for wanted, found, reopened in zip(examples(), store, again, strict=True):
        for name, array in wanted.items():
            assert found[name].dtype == np.asarray(array).dtype
            assert found[name].shape == np.shape(array)
            np.testing.assert_array_equal(found[name], array)
            np.testing.assert_array_equal(reopened[name], array)
    np.testing.assert_array_equal(store.lengths("tokens"), [len(e["tokens"]) for e in examples()])
    assert store.columns == ("tokens", "series", "label", "weight")


def test_an_example_is_a_copy(tmp_path):
    store = Store.build(tmp_path / "store", examples(3))
    store[0]["series"] += 1
    np.testing.assert_array_equal(store[0]["series"], next(examples())["series"])


def test_nothing_and_empty_arrays(tmp_path):
    assert len(Store.build(tmp_path / "none", [])) == 0
    store = Store.build(tmp_path / "empty", [{"x": np.empty((0, 2), np.float32)}] * 2)
    assert store[1]["x"].shape == (0, 2)
    with pytest.raises(IndexError, match="examples 0 to 1, not 2"):
        store[2]


def test_what_does_not_fit_is_refused_and_the_store_before_is_kept(tmp_path):
    Store.build(tmp_path / "store", examples(5))
    first = {"x": np.zeros(3)}
    for wrong, message in [
        ({"x": np.zeros((3, 2))}, r"example 2, column 'x': expected float64 of shape \[T\], got float64 of \[3, 2\]"),
        ({"x": np.zeros(3, np.float32)}, "got float32"),
        ({"y": np.zeros(3)}, r"example 2 has columns \['y'\], those before \['x'\]"),
    ]:
        with pytest.raises(DataError, match=message):
            Store.build(tmp_path / "store", [first, wrong])
    with pytest.raises(DataError, match="Encode symbols first"):
        Store.build(tmp_path / "store", [{"x": np.array(["a"])}])
    assert len(Store.open(tmp_path / "store")) == 5


def test_a_damaged_store_is_refused(tmp_path):
    Store.build(tmp_path / "store", examples(5))
    values = tmp_path / "store" / "0.values"
    values.write_bytes(values.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"0\.values: .* bytes, expected"):
        Store.open(tmp_path / "store")
    with pytest.raises(DataError, match=r"no store of examples.*Encode the data again"):
        Store.open(tmp_path)
