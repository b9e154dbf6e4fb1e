"""Do runs repeat each other's sequences more often than chance?

* `Copies`: two runs that agree at the same row, as calls re-seeded with one seed do. Needs no law.
* `Again`: rows that come in both runs at whatever place, or again in one alone. Needs no law either.
* `Repeats`: rows that equal any earlier one. Needs the probability of each row under its own law.

In all, n counts the rows of a run and `delta` is the probability that a row is a copy: of the row at its place in the
other run, or of any one other row.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import design, rare
from specverify.evidence.result import (
    COPIES,
    Evidence,
    Law,
    OtherTokens,
    Tokens,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_law,
    to_numpy,
)

POWER = 0.1
"""Of a p-value, less one: the smaller, the more a very small one earns, and the less one that is just small."""
FEW_TIMES = 4
"""So often a row may come again, on average, and be a copy."""
CROWDED = 10
"""Where more than one row in so many repeats another of its run, a copy is nothing new."""
FEW_ROWS = "rows are of so few kinds that they come again by chance: what copies add is not known"
ALIKE = 1 - 1e-12
"""Of rows that are all alike, the probability that two of them are equal, less rounding."""
LEAST = -600.0
"""Logarithm of a probability below which all are alike: exp of its negative is still a number."""


def collision_probability(law: Law) -> float:
    """The probability that two independent draws of the law are equal."""
    return float((to_law(law) ** 2).sum())


@dataclass(frozen=True)
class Copies:
    """Test of equal rows at equal places of two runs.

    If the rows of both runs are independent draws of one law, pairing them at random changes nothing. Over all pairings
    the number of equal pairs has mean m = (equal pairs among all n^2) / n, and exceeds m by t with probability at most
    2 exp(-t^2 / (4 m + 2 t)) (Chatterjee, Stein's method for concentration inequalities, 2007, Proposition 1.1).

    Attributes:
        collision: the probability that two independent sequences are equal; `check` takes what rows at different places
            show, where that is more. With 0, right for long sequences, the miss rate is a finite-sample bound; else
            chance collisions are taken as normal.
    """

    collision: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.collision < 1:
            raise InputError(f"collision is {self.collision}; it is a probability below 1")

    def check(self, first: Tokens, second: OtherTokens, *, alpha: float, beta: float) -> Evidence:
        """Compare two runs of as many rows."""
        check_rates(alpha, beta)
        one, two = to_numpy(first), to_numpy(second)
        if one.shape != two.shape:
            raise InputError(f"the runs have shapes {one.shape} and {two.shape}; compare as many rows of one length")
        n = one.shape[0]
        check_size(n, "the number of rows")
        equal = int((one == two).all(1).sum())
        pairs = equal_pairs(one, two)
        mean, chance = pairs / n, max(self.collision, (pairs - equal) / max(1, n * (n - 1)))
        p_value = float(min(1.0, 2 * math.exp(-_exponent(np.array(equal), np.array(mean)))))
        delta = Copies(min(chance, ALIKE)).smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="copies",
            statistic=float(equal),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=COPIES,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic" if chance else "finite-sample bound",
            estimate=max(0.0, equal - mean) / n,
            vacuous=nothing_below_one(delta, n),
            blind="copies at other places of the other run, and rows that differ in a single token",
            detail=f"{equal} of {n} rows are equal, {mean:.4g} expected of a random pairing",
            coverage={"rows": n, "equal": equal},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The probability of a copy that n rows miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        # equal pairs at different places: third moments of the law are at most collision ** 1.5
        chance, pairs = self.collision, n * (n - 1)
        spread = math.sqrt(pairs * chance + 2 * pairs * n * max(0.0, chance**1.5 - chance**2))
        apart = pairs * chance + float(stats.norm.isf(beta / 2)) * spread

        def rejects(equal: int) -> bool:
            return float(_exponent(np.array(equal), np.array((equal + apart) / n))) >= math.log(2 / alpha)

        if not rejects(n):
            return 1.0
        enough = 1 + bisect.bisect_left(range(1, n), True, key=rejects)  # the more are equal, the stronger
        # rows that are no copies are equal by chance too
        return max(0.0, least_share(enough, n, beta / 2) - chance) / (1 - chance)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of rows that misses copies of probability delta with probability at most beta."""
        check_delta(delta, COPIES)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta, start=64)


