"""LANTERN and LANTERN++ against their definition, in plain Python."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import built, context, pairs
from torch.testing import assert_close

from specverify.claims import Relaxed
from specverify.errors import InputError
from specverify.rules.lantern import Lantern
from specverify.rules.price import price
from toymodels import toy

EXACT = {"rtol": 0, "atol": 1e-12}


def lent(places, k, p, x, limit):
    """p(A) and the neighbours in order: nearest first, as long as their sum stays within the limit."""
    near = sorted((v for v in range(len(p)) if v != x), key=lambda v: (math.dist(places[v], places[x]), v))
    total = 0.0
    for v in near[:k]:
        if total + p[v] > limit:
            break
        total += p[v]
    return total, near


@given(pairs, st.integers(1, 9), st.none() | st.floats(1, 6), st.floats(0, 1))
@settings(max_examples=50)
def test_drafts_are_credited_with_their_neighbours(pair, k, odds, delta):
    p, q = (law.tolist() for law in pair)
    embedding = context(len(p)).embedding
    rule = Lantern(embedding, k, delta, odds)
    for x in range(len(p)):
        if q[x] == 0:
            continue
        limit = delta if odds is None else (odds - 1) * p[x]
        credit, _ = lent(embedding.tolist(), k, p, x, limit)
        found = float(rule.accept(*pair, torch.tensor(x)))
        # A sum on the very limit may fall on either side of it by rounding.
        near_limit = any(
            abs(lent(embedding.tolist(), j, p, x, 2.0)[0] - limit) < 1e-12 for j in range(1, min(k, len(p) - 1) + 1)
        )
        assert near_limit or found == pytest.approx(min(1.0, (p[x] + credit) / q[x]), abs=1e-12)


def test_the_released_resampling_spares_the_neighbours_of_a_rejected_draft():
    p = torch.tensor([0.05, 0.05, 0.2, 0.7], dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    embedding = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    rule = Lantern(embedding, 1, 0.1, resample="released")
    # The two nearest to 0 are 1 and 2, of which the nearest is within 0.1: q without both is (0.4, 0, 0, 0.1).
    expected = torch.tensor([0, 0.05, 0.2, 0.6], dtype=torch.float64) / 0.85
    assert_close(rule.recover(p, q, torch.tensor(0)), expected, **EXACT)
    # Nothing is within the limit around 3: the token rule's residual.
    assert_close(rule.recover(p, q, torch.tensor(3)), torch.tensor([0.0, 0, 0, 1], dtype=torch.float64), **EXACT)
    plain = Lantern(embedding, 1, 0.1)
    assert_close(plain.recover(p, q, torch.tensor(0)), torch.tensor([0.0, 0, 0, 1], dtype=torch.float64), **EXACT)
    released, standard = price(p, q, rule), price(p, q, plain)
    assert_close(released.acceptance, standard.acceptance, **EXACT)
    assert released.excess > 0.01
    assert abs(standard.excess) <= 1e-12


def test_neighbours_of_a_redundant_toy_are_its_copies():
    model = toy("redundant-6x3")
    p = model.table[0].expand(6, -1)
    q = torch.full((6, 6), 1 / 6, dtype=torch.float64)
    found = Lantern(model.embedding, 1, 1.0).accept(p, q, torch.arange(6))
    pairs_of = model.table[0].view(3, 2).sum(1).repeat_interleave(2)
    assert_close(found, (6 * pairs_of).clamp(max=1), **EXACT)


def test_published_settings_and_what_they_bound():
    embedding = context(6).embedding
    assert (Lantern(embedding).k, Lantern(embedding).delta) == (1000, 0.1)
    assert Lantern(embedding).claim == Relaxed(1.0)
    assert Lantern(embedding).bound(4) == Relaxed(1.0)
    assert Lantern(embedding, 10, odds=2.0).bound(2) == Relaxed(0.75)
    assert Lantern(embedding, 10, odds=2.0, resample="released").bound(2) == Relaxed(1.0)


BAD = {
    "k": (lambda: Lantern(torch.eye(3), 0), "k is at least 1, delta between 0 and 1, odds at least 1"),
    "delta": (lambda: Lantern(torch.eye(3), 2, 5.0), "delta=5.0"),
    "odds": (lambda: Lantern(torch.eye(3), 2, odds=0.5), "odds=0.5"),
    "resampling": (
        lambda: built(Lantern, embedding=torch.eye(3), resample="none"),
        "unknown resampling 'none'; choose one of",
    ),
    "embedding": (lambda: Lantern(torch.zeros(3, 0)), "the embedding has shape (3, 0)"),
    "other vocabulary": (
        lambda: Lantern(torch.eye(3), 2).accept(torch.ones(1), torch.ones(1), torch.tensor(0)),
        "the embedding has 3 rows, but the vocabulary has 1 tokens",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_impossible_settings_are_refused_by_value(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()
