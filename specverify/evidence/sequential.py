"""A test that may be looked at after every block of samples, and stopped as soon as it is sure.

The e-value of the counts N of n samples is a likelihood ratio against the known law p: the probability of the samples
under a mixture of alternatives, over their probability under p. Under p it is a non-negative martingale that starts at
1, so by Ville's inequality it ever reaches 1 / alpha with probability at most alpha, whenever and however one stops
(Robbins, 1970; Grunwald, de Heide and Koolen, Safe testing, 2024).

The alternatives are Dirichlet laws with mean p and concentrations c from 1 to 4^15, in equal parts: small c are laws
far from p, large c laws near it. The mixture over one Dirichlet is in closed form, with G the gamma function,

    log e_c = sum_i [log G(c p_i + N_i) / G(c p_i) - N_i log(c p_i)] - [log G(c + n) / G(c) - n log c].

A law that forbids an outcome gives it no mass under any alternative: observing it is evidence without bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.discrete import outside_support
from specverify.evidence.result import (
    TOTAL_VARIATION,
    Counts,
    Evidence,
    Law,
    Vector,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_counts,
    to_law,
)
from specverify.evidence.sparse import Family, Grid, least_seen, size_from

CONCENTRATIONS = 4.0 ** np.arange(16)


@dataclass(frozen=True, eq=False)
class EProcess:
    """Sequential test of a stream of counts against a law over K outcomes.

    The false-alarm rate holds at every stopping time. The miss rate is asymptotic: with s = n / c and X2 Pearson's
    statistic, log e_c is near [X2 s / (1 + s) - (K - 1) log(1 + s)] / 2, and X2 under a law at total variation delta is
    taken as noncentral chi-square with noncentrality 4 n delta^2, the least that this distance allows. Where outcomes
    are too rare for that (`sparse.Family.dense`), delta is at least what the worst of a family of alternatives asks
    for, with the moments of log e_c itself.

    Attributes:
        law: Float[outcomes], the target law.
    """

    law: Law

    def __post_init__(self) -> None:
        self._p  # noqa: B018 - checks the law

    @cached_property
    def _p(self) -> Vector:
        return to_law(self.law)

    def log_e(self, counts: Counts) -> float:
        """Logarithm of the e-value of all samples so far."""
        observed = to_counts(counts, len(self._p))
        seen = observed > 0
        if (self._p[seen] == 0).any():
            return math.inf
        n, p, tally = int(observed.sum()), self._p[seen], observed[seen]
        one = rise(CONCENTRATIONS[:, None] * p, tally).sum(1) - rise(CONCENTRATIONS, np.array(n))
        return float(np.logaddexp.reduce(one)) - math.log(len(one))

    def check(self, stream: Iterable[Counts], *, alpha: float, beta: float) -> Evidence:
        """Read blocks of counts until the e-value reaches 1 / alpha or the stream ends.

        Args:
            stream: the counts of each block of new samples, Int[outcomes]. No more is read once the test rejects.
            alpha: false-alarm rate over the whole stream, however long.
            beta: miss rate that delta is stated for, at the n where the stream ended.
        """
        check_rates(alpha, beta)
        total = np.zeros(len(self._p), dtype=np.int64)
        sizes: list[int] = []
        path: list[float] = []
        for block in stream:
            total += to_counts(block, len(self._p))
            sizes.append(int(total.sum()))
            path.append(self.log_e(total))
            if path[-1] >= -math.log(alpha):
                break
        if not sizes:
            raise InputError("the stream of counts is empty; give it at least one block")
        n, highest = sizes[-1], max(path)
        forbidden = int(total[self._p == 0].sum())
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return Evidence(
            check="e-process",
            statistic=highest,
            p_value=min(1.0, math.exp(-highest)),
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=TOTAL_VARIATION,
            n=n,
            rejected=highest >= -math.log(alpha),
            basis="finite-sample bound",
            power="asymptotic",
            estimate=0.5 * float(np.abs(total / n - self._p).sum()),
            vacuous=nothing_below_one(delta, n),
            detail=f"log e-value at most {highest:.6g} in {n} samples, {-math.log(alpha):.6g} rejects"
            if not forbidden
            else f"{forbidden:,} of {n:,} samples hit outcomes that the law forbids",
            coverage={"outcomes": int((self._p > 0).sum()), "blocks": len(sizes), "forbidden": forbidden},
            data={"n": sizes, "log_e": path},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation at which the test has rejected by n samples, but for probability beta; at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        freedom = int((self._p > 0).sum()) - 1
        if freedom == 0:
            return outside_support(n, beta)
        return self._sparse(n, alpha, beta, _dense(n, freedom, alpha, beta))

    def _sparse(self, n: int, alpha: float, beta: float, least: float) -> float:
        """What is seen of a family of alternatives by one of the concentrations near the best."""
        if (n, alpha, beta) in self._remembered:
            return self._remembered[n, alpha, beta]
        family, need = self._family, math.log(len(CONCENTRATIONS) / alpha)
        near = CONCENTRATIONS[np.argsort(_needed(n, len(self._p[self._p > 0]) - 1, alpha))[:2]]

        def margin(laws: Grid) -> Vector:
            found = np.full(len(laws), -np.inf)
            for c in near:
                level = need + float(rise(np.array([c]), np.array([n]))[0])
                some = family.moments(lambda counts, p, c=c: rise(c * p, counts), laws, n)  # type: ignore[misc]
                found = np.maximum(found, some.quantile(beta) - level)
            return found

        self._remembered[n, alpha, beta] = least if family.dense(n, least) else least_seen(family, margin, least)
        return self._remembered[n, alpha, beta]

    @cached_property
    def _family(self) -> Family:
        return Family(self._p[self._p > 0])

    @cached_property
    def _remembered(self) -> dict[tuple[int, float, float], float]:
        """What `_sparse` found: a calibration asks for one n again and again."""
        return {}

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n by which the test has rejected total variation delta, but for probability beta."""
        check_delta(delta)
        check_rates(alpha, beta)
        freedom = int((self._p > 0).sum()) - 1
        if freedom == 0:
            return design.sample_size(lambda n: outside_support(n, beta), delta)
        start = _dense_size(freedom, delta, alpha, beta)
        return size_from(start, lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def expected_sample_size(self, delta: float, *, alpha: float) -> float:
        """Mean number of samples until the test rejects a law at total variation delta, looking after every sample.

        The mean of a stopping time is the sum over n of the probability of not having stopped by n, taken as the miss
        rate at n and summed over a geometric grid of n.
        """
        check_delta(delta)
        last = self.sample_size(delta, alpha=alpha, beta=1e-6)
        freedom = int((self._p > 0).sum()) - 1
        if freedom == 0:
            return 1 / delta
        grid: Float[np.ndarray, " sizes"] = np.unique(np.geomspace(1, last, 200).round())
        misses = [stats.ncx2.cdf(_critical(int(n), freedom, alpha), freedom, 4 * n * delta**2) for n in grid]
        return float(np.trapezoid([1.0, *misses], [0.0, *grid]))


def _critical(n: int, freedom: int, alpha: float) -> float:
    """The X2 from which the e-value reaches 1 / alpha, by its best single concentration."""
    return float(_needed(n, freedom, alpha).min())


def _needed(n: int, freedom: int, alpha: float) -> Float[np.ndarray, " concentrations"]:
    s = n / CONCENTRATIONS
    need = math.log(len(CONCENTRATIONS) / alpha)
    return np.asarray((1 + s) / s * (2 * need + freedom * np.log1p(s)))


@lru_cache(maxsize=4096)
def _dense(n: int, freedom: int, alpha: float, beta: float) -> float:
    """What is seen where outcomes are expected often: the same for all laws over so many possible outcomes."""
    return min(1.0, math.sqrt(design.noncentrality_above(_critical(n, freedom, alpha), freedom, beta) / (4 * n)))


@lru_cache(maxsize=1024)
def _dense_size(freedom: int, delta: float, alpha: float, beta: float) -> int:
    return design.sample_size(lambda n: _dense(n, freedom, alpha, beta), delta)


def rise(a: np.ndarray, count: np.ndarray) -> np.ndarray:
    """log G(a + count) / G(a) - count log a = sum of log(1 + j / a) over j below count.

    For large a by Stirling's series, where the difference of logarithms of G would lose its digits.
    """
    large = np.maximum(a, 16.0)
    far = (large + count - 0.5) * np.log1p(count / large) - count + _rest(large + count) - _rest(large)
    near = special.gammaln(a + count) - special.gammaln(a) - count * np.log(a)
    return np.asarray(np.where(a > 16.0, far, near))


def _rest(x: np.ndarray) -> np.ndarray:
    """What Stirling's series adds to log G(x)."""
    return np.asarray((1 / 12 - (1 / 360 - 1 / (1260 * x**2)) / x**2) / x)
