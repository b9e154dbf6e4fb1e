"""Rows of a black box's calls that have each other's numbers, or their opposites, half a call away."""

import numpy as np
import pytest
import torch

import toymodels
from specverify.subjects.sampler_pairs import PAIRS, pairs_of_rows

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
