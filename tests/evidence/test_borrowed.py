"""Noise that a row has from another, whichever and wherever, is seen; independent rows are not, however few."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence import borrowed
from specverify.evidence.borrowed import Borrowed

ALPHA, BETA = 1e-7, 1e-3


def found(part, alpha=ALPHA, **more):
    return Borrowed().check([part], alpha=alpha, beta=BETA, **more)


def fresh(seed, rows=300, length=24):
    return np.random.default_rng(seed).random((rows, length))


@pytest.mark.parametrize("apart", [1, 100, 150])
def test_rows_at_any_distance_are_seen_and_named(apart):
    part = fresh(0)
    part[apart:] = part[:-apart].copy()
    order = np.random.default_rng(1).permutation(300)
    evidence = found(part[order], order=order)
    assert evidence.rejected
    one, two = (int(word) for word in evidence.detail.partition("most alike: rows ")[2].split(" and "))
    assert (one - two) % apart == 0


def test_a_few_rows_of_many_are_enough():
    part = fresh(2)
    part[[40, 200, 290]] = part[[7, 8, 9]]
    evidence = found(part)
    assert evidence.rejected
    assert evidence.metric == borrowed.NOISE
    assert 0.01 < evidence.delta < 0.1
    assert not found(fresh(2)).rejected


@pytest.mark.parametrize(("rows", "length"), [(2, 2000), (3, 65), (4, 1000), (8, 500)])
def test_few_long_rows_are_looked_at_though_most_pieces_are_of_one(rows, length):
    """Pieces are taken in any order, and the first ones may all be of one row, which is held against no other."""
    part = fresh(4, rows, length)
    assert not found(part).rejected
    part[1, length // 2 :] = part[0, : length - length // 2]
    evidence = found(part)
    assert evidence.rejected
    assert re.search("most alike: rows (0 and 1|1 and 0)", evidence.detail)


def test_antithetic_rows_are_seen_wherever_they_are():
    part = fresh(8)
    part[1::2] = 1 - part[::2]
    order = np.random.default_rng(1).permutation(300)
    evidence = found(part[order], order=order)
    assert evidence.rejected
    assert "one the opposite of the other" in evidence.detail


def test_a_piece_of_a_row_at_another_place_of_another_is_seen():
    part = fresh(3, 80, 96)
    for row in range(0, 80, 2):
        part[row + 1, 50:90] = part[(row + 30) % 80, 13:53]
    evidence = found(part)
    assert evidence.rejected
    assert "moved by 37 positions" in evidence.detail


def test_a_stretch_of_long_rows_is_seen_though_most_of_them_is_their_own():
    part = fresh(7, 200, 512)
    for row in range(0, 200, 2):
        part[row + 1, 100:220] = part[row, 300:420]
    assert found(part).rejected
    assert not found(fresh(7, 200, 512)).rejected


def test_short_rows_are_seen_by_how_many_are_near_each_other():
    part = fresh(4, 500, 3)
    part[250:] = part[:250]
    assert found(part).rejected


@pytest.mark.parametrize("part", [pytest.param(0, id="first"), 1, 2, 3])
@pytest.mark.thinned(4)
def test_independent_rows_are_rejected_no_more_often_than_stated(part, seed):
    trials, alpha, shapes = 150, 0.05, [(2, 1), (40, 5), (30, 20)]
    alarms = [found(fresh(seed + trial, *shapes[trial % 3]), alpha).rejected for trial in range(trials)]
    assert sum(alarms) <= alpha * trials + 4 * math.sqrt(alpha * (1 - alpha) * trials)


def test_the_stated_share_is_missed_no_more_often_than_stated(seed):
    """Each of so many rows has the numbers of an earlier one, all but for as much as the mean cosine leaves."""
    rows, length, trials, beta = 60, 12, 60, 0.05
    delta = Borrowed().smallest_detectable(rows, length, alpha=1e-3, beta=beta)
    assert delta < 0.5
    generator, misses = np.random.default_rng(seed), 0
    # of numbers that are off by up to w either way the mean cosine is sin(2 pi w) / 2 pi w
    assert math.sin(2 * math.pi * 0.125) / (2 * math.pi * 0.125) == pytest.approx(borrowed.NEAR, abs=1e-3)
    for _ in range(trials):
        part = generator.random((rows, length))
        for row in np.flatnonzero(generator.random(rows) < delta):
            if row:
                part[row] = (part[generator.integers(row)] + generator.uniform(-0.125, 0.125, length)) % 1
        misses += not Borrowed().check([part], alpha=1e-3, beta=beta).rejected
    assert misses <= beta * trials + 4 * math.sqrt(beta * (1 - beta) * trials)


def test_as_many_rows_are_looked_at_as_the_budget_allows(monkeypatch):
    monkeypatch.setattr(borrowed, "BUDGET", 1 << 14)
    evidence = found(fresh(5))
    assert evidence.n == borrowed.looked_at(24, 24) < 300
    assert evidence.coverage["of"] == 300


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="give two rows of each kind"):
        found(fresh(6, 1))
    with pytest.raises(InputError, match="give two rows of each kind"):
        Borrowed().check([fresh(6), fresh(6, 299)], alpha=0.1, beta=0.1)
    assert found(fresh(6, 3, 1)).vacuous
