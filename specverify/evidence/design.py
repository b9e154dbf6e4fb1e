"""Planning: what a campaign may spend on false alarms, what n samples see, and whether a checker keeps its own rates.

A campaign of many checks at rate alpha each raises false alarms at up to their number times alpha. `AlphaBudget` splits
one total over named checks before any data (Bonferroni's inequality: valid however the checks depend on each other).
`holm` does the same for p-values at hand, where the split was not fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypedDict

import numpy as np
from jaxtyping import Bool
from scipy import optimize, special, stats

from specverify.errors import InputError
from specverify.evidence.result import check_delta, check_rates, check_size


class Spending(TypedDict):
    """A check's share of alpha, and whether it is spent."""

    check: str
    alpha: float
    spent: bool


class AlphaBudget:
    """One false-alarm rate for a whole campaign, split over named checks before any of them is run.

    allocate(checks) -> None     once; equal shares, or in proportion to weights
    spend(name)      -> alpha    once for each check
    table()          -> rows     who was given what, and whether it was spent

    Args:
        total: the probability that a correct sampler fails any check of the campaign is at most this.
    """

    def __init__(self, total: float = 1e-6) -> None:
        check_rates(total)
        self.total = total
        self._share: dict[str, float] = {}
        self._spent: set[str] = set()

    def allocate(self, checks: Sequence[str] | Mapping[str, float]) -> None:
        """Give each named check its part of the total.

        Raises:
            InputError: on a second allocation, no checks, a name given twice, or a weight that is not positive.
        """
        if self._share:
            raise InputError("this budget is already allocated; a split chosen after data would not bound false alarms")
        weights = dict(checks) if isinstance(checks, Mapping) else dict.fromkeys(checks, 1.0)
        if len(weights) != len(checks) or not weights:
            raise InputError(f"a budget needs at least one check and distinct names, not {list(checks)}")
        for name, weight in weights.items():
            if not 0 < weight < math.inf:
                raise InputError(f"check {name!r} has weight {weight}; weights are positive numbers")
        self._share = {name: self.total * weight / sum(weights.values()) for name, weight in weights.items()}

    def spend(self, name: str) -> float:
        """The false-alarm rate of one check, handed out once.

        Raises:
            InputError: if the check was not allocated, or has already been run.
        """
        if name not in self._share:
            raise InputError(
                f"check {name!r} has no share of the budget, only {sorted(self._share)}; allocate it first"
            )
        if name in self._spent:
            raise InputError(f"check {name!r} has already spent its share; a second look needs a share of its own")
        self._spent.add(name)
        return self._share[name]

    def table(self) -> list[Spending]:
        """One row for each check, in the order of allocation: name, alpha, spent."""
        return [{"check": name, "alpha": alpha, "spent": name in self._spent} for name, alpha in self._share.items()]


def holm(p_values: Sequence[float], alpha: float) -> Bool[np.ndarray, " tests"]:
    """Which hypotheses Holm's step-down method (1979) rejects, so that any false rejection has probability <= alpha.

    Valid under any dependence. At least one is rejected if and only if the smallest p-value times their number is at
    most alpha.
    """
    check_rates(alpha)
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"p-values must be a list of numbers between 0 and 1, not {p_values}")
    order = np.argsort(p, kind="stable")
    passed = np.logical_and.accumulate(p[order] <= alpha / np.arange(len(p), 0, -1))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order] = passed
    return rejected


def noncentrality_above(critical: float, df: int, beta: float) -> float:
    """The noncentrality at which a chi-square variable stays below `critical` with probability beta."""
    # The functions behind scipy.stats, whose checks of their arguments take forty times as long.
    if special.chdtr(df, critical) <= beta:
        return 0.0
    top = max(critical, 1.0)
    while special.chndtr(critical, df, top) > beta:
        top *= 2
    return float(optimize.brentq(lambda value: special.chndtr(critical, df, value) - beta, 0, top, xtol=1e-9 * top))


@lru_cache(maxsize=4096)
def kolmogorov_threshold(n: int, alpha: float) -> float:
    """What the Kolmogorov-Smirnov statistic of n independent uniforms exceeds with probability alpha, exactly."""
    return float(stats.kstwo.isf(alpha, n))


def sample_size(visible: Callable[[int], float], delta: float, *, start: int = 1024) -> int:
    """The smallest n, to one part in a thousand, whose smallest visible discrepancy is at most delta.

    Args:
        visible: the smallest detectable discrepancy as a function of n, falling in n.
        delta: the discrepancy that must be seen.
        start: where to begin the search.

    Raises:
        InputError: if even 10^12 samples do not suffice.
    """
    limit = 10**12
    memory: dict[int, float] = {}

    def excess(log_n: float) -> float:
        n = max(1, round(math.exp(log_n)))
        if n not in memory:
            memory[n] = visible(n)
        return math.log(memory[n] / delta)

    low = high = math.log(start)
    step = 0.1  # the start may be a good guess: look near it first
    while excess(high) > 0:
        if high > math.log(limit):
            raise InputError(f"no n up to {limit:.0e} makes a discrepancy of {delta:.3g} visible to this check")
        low, high, step = high, high + step, 2 * step
    while excess(low) <= 0 and low > 0:
        low, high, step = max(0.0, low - step), low, 2 * step
    root = optimize.brentq(excess, low, high, xtol=2e-4) if excess(low) > 0 else low
    n = max(1, round(math.exp(root)))
    while visible(n) > delta:
        n += max(1, n // 2000)
    return n


def rate_excess(hits: int, trials: int, rate: float) -> float:
    """How surprising `hits` of `trials` would be if each hit had probability at most `rate`: an exact binomial tail.

    A checker is refuted, not merely unlucky, where this is tiny: count false alarms over perfect samplers against
    alpha, or misses over defective ones against beta.
    """
    check_size(trials, "the number of trials")
    check_delta(rate, "rate")
    if not 0 <= hits <= trials:
        raise InputError(f"{hits} hits of {trials} trials; hits are between 0 and the number of trials")
    return float(stats.binom.sf(hits - 1, trials, rate))
