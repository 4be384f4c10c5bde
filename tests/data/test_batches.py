"""Batches by length: every example once, the same for the same seed and epoch."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from wavefront.data import batches
from wavefront.errors import SettingsError

LENGTHS = np.random.default_rng(0).integers(1, 200, 5000)


@given(st.lists(st.integers(0, 300), max_size=300), st.integers(1, 40), st.integers(0, 5), st.booleans(), st.booleans())
def test_every_example_once(lengths, size, epoch, by_tokens, shuffle):
    found = batches(lengths, **{"tokens_per_batch" if by_tokens else "batch_size": size}, seed=3, epoch=epoch, shuffle=shuffle)
    assert sorted(np.concatenate([*found, np.empty(0, np.int64)]).tolist()) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[k] for k in batch)
        assert len(batch) * longest <= size or len(batch) == 1 if by_tokens else len(batch) <= size


def test_the_same_seed_and_epoch_give_the_same_and_others_do_not():
    first = batches(LENGTHS, 32, seed=1, epoch=2)
    again = batches(LENGTHS.tolist(), 32, seed=1, epoch=2)
    assert [b.tolist() for b in first] == [b.tolist() for b in again]
    for other in (batches(LENGTHS, 32, seed=2, epoch=2), batches(LENGTHS, 32, seed=1, epoch=3)):
        assert {tuple(sorted(b)) for b in other}.isdisjoint({tuple(sorted(b)) for b in first})


def test_there_is_little_padding():
    found = batches(LENGTHS, 32, seed=0)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in found)
    at_random = sum(32 * LENGTHS[k : k + 32].max() for k in range(0, 5000, 32))
    assert padded < 1.05 * LENGTHS.sum()
    assert at_random > 1.8 * LENGTHS.sum()


def test_batches_of_an_epoch_are_not_in_order_of_length():
    means = [LENGTHS[batch].mean() for batch in batches(LENGTHS, 32, seed=0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.25


def test_without_shuffling_the_longest_come_first():
    found = batches([3, 9, 1, 9], 2, shuffle=False)
    assert [b.tolist() for b in found] == [[1, 3], [0, 2]]


@pytest.mark.parametrize("sizes", [{}, {"batch_size": 2, "tokens_per_batch": 2}, {"batch_size": 0}, {"tokens_per_batch": -1}])
def test_one_size_is_asked_for(sizes):
    with pytest.raises(SettingsError, match="either batch_size or tokens_per_batch"):
        batches([1, 2], **sizes)
