"""The rates that checks state, measured over many seeds: false alarms on perfect samplers, misses at the stated delta.

A rate is refuted where an exact binomial tail is below 1e-6: over all assertions here a sound checker fails with
probability below 1e-4, whatever the seed.
"""

import contextlib

import numpy as np
import pytest

import toymodels
from specverify.errors import InputError
from specverify.evidence import alternatives
from specverify.evidence.design import rate_excess
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.finite import TotalVariation
from specverify.evidence.independence import Dispersion
from specverify.evidence.sequences import target_law
from specverify.evidence.sequential import EProcess

TRIALS = 2000
CERTAIN = 1e-6


def laws():
    generator = np.random.default_rng(20)
    return {
        "uneven": generator.dirichlet(np.full(12, 0.6)),
        "flat": np.full(64, 1 / 64),
        "toy": target_law(toymodels.toy("ties-3x5")).numpy(),
        "sparse": target_law(toymodels.toy("sparse-3x5")).numpy(),
    }


CHECKS = {"g": ChiSquare, "total variation": TotalVariation}
DELTA = 0.05


def reachable():
    """Each law with each kind of alternative that lies at DELTA from it."""
    for name, p in laws().items():
        for kind in sorted(alternatives.KINDS):
            with contextlib.suppress(InputError):
                alternatives.alternative(p, DELTA, kind)
                yield name, kind


REACHABLE = sorted(reachable())


def test_every_law_has_alternatives_of_several_kinds():
    assert min(sum(law == name for law, _ in REACHABLE) for name in laws()) >= 2


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("law", ["uneven", "flat", "toy", "sparse"])
@pytest.mark.parametrize("check", sorted(CHECKS))
def test_false_alarms_on_perfect_samples(check, law, alpha, seed):
    generator, p = np.random.default_rng(seed), laws()[law]
    tool = CHECKS[check](p)
    alarms = sum(
        tool.check(counts, alpha=alpha, beta=0.1, generator=generator).rejected
        for counts in generator.multinomial(400_000, p, size=TRIALS)
    )
    assert rate_excess(alarms, TRIALS, alpha) > CERTAIN, f"{alarms} false alarms of {TRIALS} at alpha {alpha}"


@pytest.mark.parametrize("law", ["uneven", "flat", "toy"])
def test_the_e_process_crosses_at_most_at_alpha_however_often_one_looks(law, seed):
    generator, p, alpha = np.random.default_rng(seed), laws()[law], 0.05
    tool, crossed = EProcess(p), 0
    for _ in range(400):
        stream = generator.multinomial(50, p, size=60)
        crossed += tool.check(stream, alpha=alpha, beta=0.1).rejected
    assert rate_excess(crossed, 400, alpha) > CERTAIN, f"crossed in {crossed} of 400 streams at alpha {alpha}"


@pytest.mark.parametrize(("law", "kind"), REACHABLE)
@pytest.mark.parametrize("check", [*sorted(CHECKS), "e-process"])
def test_misses_at_the_delta_that_a_sample_size_is_for(check, law, kind, seed):
    generator, p = np.random.default_rng(seed), laws()[law]
    delta, alpha, beta, trials = DELTA, 0.01, 0.05, 300
    wrong = alternatives.alternative(p, delta, kind)
    tool = EProcess(p) if check == "e-process" else CHECKS[check](p)
    n = tool.sample_size(delta, alpha=alpha, beta=beta)
    missed = 0
    for counts in generator.multinomial(n, wrong, size=trials):
        if check == "e-process":
            missed += not tool.check([counts], alpha=alpha, beta=beta).rejected
        else:
            missed += not tool.check(counts, alpha=alpha, beta=beta, generator=generator).rejected
    assert rate_excess(missed, trials, beta) > CERTAIN, f"missed {missed} of {trials} at n = {n}, delta = {delta}"


def test_dispersion_false_alarms(seed):
    generator, p, alpha = np.random.default_rng(seed), laws()["toy"], 0.05
    tool = Dispersion(p, 5000)
    alarms = sum(
        tool.check(generator.multinomial(5000, p, size=20), alpha=alpha, beta=0.1).rejected for _ in range(TRIALS)
    )
    assert rate_excess(alarms, TRIALS, alpha) > CERTAIN, f"{alarms} false alarms of {TRIALS} at alpha {alpha}"
