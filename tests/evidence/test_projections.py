"""Kolmogorov-Smirnov and Anderson-Darling on projections: null laws, rates, and powers at known distances."""

import numpy as np
import pytest
from scipy import stats

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.projections import (
    Projected,
    anderson_darling_between,
    anderson_tail,
    anderson_threshold,
    directions,
    smirnov_tail,
    smirnov_threshold,
)

MEAN = np.array([0.5, -1.0, 2.0])
ROOT = np.array([[1.0, 0.0, 0.0], [0.7, 0.5, 0.0], [-0.3, 0.2, 2.0]])
AXES = directions(3, 8)


def draw(n, generator, shift=0.0):
    return MEAN + shift + generator.standard_normal((n, 3)) @ ROOT.T


def shifted(shift):
    """Kolmogorov's distance on the projection where a shift of the mean is largest."""
    spread = np.sqrt(np.einsum("ai,ij,aj->a", AXES, ROOT @ ROOT.T, AXES))
    return float((2 * stats.norm.cdf(np.abs(AXES @ shift) / spread / 2) - 1).max())


def test_directions_are_unit_vectors_and_fixed_by_their_seed():
    assert np.allclose((directions(5, 40) ** 2).sum(1), 1)
    assert np.array_equal(directions(5, 7, seed=3), directions(5, 7, seed=3))
    assert not np.array_equal(directions(5, 7, seed=3), directions(5, 7, seed=4))
    assert directions(1, 16).tolist() == [[1.0]]
    assert np.abs(directions(3, 4000).mean(0)).max() < 0.05


def test_smirnovs_tail_is_scipys_exact_one(seed):
    generator = np.random.default_rng(seed)
    for n in (7, 60, 500):
        # p-values near 1 are beyond scipy's own rounding
        one, two = generator.random(n), generator.random(n) ** 2
        reference = stats.ks_2samp(one, two, method="exact")
        found = Projected(directions(1, 1)).check(one[:, None], two[:, None], alpha=0.01, beta=0.1)
        assert found.statistic == pytest.approx(reference.statistic, abs=1e-15)
        assert found.p_value == pytest.approx(reference.pvalue, rel=1e-8)
    assert smirnov_tail(0, 5) == smirnov_tail(1, 1) == 1.0


def test_smirnovs_threshold_is_the_least_value_of_that_tail():
    for n, alpha in ((10, 0.05), (1000, 1e-6), (5000, 1e-3)):
        height = round(smirnov_threshold(n, alpha) * n)
        assert smirnov_tail(height, n) <= alpha < smirnov_tail(height - 1, n)
    assert smirnov_threshold(2, 1e-6) > 1


def test_andersons_tail_against_his_table_and_its_leading_term():
    # the table of Anderson and Darling (1954), rounded as there
    for score, level in ((1.933, 0.1), (2.492, 0.05), (3.070, 0.025), (3.857, 0.01)):
        assert anderson_tail(score) == pytest.approx(level, rel=0.03)
    # the first chi-square alone decides far out: sqrt(3) P(chi2_1 > 2 x), approached from above
    for score in (10.0, 30.0, 100.0):
        ratio = anderson_tail(score) / (np.sqrt(3) * stats.chi2.sf(2 * score, 1))
        assert 1 < ratio < 1 + 0.5 / score
    assert anderson_tail(0.1999) == 1.0
    assert anderson_tail(0.2) == pytest.approx(0.9904, abs=1e-3)


@pytest.mark.parametrize("n", [100, 1000])
def test_the_doubled_limit_covers_the_tail_of_finite_samples(n, seed):
    pairs = np.random.default_rng(seed).random((4000, 2, n))
    scores = np.array([anderson_darling_between(*pair) for pair in pairs])
    for alpha in (0.1, 0.01, 0.002):
        assert rate_excess(int((scores >= anderson_threshold(alpha)).sum()), len(scores), alpha) > 1e-6
        # and it is not far from the truth
        hits = int((scores >= anderson_threshold(2 * alpha)).sum())
        assert stats.binomtest(hits, len(scores), alpha).pvalue > 1e-4


