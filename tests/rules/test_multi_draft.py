"""Several drafts for one position: laws, acceptance, and how much of it any coupling could reach."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_laws import gumbel_collision
from scipy import optimize
from torch.testing import assert_close

from specverify.draws import Sampled
from specverify.rules.multi_draft import recursive_rejection, without
from specverify.rules.token import total_variation
from tests.rules.acceptance import best_acceptance, list_gumbel_bound, recursive_acceptance
from toymodels.strategies import laws

EXACT = {"rtol": 0, "atol": 1e-12}
PAIRS = st.integers(2, 4).flatmap(lambda vocab: st.tuples(laws(vocab), laws(vocab)))


def outcome(p, q, drafts, replacement):
    """The output law of recursive rejection, and its acceptance, summed over all lists of drafts."""
    law, accepted = torch.zeros_like(p), 0.0
    for tokens in itertools.product(range(len(p)), repeat=drafts):
        chance, left, rows, there = 1.0, q, [], []
        for token in tokens:
            rows.append(left)
            there.append(bool(left.sum() > 0))
            chance *= float(left[token]) if there[-1] else float(token == 0)
            if not replacement:
                left = without(left, torch.tensor(token))
        if chance == 0:
            continue
        keep, last = recursive_rejection(p, torch.stack(rows), torch.tensor(tokens), torch.tensor(there))
        for token, part in zip(tokens, keep.tolist(), strict=True):
            law[token] += chance * part
            accepted += chance * part
            chance *= 1 - part
        law += chance * last
    return law, accepted


@given(PAIRS, st.integers(1, 3))
@settings(max_examples=100)
def test_t10_recursive_rejection_has_the_target_law_and_the_acceptance_of_its_closed_form(pair, drafts):
    p, q = pair
    law, accepted = outcome(p, q, drafts, replacement=True)
    assert_close(law, p, **EXACT)
    assert accepted == pytest.approx(float(recursive_acceptance(p, q, drafts)), abs=1e-12)
    assert accepted <= float(best_acceptance(p, q, drafts)) + 1e-12


@given(PAIRS, st.integers(1, 4))
@settings(max_examples=100)
@pytest.mark.slow
def test_without_replacement_it_has_the_target_law_too(pair, drafts):
    p, q = pair
    law, accepted = outcome(p, q, drafts, replacement=False)
    assert_close(law, p, **EXACT)
    if bool((q > 0).all()) and drafts >= len(p):
        assert accepted == pytest.approx(1, abs=1e-12), "every token was a candidate"


@given(PAIRS)
def test_one_draft_is_the_token_rule_and_more_never_hurt(pair):
    p, q = pair
    assert_close(recursive_acceptance(p, q, 1), 1 - total_variation(p, q), **EXACT)
    assert_close(best_acceptance(p, q, 1), 1 - total_variation(p, q), **EXACT)
    assert_close(list_gumbel_bound(p, q, 1), gumbel_collision(p, q), **EXACT)
    for rate in (recursive_acceptance, best_acceptance, list_gumbel_bound):
        values = [float(rate(p, q, drafts)) for drafts in (1, 2, 4, 8)]
        assert all(0 <= value <= 1 + 1e-12 for value in values)
        assert all(more >= fewer - 1e-12 for fewer, more in itertools.pairwise(values))
    for drafts in (1, 2, 4):
        assert float(list_gumbel_bound(p, q, drafts)) <= float(best_acceptance(p, q, drafts)) + 1e-12


@given(PAIRS, st.integers(1, 3))
@settings(max_examples=60)
def test_the_optimum_is_the_least_cut_and_what_a_linear_program_finds(pair, drafts):
    p, q = (law.numpy() for law in pair)
    vocab = len(p)
    sets = [[v for v in range(vocab) if mask >> v & 1] for mask in range(2**vocab)]
    cut = min(p[s].sum() + 1 - q[s].sum() ** drafts for s in sets)
    best = float(best_acceptance(*pair, drafts))
    assert best == pytest.approx(min(cut, 1), abs=1e-12)
    if vocab**drafts > 16:
        return
    lists = list(itertools.product(range(vocab), repeat=drafts))
    flow = [(row, token) for row, tokens in enumerate(lists) for token in sorted(set(tokens))]
    limits = np.zeros((len(lists) + vocab, len(flow)))
    for column, (row, token) in enumerate(flow):
        limits[row, column] = limits[len(lists) + token, column] = 1
    room = np.concatenate([[np.prod(q[list(tokens)]) for tokens in lists], p])
    found = optimize.linprog(-np.ones(len(flow)), A_ub=limits, b_ub=room, method="highs")
    assert best == pytest.approx(-found.fun, abs=1e-7)


P, Q = torch.tensor([[8, 6, 3, 2, 1], [2, 2, 4, 4, 8]], dtype=torch.float64) / 20


def test_five_tokens_by_one_two_and_four_drafts():
    """By hand: p - q = (.3, .2, -.05, -.1, -.35), so that a rejected draft leaves (.6, .4, 0, 0, 0) of p.

    Of that the next draft is kept with chance .2, and so it is of what this one leaves, (.625, .375, 0, 0, 0), and the
    one after. The best that a coupling can do is p(S) + 1 - q(S)^K with S = {2, 3, 4}, where p < q: .3 + 1 - .8^K.
    """
    recursive, best = ([float(rate(P, Q, k)) for k in (1, 2, 4)] for rate in (recursive_acceptance, best_acceptance))
    assert recursive == pytest.approx([0.5, 0.6, 0.744], abs=1e-12)
    assert best == pytest.approx([0.5, 0.66, 1.3 - 0.8**4], abs=1e-12)


@pytest.mark.parametrize("drafts", [1, 2, 4])
def test_t11_the_earliest_of_several_races_has_the_target_law_and_was_drafted_often_enough(drafts, seed, agrees):
    n = 200_000
    draws, everywhere = Sampled(seed), torch.ones(n, drafts, dtype=torch.bool)
    token, race = draws.winner(draws.race(n, drafts, 5), Q.expand(n, drafts, -1), everywhere)
    first = draws.earliest(race, P.expand(n, -1), everywhere)
    agrees(torch.bincount(first, minlength=5), P, 0.02)
    accepted = float((token == first[:, None]).any(1).double().mean())
    error = 5 * (0.25 / n) ** 0.5
    assert accepted >= float(list_gumbel_bound(P, Q, drafts)) - error
    assert accepted <= float(best_acceptance(P, Q, drafts)) + error
    if drafts == 1:
        assert accepted == pytest.approx(float(gumbel_collision(P, Q)), abs=error)


def test_drafts_that_are_not_there_are_passed_over():
    p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
    laws = torch.stack([q, torch.full_like(q, torch.nan), q])
    draft, there = torch.tensor([0, 1, 0]), torch.tensor([True, False, True])
    keep, left = recursive_rejection(p, laws, draft, there)
    alone, other = recursive_rejection(p, laws[::2], draft[::2], there[::2])
    assert torch.equal(keep[::2], alone)
    assert keep[1] == 0
    assert torch.equal(left, other)


def test_without_a_token_the_others_share_its_mass_and_the_last_leaves_nothing():
    q = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0]], dtype=torch.float64)
    assert without(q, torch.tensor([0, 1])).tolist() == [[0, 0.5, 0.5], [0, 0, 0]]
