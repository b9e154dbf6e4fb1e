"""Acceptance rates against overlaps: exact binomial rates, and rules and surrogates on Gaussians of known overlap."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.bounds import Rate, acceptance, at_most
from specverify.evidence.quadrature import density, line, overlap
from specverify.laws import Chain, Denoised, Denoiser, Gaussian, Mixture
from specverify.rules import reflection, rejection
from specverify.rules.trajectory import Paths


def pair(n, distance, scale=1.0, dim=3):
    """n pairs of Gaussians whose means are `distance` apart along the diagonal, the draft's scale `scale`."""
    mean = torch.zeros(n, dim, dtype=torch.float64)
    p = Gaussian(mean, torch.ones_like(mean))
    return p, Gaussian(mean + distance / math.sqrt(dim), torch.full_like(mean, scale))


def drafts(law, seed):
    return law.sample(Sampled(seed), torch.ones(law.shape, dtype=torch.bool))


@pytest.mark.parametrize("low", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("n", [1, 20, 150])
def test_false_alarm_rate_is_exact(low, n):
    # over all numbers of hits, at either end of the allowed probabilities
    high = low if low else 0.4
    check = Rate(low, high, "hits")
    for alpha in (0.3, 0.05, 1e-4):
        rejected = np.array([check.check(np.arange(n) < k, alpha=alpha, beta=0.1).rejected for k in range(n + 1)])
        for truth in {low, high}:
            assert stats.binom.pmf(np.arange(n + 1), n, truth)[rejected].sum() <= alpha * (1 + 1e-9)


@settings(max_examples=30)
@given(middle=st.floats(0.02, 0.98), n=st.integers(1, 5000), rate=st.floats(1e-9, 0.2))
def test_miss_rate_is_exact_at_the_stated_distance(middle, n, rate):
    check = acceptance(middle)
    delta = check.smallest_detectable(n, alpha=rate, beta=rate)
    many, few = check._critical(n, rate)
    for truth in (middle + delta, middle - delta):
        if 0 <= truth <= 1 and delta < min(middle, 1 - middle):
            missed = stats.binom.cdf(many - 1, n, truth) - (stats.binom.cdf(few, n, truth) if few >= 0 else 0)
            assert missed <= rate * (1 + 1e-6)


def test_planning_sees_what_it_promises():
    for check, delta in ((acceptance(0.8), 0.01), (acceptance((0.79, 0.81)), 0.02), (at_most(0.5), 0.005)):
        n = check.sample_size(delta, alpha=1e-6, beta=1e-3)
        assert check.smallest_detectable(n, alpha=1e-6, beta=1e-3) <= delta
        assert check.smallest_detectable(n // 2, alpha=1e-6, beta=1e-3) > delta


@pytest.mark.parametrize("rule", [rejection.decide, reflection.couple], ids=["thinning", "reflection"])
@pytest.mark.parametrize("distance", [0.01, 1.0, 4.0])
def test_exact_rules_accept_at_the_closed_form_rate(rule, distance, seed):
    p, q = pair(40_000, distance)
    beta = 2 * stats.norm.cdf(-distance / 2)
    assert float(reflection.overlap(p, q)[0]) == pytest.approx(beta, rel=1e-12)
    found = rule(p, q, drafts(q, seed), Sampled(seed + 1), torch.ones(40_000, dtype=torch.bool))
    evidence = acceptance(beta).check(found.accepted, alpha=1e-6, beta=1e-6)
    assert not evidence.rejected
    assert not evidence.vacuous
    assert evidence.delta < 0.03
    assert not at_most(beta).check(found.accepted, alpha=1e-6, beta=1e-6).rejected


def test_unequal_covariances_have_their_overlap_by_quadrature(seed):
    p, q = pair(60_000, 0.7, 1.4, dim=1)
    one = [Gaussian(law.mean[:1], law.scale[:1]) for law in (p, q)]
    log_p, log_q = map(density, one)
    exact = overlap(line([0.0, 0.7], [1.0, 1.4], (log_p, log_q)), log_p, log_q)
    kept = rejection.decide(p, q, drafts(q, seed + 2), Sampled(seed + 3), torch.ones(60_000, dtype=torch.bool)).accepted
    assert not acceptance(exact).check(kept, alpha=1e-6, beta=0.1).rejected
    near, far = ((exact + off, exact + off + 0.02) for off in (-0.01, -0.11))
    assert not acceptance(near).check(kept, alpha=1e-6, beta=0.1).rejected
    assert acceptance(far).check(kept, alpha=1e-6, beta=0.1).rejected


def test_an_acceptance_above_the_overlap_is_refuted(seed):
    # at inner temperature 42 nearly all drafts are kept, where the laws leave 0.32 in common
    p, q = pair(3000, 2.0)
    x = drafts(q, seed)
    kept = (
        torch.rand(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        < (rejection.log_ratio(p, q, x) / 42**2).exp()
    )
    found = at_most(2 * stats.norm.cdf(-1.0)).check(kept, alpha=1e-6, beta=1e-3)
    assert found.rejected
    assert found.estimate > 0.6
    assert f"where the law has between 0 and {2 * stats.norm.cdf(-1.0):.6g}" in found.detail


def paths_kept(p, q, drawn, draws, where):
    """The token rule on path space."""
    path = Paths(q).sample(drawn, where)
    return rejection.decide(Paths(p), Paths(q), path, draws, where).accepted


def test_acceptance_of_paths_is_at_most_that_of_tokens(seed):
    rows, chains = 20_000, []
    for mean in (0.2, 0.7):
        data = [torch.full((rows, 1, 1), value, dtype=torch.float64) for value in (mean, 0.5)]
        weight = torch.zeros(rows, 1, dtype=torch.float64)
        chains.append(Chain(Denoised(Mixture(weight, *data), weight[:, 0] + 1), Denoiser(1, 4)))
    p, q = chains
    where = torch.ones(rows, dtype=torch.bool)
    token = float(reflection.overlap(p.marginal(), q.marginal())[0])
    kept = paths_kept(p, q, Sampled(seed), Sampled(seed + 1), where)
    found = at_most(token).check(kept, alpha=1e-6, beta=1e-3)
    assert not found.rejected
    assert found.check == "acceptance over trajectories is at most that over tokens"
    assert found.statistic < token - 0.01
    # the other way round no data can hold it
    assert acceptance((token, 1.0)).check(kept, alpha=1e-6, beta=1e-3).rejected


def test_what_cannot_reject_is_vacuous():
    found = acceptance(0.5).check(np.array([True, False]), alpha=1e-6, beta=0.1)
    assert found.vacuous == "n = 2 events can reject nothing; draw more"
    assert found.delta == 1.0


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"to lie between 0\.5 and 0\.4"):
        Rate(0.5, 0.4, "hits")
    with pytest.raises(InputError, match="to lie between nan and nan"):
        acceptance(math.nan)
    with pytest.raises(InputError, match="n is 0"):
        acceptance(0.5).check(np.zeros(0, dtype=bool), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="events have dtype float64; give one bool for each"):
        inspect.unwrap(Rate.check)(acceptance(0.5), np.array([0.2, 0.9]), alpha=0.01, beta=0.1)
