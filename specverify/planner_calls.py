"""What a judgement of a verification kernel plays to see a discrepancy, by the checks of `batteries/calls.py`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from specverify.batteries import calls
from specverify.deadline import Deadline
from specverify.defects import rounds
from specverify.subjects.rounds import independence
from specverify.subjects.rounds.session import Session

GAMMA = 3
"""Slots for drafts, as judgements have by default."""


@dataclass(frozen=True)
class Called:
    """What one check of calls needs.

    Attributes:
        check: its name; of laws with what they are of, for all contexts of it together.
        laws: how many laws or strata it looks at apart.
        metric: what delta measures.
        delta: what has to be seen.
        alpha: the check's share of the judgement's false-alarm rate; of laws each one's.
        n: what it takes, in its unit.
        unit: what n counts.
    """

    check: str
    laws: int
    metric: str
    delta: float
    alpha: float
    n: int
    unit: str


@functools.lru_cache(maxsize=8)
def planned(delta: float, alpha: float, beta: float) -> tuple[Called, ...]:
    """Every check of calls: what a judgement with these rates plays of a kernel that takes all that is tried.

    Args:
        delta: the total variation that has to be seen, of a sequence that is completed from one context.
        alpha, beta: false-alarm rate of the judgement, and miss rate of each check.
    """
    kernel = rounds.get("token-rule").kernel
    session = Session(kernel, calls.STANDARD, GAMMA, 0, alpha, beta, (delta, 1.0), Deadline(60.0), None, False)
    alphas = session.alphas
    found = []
    for trial in session.trials:
        trial.plan(alphas, beta)
        one = trial.streams[0]
        told = one.metric, one.delta, alphas[one.check]
        found.append(Called(f"laws: {trial.name}", len(trial.streams), *told, trial.wanted, _unit("laws")))
    for name, n in independence.planned().items():
        share = calls.CHECKS[name].delta(delta)
        found.append(Called(name, 1, calls.CHECKS[name].metric, share, alphas[name], n, _unit(name)))
    assert session.batches is not None
    for name, test in session.batches.tests.items():
        asked = calls.CHECKS[name].delta(delta)
        n = test.sample_size(asked, alpha=alphas[name], beta=beta)
        metric = f"total variation in each of the {name}"
        found.append(Called(name, len(test.strata), metric, asked, alphas[name], n, _unit(name)))
    (name,) = calls.of("reports")
    coins = calls.CHECKS[name].make(GAMMA / 4)  # the most that so many coins can vary
    n = coins.sample_size(delta, alpha=alpha, beta=beta)
    found.append(Called(name, 1, calls.REPORTED, delta, alpha, n, _unit(name)))
    return tuple(found)


def _unit(name: str) -> str:
    return calls.CHECKS[name].unit
