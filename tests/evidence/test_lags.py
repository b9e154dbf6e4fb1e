"""Pairs of tokens at every distance: noise that comes again, wherever it does, and independent noise that does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence import lags
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
    """Pairs that are one number with a chance, which is what they are correlated by."""
    check = PitLags((0,), 2)
    delta = check.smallest_detectable(2000, alpha=1e-3, beta=0.05)
    generator = np.random.default_rng(2)
    misses = 0
    for _ in range(200):
        part = generator.random((2000, 2))
        same = generator.random(2000) < delta
        part[same, 1] = part[same, 0]
        misses += not check.check([part], alpha=1e-3, beta=0.05, name="pairs").rejected
    assert misses <= 0.05 * 200 + 4 * math.sqrt(0.05 * 0.95 * 200)


def test_a_law_that_is_off_alone_is_no_dependence():
    part = transforms(3) ** 2
    assert not found(part, rows=(0, 1, 2)).rejected


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_every_pair_is_counted_once_in_blocks_of_any_size(monkeypatch, block):
    monkeypatch.setattr(lags, "BLOCK", block)
    part = transforms(4, 30, 5)
    wave = {k: np.exp(2j * np.pi * k * part) for k in (1, 2, -1, -2)}
    for row, shifts, sums, _ in lags._sums(part, (0, 2)):
        assert len(shifts) == (4 if row == 0 else 9)
        for at, shift in enumerate(shifts):
            first, second = slice(max(0, -shift), 5 - max(0, shift)), slice(max(0, shift), 5 + min(0, shift))
            for index, (k, m) in enumerate(lags.PAIRS):
                due = (wave[k][: 30 - row, first].conj() * wave[m][row:, second]).sum()
                assert sums[index, at] == pytest.approx(due)


@pytest.mark.parametrize(
    "made", [lambda u: 1 - u, lambda u: 2 * u % 1, lambda u: (u + 0.3) % 1, lambda u: u / 2, lambda u: -2 * u % 1]
)
def test_numbers_that_are_made_of_earlier_ones_are_seen_too(made):
    part = transforms(6)
    part[:, 11:] = made(part[:, :9])
    evidence = found(part)
    assert evidence.data["position"] == 11
    assert evidence.rejected


def test_the_bound_is_above_what_comes_about():
    """The chance of a mean of n cosines, by simulation, is below the bound, and that below what is easy to say."""
    generator = np.random.default_rng(8)
    for n in (1, 2, 5, 40):
        mean = np.cos(2 * np.pi * generator.random((20_000, n))).mean(1)
        for level in (0.3, 0.6, 0.9):
            bound = math.exp(-n * float(lags._rate(np.array([[level]]))[0, 0]))
            assert (mean >= level).mean() <= bound + 4 * math.sqrt(bound / 20_000)
            assert bound <= math.exp(-n * level**2) * 1.01


def test_long_rows_are_looked_at_in_full():
    part = transforms(7, 12, 5000)
    part[:, 4000:] = part[:, 1000:2000]
    evidence = found(part)
    assert evidence.rejected
    assert evidence.data["position"] == 3000


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(InputError, match="no two tokens are so far apart"):
        PitLags((0,), 1)
    with pytest.raises(InputError, match="2 kinds of 3 positions were announced"):
        PitLags((0,), 3, 2).check([np.zeros((4, 3))], alpha=0.1, beta=0.1, name="pairs")
    assert PitLags((0,), 3).sample_size(0.1, alpha=1e-6, beta=1e-6) > 1000