@dataclass(frozen=True)
class Again:
    """Test of rows that come again as no law of independent rows explains: in both runs, more often than twice in one;
    or a few times in one run, where none comes in both. See `rare.py`.
    """

    def check(
        self, first: Tokens, second: OtherTokens, *, alpha: float, beta: float, sizes: Sequence[int] | None = None
    ) -> Evidence:
        """Compare two runs of as many rows; `sizes` are of groups that rows tell, of which both have as many each."""
        check_rates(alpha, beta)
        one, two = to_numpy(first), to_numpy(second)
        n = len(one)
        check_size(n, "the number of rows")
        counts = _counts(one, two)
        both, twice = int(np.minimum(*counts).sum()), np.maximum(counts - 1, 0).sum(1)
        sizes = [n] if sizes is None else sizes
        # Few different rows are those of a law that has no more.
        many = int((counts.sum(1) - twice).min()) >= n / FEW_TIMES
        alone = float(rare.tails([counts], sizes)[0]) if both == 0 and many else 1.0
        p_value = min(1.0, 2 * min(rare.alike(counts, sizes), alone))
        by_chance = int(twice.sum())
        crowded = by_chance > 2 * n / CROWDED
        delta = 1.0 if crowded else self.smallest_detectable(n, alpha=alpha, beta=beta)
        if by_chance and not crowded:  # and then by more or by less
            swing = float(stats.norm.isf(beta)) * math.sqrt(2 * (by_chance + both))
            enough = _fewest_more(counts, sizes, alpha / 2) + math.ceil(max(0.0, swing))
            delta = least_share(enough, n, beta) if enough <= n else 1.0
        return Evidence(
            check="rows again",
            statistic=float(both),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=COPIES,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic" if by_chance else "finite-sample bound",
            vacuous=FEW_ROWS if crowded else nothing_below_one(delta, n),
            blind="rows that come again as often in either run as in both, and rows that differ in a single token",
            detail=f"of {n:,} rows of each {both:,} come in both, and {twice[0]:,} and {twice[1]:,} come again in one",
            coverage={"rows": n, "both": both},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The probability of a row to be a copy that n long rows miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        enough = rare.fewest(n, alpha / 2)
        return least_share(enough, n, beta) if enough <= n else 1.0


def _fewest_more(counts: rare.Counts, sizes: Sequence[int], alpha: float) -> int:
    """How many more outcomes have to come once in each run, beside those that came, to be told."""
    most = int(counts.sum())

    def told(more: int) -> bool:
        return rare.alike(np.concatenate([counts, np.ones((2, more), dtype=counts.dtype)], 1), sizes) <= alpha

    return 1 + bisect.bisect_left(range(1, most), True, key=told) if told(most) else most + 1


RARE = math.log(1e-4)
"""A chance from which on a row that repeats another is worth a word of its own."""


@dataclass(frozen=True)
class Repeats:
    """Test of rows that equal an earlier one, whatever the law of each row is (its prompt may be its own).

    Row r equals one of the k different rows before it, and has probability at most p itself, with probability at most
    k p: so P = k p(row) where it repeats one, and 1 where it does not, is a p-value given the rows before. Its e-value
    POWER P^(POWER - 1) is bet on with one part in n of what was won so far; the product reaches 1 / alpha with
    probability at most alpha (Ville's inequality). A single copy of a row that is improbable enough suffices, and
    where rows are probable, repeating them earns nothing.
    """

    def check(self, tokens: Tokens, log_p: Float[np.ndarray, " rows"], *, alpha: float, beta: float) -> Evidence:
        """Look for repeated rows.

        Args:
            tokens: all rows, in an order that does not depend on them.
            log_p: the log-probability of each under its own law; -inf for an impossible one.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for: the probability of a row to be a copy of any other.
        """
        check_rates(alpha, beta)
        rows = to_numpy(tokens)
        n = len(rows)
        check_size(n, "the number of rows")
        _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        repeated = first[index.ravel()] < np.arange(n)
        distinct: Float[np.ndarray, " rows"] = np.cumsum(~repeated) - 1.0 * ~repeated
        log_chance = np.where(repeated, np.minimum(0.0, np.log(np.maximum(distinct, 1)) + log_p), 0.0)
        gains = np.log1p((POWER * np.exp((POWER - 1) * np.maximum(log_chance, LEAST)) - 1) / n)
        log_e = float(np.where(repeated, gains, math.log1p((POWER - 1) / n)).sum())
        typical = max(LEAST, min(0.0, math.log(n) + float(np.median(log_p))))
        gain = math.log1p((POWER * math.exp((POWER - 1) * typical) - 1) / n)
        enough = math.ceil((1 + math.log(1 / alpha)) / gain) if gain > 0 else n + 1
        delta = least_share(enough, n, beta) if enough <= n else 1.0
        expected = float(np.exp(log_chance[repeated]).sum())
        return Evidence(
            check="repeated rows",
            statistic=log_e,
            p_value=math.exp(-max(0.0, log_e)),
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=COPIES,
            n=n,
            rejected=log_e >= math.log(1 / alpha),
            basis="finite-sample bound",
            power="finite-sample bound",
            vacuous="" if delta < 1 else "rows are too short, or too few, for a repetition to mean anything",
            blind="rows that are probable anyway, and rows that differ in a single token",
            detail=f"{int(repeated.sum())} of {n} rows repeat an earlier one"
            + (f", where {expected:.3g} were to be expected" if repeated.any() else "")
            + (f"; one of them by a chance of {math.exp(least):.2g}" if (least := log_chance.min()) < RARE else ""),
            coverage={"rows": n, "repeated": int(repeated.sum())},
        )


def halves(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a run as those of two runs."""
    half = len(tokens) // 2
    return tokens[:half], tokens[half : 2 * half]


def equal_pairs(first: Int[np.ndarray, "rows length"], second: Int[np.ndarray, "others length"]) -> int:
    """The number of pairs, one row of each, that are equal."""
    one, two = _counts(first, second)
    return int(one @ two)


def _counts(first: Int[np.ndarray, "rows length"], second: Int[np.ndarray, "others length"]) -> rare.Counts:
    """How often each different row came in either."""
    _, index = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
    index = index.ravel()
    parts = (index[: len(first)], index[len(first) :])
    return np.stack([np.bincount(part, minlength=int(index.max()) + 1) for part in parts])


def _exponent(equal: np.ndarray, mean: np.ndarray) -> np.ndarray:
    excess = np.maximum(equal - mean, 0.0)
    return np.asarray(excess**2 / np.maximum(4 * mean + 2 * excess, 1e-300))


def least_share(enough: int, n: int, miss: float) -> float:
    """The probability of an event under which it happens fewer than `enough` times in n with probability `miss`."""
    return float(stats.beta.isf(miss, enough, n - enough + 1))
