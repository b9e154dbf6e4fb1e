"""Repeated sequences: exact small cases, rates, and what is seen."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specverify.errors import InputError
from specverify.evidence.copies import Again, Copies, Repeats, collision_probability, equal_pairs
from specverify.evidence.design import rate_excess


def rows(generator, n, vocab=50, length=6):
    return generator.integers(vocab, size=(n, length))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_equal_pairs_are_counted_as_by_hand(first, second):
    one, two = np.array(first)[:, None], np.array(second)[:, None]
    assert equal_pairs(one, two) == sum(a == b for a in first for b in second)


def test_collision_probability():
    assert collision_probability(np.array([0.5, 0.25, 0.25])) == 0.375


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 3], [0, 0, 0, 1, 1, 2]], ids=str)
def test_the_p_value_of_copies_bounds_all_pairings(values):
    # every way to pair the rows of one run with those of another that holds the same values
    one = np.array(values)[:, None]
    found = {}
    for order in itertools.permutations(range(6)):
        e = Copies().check(one, one[list(order)], alpha=0.1, beta=0.1)
        found.setdefault(e.p_value, []).append(int(e.statistic))
    for p_value in found:
        at_least = sum(len(equal) for other, equal in found.items() if other <= p_value)
        assert at_least / math.factorial(6) <= p_value


def test_false_alarm_rates(seed):
    # few sequences, so that chance collisions abound
    generator, alpha, trials = np.random.default_rng(seed), 0.1, 300
    alarms = 0
    for _ in range(trials):
        one, two = rows(generator, 60, vocab=3, length=3), rows(generator, 60, vocab=3, length=3)
        alarms += Copies().check(one, two, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("collision", [0.0, 0.02])
def test_miss_rate_of_copies(collision, seed):
    generator, rate, delta, trials = np.random.default_rng(seed), 0.05, 0.15, 150
    check = Copies(collision)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    assert check.smallest_detectable(n, alpha=1e-6, beta=rate) <= delta
    vocab, length = (1000, 8) if collision == 0 else (50, 1)
    misses = 0
    for _ in range(trials):
        one, two = rows(generator, n, vocab, length), rows(generator, n, vocab, length)
        copied = generator.random(n) < delta
        misses += not check.check(one, np.where(copied[:, None], one, two), alpha=1e-6, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_a_run_repeated_at_another_place_is_for_repeats():
    generator = np.random.default_rng(0)
    one = rows(generator, 64)
    shifted = np.roll(one, 1, axis=0)
    assert not Copies().check(one, shifted, alpha=1e-6, beta=0.1).rejected
    both, log_p = np.concatenate([one, shifted]), np.full(128, -6 * math.log(50))
    assert Repeats().check(both, log_p, alpha=1e-6, beta=0.1).rejected
    assert Copies().check(one, one, alpha=1e-6, beta=0.1).rejected


def test_evidence_says_how_far_to_trust_the_plan():
    one, two = rows(np.random.default_rng(0), 30), rows(np.random.default_rng(1), 30)
    assert Copies().check(one, two, alpha=0.1, beta=0.1).power == "finite-sample bound"
    assert Copies(0.01).check(one, two, alpha=0.1, beta=0.1).power == "asymptotic"
    few = Copies().check(one[:5], two[:5], alpha=1e-6, beta=1e-6)
    assert few.delta == 1
    assert few.vacuous


def test_the_least_share_is_where_the_binomial_misses():
    check, n, rate = Copies(), 500, 1e-3
    share = check.smallest_detectable(n, alpha=1e-6, beta=rate)
    needed = next(k for k in range(2, n) if 2 * math.exp(-((k - k / n) ** 2) / (4 * k / n + 2 * (k - k / n))) <= 1e-6)
    assert stats.binom.cdf(needed - 1, n, share) == pytest.approx(rate / 2, rel=1e-6)


def test_sample_sizes_grow_as_delta_shrinks():
    sizes = [Copies().sample_size(delta, alpha=1e-6, beta=1e-6) for delta in (0.5, 0.2, 0.1)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("collision", [0.05, 0.3])
def test_copies_rarer_than_chance_collisions_are_planned_for(collision):
    check = Copies(collision)
    for delta in (0.01, 0.001):
        n = check.sample_size(delta, alpha=1e-6, beta=1e-6)
        assert check.smallest_detectable(n, alpha=1e-6, beta=1e-6) <= delta
        assert check.smallest_detectable(n // 2, alpha=1e-6, beta=1e-6) > delta


def test_miss_rate_of_copies_among_chance_collisions(seed):
    generator, collision, delta, beta, trials = np.random.default_rng(seed), 0.25, 0.1, 0.05, 200
    check = Copies(collision)
    n = check.sample_size(delta, alpha=0.01, beta=beta)
    missed = 0
    for _ in range(trials):
        first, other = generator.integers(4, size=(2, n, 1))
        second = np.where(generator.random((n, 1)) < delta, first, other)
        missed += not check.check(first, second, alpha=0.01, beta=beta).rejected
    assert rate_excess(missed, trials, beta) > 1e-6, f"missed {missed} of {trials} at n = {n}"


@pytest.mark.parametrize(
    ("kind", "n", "vocab", "length"), [(Copies, 2000, 4, 3), (Copies, 2000, 8, 5), (Again, 2000, 8, 5)]
)
def test_what_a_check_states_holds_where_rows_are_equal_by_chance(kind, n, vocab, length, seed):
    """That is not asked: the rows show it."""
    generator, beta, trials = np.random.default_rng(seed), 0.05, 80

    def found(share):
        one, two = rows(generator, n, vocab, length), rows(generator, n, vocab, length)
        return kind().check(one, np.where(generator.random((n, 1)) < share, one, two), alpha=1e-4, beta=beta)

    stated = found(0.0)
    assert (stated.power, stated.vacuous, stated.rejected) == ("asymptotic", "", False)
    assert stated.delta < 0.3
    missed = sum(not found(stated.delta).rejected for _ in range(trials))
    assert rate_excess(missed, trials, beta) > 1e-6, f"missed {missed} of {trials}"


def test_rows_of_few_kinds_tell_no_copies_that_come_anywhere():
    generator = np.random.default_rng(0)
    found = Again().check(rows(generator, 500, 2, 6), rows(generator, 500, 2, 6), alpha=0.01, beta=0.01)
    assert found.delta == 1
    assert found.vacuous.startswith("rows are of so few kinds")


def test_bad_input_is_named():
    one = rows(np.random.default_rng(0), 5)
    with pytest.raises(InputError, match=r"the runs have shapes \(5, 6\) and \(4, 6\)"):
        Copies().check(one, one[:4], alpha=0.1, beta=0.1)
    with pytest.raises(InputError, match=r"collision is 1.0; it is a probability below 1"):
        Copies(1.0)


def test_a_single_copy_of_an_improbable_row_refutes():
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 16, size=(4000, 24))
    log_p = np.full(4000, -24 * np.log(16))
    assert not Repeats().check(rows, log_p, alpha=1e-7, beta=1e-6).rejected
    rows[3000] = rows[17]
    found = Repeats().check(rows, log_p, alpha=1e-7, beta=1e-6)
    assert found.rejected
    assert found.detail.startswith("1 of 4000 rows repeat an earlier one, where 3.79e-26 were to be expected")
    assert 0 < found.delta < 0.01


def test_repeats_keep_their_rate_where_rows_are_probable_and_have_laws_of_their_own(seed):
    # each row has one of three laws, as prompts give it, over rows that all repeat each other
    generator, alpha, trials, alarms = np.random.default_rng(seed), 0.05, 400, 0
    laws = np.array([[0.9, 0.05, 0.03, 0.02], [0.1, 0.1, 0.4, 0.4], [1e-4, 1e-4, 1e-4, 1 - 3e-4]])
    for _ in range(trials):
        prompt = generator.integers(0, 3, 60)
        first = np.array([generator.choice(4, p=laws[which]) for which in prompt])
        rest = generator.integers(0, 50, 60)
        log_p = np.log(laws[prompt, first] / 50)
        alarms += Repeats().check(np.stack([first, rest], 1), log_p, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_the_mean_of_the_e_value_of_repeats_is_at_most_one_by_enumeration():
    law, mean = np.array([0.9, 0.0999, 0.0001]), 0.0
    for rows in itertools.product(range(3), repeat=4):
        tokens = np.array(rows)[:, None]
        found = Repeats().check(tokens, np.log(law[list(rows)]), alpha=0.1, beta=0.1)
        mean += math.prod(law[list(rows)]) * math.exp(found.statistic)
    assert 0.3 < mean <= 1


def test_misses_of_repeats_at_the_stated_share(seed):
    generator, rate, trials, misses, n = np.random.default_rng(seed), 0.05, 60, 0, 200
    log_p = np.full(n, -6 * np.log(8))
    share = Repeats().check(generator.integers(0, 8, size=(n, 6)), log_p, alpha=1e-4, beta=rate).delta
    for _ in range(trials):
        rows = generator.integers(0, 8, size=(n, 6))
        for row in np.flatnonzero(generator.random(n) < share):
            rows[row] = rows[generator.integers(0, max(1, row))]
        misses += not Repeats().check(rows, log_p, alpha=1e-4, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6
