"""A trial: one stated rate of one checker, measured by many repetitions, and whether it holds.

A rate is refuted, not merely unlucky, where the exact probability of so many events or more, if each had the stated
rate, is below the trial's share of `CERTAIN`: sound checkers fail anywhere in a calibration with at most that
probability, whatever the seed. p-values are tested by Kolmogorov's test at the same share.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from specverify.errors import InputError
from specverify.evidence.design import rate_excess
from specverify.evidence.result import Evidence
from specverify.report.shape_testers import Rates as Row
from specverify.seeds import derived_seed

CERTAIN = 1e-6
"""Probability that any rate of a calibration is said not to hold although all do; split evenly over its trials."""
TESTS, UNIFORM = 20, 0.05
"""p-values are tested in so many groups at this level, and a rejected group is an event; `holds` asks all together."""

What = Literal["false alarms", "misses", "optional stopping", "uniform p-values"]


@dataclass(frozen=True)
class Measured:
    """What the repetitions of a trial gave.

    Attributes:
        n: samples of one repetition, in the check's unit.
        rejected: whether the check rejected, for each.
        p_values: for each, where the check has them.
        delta: the discrepancy that a miss rate is stated for.
        tv: exact total variation of the sampled law from the target.
    """

    n: int
    rejected: Bool[np.ndarray, " trials"]
    p_values: Float[np.ndarray, " trials"] | None = None
    delta: float | None = None
    tv: float | None = None


Measure = Callable[[int, int], Measured]
"""(trials, seed) -> what they gave; all randomness derives from the seed."""


@dataclass(frozen=True)
class Trial:
    """One unit of work: a checker, what is sampled and which of its rates is measured.

    Attributes:
        check, what, on: as in a row.
        stated: alpha or beta; the level of each test of p-values.
        trials: repetitions.
        measure: carries them out; it can be pickled.
        exact: p-values must be uniform; otherwise none may be too small, as those of a bound are not.
    """

    check: str
    what: What
    on: str
    stated: float
    trials: int
    measure: Measure
    exact: bool = False

    @property
    def id(self) -> str:
        """What `--only` matches, and what the trial's seed derives from."""
        return f"{self.check}/{self.what}/{self.on}/{self.stated:g}"


def carry_out(trial: Trial, *, seed: int, level: float) -> Row:
    """Carry out a trial.

    Args:
        seed: of the calibration; the trial's own derives from it and from the trial's id.
        level: the trial's share of `CERTAIN`.
    """
    start = time.perf_counter()
    found = trial.measure(trial.trials, derived_seed(seed, zlib.crc32(trial.id.encode())))
    if len(found.rejected) != trial.trials:
        raise InputError(f"{trial.id}: {len(found.rejected)} repetitions came back, {trial.trials} were asked for")
    trials = trial.trials
    if trial.what == "uniform p-values":
        if found.p_values is None:
            raise InputError(f"{trial.id}: this check has no p-values to test")
        side: Literal["two-sided", "greater"] = "two-sided" if trial.exact else "greater"
        p_value, *groups = (
            float(stats.kstest(part, "uniform", alternative=side).pvalue)
            for part in (found.p_values, *np.array_split(found.p_values, min(TESTS, trials)))
        )
        trials, events = len(groups), sum(p <= trial.stated for p in groups)
    else:
        events = int((~found.rejected if trial.what == "misses" else found.rejected).sum())
        p_value = rate_excess(events, trials, trial.stated)
    interval = stats.binomtest(events, trials).proportion_ci(0.99, "exact")
    return {
        "check": trial.check,
        "what": trial.what,
        "on": trial.on,
        "stated": trial.stated,
        "delta": found.delta,
        "tv": found.tv,
        "n": found.n,
        "trials": trials,
        "events": events,
        "interval": [float(interval.low), float(interval.high)],
        "p_value": p_value,
        "holds": p_value >= level,
        "seconds": time.perf_counter() - start,
    }


def gather(evidence: list[Evidence], *, n: int, delta: float | None = None, tv: float | None = None) -> Measured:
    """What the repetitions of a check gave, from the evidence of each."""
    p_values = [item.p_value for item in evidence]
    return Measured(
        n=n,
        rejected=np.array([item.rejected for item in evidence]),
        p_values=None if None in p_values else np.array(p_values, dtype=np.float64),
        delta=delta,
        tv=tv,
    )
