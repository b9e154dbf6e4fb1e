"""Dispersion of counts over batches: rates, and the two ways in which runs repeat themselves."""

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.independence import Dispersion

LAWS = {
    "even": np.full(8, 1 / 8),
    "uneven": np.array([0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.015, 0.005]),
    "wide": np.full(64, 1 / 64),
}


def within(law, size, share, batches, generator):
    """A share of each batch is one draw, new in each batch."""
    copies = int(np.ceil(share * size))
    one = np.eye(len(law), dtype=np.int64)[generator.choice(len(law), p=law, size=batches)]
    return generator.multinomial(size - copies, law, size=batches) + copies * one


def between(law, size, share, batches, generator):
    """A share of each batch is the same samples in all batches."""
    copies = int(np.ceil(share * size))
    return generator.multinomial(size - copies, law, size=batches) + generator.multinomial(copies, law)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", sorted(LAWS))
@pytest.mark.parametrize("batches", [4, 40])
def test_false_alarm_rate(name, batches, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 300
    check = Dispersion(LAWS[name], 700)
    alarms = sum(
        check.check(generator.multinomial(700, LAWS[name], size=batches), alpha=alpha, beta=0.1).rejected
        for _ in range(trials)
    )
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_a_wrong_law_is_not_mistaken_for_dependence(seed):
    generator, trials = np.random.default_rng(seed), 200
    check = Dispersion(LAWS["even"], 700)
    found = [
        check.check(generator.multinomial(700, LAWS["uneven"], size=20), alpha=0.05, beta=0.1) for _ in range(trials)
    ]
    assert rate_excess(sum(e.rejected for e in found), trials, 0.05) > 1e-6


@pytest.mark.parametrize("copied", [within, between])
@pytest.mark.parametrize("name", sorted(LAWS))
def test_miss_rate_at_the_stated_share(name, copied, seed):
    generator, rate, trials, size = np.random.default_rng(seed), 0.05, 150, 700
    check = Dispersion(LAWS[name], size)
    share = 0.35
    n = check.sample_size(share, alpha=1e-4, beta=rate)
    assert check.smallest_detectable(n, alpha=1e-4, beta=rate) <= share
    found = [check.check(copied(LAWS[name], size, share, n, generator), alpha=1e-4, beta=rate) for _ in range(trials)]
    assert rate_excess(sum(not e.rejected for e in found), trials, rate) > 1e-6
    side = "copies within a batch" if copied is within else "copies between batches"
    assert all(side in e.detail for e in found if e.rejected)


def test_streams_that_repeat_altogether_are_seen_in_few_batches():
    generator, law = np.random.default_rng(0), LAWS["wide"]
    check = Dispersion(law, 700)
    same = np.tile(generator.multinomial(700, law), (3, 1))
    shared = 700 * np.eye(64, dtype=np.int64)[generator.choice(64, p=law, size=3)]
    assert check.check(same, alpha=1e-6, beta=0.1).rejected
    assert check.check(shared, alpha=1e-6, beta=0.1).rejected
    assert not check.check(generator.multinomial(700, law, size=3), alpha=1e-6, beta=0.1).rejected


def test_more_batches_see_more():
    check = Dispersion(LAWS["uneven"], 500)
    shares = [check.smallest_detectable(n, alpha=1e-6, beta=1e-6) for n in (2, 8, 32, 128, 512)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[-1]


def test_forbidden_outcomes_reject_at_once():
    check = Dispersion(np.array([0.5, 0.5, 0.0]), 100)
    found = check.check(np.array([[50, 50, 0], [50, 49, 1]]), alpha=1e-9, beta=0.1)
    assert found.rejected
    assert found.p_value == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="batches of 5 leave a single cell of this law; make them larger"):
        Dispersion(LAWS["even"], 5)
    check = Dispersion(LAWS["even"], 80)
    with pytest.raises(InputError, match=r"sums \[72, 80\] are not batches of 80 samples over 8 outcomes"):
        check.check(np.array([[10] * 8, [9] * 8]), alpha=0.1, beta=0.1)
    with pytest.raises(InputError, match="n is 1; counts vary between at least two batches"):
        check.check(np.full((1, 8), 10), alpha=0.1, beta=0.1)
