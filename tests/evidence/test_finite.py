"""Tests whose rates hold at every n: by enumeration where that is possible, by sampling elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from specverify.evidence.alternatives import alternative
from specverify.evidence.design import rate_excess
from specverify.evidence.distance import tv
from specverify.evidence.finite import TotalVariation, entropy_tail, entropy_threshold, entropy_visible

UNEVEN = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01])
WIDE = np.append(np.full(63, 0.8 / 63), 0.2)
KINDS = ["spread", "pair", "rarest", "dropped", "tempered"]


def every(n, law):
    """All count vectors of n samples, with their probabilities under the law."""
    vectors = np.array([c for c in np.ndindex(*[n + 1] * len(law)) if sum(c) == n])
    chance = special.gammaln(n + 1) - special.gammaln(vectors + 1).sum(1) + special.xlogy(vectors, law).sum(1)
    return vectors, np.exp(chance)


@pytest.mark.parametrize("law", [[0.5, 0.5], [0.95, 0.05], [0.6, 0.3, 0.1], [0.9, 0.05, 0.03, 0.02]], ids=str)
@pytest.mark.parametrize("n", [1, 4, 15, 30])
def test_tails_are_bounds_by_enumeration(law, n):
    law = np.array(law)
    vectors, chance = every(n, law)
    plugin = 0.5 * np.abs(vectors / n - law).sum(1)
    entropy = special.rel_entr(vectors.astype(float), n * law).sum(1)
    for alpha in (0.2, 0.01, 1e-4):
        assert chance[plugin > TotalVariation(law).threshold(n, alpha)].sum() <= alpha
        assert chance[entropy > entropy_threshold(alpha, len(law))].sum() <= alpha
    for x in np.unique(entropy.round(9)):
        assert chance[entropy >= x - 1e-9].sum() <= entropy_tail(float(x) - 1e-9, len(law)) * (1 + 1e-9)


@pytest.mark.parametrize("law", [[0.5, 0.5], [0.95, 0.05], [0.6, 0.3, 0.1]], ids=str)
@pytest.mark.parametrize("plugin", [True, False], ids=["total variation", "entropy"])
def test_miss_rates_are_bounds_by_enumeration(law, plugin):
    law, n, rate = np.array(law), 60, 0.1
    vectors, _ = every(n, law)
    if plugin:
        delta = TotalVariation(law).smallest_detectable(n, alpha=rate, beta=rate)
    else:
        delta = entropy_visible(n, len(law), alpha=rate, beta=rate)
    assert delta < 0.45
    if plugin:
        missed = 0.5 * np.abs(vectors / n - law).sum(1) <= TotalVariation(law).threshold(n, rate)
    else:
        missed = special.rel_entr(vectors.astype(float), n * law).sum(1) < entropy_threshold(rate, len(law))
    reached = 0
    for other in np.array([c for c in np.ndindex(*[21] * len(law)) if sum(c) == 20]) / 20:
        if tv(other, law) >= delta:
            reached += 1
            chance = special.gammaln(n + 1) - special.gammaln(vectors + 1).sum(1) + special.xlogy(vectors, other).sum(1)
            assert np.exp(chance)[missed].sum() <= rate
    assert reached > 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", [UNEVEN, WIDE], ids=["uneven", "wide"])
def test_miss_rate_at_the_stated_distance(law, kind, seed):
    generator, delta, rate, trials = np.random.default_rng(seed), 0.1, 0.05, 100
    check = TotalVariation(law)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    assert check.smallest_detectable(n, alpha=1e-6, beta=rate) <= delta
    other = alternative(law, delta, kind)
    counts = generator.multinomial(n, other, size=trials)
    misses = int((0.5 * np.abs(counts / n - law).sum(1) <= check.threshold(n, 1e-6)).sum())
    assert rate_excess(misses, trials, rate) > 1e-6


def test_false_alarm_rate_and_verdict_agree_with_the_p_value(seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 200
    check, rates = TotalVariation(UNEVEN), {"alpha": alpha, "beta": 0.1, "generator": generator}
    found = [check.check(generator.multinomial(400, UNEVEN), **rates) for _ in range(trials)]
    assert rate_excess(sum(e.rejected for e in found), trials, alpha) > 1e-6
    assert all(e.rejected == (e.p_value <= alpha) for e in found)
    assert all((e.basis, e.power) == ("finite-sample bound", "finite-sample bound") for e in found)


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("distance", [0.05, 0.3])
def test_the_interval_holds_the_distance(kind, distance, seed):
    generator, alpha, trials, n = np.random.default_rng(seed), 0.1, 60, 3000
    check = TotalVariation(UNEVEN)
    other = UNEVEN if kind is None else alternative(UNEVEN, distance, kind)
    truth = tv(other, UNEVEN)
    bounds = [check.bounds(generator.multinomial(n, other), alpha=alpha, generator=generator) for _ in range(trials)]
    assert rate_excess(sum(lower > truth for lower, _, _ in bounds), trials, alpha / 2) > 1e-6
    assert rate_excess(sum(upper < truth for _, _, upper in bounds), trials, alpha / 2) > 1e-6
    estimates = np.array([estimate for _, estimate, _ in bounds])
    assert abs(estimates.mean() - truth) < 0.02
    if distance == 0.3 and kind:
        assert min(lower for lower, _, _ in bounds) > 0.2, "a bound that says nothing"
    assert max(upper for _, _, upper in bounds) < truth + 0.1


def test_forbidden_outcomes_reject_at_once():
    law = np.array([0.5, 0.5, 0.0])
    counts = np.array([50, 49, 1])
    generator = np.random.default_rng(0)
    found = TotalVariation(law).check(counts, alpha=1e-9, beta=0.1, generator=generator)
    assert found.rejected
    assert found.p_value == 0


@given(st.integers(2, 300), st.floats(1e-12, 0.5))
def test_entropy_threshold_inverts_the_tail(outcomes, alpha):
    assert entropy_tail(entropy_threshold(alpha, outcomes), outcomes) == pytest.approx(alpha, rel=1e-6)


@settings(max_examples=12)
@given(delta=st.floats(0.02, 0.5), rate=st.floats(1e-9, 0.4))
def test_sample_size_sees_delta_and_grows_as_it_shrinks(delta, rate):
    check = TotalVariation(np.array([0.7, 0.2, 0.1]))
    n = check.sample_size(delta, alpha=rate, beta=rate)
    assert check.smallest_detectable(n, alpha=rate, beta=rate) <= delta
    assert check.sample_size(delta / 2, alpha=rate, beta=rate) > n


def test_a_certain_outcome_sees_mass_elsewhere():
    delta = TotalVariation(np.array([0.0, 1.0])).smallest_detectable(50, alpha=0.01, beta=0.01)
    assert (1 - delta) ** 50 == pytest.approx(0.01)
    assert entropy_visible(50, 1, alpha=0.01, beta=0.01) == delta


@pytest.mark.parametrize("outcomes", [40, 400])
def test_the_sample_size_of_an_uneven_law_is_the_smallest_to_a_part_in_a_thousand(outcomes):
    law = np.random.default_rng(3).dirichlet(np.full(outcomes, 0.4))
    check = TotalVariation(law)
    for delta in (0.02, 0.2):
        n = check.sample_size(delta, alpha=1e-3, beta=1e-2)
        assert check.smallest_detectable(n, alpha=1e-3, beta=1e-2) <= delta
        assert check.smallest_detectable(round(n * 0.998), alpha=1e-3, beta=1e-2) > delta
