"""Neighbouring rows of a log: sorting explains so much dependence, and shared randomness is more."""

import numpy as np
import pytest
import torch

from specverify.evidence.design import rate_excess
from specverify.evidence.order import Neighbours
from specverify.evidence.tokens import TILTS, TokenStatistics


def trace(pit):
    pit = torch.as_tensor(pit)
    zeros = torch.zeros_like(pit)
    return TokenStatistics(
        pit=pit,
        surprisal=zeros,
        entropy=torch.ones_like(pit),
        variance=zeros,
        tilted=torch.zeros(*pit.shape, len(TILTS), dtype=torch.float64),
        open=torch.ones_like(pit, dtype=torch.bool),
        impossible=torch.zeros_like(pit, dtype=torch.bool),
    )


@pytest.mark.parametrize("length", [1, 2, 12])
@pytest.mark.parametrize("rows", [5, 1600])
def test_no_order_of_independent_rows_refutes(rows, length, seed):
    pit = np.random.default_rng(seed).random((rows, length))
    cells = np.minimum((pit * 4).astype(int), 3)
    for order in (
        np.arange(rows),
        np.lexsort(pit.T),
        np.lexsort(cells.T),
        np.argsort(pit.sum(1)),
        np.argsort(pit[:, 0]),
    ):
        found = Neighbours().check(trace(pit[order]), alpha=0.01, beta=0.1)
        assert not found.rejected
    if rows == 1600:
        assert found.coverage["ordered"], "the order is seen"
        assert not Neighbours().check(trace(pit), alpha=1e-6, beta=0.1).coverage["ordered"]


def test_neighbours_that_share_their_randomness_are_refuted_in_either_pairing(seed):
    generator = np.random.default_rng(seed)
    half = generator.random((200, 24))
    pit = np.where(generator.random((400, 24)) < 0.9, np.repeat(half, 2, axis=0), generator.random((400, 24)))
    assert Neighbours().check(trace(pit), alpha=1e-6, beta=1e-6).rejected
    assert Neighbours().check(trace(np.roll(pit, 1, axis=0)), alpha=1e-6, beta=1e-6).rejected


def test_what_is_in_common_is_seen_from_its_stated_share_on(seed):
    generator = np.random.default_rng(seed)
    rows, length = 600, 24
    share = Neighbours().check(trace(generator.random((rows, length))), alpha=1e-3, beta=0.05).delta
    assert 0.3 < share < 0.6
    for copied, rejects in ((share + 0.02, True), (share - 0.05, False)):
        pit = generator.random((rows, length))
        pit[1::2] = np.where(generator.random((rows // 2, length)) < copied, pit[0::2], pit[1::2])
        assert Neighbours().check(trace(pit), alpha=1e-3, beta=0.05).rejected == rejects
    assert Neighbours().check(trace(generator.random((600, 2))), alpha=1e-3, beta=0.05).vacuous


@pytest.mark.parametrize(("rows", "length", "rate"), [(300, 300, 0.05), (300, 300, 1e-6)])
def test_the_stated_share_is_missed_as_seldom_as_stated(rows, length, rate, seed):
    generator, trials, missed = np.random.default_rng(seed), 60, 0
    share = Neighbours().check(trace(generator.random((rows, length))), alpha=1e-6, beta=rate).delta
    for _ in range(trials):
        pit = generator.random((rows, length))
        pit[1::2] = np.where(generator.random((rows // 2, length)) < share, pit[0::2], pit[1::2])
        missed += not Neighbours().check(trace(pit), alpha=1e-6, beta=rate).rejected
    assert share < 0.3
    assert rate_excess(missed, trials, rate) > 1e-6, f"missed {missed} of {trials}"
