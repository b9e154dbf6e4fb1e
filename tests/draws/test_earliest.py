"""The earliest token of several races: its law, jointly with what was seen of the races before."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from specverify.draws import Sampled
from specverify.enumerated import Enumerated
from specverify.enumerated_races import chance_of_zero
from specverify.errors import ContractError

EXACT = {"rtol": 0, "atol": 1e-12}


def heads(*chances):
    p = torch.tensor(chances, dtype=torch.float64)
    return torch.stack([p, 1 - p], -1)


def drafts_and_first(draws, batch, q, p, there):
    """Each race's winner under its own law q, then the earliest token under p; as one integer."""
    where = torch.tensor(there).expand(batch, -1)
    token, race = draws.winner(draws.race(batch, len(q), 2), heads(*q).expand(batch, -1, -1), where)
    first = draws.earliest(race, heads(p).expand(batch, -1), where)
    return (torch.cat([token, first[:, None]], 1) * 2 ** torch.arange(len(q) + 1)).sum(1)


CASES = {
    "one": ((0.3,), 0.6, (True,)),
    "two": ((0.3, 0.3), 0.6, (True, True)),
    "three, other laws": ((0.2, 0.7, 0.5), 0.4, (True, True, True)),
    "one of two": ((0.3, 0.8), 0.6, (False, True)),
    "certain": ((0.0, 0.5), 0.5, (True, True)),
}


@pytest.mark.parametrize(("q", "p", "there"), CASES.values(), ids=CASES)
def test_the_enumerated_law_is_the_one_that_sampling_shows(q, p, there, worlds, seed, agrees):
    code, weight = worlds(lambda draws: drafts_and_first(draws, draws.batch, q, p, there))
    law = torch.zeros(2 ** (len(q) + 1), dtype=torch.float64).index_add(0, code, weight)
    n = 200_000
    agrees(torch.bincount(drafts_and_first(Sampled(seed), n, q, p, there), minlength=len(law)), law, 0.02)
    first = law.view(2, -1).sum(1)
    assert_close(first, heads(p)[0], **EXACT)


NODES, SHARES = (np.polynomial.legendre.leggauss(120)[k] / 2 + (0.5 if k == 0 else 0) for k in range(2))
"""Of Gauss's rule on [0, 1]."""


def arrivals(t, low, high, p):
    """Of a token of probability p that comes first if its share r of the noise is in [low, high]: the density with
    which it does at each time, and the chance that it does so later."""
    r = low + (high - low) * NODES**3  # closer where r is near 0, and s soon large
    s = p * t[:, None] / r
    weight = max(high - low, 0) * SHARES * 3 * NODES**2
    return (weight * p / r * s * np.exp(-s)).sum(1), (weight * (1 + s) * np.exp(-s)).sum(1)


share = st.integers(0, 8).map(lambda eighths: eighths / 8)


@given(st.lists(st.tuples(share, share), min_size=1, max_size=3), st.integers(1, 7))
@settings(max_examples=40)
def test_the_chance_is_the_integral_over_when_the_token_comes(intervals, eighths):
    """Race k has R = E_0 / (E_0 + E_1) in [a, b]; E_0 + E_1 is independent of it, with density s exp(-s)."""
    known = [sorted(pair) for pair in intervals if pair[0] != pair[1]]
    if not known:
        return
    p = eighths / 8

    t = -np.log(NODES)  # by the substitution u = exp(-t), so that dt = du / u
    bring = [[arrivals(t, *part) for part in ((a, min(b, p), p), (1 - b, min(1 - a, 1 - p), 1 - p))] for a, b in known]
    due = 0.0
    for number, (zero, _) in enumerate(bring):
        others = [sum(part[1] for part in both) for k, both in enumerate(bring) if k != number]
        due += float((SHARES * zero[0] * np.prod(others, axis=0) / NODES).sum())
    race = torch.tensor([known], dtype=torch.float64)
    found = chance_of_zero(race, torch.tensor([p], dtype=torch.float64), torch.ones(1, len(known), dtype=torch.bool))
    assert float(found) == pytest.approx(due / float((race[..., 1] - race[..., 0]).prod()), abs=1e-5)


def test_one_race_brings_what_its_winner_would(worlds):
    p = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    race = torch.tensor([[[0.0, 1.0]], [[0.3, 0.6]], [[0.3, 0.6]]], dtype=torch.float64)
    there = torch.ones(3, 1, dtype=torch.bool)
    inside = (p.clamp(min=race[:, 0, 0], max=race[:, 0, 1]) - race[:, 0, 0]) / (race[:, 0, 1] - race[:, 0, 0])
    assert_close(chance_of_zero(race, p, there), inside, **EXACT)


def test_where_no_race_is_named_the_outcome_is_0_and_costs_nothing(worlds):
    nowhere = torch.zeros(1, 2, dtype=torch.bool)
    nan = torch.full((1, 2), torch.nan, dtype=torch.float64)

    def asked(draws):
        race = draws.race(draws.batch, 2, 2)
        return draws.earliest(race, nan.expand(draws.batch, -1), nowhere.expand(draws.batch, -1))

    token, weight = worlds(asked)
    assert (token.tolist(), weight.tolist()) == ([0], [1.0])
    draws = Sampled(0)
    assert asked_of_sampled(draws, nan, nowhere) == 0
    draws.check()


def asked_of_sampled(draws, weights, where):
    return int(draws.earliest(draws.race(1, 2, 2), weights, where))


def test_no_law_is_refused():
    race, where = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ContractError, match="earliest was asked with the weights"):
        Enumerated(1).earliest(race, torch.zeros(1, 2, dtype=torch.float64), where)
    draws = Sampled(0)
    asked_of_sampled(draws, torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ContractError, match="NaN, negative or all-zero probabilities"):
        draws.check()
