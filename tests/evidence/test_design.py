"""Budgets, corrections, powers, and the helper that judges the judges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.design import AlphaBudget, holm, rate_excess


@given(st.dictionaries(st.text(min_size=1), st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(1e-9, 0.5))
def test_a_budget_is_spent_in_proportion_and_no_further(weights, total):
    budget = AlphaBudget(total)
    budget.allocate(weights)
    spent = {name: budget.spend(name) for name in weights}
    assert sum(spent.values()) == pytest.approx(total, rel=1e-12)
    first = next(iter(weights))
    for name, weight in weights.items():
        assert spent[name] / spent[first] == pytest.approx(weight / weights[first], rel=1e-9)
    assert budget.table() == [{"check": name, "alpha": spent[name], "spent": True} for name in weights]


def test_a_budget_shares_equally_by_default():
    budget = AlphaBudget(1e-6)
    budget.allocate(["joint", "pit"])
    assert budget.spend("pit") == 5e-7
    assert [row["spent"] for row in budget.table()] == [False, True]


def test_a_budget_refuses_what_would_break_its_promise():
    budget = AlphaBudget()
    with pytest.raises(InputError, match=r"check 'joint' has no share of the budget, only \[\]"):
        budget.spend("joint")
    with pytest.raises(InputError, match="at least one check and distinct names"):
        budget.allocate([])
    with pytest.raises(InputError, match="distinct names"):
        budget.allocate(["joint", "joint"])
    with pytest.raises(InputError, match=r"check 'joint' has weight 0.0; weights are positive"):
        budget.allocate({"joint": 0.0})
    budget.allocate(["joint"])
    with pytest.raises(InputError, match="already allocated"):
        budget.allocate(["pit"])
    budget.spend("joint")
    with pytest.raises(InputError, match="'joint' has already spent its share"):
        budget.spend("joint")
    with pytest.raises(InputError, match="alpha is 2"):
        AlphaBudget(2.0)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05).tolist() == [True, False, False, True]
    assert holm([], 0.05).tolist() == []
    with pytest.raises(InputError, match="p-values must be"):
        holm([1.5], 0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_lies_between_bonferroni_and_no_correction(p_values, alpha):
    p, rejected = np.array(p_values), holm(p_values, alpha)
    assert not (rejected & (p > alpha)).any()
    assert (rejected | (p > alpha / len(p))).all()
    assert rejected.any() == (p.min() <= alpha / len(p))


@pytest.mark.parametrize("df", [1, 15, 4095])
@pytest.mark.parametrize("rate", [0.05, 1e-6])
def test_noncentrality_is_where_the_miss_rate_is_beta(df, rate):
    critical = stats.chi2.isf(rate, df)
    assert stats.ncx2.cdf(critical, df, design.noncentrality_above(critical, df, rate)) == pytest.approx(rate, rel=1e-4)


def test_noncentrality_is_zero_where_chance_alone_rejects_often_enough():
    assert design.noncentrality_above(float(stats.chi2.isf(0.9, 3)), 3, 0.2) == 0.0


def test_kolmogorov_threshold_is_exact_where_it_can_be_computed_by_hand():
    # n = 1: the statistic max(u, 1 - u) exceeds d with probability 2 (1 - d)
    assert design.kolmogorov_threshold(1, 0.1) == pytest.approx(0.95)


@given(st.floats(0.2, 1.0), st.floats(0.01, 0.9), st.floats(0.1, 30))
def test_sample_size_is_sufficient_and_nearly_necessary(power, delta, scale):
    def visible(n):
        return scale / n**power

    n = design.sample_size(visible, delta) if visible(10**12) <= delta else None
    if n is not None:
        assert visible(n) <= delta
        assert n == 1 or visible(max(1, int(n * 0.998) - 1)) > delta


def test_sample_size_gives_up_by_name():
    with pytest.raises(InputError, match=r"no n up to 1e\+12 makes a discrepancy of 0.1 visible"):
        design.sample_size(lambda n: 0.5, 0.1)


def test_rate_excess_is_a_binomial_tail():
    assert rate_excess(0, 10, 0.1) == 1.0
    assert rate_excess(10, 10, 0.1) == pytest.approx(1e-10)
    with pytest.raises(InputError, match="11 hits of 10 trials"):
        rate_excess(11, 10, 0.1)
