"""Next-token laws at prefixes: what is tested, what is found, and at which rates."""

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence.alternatives import alternative
from specverify.evidence.conditional import Conditionals
from specverify.evidence.design import rate_excess


def joint(first, after):
    """The law of two tokens."""
    return (first[:, None] * after).ravel()


FIRST = np.array([0.5, 0.3, 0.2])
AFTER = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
LAW = joint(FIRST, AFTER)


def test_prefixes_are_the_common_ones_that_leave_a_choice():
    check = Conditionals(LAW, 3)
    assert [prefix.tokens for prefix in check.prefixes] == [(), (0,), (1,)]
    np.testing.assert_allclose(check.prefixes[2].law, AFTER[1])
    assert check.prefixes[1].probability == pytest.approx(0.5)
    assert check.covered == 1.0
    rarer = Conditionals(LAW, 3, rare=0.4)
    assert [prefix.tokens for prefix in rarer.prefixes] == [(), (0,)]
    assert rarer.covered == pytest.approx(0.7)


def test_the_prefix_that_is_off_is_named():
    wrong = AFTER.copy()
    wrong[1] = [0.4, 0.2, 0.4]
    counts = np.random.default_rng(0).multinomial(5000, joint(FIRST, wrong))
    found = Conditionals(LAW, 3).check(counts, alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert found.data["rejected"] == [False, False, True]
    assert "1 of 3 prefixes rejected; most deviant after [1]" in found.detail
    assert sum(found.data["visits"][1:]) <= found.data["visits"][0] == 5000


def test_false_alarm_rate(seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 200
    law = generator.dirichlet(np.ones(27))
    check = Conditionals(law, 3, rare=0.01)
    alarms = sum(check.check(generator.multinomial(500, law), alpha=alpha, beta=0.1).rejected for _ in range(trials))
    assert rate_excess(alarms, trials, alpha) > 1e-6


@pytest.mark.parametrize("kind", ["spread", "pair", "rarest", "dropped"])
def test_miss_rate_at_the_stated_distance(kind, seed):
    generator, rate, trials, delta = np.random.default_rng(seed), 0.05, 100, 0.09
    check = Conditionals(LAW, 3)
    n = check.sample_size(delta, alpha=1e-6, beta=rate)
    wrong = AFTER.copy()
    wrong[1] = alternative(AFTER[1], delta, kind)
    found = [check.check(generator.multinomial(n, joint(FIRST, wrong)), alpha=1e-6, beta=rate) for _ in range(trials)]
    assert rate_excess(sum(not e.rejected for e in found), trials, rate) > 1e-6
    # delta of evidence is given the visits, and the plan allows for few of them
    assert rate_excess(sum(e.delta > delta for e in found), trials, rate) > 1e-6


def test_sample_size_sees_delta_and_grows_as_it_shrinks():
    check = Conditionals(LAW, 3)
    sizes = [check.sample_size(delta, alpha=1e-6, beta=1e-6) for delta in (0.2, 0.1, 0.05)]
    assert sizes == sorted(set(sizes))
    assert check.smallest_detectable(sizes[2], alpha=1e-6, beta=1e-6) <= 0.05


def test_forbidden_sequences_reject_at_once():
    counts = np.array([300, 100, 50, 50, 50, 150, 1, 200, 0])
    found = Conditionals(LAW, 3).check(counts, alpha=1e-9, beta=0.1)
    assert found.rejected
    assert "1 sample hit outcomes" in found.detail


def test_no_prefix_and_no_visit_are_vacuous():
    one_hot = np.eye(9)[3]
    found = Conditionals(one_hot, 3).check(np.eye(9, dtype=np.int64)[3] * 10, alpha=0.01, beta=0.1)
    assert found.vacuous == "no prefix is tested; make `rare` smaller"
    never = np.zeros(9, dtype=np.int64)
    never[0] = 100
    found = Conditionals(LAW, 3).check(never, alpha=1e-9, beta=0.1)
    assert found.delta == 1
    assert found.vacuous


def test_bad_input_is_named():
    with pytest.raises(InputError, match="the law has 8 outcomes, not a power of the vocabulary 3"):
        Conditionals(np.full(8, 1 / 8), 3)
    with pytest.raises(InputError, match="vocab is 1"):
        Conditionals(np.ones(1), 1)
    with pytest.raises(InputError, match="delta is 0"):
        Conditionals(LAW, 3, rare=0.0)
