"""An e-value of sums of mean 0: never too large by chance, whatever the law; nearly as sharp as a normal test."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from specverify.evidence.martingale import edge, log_e, mixed_edge, mixed_log_e


@pytest.mark.parametrize("p", [0.5, 0.1, 0.001])
@pytest.mark.parametrize("alpha", [1e-7, 0.05])
def test_the_mean_of_the_e_value_is_at_most_one_by_enumeration(p, alpha):
    # coins whose bias depends on the one before, so that variances are known only as one goes
    mean = 0.0
    for coins in itertools.product((0, 1), repeat=8):
        biases = [p, *(min(0.9, 3 * p) if coin else p for coin in coins[:-1])]
        chance = math.prod(b if coin else 1 - b for coin, b in zip(coins, biases, strict=True))
        bias = np.array(biases)
        mean += chance * math.exp(log_e(np.array(coins) - bias, bias * (1 - bias), alpha))
    assert 0.2 < mean <= 1 + 1e-12


def test_it_is_nearly_as_sharp_as_a_normal_test_at_every_scale():
    alpha = 1e-7
    for scale in (0.01, 1.0):
        noise = np.random.default_rng(0).normal(size=100_000)
        noise = scale * (noise - noise.mean()) / noise.std()
        variance = np.full(100_000, scale**2)
        for deviations, rejects in ((edge(alpha) * 1.03, True), (edge(alpha) * 0.9, False)):
            for sign in (1, -1):
                shift = sign * deviations * scale / math.sqrt(100_000)
                assert (log_e(noise + shift, variance, alpha) >= -math.log(alpha)) == rejects
    assert edge(alpha) < 1.09 * stats.norm.isf(alpha / 2)


@pytest.mark.parametrize("p", [0.5, 0.1, 0.001])
def test_with_mixed_stakes_the_mean_is_at_most_one_and_little_is_lost(p):
    mean = 0.0
    for coins in itertools.product((0, 1), repeat=10):
        biases = [p, *(min(0.9, 3 * p) if coin else p for coin in coins[:-1])]
        chance = math.prod(b if coin else 1 - b for coin, b in zip(coins, biases, strict=True))
        off = np.array(coins) - np.array(biases)
        spread = (off**2 + 2 * np.array(biases) * (1 - np.array(biases))).sum() / 6
        mean += chance * float(np.exp(mixed_log_e(off.sum(keepdims=True), np.array([spread])))[0])
    assert 0.6 < mean <= 1 + 1e-12
    for n in (1e2, 1e6):
        found = mixed_edge(n / 8, math.log(1e7))
        assert float(mixed_log_e(np.array([found]), np.array([n / 8]))[0]) == pytest.approx(math.log(1e7))
        assert found < 7.2 * math.sqrt(n / 4), "5.3 standard deviations of a normal sum are as rare"
