"""Moments: exact rates for Gaussian laws, calibrated intervals, and powers at exactly known alternatives."""

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.moments import Moments
from specverify.laws import Mixture
from specverify.laws.moments import moments

MEAN = np.array([1.0, -2.0, 1e3])
ROOT = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-1e-3, 0.0, 1e-3]])
CHECK = Moments(MEAN, ROOT @ ROOT.T)


def draw(n, generator, mean=MEAN, root=ROOT):
    return mean + generator.standard_normal((n, 3)) @ root.T


@pytest.mark.parametrize("n", [2, 30, 500])
def test_false_alarm_rate_is_exact_for_gaussians(n, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 400
    alarms = sum(CHECK.check(draw(n, generator), alpha=alpha, beta=0.1).rejected for _ in range(trials))
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_the_intervals_hold_every_moment(seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.1, 200
    # the sampler's own moments, in the law's units: means off by half of each standard deviation, variances by 1.21
    off = MEAN + 0.5 * np.sqrt(np.diag(ROOT @ ROOT.T))
    missed = 0
    for _ in range(trials):
        found = CHECK.check(draw(80, generator, MEAN, 1.1 * ROOT), alpha=alpha, beta=0.1)
        low, high = np.array(found.data["low"][3:]), np.array(found.data["high"][3:])
        missed += not ((low <= 0.21) & (high >= 0.21)).all()
        shifted = CHECK.check(draw(80, generator, off), alpha=alpha, beta=0.1)
        low, high = np.array(shifted.data["low"][:3]), np.array(shifted.data["high"][:3])
        missed += not ((low <= 0.5) & (high >= 0.5)).all()
    assert rate_excess(missed, 2 * trials, alpha) > 1e-6


@pytest.mark.parametrize("kind", ["mean", "wider", "narrower", "correlation"])
def test_miss_rate_at_the_stated_discrepancy(kind, seed):
    generator, rate, delta, trials = np.random.default_rng(seed), 0.05, 0.2, 100
    n = CHECK.sample_size(delta, alpha=1e-6, beta=rate)
    mean, root = MEAN.copy(), ROOT.copy()
    if kind == "mean":
        mean[1] += delta
    elif kind == "correlation":
        # the variance of the difference of the first two, 2 (1 - r), grows by delta
        r = 1 - 0.4 * (1 + delta)
        root[1, :2] = r, np.sqrt(1 - r**2)
    else:
        root[0, 0] *= np.sqrt(1 + delta if kind == "wider" else 1 - delta)
    misses = 0
    for _ in range(trials):
        misses += not CHECK.check(draw(n, generator, mean, root), alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_the_moment_that_is_off_is_named(seed):
    root = ROOT.copy()
    root[1, :2] = 0.3, np.sqrt(1 - 0.09)
    found = CHECK.check(draw(5000, np.random.default_rng(seed), MEAN, root), alpha=1e-6, beta=1e-6)
    named = [name for name, bad in zip(found.data["name"], found.data["rejected"], strict=True) if bad]
    # the third coordinate is made of the first, so its correlation with the second moves too
    assert named == ["variance 0 + 1", "variance 0 - 1", "variance 1 + 2", "variance 1 - 2"]
    assert "4 of 12 moments rejected; most deviant: variance 0 - 1, off by +" in found.detail
    assert found.basis == "exact"


def test_moments_of_a_mixture(seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 150
    law = Mixture(
        torch.tensor([0.4, 0.6], dtype=torch.float64).log(),
        torch.tensor([[-2.0, 0.0], [1.0, 1.0]], dtype=torch.float64),
        torch.tensor([[0.5, 1.0], [1.0, 0.3]], dtype=torch.float64),
    )
    mean, covariance = (part.numpy() for part in moments(law))
    check = Moments(mean, covariance, gaussian=False)

    def sample(n, scale=1.0):
        which = (generator.random(n) < 0.6).astype(int)
        return law.mean.numpy()[which] + scale * law.scale.numpy()[which] * generator.standard_normal((n, 2))

    alarms = 0
    for _ in range(trials):
        found = check.check(sample(2000), alpha=alpha, beta=0.1)
        alarms += found.rejected
    assert found.basis == "asymptotic"
    assert rate_excess(alarms, trials, alpha) > 1e-6
    assert check.check(sample(20_000, 1.3), alpha=1e-6, beta=0.1).rejected


@pytest.mark.parametrize("alpha", [0.05, 0.005])
def test_false_alarm_rate_of_a_skewed_law(alpha, seed):
    # a tenth of the samples about 2.7, the rest about -0.3: fourth moment 0.1 * 2.7^4 + ... = 6.4
    generator, trials = np.random.default_rng(seed), 400
    inner = 1 - 0.81
    fourth = sum(w * (m**4 + 6 * m**2 * inner + 3 * inner**2) for w, m in ((0.1, 2.7), (0.9, -0.3)))
    check = Moments(np.zeros(1), np.eye(1), gaussian=False, kurtosis=fourth)
    alarms = 0
    for _ in range(trials):
        centre = np.where(generator.random((500, 1)) < 0.1, 2.7, -0.3)
        sample = centre + np.sqrt(inner) * generator.standard_normal((500, 1))
        alarms += check.check(sample, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_planning_grows_with_the_number_of_moments():
    sizes = [Moments(np.zeros(dim), np.eye(dim)).sample_size(0.05, alpha=1e-6, beta=1e-3) for dim in (1, 4, 16)]
    assert sizes[0] < sizes[1] < sizes[2] < 2 * sizes[0]
    heavy = Moments(np.zeros(2), np.eye(2), gaussian=False, kurtosis=9.0)
    light = Moments(np.zeros(2), np.eye(2), gaussian=False, kurtosis=3.0)
    assert heavy.sample_size(0.1, alpha=1e-6, beta=1e-3) > 3 * light.sample_size(0.1, alpha=1e-6, beta=1e-3)


def test_too_few_samples_are_vacuous():
    found = CHECK.check(draw(4, np.random.default_rng(0)), alpha=1e-6, beta=1e-6)
    assert found.vacuous.startswith("n = 4 is too small")


def test_bad_input_is_named():
    with pytest.raises(InputError, match="smallest eigenvalue is -1"):
        Moments(np.zeros(2), np.diag([1.0, -1.0]))
    with pytest.raises(InputError, match="needs a symmetric covariance"):
        Moments(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match="samples have 2 coordinates, but the moments 3"):
        CHECK.check(np.zeros((9, 2)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="row 2 of the sample holds nan"):
        CHECK.check(np.array([[0.0] * 3, [1.0] * 3, [np.nan] * 3]), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="needs at least 2 samples"):
        CHECK.check(np.zeros((1, 3)), alpha=0.01, beta=0.1)
    with pytest.raises(InputError, match="kurtosis is 1"):
        Moments(np.zeros(1), np.eye(1), kurtosis=1.0)
    with pytest.raises(InputError, match="the mean holds nan; moments of a law are finite"):
        Moments(np.array([0.0, np.nan]), np.eye(2))
    with pytest.raises(InputError, match="the covariance holds inf"):
        Moments(np.zeros(1), np.array([[np.inf]]))


def test_coordinates_may_differ_in_scale_by_twelve_orders(seed):
    spread = np.array([1e-6, 1.0, 1e6])
    covariance = np.outer(spread, spread) * np.array([[1.0, 0.5, -0.5], [0.5, 1.0, 0.2], [-0.5, 0.2, 1.0]])
    check, n = Moments(100 * spread, covariance), 4000
    noise = np.random.default_rng(seed).standard_normal((n, 3)) @ np.linalg.cholesky(covariance).T
    assert not check.check(100 * spread + noise, alpha=1e-6, beta=1e-3).rejected
    found = check.check((100 * spread + noise) * [1.002, 1.0, 1.0], alpha=1e-6, beta=1e-3)
    assert found.rejected
    assert "mean 0" in found.detail
