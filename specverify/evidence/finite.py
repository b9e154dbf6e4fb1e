"""Checks of counts whose false-alarm and miss rates are proved at every n, against every alternative.

The null hypothesis is that the n samples are independent draws of the law p over K outcomes. Nothing is pooled and no
limit theorem is used: the price is an n some two to four times that of `ChiSquare`.

`TotalVariation` also bounds the distance to the target law from above and below. For few or very unequal outcomes, such
as one next-token law, n KL(counts / n, p) has a tail bound of its own (`entropy_tail`).

An observation of an outcome that p forbids rejects at once: it has probability 0 under the null.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, stats

from specverify.evidence import design
from specverify.evidence.discrete import forbidden_note, outside_support
from specverify.evidence.distance import WEIGHTS, deviation, excess, expected_tv, tv_reach
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Counts,
    Evidence,
    Law,
    Vector,
    check_delta,
    check_rates,
    nothing_below_one,
    to_counts,
    to_law,
)


@dataclass(frozen=True, eq=False)
class TotalVariation:
    """Test of T = TV(counts / n, p), the plug-in estimate of the distance to the target law.

    Rejects where T exceeds its exact mean under p by sqrt(log(1 / alpha) / (2 n)) (McDiarmid). Under a q at distance
    delta or more, T falls short of its mean by sqrt(log(1 / beta) / (2 n)) with probability at most beta, and its mean
    is bounded below in terms of delta (see `distance.py`): delta is where the two meet.

    Attributes:
        law: Float[outcomes], the target law.
    """

    law: Law

    def __post_init__(self) -> None:
        self._p  # noqa: B018 - checks the law

    @cached_property
    def _p(self) -> Vector:
        return to_law(self.law)

    def mean(self, n: int) -> float:
        """The mean of T under the law: what a perfect sampler shows."""
        return expected_tv(self._p, n)

    def threshold(self, n: int, alpha: float) -> float:
        """The value that T exceeds with probability at most alpha under the law."""
        check_rates(alpha)
        return self.mean(n) + deviation(n, alpha)

    def check(self, counts: Counts, *, alpha: float, beta: float, generator: np.random.Generator) -> Evidence:
        """Test the counts, and bound the distance from both sides (see `bounds`).

        Args:
            counts: Int[outcomes].
            alpha: false-alarm rate, and the probability that the interval misses the distance.
            beta: miss rate that delta is stated for.
            generator: for the split of the samples that the lower bound needs.
        """
        check_rates(alpha, beta)
        observed = to_counts(counts, len(self._p))
        n = int(observed.sum())
        forbidden = int(observed[self._p == 0].sum())
        plugin = 0.5 * float(np.abs(observed / n - self._p).sum())
        above = max(0.0, plugin - self.mean(n))
        p_value = 0.0 if forbidden else math.exp(-2 * n * above**2)
        lower, estimate, upper = self.bounds(observed, alpha=alpha, generator=generator)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="total variation",
            statistic=plugin,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=estimate,
            interval=(lower, upper),
            vacuous=nothing_below_one(delta, n),
            detail=f"plug-in distance {plugin:.6g}, expected {self.mean(n):.6g} of a perfect sampler; "
            f"distance between {lower:.6g} and {upper:.6g}{forbidden_note(forbidden)}",
            coverage={"outcomes": int((self._p > 0).sum()), "seen": int((observed > 0).sum()), "forbidden": forbidden},
            data={"counts": observed.tolist(), "expected": (n * self._p).tolist()},
        )

    def bounds(self, counts: Counts, *, alpha: float, generator: np.random.Generator) -> tuple[float, float, float]:
        """Lower bound, estimate and upper bound of TV(q, p); each bound fails with probability at most alpha / 2.

        Upper: T is at most sqrt(log(2 / alpha) / (2 n)) below its mean, and the mean bounds the distance (`tv_reach`).
        Lower and estimate: one random half of the samples chooses the set A where they exceed the law; on the other
        half the count of A is binomial with mean q(A), and q(A) - p(A) <= TV(q, p) for every set. The lower bound is
        Clopper and Pearson's for q(A), less p(A).
        """
        check_rates(alpha)
        observed = to_counts(counts, len(self._p))
        n = int(observed.sum())
        plugin = 0.5 * float(np.abs(observed / n - self._p).sum())
        upper = tv_reach(plugin + deviation(n, alpha / 2), self._excess(n))
        first: Int[np.ndarray, " outcomes"] = generator.multivariate_hypergeometric(observed, n // 2)
        chosen = first > (n // 2) * self._p
        trials, hits = n - n // 2, int((observed - first)[chosen].sum())
        lower = float(stats.beta.ppf(alpha / 2, hits, trials - hits + 1)) if hits else 0.0
        mass = float(self._p[chosen].sum())
        return max(0.0, lower - mass), max(0.0, hits / trials - mass), upper

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation that n samples miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        if (self._p > 0).sum() == 1:
            return outside_support(n, beta)
        return tv_reach(self.threshold(n, alpha) + deviation(n, beta), self._excess(n))

    @cached_property
    def _excess(self) -> Callable[[int], Float[np.ndarray, " weights"]]:
        """`excess` of this law, remembered: a check asks for one n twice, a calibration again and again."""
        return lru_cache(maxsize=256)(lambda n: excess(self._p, n))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n that misses total variation delta with probability at most beta."""
        check_delta(delta)
        start, weights = 1024, WEIGHTS
        if len(np.unique(self._p)) > 1:
            # as many equal outcomes as give the same mean of T ask for nearly the same n, and all cost what one costs;
            # the weight that is best for them is nearly the best here
            alike = 1 + max(1, round(float(np.sqrt(self._p * (1 - self._p)).sum()) ** 2))
            similar = TotalVariation(np.full(alike, 1 / alike))
            start = similar.sample_size(delta, alpha=alpha, beta=beta)
            reach = (similar.threshold(start, alpha) + deviation(start, beta) + similar._excess(start)) / (2 * WEIGHTS)
            best = int(reach.argmin())
            weights = np.unique(np.append(WEIGHTS[max(0, best - 1) : best + 2], WEIGHTS[-1]))

        def visible(n: int) -> float:
            height = self.threshold(n, alpha) + deviation(n, beta)
            return tv_reach(height, excess(self._p, n, weights), weights)

        if (self._p > 0).sum() == 1:
            return design.sample_size(lambda n: outside_support(n, beta), delta)
        return design.sample_size(lru_cache(visible), delta, start=start)


