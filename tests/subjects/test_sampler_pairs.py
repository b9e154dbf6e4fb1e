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
    near, behind = pairs_of_rows(toy, calls, rng, RATES, 0.01)
    assert (near.check, near.rejected) == ("pairs of rows", paired)
    assert ("rows r and r + 32" in near.detail) or not paired
    assert not behind.rejected
