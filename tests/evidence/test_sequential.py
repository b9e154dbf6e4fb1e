"""The e-process: a martingale by enumeration, its stopping rule, its rates and its cost."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from specverify.errors import InputError
from specverify.evidence.alternatives import alternative
from specverify.evidence.design import rate_excess
from specverify.evidence.sequential import CONCENTRATIONS, EProcess

UNEVEN = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01])


@pytest.mark.parametrize("law", [[0.5, 0.5], [0.9, 0.1], [0.7, 0.25, 0.05], [0.5, 0.0, 0.3, 0.2]], ids=str)
def test_the_mean_e_value_is_one_over_all_sequences(law):
    law = np.array(law)
    check = EProcess(law)
    for n in (1, 2, 5, 12):
        mean = 0.0
        for samples in itertools.combinations_with_replacement(np.flatnonzero(law > 0), n):
            counts = np.bincount(samples, minlength=len(law))
            orders = math.factorial(n) / math.prod(math.factorial(count) for count in counts)
            mean += math.exp(check.log_e(counts)) * orders * math.prod(law[list(samples)])
        assert mean == pytest.approx(1, abs=1e-10)


def test_stopping_at_will_gains_nothing():
    # stop at the first e-value of 1.05 or more: over all sequences, the mean e-value is still 1
    law, n = np.array([0.6, 0.3, 0.1]), 7
    e_value = cache(lambda counts: math.exp(EProcess(law).log_e(np.array(counts))))
    mean = stopped = 0.0
    for samples in itertools.product(range(3), repeat=n):
        counts = [0, 0, 0]
        for x in samples:
            counts[x] += 1
            value = e_value(tuple(counts))
            if value >= 1.05:
                stopped += math.prod(law[list(samples)])
                break
        mean += value * math.prod(law[list(samples)])
    assert mean == pytest.approx(1, abs=1e-10)
    assert 0 < stopped <= 1 / 1.05


def test_log_e_is_the_mixture_of_dirichlet_likelihood_ratios():
    law, counts = np.array([0.6, 0.3, 0.1]), np.array([4, 0, 3])
    values = []
    for c in CONCENTRATIONS[:6]:
        a = c * law
        urn, total = 1.0, c  # Polya's urn, one sample after the other
        for x in np.repeat(np.arange(3), counts):
            urn *= a[x] / total / law[x]
            a[x] += 1
            total += 1
        values.append(urn)
    n = counts.sum()
    for c, value in zip(CONCENTRATIONS, values, strict=False):
        a = c * law
        log = special.gammaln(c) - special.gammaln(c + n) + (special.gammaln(a + counts) - special.gammaln(a)).sum()
        assert log - (counts * np.log(law)).sum() == pytest.approx(math.log(value), abs=1e-10)
    # the larger concentrations stay near e = 1
    rest = math.exp(EProcess(law).log_e(counts)) * len(CONCENTRATIONS) - sum(values)
    assert rest == pytest.approx(len(CONCENTRATIONS) - len(values), rel=0.01)


def test_a_stream_is_read_only_until_it_rejects():
    read = []

    def stream():
        for block in range(100):
            read.append(block)
            yield np.array([100, 0])

    found = EProcess(np.array([0.5, 0.5])).check(stream(), alpha=1e-6, beta=0.1)
    assert found.rejected
    assert read == [0]
    assert found.data["n"] == [100]
    assert found.p_value == pytest.approx(math.exp(-found.statistic))


def test_the_p_value_remembers_the_highest_e_value():
    blocks = [np.array([14, 4]), np.array([4, 14])]
    found = EProcess(np.array([0.5, 0.5])).check(blocks, alpha=1e-6, beta=0.1)
    first, second = found.data["log_e"]
    assert first > second
    assert found.statistic == first
    assert not found.rejected


def test_forbidden_outcomes_are_evidence_without_bound():
    found = EProcess(np.array([0.5, 0.5, 0.0])).check([np.array([5, 5, 0]), np.array([5, 5, 1])], alpha=1e-9, beta=0.1)
    assert found.rejected
    assert found.statistic == math.inf
    assert found.p_value == 0


@pytest.mark.parametrize("outcomes", [2, 30, 3000])
def test_false_alarm_rate_over_a_whole_stream(outcomes, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.1, 60
    law = generator.dirichlet(np.ones(outcomes))
    check = EProcess(law)
    found = [check.check(generator.multinomial(100, law, size=10), alpha=alpha, beta=0.1) for _ in range(trials)]
    assert rate_excess(sum(e.rejected for e in found), trials, alpha) > 1e-6
    assert max(e.n for e in found) == 1000


@pytest.mark.parametrize("kind", ["spread", "pair", "rarest", "dropped", "tempered"])
@pytest.mark.parametrize("law", [UNEVEN, np.append(np.full(200, 0.004), 0.2)], ids=["uneven", "wide"])
def test_miss_rate_and_cost_at_the_stated_distance(law, kind, seed):
    generator, alpha, rate, delta, trials = np.random.default_rng(seed), 1e-4, 0.05, 0.08, 60
    check = EProcess(law)
    n = check.sample_size(delta, alpha=alpha, beta=rate)
    other = alternative(law, delta, kind)
    blocks = [n // 10] * 9 + [n - 9 * (n // 10)]
    found = [
        check.check((generator.multinomial(size, other) for size in blocks), alpha=alpha, beta=rate)
        for _ in range(trials)
    ]
    assert rate_excess(sum(not e.rejected for e in found), trials, rate) > 1e-6
    # it stops at the end of a block, so up to one block late
    expected = check.expected_sample_size(delta, alpha=alpha)
    assert np.mean([e.n for e in found]) < 1.1 * expected + blocks[0]


def test_the_expected_cost_is_not_idle(seed):
    generator, law = np.random.default_rng(seed), np.full(64, 1 / 64)
    check = EProcess(law)
    other = alternative(law, 0.1, "spread")
    expected = check.expected_sample_size(0.1, alpha=1e-4)
    stops = [
        check.check((generator.multinomial(100, other) for _ in range(500)), alpha=1e-4, beta=0.1).n for _ in range(40)
    ]
    assert 0.75 * expected < np.mean(stops) < 1.1 * expected + 100


@settings(max_examples=30)
@given(st.floats(0.01, 0.5), st.floats(1e-9, 0.3), st.integers(2, 5000))
def test_sample_size_sees_delta_and_grows_as_it_shrinks(delta, rate, outcomes):
    check = EProcess(np.full(outcomes, 1 / outcomes))
    n = check.sample_size(delta, alpha=rate, beta=rate)
    assert check.smallest_detectable(n, alpha=rate, beta=rate) <= delta
    assert check.sample_size(delta / 2, alpha=rate, beta=rate) > n


def test_a_certain_outcome_sees_mass_elsewhere():
    check = EProcess(torch.tensor([0.0, 1.0]))
    assert not check.check([np.array([0, 50])], alpha=0.01, beta=0.01).rejected
    assert (1 - check.smallest_detectable(50, alpha=0.01, beta=0.01)) ** 50 == pytest.approx(0.01)
    assert check.expected_sample_size(0.25, alpha=0.01) == 4


def test_an_empty_stream_is_refused():
    with pytest.raises(InputError, match="the stream of counts is empty"):
        EProcess(UNEVEN).check([], alpha=0.01, beta=0.01)
