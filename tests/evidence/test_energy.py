"""Energy distance: the statistic, the permutation null, and the power at Gaussian alternatives."""

import math

import numpy as np
import pytest
from scipy import stats

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.energy import LARGEST, Energy


def between_normals(shift, scale):
    """E|X - Y| of N(shift, scale) and N(0, 1)."""
    spread = math.hypot(1, scale)
    z = shift / spread
    return spread * (2 * stats.norm.pdf(z) + z * (2 * stats.norm.cdf(z) - 1))


def coefficient(shift, scale):
    """The energy coefficient of N(shift, scale) and N(0, 1), exactly."""
    across = between_normals(shift, scale)
    within = (1 + scale) * 2 / math.sqrt(math.pi)
    return (2 * across - within) / (2 * across)


def test_the_statistic_is_scipys_in_one_dimension(seed):
    generator = np.random.default_rng(seed)
    one, two = generator.standard_normal(70), generator.standard_normal(70) + 0.4
    found = Energy(19).check(one[:, None], two[:, None], alpha=0.1, beta=0.1, generator=generator)
    # scipy has the root of twice the Cramer distance
    assert found.statistic == pytest.approx(stats.energy_distance(one, two) ** 2, rel=1e-9)


def test_the_estimate_is_the_coefficient(seed):
    generator = np.random.default_rng(seed)
    found = [
        Energy(19).check(
            generator.standard_normal((300, 1)),
            0.8 + 1.5 * generator.standard_normal((300, 1)),
            alpha=0.05,
            beta=0.1,
            generator=generator,
        )
        for _ in range(30)
    ]
    assert all(each.rejected for each in found)
    # one estimate has a standard deviation of 0.024
    assert np.mean([each.estimate for each in found]) == pytest.approx(coefficient(0.8, 1.5), abs=0.02)


@pytest.mark.parametrize("law", ["normal", "cauchy", "two points"])
def test_false_alarm_rate_of_perfect_samplers(law, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 100
    alarms = 0
    for _ in range(trials):
        drawn = {
            "normal": generator.standard_normal((80, 3)),
            "cauchy": generator.standard_cauchy((80, 3)),
            "two points": (generator.random((80, 1)) < 0.3) * 1.0,
        }[law]
        alarms += Energy(199).check(drawn[:40], drawn[40:], alpha=alpha, beta=0.1, generator=generator).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_p_values_of_perfect_samplers_are_uniform_on_their_grid(seed):
    generator = np.random.default_rng(seed)
    found = [
        Energy(19).check(*generator.standard_normal((2, 15, 2)), alpha=0.05, beta=0.1, generator=generator).p_value
        for _ in range(400)
    ]
    counts = np.bincount(np.round(np.array(found) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 400
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize(("shift", "scale"), [(1.5, 1.0), (0.0, 6.0), (1.5, 0.5)], ids=["shift", "wide", "both"])
def test_miss_rate_at_gaussian_alternatives_of_known_coefficient(shift, scale, seed):
    generator, rate, trials, check = np.random.default_rng(seed), 0.05, 12, Energy(199)
    n = check.sample_size(coefficient(shift, scale), alpha=0.05, beta=rate)
    misses = 0
    for _ in range(trials):
        one, two = generator.standard_normal((n, 1)), shift + scale * generator.standard_normal((n, 1))
        misses += not check.check(one, two, alpha=0.05, beta=rate, generator=generator).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_few_relabellings_see_less_than_many():
    few, many = (Energy(b).smallest_detectable(500, alpha=0.01, beta=0.05) for b in (99, 100_000))
    exact = (stats.norm.isf(0.005) + stats.norm.isf(0.0125)) ** 2 / 500
    assert exact < many < 1.05 * exact < few


def test_what_leaves_marginals_alone_is_seen(seed):
    generator = np.random.default_rng(seed)
    one = generator.standard_normal((250, 2))
    two = generator.standard_normal((250, 2))
    two[:, 1] = 0.9 * two[:, 0] + math.sqrt(1 - 0.81) * two[:, 1]
    assert Energy().check(one, two, alpha=0.01, beta=0.1, generator=generator).rejected


def test_equal_points_are_vacuous():
    rows = np.ones((200, 2))
    found = Energy(99).check(rows, rows, alpha=0.05, beta=0.1, generator=np.random.default_rng(0))
    assert found.vacuous == "all samples are one point"
    assert not found.rejected


def test_bad_input_is_named():
    generator, rows = np.random.default_rng(0), np.zeros((5, 2))
    with pytest.raises(InputError, match=r"999 relabellings cannot reject at alpha = 1e-06; use at least 999999"):
        Energy().check(rows, rows, alpha=1e-6, beta=0.1, generator=generator)
    with pytest.raises(InputError, match=r"shapes \(5, 2\) and \(4, 2\)"):
        Energy().check(rows, rows[1:], alpha=0.01, beta=0.1, generator=generator)
    wide = np.zeros((LARGEST + 1, 1))
    with pytest.raises(InputError, match=f"{LARGEST + 1} rows have too many pairs"):
        Energy().check(wide, wide, alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="row 0 of the second sample holds inf"):
        Energy().check(rows, rows + np.inf, alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="needs at least 2 samples"):
        Energy().check(rows[:1], rows[:1], alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="relabellings is 0"):
        Energy(0)