def entropy_tail(x: float, outcomes: int) -> float:
    """Bound on the probability that n KL(counts / n, p) reaches x, for any n and any p over so many outcomes.

    Half the G statistic has no larger moment generating function than a gamma variable of shape k - 1 and scale 1, k
    the number of possible outcomes, so P(X >= x) <= exp(-x) (e x / (k - 1))^(k - 1) for x > k - 1 (Agrawal,
    Finite-sample concentration of the multinomial in relative entropy, 2020, arXiv:1904.02291). At the law's own shape
    the bound does not weaken, however unequal its probabilities are.
    """
    shape = outcomes - 1
    if x <= shape:
        return 1.0
    return 0.0 if math.isinf(x) else math.exp(-x + shape * (1 + math.log(x / shape)))


@lru_cache(maxsize=4096)
def entropy_threshold(alpha: float, outcomes: int) -> float:
    """Where `entropy_tail` falls to alpha."""
    shape, need = outcomes - 1, math.log(1 / alpha)

    def excess(x: float) -> float:
        return x - shape * (1 + math.log(x / shape)) - need

    return float(optimize.brentq(excess, shape, 4 * (shape + need)))


def entropy_visible(n: int, outcomes: int, *, alpha: float, beta: float) -> float:
    """The total variation that `entropy_tail` sees in n samples of any law with so many possible outcomes.

    Under a q at distance delta let A be the set where q exceeds p. KL(counts / n, p) >= 2 (share of A - p(A))^2
    (Pinsker), and the share of A falls short of q(A) by sqrt(log(1 / beta) / (2 n)) with probability at most beta.
    """
    if outcomes == 1:
        return outside_support(n, beta)
    return min(1.0, math.sqrt(entropy_threshold(alpha, outcomes) / (2 * n)) + deviation(n, beta))
