"""Rows of a black box's calls that have each other's numbers, or their opposites, half a call away."""

import time

import numpy as np
import pytest
import torch

import toymodels
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_pairs import PAIRS, pairs_of_rows
from specverify.verdict import Kind

RATES = dict.fromkeys(PAIRS, 1e-6)


def _call(toy, rng, rows, paired):
    """Plain decoding by inversion; row r + rows / 2 has 1 - u where row r has u, if `paired`."""
    context, tokens = toy.start(rows), []
    for _ in range(toy.length):
        law = toy.laws(context, torch.zeros(rows, 0, dtype=torch.int64))[:, 0]
        u = rng.random(rows // 2)
        u = torch.from_numpy(np.concatenate([u, 1 - u if paired else rng.random(rows // 2)]))
        token = (law.cumsum(1)[:, :-1] <= u[:, None]).sum(1)
        tokens.append(token)
        context = toy.advance(context, token[:, None], torch.ones(rows, dtype=torch.int64))
    return torch.stack(tokens, 1)


@pytest.mark.parametrize("paired", [True, False])
def test_opposite_numbers_half_a_call_away_are_seen(paired, seed):
    toy, rng = toymodels.toy("dense-3x6"), np.random.default_rng(seed)
    calls = [_call(toy, rng, 64, paired) for _ in range(40)]
    near, first, behind = pairs_of_rows(toy, calls, rng, RATES, 0.01)
    assert (near.check, near.rejected) == ("pairs of rows", paired)
    assert ("rows r and r + 32" in near.detail) or not paired
    assert (first.check, first.rejected) == ("first tokens of rows", paired)
    assert not behind.rejected


@pytest.mark.parametrize("slots", [16, 32])
def test_a_request_that_begins_with_the_coin_of_who_was_in_its_slot_before_is_seen(slots, seed):
    toy, rng = toymodels.toy("hash-16x24"), np.random.default_rng(seed)
    u = torch.from_numpy(rng.random((8, 512, toy.length)))
    place = torch.arange(512)
    joins = place % (2 * slots) >= slots
    u[:, joins, 0] = u[:, place[joins] - slots, 0]
    calls = []
    for coins in u:
        tokens = torch.zeros(512, 0, dtype=torch.int64)
        for position in range(toy.length):
            law = toy.laws(toy.start(512), tokens)[:, -1]
            token = (law.cumsum(1)[:, :-1] <= coins[:, position, None]).sum(1)
            tokens = torch.cat([tokens, token[:, None]], 1)
        calls.append(tokens)
    near, first, _ = pairs_of_rows(toy, calls, rng, RATES, 0.01)
    assert near.rejected
    assert first.rejected
    assert f"rows r and r + {slots}" in first.detail
    assert first.estimate > 15 * near.estimate, "it is one position of 24"


def own(target, draft, n, seed):
    """Coins of their own."""
    return slow(target, draft, n, seed, together=1)


def slow(target, draft, n, seed, together=4):
    """Eight milliseconds a row; four rows of a call begin with one coin."""
    end = time.process_time() + 0.008 * n
    rng, tokens = torch.Generator().manual_seed(seed), torch.zeros(n, 0, dtype=torch.int64)
    for position in range(target.length):
        coins = torch.rand(n, generator=rng, dtype=torch.float64)
        if position == 0:
            coins = coins[torch.arange(n) // together * together]
        law = target.laws(target.start(n), tokens)[:, -1]
        token = (law.cumsum(1)[:, :-1] <= coins[:, None]).sum(1)
        tokens = torch.cat([tokens, token[:, None]], 1)
    while time.process_time() < end:
        pass
    return tokens


def test_rows_of_a_slow_sampler_are_held_against_each_other_in_its_later_calls():
    """Its first calls have a few rows each, of which a dozen pairs say nothing."""
    found = judge_sampler(slow, toy="dense-3x6", exact=False, seconds=5.0)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "first tokens of rows" in found.verdict.reason
    evidence = {row.check.partition(": ")[2]: row for row in found.evidence if ": " in row.check}
    assert evidence["pairs of calls"].n < 50 < evidence["first tokens of rows"].n


def test_how_weakly_rows_may_depend_is_not_covered():
    for seconds, said in ((1.0, "correlated at all"), (6.0, "correlated by less than 0.")):
        found = judge_sampler(own, toy="dense-3x6", exact=False, seconds=seconds)
        assert found.verdict.kind in (Kind.CONSISTENT, Kind.INCONCLUSIVE), found.verdict.reason
        assert [note for note in found.not_covered if said in note], found.not_covered
