"""Values that come twice: a law with a density gives none, but for rounding.

An atom is a value that many tokens share, such as the zero vector where a search gave up, or a bound that coordinates
are clamped to. A copy is a token that came before, or part of one. Both are far below what tests of the whole law can
see, and nearly impossible under a law with a density: a value of given precision has a small probability given
everything before it, and that alone is relied on here, so that each false-alarm rate holds at every n and however
values depend on each other.

`ROUNDING` bounds that probability for numbers with the 24 bits of float32, of which double precision is often made:
densities of up to 2 where numbers lie below 8. What double precision could tell besides is left alone on purpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import special, stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.bounds import Rate
from specverify.evidence.result import Evidence, check_delta, check_rates, check_size, nothing_below_one
from specverify.evidence.vectors import Values, to_finite

ROUNDING = 2.0**-19
"""The largest probability of a number with 24 bits."""
ATOM = "mass of one value"
REPEATED = "probability of a repeated value"
Rows = Float[np.ndarray, "n width"] | Float[Tensor, "n width"]


@dataclass(frozen=True)
class Atoms:
    """Whether one value comes more often than any could under a law with a density.

    k values of n are equal with probability at most C(n, k) mass^(k - 1), whatever they depend on. `delta` is the
    probability of one value, given everything before each.

    Attributes:
        mass: the largest probability that the rounding of a density leaves to one value.
    """

    mass: float = ROUNDING

    def __post_init__(self) -> None:
        _check_chance(self.mass)

    def check(self, values: Values, *, alpha: float, beta: float) -> Evidence:
        """Test n values."""
        check_rates(alpha, beta)
        found = to_finite(values, "the sample").ravel()
        n = len(found)
        different, counts = np.unique(found, return_counts=True)
        most = int(counts.max())
        p_value = self._tail(n, most)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="values that many tokens share",
            statistic=float(most),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=ATOM,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=most / n if most > 1 else 0.0,
            vacuous=nothing_below_one(delta, n),
            blind="atoms that are spread over as many values as there are tokens",
            detail=f"the most frequent of {n:,} values is {float(different[counts.argmax()]):.6g}, {most:,} times",
            coverage={"values": n, "different": len(different)},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The mass of one value that n values miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        k = 2
        while k <= n and self._tail(n, k) > alpha:
            k += 1
        return float(stats.beta.isf(beta, k, n - k + 1)) if k <= n else 1.0

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of values that misses an atom of mass delta with probability at most beta."""
        check_delta(delta, ATOM)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _tail(self, n: int, k: int) -> float:
        """At most the probability that k of n values are equal."""
        sizes = np.arange(1, k + 1)
        ways = special.gammaln(n + 1) - special.gammaln(sizes + 1) - special.gammaln(n - sizes + 1)
        bounds = ways + (sizes - 1) * math.log(self.mass)
        return math.exp(min(0.0, float(bounds.min())))


@dataclass(frozen=True)
class Repeats:
    """How many of n values, or rows of values, equal one that came before.

    Each does with probability at most n chance given those before it, so that their number is at most binomial.
    `delta` is the probability with which each is a copy, given those before it.

    Attributes:
        chance: the largest probability that one has a given value.
        what: what is counted.
    """

    chance: float
    what: str = "tokens that came before"

    def __post_init__(self) -> None:
        _check_chance(self.chance)

    def check(self, rows: Rows, *, alpha: float, beta: float) -> Evidence:
        """Test n rows."""
        values = to_finite(rows, "the sample")
        later = repeated(values)[min(1, len(values) - 1) :]  # the first of all has none before it
        return copies(later, self._chance(len(values)), self.what, alpha=alpha, beta=beta)

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The probability of a copy that n rows miss with probability at most beta, at most 1."""
        by_chance = self._chance(n)
        beyond = Rate(0.0, by_chance, self.what).smallest_detectable(max(1, n - 1), alpha=alpha, beta=beta)
        return min(1.0, by_chance + beyond)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of rows that misses copies of probability delta with probability at most beta."""
        check_delta(delta, REPEATED)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta, start=128)

    def _chance(self, n: int) -> float:
        check_size(n)
        if n * self.chance >= 1:
            raise InputError(f"of {n} values with chances up to {self.chance:.3g} all may be equal; give fewer")
        return n * self.chance


def copies(again: Bool[np.ndarray, " n"], by_chance: float, what: str, *, alpha: float, beta: float) -> Evidence:
    """Whether values equal an earlier one more often than by rounding.

    Args:
        again: which do.
        by_chance: the largest probability of each, given those before it, under a law with a density.
        what: what they are.
        alpha, beta: false-alarm rate, and miss rate at `delta`, a probability of a copy given what came before.
    """
    found = Rate(0.0, by_chance, what, REPEATED).check(again, alpha=alpha, beta=beta)
    return replace(found, delta=min(1.0, by_chance + found.delta))


def repeated(rows: Rows) -> Bool[np.ndarray, " n"]:
    """Which rows equal an earlier one in every column."""
    values = to_finite(rows, "the sample")
    order = np.lexsort(values.T)  # stable: equal rows stay in their order
    again = np.zeros(len(values), dtype=bool)
    again[order[1:]] = (values[order[1:]] == values[order[:-1]]).all(1)
    return again


def within_rows(rows: Rows) -> Bool[np.ndarray, " values"]:
    """Which values equal one that stands before them in their row, row after row."""
    values = to_finite(rows, "the sample")
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    again = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return again.ravel()


def _check_chance(chance: float) -> None:
    if not 0 < chance < 1:
        raise InputError(f"one value has a probability of up to {chance}; with a density it lies between 0 and 1")
