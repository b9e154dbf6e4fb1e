"""Numbers of proposals: the geometric law of thinning, caps, and bounds that are never exceeded."""

import inspect
import math

import numpy as np
import pytest
import torch

from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.trials import Trials
from specverify.laws import Gaussian
from specverify.rules import reflection, rejection


def geometric(n, overlap, generator, cap=None):
    """Trials of a perfect thinning: 0 for drafts that are kept, else until one is found or the cap is reached."""
    taken = np.where(generator.random(n) < overlap, 0, generator.geometric(1 - overlap, n))
    return taken if cap is None else np.minimum(taken, cap)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("cap", [None, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.95, "varied"])
def test_false_alarm_rate_of_perfect_thinning(overlap, cap, seed):
    generator, alpha, trials = np.random.default_rng(seed), 0.05, 200
    alarms = 0
    for _ in range(trials):
        share = generator.random(300) if overlap == "varied" else overlap
        taken = geometric(300, share, generator, cap)
        alarms += Trials(cap).check(taken, share, alpha=alpha, beta=0.1, generator=generator).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_the_rule_takes_one_trial_a_decision_and_its_variance_is_known(seed):
    n, distance = 60_000, 0.5
    mean = torch.zeros(n, 2, dtype=torch.float64)
    p = Gaussian(mean, torch.ones_like(mean))
    q = Gaussian(mean + distance / math.sqrt(2), torch.ones_like(mean))
    everywhere = torch.ones(n, dtype=torch.bool)
    found = rejection.decide(p, q, q.sample(Sampled(seed), everywhere), Sampled(seed + 1), everywhere)
    beta = float(reflection.overlap(p, q)[0])
    evidence = Trials().check(found.trials, beta, alpha=1e-6, beta=1e-6, generator=np.random.default_rng(seed))
    assert not evidence.rejected
    variance = 2 * beta / (1 - beta)
    assert evidence.coverage["expected"] == 1.0
    assert evidence.coverage["mean"] == pytest.approx(1, abs=6 * math.sqrt(variance / n))
    assert evidence.coverage["variance"] == pytest.approx(variance, rel=0.15)
    after = float(found.trials[~found.accepted].double().mean())
    assert after == pytest.approx(1 / (1 - beta), rel=0.05)
    # the rates of trials are those of this overlap, not of one near it
    wrong = Trials().check(found.trials, beta - 0.03, alpha=1e-6, beta=1e-6, generator=np.random.default_rng(seed))
    assert wrong.rejected


def test_a_cap_shortens_the_expected_number(seed):
    generator = np.random.default_rng(seed)
    taken = geometric(100_000, 0.9, generator, cap=5)
    found = Trials(5).check(taken, 0.9, alpha=1e-6, beta=0.1, generator=generator)
    assert not found.rejected
    assert found.coverage["expected"] == pytest.approx(1 - 0.9**5)
    assert found.coverage["mean"] == pytest.approx(1 - 0.9**5, abs=0.03)
    assert Trials().check(taken, 0.9, alpha=1e-6, beta=0.1, generator=generator).rejected


def test_miss_rate_at_the_stated_distance(seed):
    # an overlap of 0.4 where 0.5 is claimed: the transforms are off by the difference of P(T > 0) at least
    generator, rate, trials, delta = np.random.default_rng(seed), 0.05, 100, 0.1
    n = Trials().sample_size(delta, alpha=1e-6, beta=rate)
    misses = 0
    for _ in range(trials):
        taken = geometric(n, 0.4, generator)
        misses += not Trials().check(taken, 0.5, alpha=1e-6, beta=rate, generator=generator).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_impossible_numbers_reject_at_once():
    generator, taken = np.random.default_rng(0), np.array([0, 1, 9])
    beyond = Trials(8).check(taken, 0.7, alpha=1e-9, beta=0.1, generator=generator)
    redrawn = Trials().check(taken, 1.0, alpha=1e-9, beta=0.1, generator=generator)
    disjoint = Trials().check(taken, 0.0, alpha=1e-9, beta=0.1, generator=generator)
    assert [found.coverage["impossible"] for found in (beyond, redrawn, disjoint)] == [1, 2, 2]
    assert all(found.rejected and found.p_value == 0 for found in (beyond, redrawn, disjoint))
    assert "1 are impossible" in beyond.detail


def test_equal_laws_are_vacuous():
    found = Trials().check(np.zeros(9000, dtype=int), 1.0, alpha=0.01, beta=0.1, generator=np.random.default_rng(0))
    assert found.vacuous == "p = q everywhere: nothing is redrawn"
    assert not found.rejected


def test_bad_input_is_named():
    generator = np.random.default_rng(0)
    with pytest.raises(InputError, match="a decision took -1 trials"):
        Trials().check(np.array([0, -1]), 0.5, alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="the overlap is nan"):
        Trials().check(np.array([0, 1]), math.nan, alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="cap = 0: a rejected draft takes at least one trial"):
        Trials(0)
    with pytest.raises(InputError, match="trials have dtype float64; give whole numbers"):
        inspect.unwrap(Trials.check)(Trials(), np.array([0.0, np.nan]), 0.5, alpha=0.01, beta=0.1, generator=generator)
    with pytest.raises(InputError, match="n is 0"):
        Trials().check(np.zeros(0, dtype=int), 0.5, alpha=0.01, beta=0.1, generator=generator)
