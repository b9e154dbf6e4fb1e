"""What a batch costs that waits for its slowest row."""

import itertools

import numpy as np
import pytest

from specverify import lockstep


def test_the_slowest_of_a_batch_is_the_mean_over_all_draws_of_it():
    passes = np.array([3, 5, 5, 9])
    values, counts = np.unique(passes, return_counts=True)
    for batch in (1, 2, 3):
        every = [max(drawn) for drawn in itertools.product(passes, repeat=batch)]
        assert lockstep.slowest(values, counts, batch) == pytest.approx(np.mean(every), abs=1e-12)


def test_weights_count_rows_as_often_as_they_were_drawn():
    passes, weight = np.array([4, 2, 4]), np.array([[1, 1, 1], [0, 3, 0]])
    values, counts = lockstep.tabulated(passes, weight)
    assert values.tolist() == [2, 4]
    assert counts.tolist() == [[1, 2], [3, 0]]
    assert lockstep.slowest(values, counts, 2).tolist() == pytest.approx([4 - 2 / 9, 2])


def test_the_mean_promises_more_than_a_batch_keeps(seed):
    rows = np.random.default_rng(seed).normal(17, 3.4, 1000).round().clip(5, 64).astype(int)
    found = {one["batch"]: one for one in lockstep.summary(rows, 64, seed)}
    assert list(found) == [1, 8, 64]
    assert found[1]["passes"] == pytest.approx(rows.mean())
    assert found[1]["speedup"] > 1.2 * found[8]["speedup"] > 1.2 * found[64]["speedup"] * 1.1
    assert all(low <= found[b]["passes"] <= high for b in found for low, high in [found[b]["interval"]])
    assert [one["batch"] for one in lockstep.summary(rows[:20], 64, seed)] == [1, 8]


def test_the_interval_in_lock_step_holds(seed):
    law = np.random.default_rng(0).dirichlet(np.ones(30))
    values = np.arange(10, 40)
    for batch in (8, 64):
        truth = lockstep.slowest(values, law, batch)
        held = 0
        for trial in range(200):
            rows = np.random.default_rng([seed, trial]).choice(values, 800, p=law)
            one = next(one for one in lockstep.summary(rows, 64, trial) if one["batch"] == batch)
            held += one["interval"][0] <= truth <= one["interval"][1]
        assert held >= 176  # 95% is stated; 88% is 4.5 standard deviations below