@pytest.mark.filterwarnings("ignore::UserWarning")  # p-values beyond scipy's table, and its renamed argument
def test_the_two_sample_score_is_scipys(seed):
    generator = np.random.default_rng(seed)
    spread = []
    for tied in (False, False, True):
        one, two = generator.standard_normal(80), generator.standard_normal(80) + 0.3
        if tied:
            one[:10], two[:5] = 0.0, 0.0
        reference = stats.anderson_ksamp([one, two], midrank=False).statistic
        spread.append((anderson_darling_between(one, two) - 1) / reference)
    assert spread == pytest.approx([spread[0]] * 3, rel=1e-9)  # scipy divides by the standard deviation, of n alone


@pytest.mark.parametrize("statistic", ["ks", "ad"])
def test_false_alarm_rate_of_perfect_samplers(statistic, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 60
    alarms = 0
    for _ in range(trials):
        check = Projected(AXES, statistic)
        found = check.check(draw(120, generator), draw(120, generator), alpha=alpha, beta=0.1)
        alarms += found.rejected
    assert found.basis == ("exact" if statistic == "ks" else "asymptotic")
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("statistic", ["ks", "ad"])
def test_miss_rate_at_a_shift_of_known_distance(statistic, seed):
    generator, rate, trials = np.random.default_rng(seed), 0.05, 25
    shift = np.array([0.6, -0.5, 0.4])
    delta = shifted(shift)
    check = Projected(AXES, statistic)
    n = max(100, check.sample_size(delta, alpha=1e-4, beta=rate))
    misses = 0
    for _ in range(trials):
        misses += not check.check(draw(n, generator, shift), draw(n, generator), alpha=1e-4, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_outliers_are_what_anderson_and_darling_see(seed):
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((12_000, 1)) * np.where(generator.random((12_000, 1)) < 0.08, 4, 1)
    others = generator.standard_normal((12_000, 1))
    found = {
        name: Projected(directions(1, 1), name).check(samples, others, alpha=1e-6, beta=0.1) for name in ("ks", "ad")
    }
    assert found["ad"].rejected
    assert not found["ks"].rejected


def test_zero_vectors_are_seen(seed):
    generator = np.random.default_rng(seed)
    samples = draw(3000, generator)
    samples[generator.random(3000) < 0.1] = 0
    for statistic in ("ks", "ad"):
        found = Projected(AXES, statistic).check(samples, draw(3000, generator), alpha=1e-6, beta=0.1)
        assert found.rejected
        assert "of 8 projections rejected" in found.detail


def test_more_directions_cost_alpha_alone():
    few = Projected(directions(16, 1)).sample_size(0.05, alpha=1e-6, beta=1e-3)
    many = Projected(directions(16, 64)).sample_size(0.05, alpha=1e-6, beta=1e-3)
    assert few < many < 1.5 * few
    low, high = (Projected(AXES, s).sample_size(0.05, alpha=1e-6, beta=1e-3) for s in ("ks", "ad"))
    assert low < high


def test_bad_input_is_named():
    with pytest.raises(InputError, match="samples have 2 coordinates, but the directions 3"):
        Projected(AXES).check(np.zeros((200, 2)), np.zeros((200, 2)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match=r"shapes \(9, 3\) and \(8, 3\)"):
        Projected(AXES).check(np.zeros((9, 3)), np.zeros((8, 3)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="99 samples are too few for the limit law"):
        Projected(AXES, "ad").check(np.zeros((99, 3)), np.zeros((99, 3)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="statistic 'cvm' is not known"):
        Projected(AXES, "cvm")
    with pytest.raises(InputError, match="not all of length 1"):
        Projected(AXES * 2)
    with pytest.raises(InputError, match="the number of directions is 0"):
        directions(3, 0)
