"""The couplings as `Draws` carries them out: Gumbel races against their closed form, and over several rounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rule_laws import gumbel_collision
from scipy import integrate, stats
from torch.testing import assert_close

from specverify.draws import Sampled
from specverify.rules.token import maximal_coupling, total_variation

N = 200_000
P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
PAIRS = {
    "dense": (P, Q),
    "zeros": (torch.tensor([0.6, 0.4, 0.0, 0.0]).double(), torch.tensor([0.0, 0.5, 0.25, 0.25]).double()),
    "ties": (torch.full((8,), 1 / 8, dtype=torch.float64), torch.arange(1, 9, dtype=torch.float64) / 36),
}


def winners(draws, n, *laws):
    """The winner of one race under each of the laws, asked in this order: Int[n, laws]."""
    race, everywhere, found = draws.race(n, 1, len(laws[0])), torch.ones(n, 1, dtype=torch.bool), []
    for law in laws:
        token, race = draws.winner(race, law.expand(n, 1, -1), everywhere)
        found.append(token[:, 0])
    return torch.stack(found, 1)


def assert_frequency(event, probability, alpha=1e-6):
    """An exact binomial test; n = 200,000 sees a difference of 0.01 with chance 0.999 and more."""
    p = stats.binomtest(int(event.sum()), len(event), float(probability)).pvalue
    assert p >= alpha, f"{event.double().mean():.5f} instead of {float(probability):.5f}: p = {p:.1e}"


@pytest.mark.parametrize(("p", "q"), PAIRS.values(), ids=PAIRS)
def test_t5_two_winners_of_one_race_agree_as_often_as_the_closed_form_says(p, q, seed):
    token = winners(Sampled(seed), N, p, q)
    assert_frequency(token[:, 0] == token[:, 1], gumbel_collision(p, q))


weights = st.lists(st.floats(0.02, 1), min_size=3, max_size=3)


@given(weights, weights)
def test_t5_the_closed_form_is_the_integral_over_the_arrival_of_the_winner(first, second):
    p, q = (torch.tensor(part, dtype=torch.float64) / sum(part) for part in (first, second))

    def both_win(token):
        # Token j arrives at e under both laws first: every other i must arrive later under p, and later under q.
        later = torch.maximum(p / p[token], q / q[token]).numpy()
        others = np.delete(later, token)
        return integrate.quad(lambda e: np.exp(-e) * np.prod(np.exp(-e * others)), 0, np.inf)[0]

    assert_close(float(gumbel_collision(p, q)), sum(map(both_win, range(3))), rtol=0, atol=1e-7)


@given(weights.map(lambda w: w[:2]), weights.map(lambda w: w[:2]))
def test_t5_two_tokens_collide_unless_the_uniform_falls_between_the_laws(first, second):
    p, q = (torch.tensor(part, dtype=torch.float64) / sum(part) for part in (first, second))
    assert_close(gumbel_collision(p, q), 1 - (p[0] - q[0]).abs(), rtol=0, atol=1e-12)


def test_t8_a_race_returns_to_its_winner_with_the_law(seed):
    token = winners(Sampled(seed), N, P, Q, P)
    assert torch.equal(token[:, 2], token[:, 0])
    assert not torch.equal(token[:, 1], token[:, 0])


def test_t8_the_maximal_coupling_does_not():
    def kernel(source, target):
        return maximal_coupling(target.expand(3, -1), source.expand(3, -1), torch.arange(3))

    there_and_back = kernel(P, Q) @ kernel(Q, P)
    assert_close((P * there_and_back.diagonal()).sum(), torch.tensor(0.76, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(P @ there_and_back, P, rtol=0, atol=1e-12)


def test_t9_whatever_lies_between_two_passes_does_not_lower_their_agreement_for_two_tokens(worlds):
    heads = torch.tensor([0.55, 0.05, 0.9, 0.6, 0.3, 0.7], dtype=torch.float64)
    laws = torch.stack([heads, 1 - heads], 1)
    token, weight = worlds(lambda draws: winners(draws, draws.batch, *laws))
    assert_close(weight.sum(), torch.ones_like(weight.sum()), rtol=0, atol=1e-12)
    for early in range(len(laws)):
        for late in range(len(laws)):
            distance = total_variation(laws[early], laws[late])
            agreement = weight[token[:, early] == token[:, late]].sum()
            assert_close(agreement, 1 - distance, rtol=0, atol=1e-12)
            assert agreement >= (1 - distance) / (1 + distance) - 1e-12


def test_t9_nor_for_more_tokens(seed):
    between = torch.tensor([[0.0, 0.1, 0.9], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05]], dtype=torch.float64)
    token = winners(Sampled(seed), N, P, *between, Q)
    distance, collision = total_variation(P, Q), gumbel_collision(P, Q)
    assert_frequency(token[:, 0] == token[:, -1], collision)
    assert collision > (1 - distance) / (1 + distance) + 0.01  # so that agreeing with it is exceeding the bound


def test_the_maximal_coupling_sampled_in_two_steps_is_the_one_that_is_tabulated(seed, agrees):
    draws, everywhere = Sampled(seed), torch.ones(N, dtype=torch.bool)
    draft = draws.categorical(P.expand(N, -1), everywhere)
    token = draws.categorical(maximal_coupling(Q.expand(N, -1), P.expand(N, -1), draft), everywhere)
    law = P[:, None] * maximal_coupling(Q.expand(3, -1), P.expand(3, -1), torch.arange(3))
    agrees(torch.bincount(3 * draft + token, minlength=9), law.flatten(), sees=0.01)
    assert_frequency(token == draft, 1 - total_variation(P, Q))
    assert_close(law.sum(0), Q, rtol=0, atol=1e-12)
