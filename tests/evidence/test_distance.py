"""Distances, the exact mean of the plug-in distance, and its lower bound under any law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specverify.evidence import distance
from specverify.evidence.distance import WEIGHTS, excess, expected_tv, tv, tv_reach


@st.composite
def laws(draw, least=2, most=6):
    weights = draw(st.lists(st.integers(1, 50), min_size=least, max_size=most))
    return np.array(weights) / sum(weights)


def mean_tv(q, p, n):
    """E TV(counts / n, p) for n draws of q, by adding up every count of every outcome."""
    counts = np.arange(n + 1)
    return 0.5 * sum((stats.binom.pmf(counts, n, x) * np.abs(counts / n - y)).sum() for x, y in zip(q, p, strict=True))


def test_the_distance_of_a_worked_example():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    assert tv(p, q) == 0.25


@given(law=laws(), n=st.integers(1, 60))
def test_expected_tv_is_exact(law, n):
    assert expected_tv(law, n) == pytest.approx(mean_tv(law, law, n), rel=1e-9)


def test_expected_tv_of_a_certain_outcome_is_zero():
    assert expected_tv(np.array([0.0, 1.0]), 10) == 0.0


def test_expected_tv_bears_probabilities_next_to_nothing():
    assert expected_tv(np.array([1e-308, 1.0]), 5) == pytest.approx(1e-308)


def test_expected_tv_stays_finite_and_right_for_large_n():
    # the normal limit of a mean deviation is sigma sqrt(2 / pi)
    n, law = 10**9, np.array([0.2, 0.8])
    assert expected_tv(law, n) == pytest.approx(np.sqrt(2 / np.pi * 0.16 / n), rel=1e-6)


@given(p=laws(3, 3), weights=st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any), n=st.integers(1, 40))
def test_no_law_is_further_than_its_mean_plug_in_distance_allows(p, weights, n):
    q = np.array(weights) / sum(weights)
    assert tv(q, p) <= tv_reach(mean_tv(q, p, n), excess(p, n)) + 1e-9


@pytest.mark.parametrize("n", [1, 7, 50, 3000])
def test_the_excess_is_the_maximum_over_a_fine_grid(n):
    law = np.array([0.0, 0.003, 0.097, 0.2, 0.7])
    grid = np.linspace(0, 1, 40001)
    highest = np.zeros(len(WEIGHTS))
    for p in law:
        halved = 0.5 * distance._mean_deviation(grid, np.full_like(grid, p), n)
        highest += (WEIGHTS[:, None] * np.abs(grid - p) - halved).max(1)
    found = excess(law, n)
    assert (found >= highest - 1e-12).all()
    np.testing.assert_allclose(found, highest, atol=2e-3 * expected_tv(law, n))


@given(
    x=st.floats(0, 1, allow_subnormal=False).map(lambda x: x if x > 1e-200 else 0.0),
    p=st.floats(0, 1),
    n=st.integers(1, 60),
)
def test_mean_deviation_is_the_sum_over_counts(x, p, n):
    counts = np.arange(n + 1)
    exact = (stats.binom.pmf(counts, n, x) * np.abs(counts / n - p)).sum()
    assert distance._mean_deviation(np.array([x]), np.array([p]), n)[0] == pytest.approx(exact, abs=1e-10)


def test_many_outcomes_gain_over_jensens_inequality():
    law, n = np.full(4096, 1 / 4096), 100_000
    height = expected_tv(law, n) + 2 * distance.deviation(n, 1e-6)
    assert tv_reach(height, excess(law, n)) < 0.8 * height
