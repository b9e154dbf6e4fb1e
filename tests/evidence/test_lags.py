"""Pairs of tokens at every distance: noise that comes again, wherever it does, and independent noise that does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence.lags import PitLags


def transforms(seed, rows=4000, length=20):
    return np.random.default_rng(seed).random((rows, length))


def found(part, rows=(0,), alpha=1e-6):
    return PitLags(rows, part.shape[1]).check([part], alpha=alpha, beta=1e-3, name="pairs")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 12, 16, 19])
def test_a_ring_of_any_size_is_seen_at_its_distance(size):
    part = transforms(0)
    for position in range(size, 20):
        part[:, position] = part[:, position - size]
    evidence = found(part)
    assert evidence.rejected
    assert evidence.data["position"] % size == 0
    assert f"positions i and i + {evidence.data['position']} of a row" in evidence.detail


@pytest.mark.parametrize(("row", "shift"), [(1, 0), (1, -1), (2, 3), (3, -7), (8, 0)])
def test_noise_of_an_earlier_row_is_seen_at_its_place(row, shift):
    part = transforms(1)
    fresh = part.copy()
    take = np.arange(max(0, shift), min(20, 20 + shift))
    later = np.flatnonzero(np.arange(4000) // row % 2)  # rows that are not read from themselves
    part[np.ix_(later, take)] = fresh[np.ix_(later - row, take - shift)]
    evidence = found(part, rows=tuple(range(1, 9)))
    assert evidence.rejected
    assert (evidence.data["row"], evidence.data["position"]) == (row, shift)
    assert f"of rows r and r + {row}" in evidence.detail


def test_independent_transforms_are_rejected_no_more_often_than_stated():
    alarms = sum(found(transforms(seed, 200, 6), rows=(0, 1, 2), alpha=0.05).rejected for seed in range(200))
    assert alarms <= 0.05 * 200 + 4 * math.sqrt(0.05 * 0.95 * 200)


def test_the_stated_dependence_is_missed_no_more_often_than_stated():
    """Half of the mass of a pair's cell moved so that the law is off by delta: here pairs that agree with a chance."""
    check = PitLags((0,), 2)
    delta = check.smallest_detectable(2000, alpha=1e-3, beta=0.05)
    generator = np.random.default_rng(2)
    misses = 0
    for _ in range(200):
        part = generator.random((2000, 2))
        same = generator.random(2000) < delta / 0.75  # copies have total variation 3/4 on a grid of four
        part[same, 1] = part[same, 0]
        misses += not check.check([part], alpha=1e-3, beta=0.05, name="pairs").rejected
    assert misses <= 0.05 * 200 + 4 * math.sqrt(0.05 * 0.95 * 200)


def test_a_law_that_is_off_alone_is_no_dependence():
    part = transforms(3) ** 2
    assert not found(part, rows=(0, 1, 2)).rejected


def test_every_pair_is_counted_once():
    part = transforms(4, 30, 5)
    tables = list(PitLags((0, 2), 5)._tables(part))
    assert sum(table.sum() for row, _, table in tables if row == 0) == 30 * (5 * 4 // 2)
    assert sum(table.sum() for row, _, table in tables if row == 2) == 28 * 25


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(InputError, match="no two tokens are so far apart"):
        PitLags((0,), 1)
    with pytest.raises(InputError, match="2 kinds of 3 positions were announced"):
        PitLags((0,), 3, 2).check([np.zeros((4, 3))], alpha=0.1, beta=0.1, name="pairs")
    assert PitLags((0,), 3).sample_size(0.1, alpha=1e-6, beta=1e-6) > 1000
