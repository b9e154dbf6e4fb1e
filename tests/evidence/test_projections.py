"""Kolmogorov-Smirnov and Anderson-Darling on projections: null laws, rates, and powers at known distances."""

import inspect

import numpy as np
import pytest
from scipy import optimize, stats

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.projections import (
    Projected,
    ProjectedLaw,
    anderson_darling,
    anderson_darling_between,
    anderson_tail,
    anderson_threshold,
    directions,
    projected,
    smirnov_tail,
    smirnov_threshold,
)

MEAN = np.array([0.5, -1.0, 2.0])
ROOT = np.array([[1.0, 0.0, 0.0], [0.7, 0.5, 0.0], [-0.3, 0.2, 2.0]])
AXES = directions(3, 8)
NORMAL = projected(AXES, MEAN[None], (ROOT @ ROOT.T)[None])


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


def test_projected_mixture_is_the_law_of_its_projections(seed):
    generator = np.random.default_rng(seed)
    centre, weight = np.array([[0.0, 1.0], [3.0, -1.0]]), np.array([0.25, 0.75])
    covariance = np.stack([np.eye(2), np.array([[2.0, 0.5], [0.5, 1.0]])])
    axes = directions(2, 3)
    which = (generator.random(20_000) < 0.75).astype(int)
    root = np.linalg.cholesky(covariance)
    samples = centre[which] + np.einsum("nij,nj->ni", root[which], generator.standard_normal((20_000, 2)))
    uniforms = projected(axes, centre, covariance, weight)(samples @ axes.T)
    assert min(stats.kstest(column, "uniform").pvalue for column in uniforms.T) > 1e-6


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
    scores = np.array([anderson_darling(row) for row in np.random.default_rng(seed).random((4000, n))])
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
@pytest.mark.parametrize("samples", [1, 2])
def test_false_alarm_rate_of_perfect_samplers(statistic, samples, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 60
    alarms = 0
    for _ in range(trials):
        if samples == 1:
            found = ProjectedLaw(AXES, NORMAL, statistic).check(draw(120, generator), alpha=alpha, beta=0.1)
        else:
            check = Projected(AXES, statistic)
            found = check.check(draw(120, generator), draw(120, generator), alpha=alpha, beta=0.1)
        alarms += found.rejected
    assert found.basis == ("exact" if statistic == "ks" else "asymptotic")
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("statistic", ["ks", "ad"])
@pytest.mark.parametrize("samples", [1, 2])
def test_miss_rate_at_a_shift_of_known_distance(statistic, samples, seed):
    generator, rate, trials = np.random.default_rng(seed), 0.05, 25
    shift = np.array([0.6, -0.5, 0.4])
    delta = shifted(shift)
    check = ProjectedLaw(AXES, NORMAL, statistic) if samples == 1 else Projected(AXES, statistic)
    n = max(100, check.sample_size(delta, alpha=1e-4, beta=rate))
    misses = 0
    for _ in range(trials):
        others = () if samples == 1 else (draw(n, generator),)
        misses += not check.check(draw(n, generator, shift), *others, alpha=1e-4, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


@pytest.mark.parametrize("statistic", ["ks", "ad"])
def test_miss_rate_of_the_least_visible_law_at_the_stated_distance(statistic, seed):
    # mass delta moved across one level, next to it
    generator, rate, delta, trials = np.random.default_rng(seed), 0.05, 0.15, 100
    check = ProjectedLaw(np.ones((1, 1)), lambda values: values, statistic)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        stay = generator.random(n)
        values = np.where((stay >= 0.5) & (stay < 0.5 + delta), 0.5 - 1e-9 * generator.random(n), stay)
        misses += not check.check(values[:, None], alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_outliers_are_what_anderson_and_darling_see(seed):
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((5000, 1)) * np.where(generator.random((5000, 1)) < 0.08, 4, 1)
    found = {
        name: ProjectedLaw(np.ones((1, 1)), stats.norm.cdf, name).check(samples, alpha=1e-6, beta=0.1)
        for name in ("ks", "ad")
    }
    assert found["ad"].rejected
    assert not found["ks"].rejected


def test_zero_vectors_are_seen(seed):
    generator = np.random.default_rng(seed)
    samples = draw(3000, generator)
    samples[generator.random(3000) < 0.1] = 0
    for check, others in ((ProjectedLaw(AXES, NORMAL), ()), (Projected(AXES, "ad"), (draw(3000, generator),))):
        found = check.check(samples, *others, alpha=1e-6, beta=0.1)
        assert found.rejected
        assert "of 8 projections rejected" in found.detail


def test_more_directions_cost_alpha_alone():
    few = Projected(directions(16, 1)).sample_size(0.05, alpha=1e-6, beta=1e-3)
    many = Projected(directions(16, 64)).sample_size(0.05, alpha=1e-6, beta=1e-3)
    assert few < many < 1.5 * few
    low, high = (ProjectedLaw(AXES, NORMAL, s).sample_size(0.05, alpha=1e-6, beta=1e-3) for s in ("ks", "ad"))
    assert low < high
    assert optimize.brentq(lambda d: 4 / 3 * d**3 - 1e-3, 0, 1) == pytest.approx(np.cbrt(0.75 * 1e-3))


def test_bad_input_is_named():
    with pytest.raises(InputError, match="row 1 of the sample holds nan"):
        ProjectedLaw(AXES, NORMAL).check(np.array([[0, 0, 0], [0, np.nan, 1.0]]), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="samples have 2 coordinates, but the directions 3"):
        ProjectedLaw(AXES, NORMAL).check(np.zeros((200, 2)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match=r"shapes \(9, 3\) and \(8, 3\)"):
        Projected(AXES).check(np.zeros((9, 3)), np.zeros((8, 3)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="99 samples are too few for the limit law"):
        Projected(AXES, "ad").check(np.zeros((99, 3)), np.zeros((99, 3)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="statistic 'cvm' is not known"):
        Projected(AXES, "cvm")
    with pytest.raises(InputError, match="not all of length 1"):
        Projected(AXES * 2)
    with pytest.raises(InputError, match="a projection has variance 0"):
        projected(AXES, MEAN[None], np.zeros((1, 3, 3)))
    with pytest.raises(InputError, match="the number of directions is 0"):
        directions(3, 0)
    with pytest.raises(InputError, match="a mean holds nan; those of a law are finite"):
        projected(AXES, MEAN[None] * np.nan, np.eye(3)[None])
    with pytest.raises(InputError, match=r"need means of shape \(k, 3\) and covariances of \(k, 3, 3\), not \(1, 2\)"):
        inspect.unwrap(projected)(AXES, np.zeros((1, 2)), np.eye(2)[None])
