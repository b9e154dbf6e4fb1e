"""G-test and Pearson's test: p-values, rates, powers and pooling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from specverify.errors import InputError
from specverify.evidence import discrete
from specverify.evidence.alternatives import alternative
from specverify.evidence.design import rate_excess
from specverify.evidence.discrete import ChiSquare, sequence_counts

UNEVEN = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01])


def all_counts(n, cells):
    return [c for c in np.ndindex(*[n + 1] * cells) if sum(c) == n]


def multinomial(counts, law):
    return np.exp(special.gammaln(sum(counts) + 1) - special.gammaln(np.array(counts) + 1).sum()) * np.prod(
        law ** np.array(counts)
    )


def test_sequence_counts_follow_reshape():
    tokens = torch.tensor([[0, 1], [2, 0], [2, 0], [1, 2]])
    counts = sequence_counts(tokens, 3).reshape(3, 3)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]


def test_sequence_counts_refuse_what_they_cannot_count():
    with pytest.raises(InputError, match=r"tokens hold 0..3, outside 0..2"):
        sequence_counts(np.array([[0, 3]]), 3)
    with pytest.raises(InputError, match=r"4\^20 sequences are too many to count"):
        sequence_counts(np.zeros((1, 20), dtype=np.int64), 4)
    with pytest.raises(InputError, match="the number of sequences is 0"):
        sequence_counts(np.zeros((0, 2), dtype=np.int64), 3)


@pytest.mark.parametrize("statistic", ["g", "pearson"])
def test_the_exact_p_value_is_the_sum_over_all_count_vectors(statistic):
    law, n = np.array([0.5, 0.3, 0.2]), 6
    check = ChiSquare(law, statistic)

    def value(counts):
        counts = np.array(counts)
        if statistic == "g":
            return 2 * special.xlogy(counts, counts / (n * law)).sum()
        return ((counts - n * law) ** 2 / (n * law)).sum()

    for counts in all_counts(n, 3):
        tail = sum(multinomial(c, law) for c in all_counts(n, 3) if value(c) >= value(counts) - 1e-9)
        found = check.check(np.array(counts), alpha=0.05, beta=0.05)
        assert found.basis == "exact"
        assert found.statistic == pytest.approx(value(counts), abs=1e-9)
        assert found.p_value == pytest.approx(min(1, tail), abs=1e-9)


def test_exact_false_alarm_rate_by_enumeration():
    law, n, alpha = np.array([0.6, 0.3, 0.1]), 12, 0.05
    check = ChiSquare(law)
    alarms = sum(
        multinomial(c, law) for c in all_counts(n, 3) if check.check(np.array(c), alpha=alpha, beta=0.1).rejected
    )
    assert 0 < alarms <= alpha


def test_monte_carlo_agrees_with_enumeration(monkeypatch):
    law, counts = np.array([0.5, 0.3, 0.2]), np.array([14, 2, 4])
    exact = ChiSquare(law).check(counts, alpha=0.01, beta=0.1)
    monkeypatch.setattr(discrete, "ENUMERATE", 0)
    drawn = ChiSquare(law).check(counts, alpha=0.001, beta=0.1, generator=np.random.default_rng(0))
    assert (exact.basis, drawn.basis) == ("exact", "monte-carlo")
    # 20,000 draws
    assert abs(drawn.p_value - exact.p_value) < 5 * np.sqrt(exact.p_value / 20_000)


def test_monte_carlo_asks_for_its_generator():
    with pytest.raises(InputError, match="30 samples of 40 outcomes need a Monte Carlo p-value; pass a numpy `gen"):
        ChiSquare(np.full(40, 1 / 40)).check(np.eye(40, dtype=np.int64)[0] * 30, alpha=0.01, beta=0.1)


def test_the_doubled_asymptotic_tail_of_g_covers_the_exact_one():
    # two cells: the exact tail is a sum over the binomial law
    for p in (0.5, 0.1, 0.01):
        for expected in (20, 25, 40, 100):
            n = round(expected / p)
            law = np.array([p, 1 - p])
            check, counts = ChiSquare(law), np.arange(n + 1)
            pairs = np.stack([counts, n - counts], 1)
            g = check._statistic(pairs, law)
            scale = 1 + ((1 / law).sum() - 1) / (6 * n)
            p_values = discrete.SAFETY * stats.chi2.sf(g / scale, 1)
            chance = stats.binom.pmf(counts, n, p)
            for alpha in (1e-2, 1e-4, 1e-6):
                assert chance[p_values <= alpha].sum() <= alpha
            assert chance[p_values <= 1e-9].sum() <= 2.1e-9


@pytest.mark.thinned(2)
@pytest.mark.parametrize("statistic", ["g", "pearson"])
@pytest.mark.parametrize("n", [15, 150, 30_000])
def test_false_alarm_rate(statistic, n, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 300
    check = ChiSquare(UNEVEN, statistic)
    assert check.plan(15, alpha).basis == "monte-carlo"
    assert check.plan(30_000, alpha).basis == "asymptotic"
    alarms = sum(
        check.check(generator.multinomial(n, UNEVEN), alpha=alpha, beta=0.1, generator=generator).rejected
        for _ in range(trials)
    )
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.thinned(4)
@pytest.mark.parametrize("kind", ["spread", "pair", "rarest", "dropped", "tempered"])
@pytest.mark.parametrize("law", [UNEVEN, np.append(np.full(63, 0.8 / 63), 0.2)], ids=["uneven", "wide"])
def test_miss_rate_at_the_stated_distance(law, kind, seed):
    generator, delta, rate, trials = np.random.default_rng(seed), 0.05, 0.02, 300
    check = ChiSquare(law)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    other = alternative(law, delta, kind)
    found = [check.check(generator.multinomial(n, other), alpha=1e-6, beta=rate) for _ in range(trials)]
    assert found[0].delta <= delta
    assert rate_excess(sum(not e.rejected for e in found), trials, rate) > 1e-6


def test_the_stated_distance_is_not_idle(seed):
    # at a third of it, the hardest alternative is mostly missed
    generator, law = np.random.default_rng(seed), np.full(16, 1 / 16)
    check = ChiSquare(law)
    n = check.sample_size(0.06, alpha=1e-3, beta=0.05)
    other = alternative(law, 0.02, "spread")
    found = [check.check(generator.multinomial(n, other), alpha=1e-3, beta=0.05).rejected for _ in range(100)]
    assert sum(found) < 30


@given(st.integers(5, 10**7), st.integers(5, 10**7), st.floats(1e-9, 0.4), st.floats(1e-9, 0.4))
def test_more_samples_see_more(n, more, alpha, beta):
    check = ChiSquare(np.full(10, 0.1))
    deltas = [check.smallest_detectable(size, alpha=alpha, beta=beta) for size in (n, n + more)]
    # the step from exact to asymptotic p-values may cost the factor of safety
    assert deltas[1] <= 1.1 * deltas[0]


@given(st.floats(0.005, 0.5), st.floats(1e-9, 0.4), st.floats(1e-9, 0.4))
def test_sample_size_sees_delta_and_grows_as_it_shrinks(delta, alpha, beta):
    check = ChiSquare(UNEVEN)
    n = check.sample_size(delta, alpha=alpha, beta=beta)
    assert check.smallest_detectable(n, alpha=alpha, beta=beta) <= delta
    assert check.sample_size(delta / 2, alpha=alpha, beta=beta) > n


def test_pooling_joins_the_rarest_and_is_told():
    law = np.array([0.9, 0.05, 0.04, 0.006, 0.003, 0.001])
    plan = ChiSquare(law).plan(1000, 1e-6)
    assert plan.basis == "asymptotic"
    assert plan.cell.tolist() == [2, 1, 0, 0, 0, 0]
    assert plan.hidden == pytest.approx(0.05)
    found = ChiSquare(law).check(np.array([900, 50, 50, 0, 0, 0]), alpha=1e-6, beta=0.1)
    assert found.coverage["cells"] == 3
    assert "total probability 0.05" in found.blind
    assert found.delta > 0.05


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60), st.integers(100, 10**6))
def test_pooled_cells_are_expected_often_enough(weights, n):
    expected = n * np.array(weights) / sum(weights)
    cells = np.bincount(discrete.pool(expected, 20.0), expected)
    assert len(cells) == 1 or cells.min() >= 20 - 1e-6
    assert cells.sum() == pytest.approx(n)


def test_pearson_pools_what_would_make_it_unsteady(seed):
    law = np.append(np.full(30, (1 - 2e-6) / 30), [1e-6, 1e-6])
    check, g = ChiSquare(law, "pearson"), ChiSquare(law)
    plan = check.plan(2000, 0.01)
    assert (plan.basis, plan.hidden) == ("monte-carlo", pytest.approx(2e-6 + law[0]))
    assert g.plan(2000, 0.01).hidden == 0
    assert check.plan(2000, 0.01).cell.max() == 29
    generator, trials, delta, beta = np.random.default_rng(seed), 150, 0.1, 0.05
    n = check.sample_size(delta, alpha=0.01, beta=beta)
    wrong = alternative(law, delta, "spread")
    missed = sum(
        not check.check(counts, alpha=0.01, beta=beta, generator=generator).rejected
        for counts in generator.multinomial(n, wrong, size=trials)
    )
    assert rate_excess(missed, trials, beta) > 1e-6, f"missed {missed} of {trials} at n = {n}"


def test_a_flat_law_is_steady_however_few_samples():
    plan = ChiSquare(np.full(1000, 1e-3), "pearson").plan(50, 0.01)
    assert (plan.basis, plan.hidden, len(plan.cell)) == ("monte-carlo", 0.0, 1000)


def test_a_forbidden_outcome_rejects_at_once():
    found = ChiSquare(np.array([0.5, 0.5, 0.0])).check(np.array([500, 499, 1]), alpha=1e-9, beta=0.1)
    assert found.rejected
    assert (found.p_value, found.statistic) == (0.0, np.inf)
    assert "1 sample hit outcomes that the law forbids" in found.detail


def test_a_certain_outcome_sees_mass_elsewhere():
    check = ChiSquare(np.array([0.0, 1.0]))
    assert not check.check(np.array([0, 50]), alpha=0.01, beta=0.01).rejected
    delta = check.smallest_detectable(50, alpha=0.01, beta=0.01)
    assert (1 - delta) ** 50 == pytest.approx(0.01)


def test_too_few_samples_are_vacuous():
    found = ChiSquare(UNEVEN).check(np.array([1, 1, 0, 0, 0, 0, 0, 0]), alpha=1e-6, beta=1e-6)
    assert found.delta == 1
    assert found.vacuous == "n = 2 is too small to see any discrepancy below 1; draw more samples"


def test_an_unknown_statistic_is_refused():
    with pytest.raises((InputError, Exception), match="statistic"):
        ChiSquare(UNEVEN, "cosine")
