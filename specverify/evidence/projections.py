"""Kolmogorov-Smirnov and Anderson-Darling tests of samples in R^dim, on projections fixed before any data.

A sample is a row: a token, or a whole sequence laid out as one vector. By the theorem of Cramer and Wold (1936) two
laws that differ do so on some direction; a finite number of them may miss it. With m directions each is tested at
alpha / m, and Holm's method names those that are off. `delta` is the Kolmogorov distance between the laws of one
projection, which is at most the total variation between the laws of the samples.

Kolmogorov's null law is exact at every n. Anderson and Darling's statistic A (1954) weighs the tails up, where
Kolmogorov's is blind; its null law is the limit, of which `anderson_tail` is exact, doubled for what remains at finite
n (a test looks at n = 100). With A >= (2/3) n D^3, D Kolmogorov's distance, it has a miss rate too, though of a larger
delta; a few samples far out it sees much earlier.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.result import (
    KOLMOGOROV,
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
)
from specverify.evidence.vectors import Matrix, OtherSamples, Samples, to_pair

SAFETY = 2.0  # Anderson-Darling p-values are multiplied by this
FEWEST = 100  # samples from which on its limit law is used
BLIND = "differences on none of the projections"
Directions = Float[np.ndarray, "directions dim"]


def directions(dim: int, count: int, seed: int = 0) -> Directions:
    """`count` unit vectors, uniform on the sphere; in one dimension there is only one."""
    check_size(dim, "dim")
    check_size(count, "the number of directions")
    if dim == 1:
        return np.ones((1, 1))
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Projected:
    """Two-sample tests on each projection; n counts the samples of each source.

    Attributes:
        axes: Float[directions, dim], as `directions` gives them.
        statistic: "ks" or "ad".
    """

    axes: Directions
    statistic: str = "ks"

    def __post_init__(self) -> None:
        _check_axes(self.axes, self.statistic)

    def check(self, first: Samples, second: OtherSamples, *, alpha: float, beta: float) -> Evidence:
        """Compare n independent samples with as many others."""
        check_rates(alpha, beta)
        one, two = (_project(values, self.axes) for values in to_pair(first, second))
        n = len(one)
        distances = [_between(a, b) for a, b in zip(one.T, two.T, strict=True)]
        if self.statistic == "ks":
            found = [(distance, smirnov_tail(round(distance * n), n)) for distance in distances]
        else:
            _check_fewest(n)
            scores = [anderson_darling_between(a, b) for a, b in zip(one.T, two.T, strict=True)]
            found = [(score, min(1.0, SAFETY * anderson_tail(score))) for score in scores]
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        return _evidence("two samples", self.statistic, found, distances, n, alpha, beta, delta)

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The distance on one projection that n samples of each source miss with probability at most beta."""
        check_rates(alpha, beta)
        check_size(n)
        share = alpha / len(self.axes)
        # a difference of two shares of n: Hoeffding over 2 n variables
        noise = math.sqrt(math.log(1 / beta) / n)
        if self.statistic == "ks":
            return min(1.0, smirnov_threshold(n, share) + noise)
        return min(1.0, math.cbrt(1.5 * anderson_threshold(share) / n) + noise)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of samples of each source that misses distance delta on a projection at rate beta."""
        check_delta(delta, KOLMOGOROV)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def smirnov_tail(height: int, n: int) -> float:
    """P(D >= height / n) for the two-sample statistic D of twice n samples of one law (Gnedenko and Korolyuk, 1951)."""
    if height < 1:
        return 1.0
    k = np.arange(1, n // height + 1)
    ways = 2 * special.gammaln(n + 1) - special.gammaln(n - k * height + 1) - special.gammaln(n + k * height + 1)
    terms = np.exp(ways)
    return float(np.clip(2 * (terms[::2].sum() - terms[1::2].sum()), 0.0, 1.0))


@lru_cache(maxsize=1024)
def smirnov_threshold(n: int, alpha: float) -> float:
    """The least value that the two-sample statistic reaches with probability at most alpha, above 1 if none is."""
    return (1 + bisect.bisect_left(range(1, n + 1), True, key=lambda height: smirnov_tail(height, n) <= alpha)) / n


def anderson_darling_between(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """The same for two samples of one size (Pettitt, 1976); equal values count at once."""
    n = len(first)
    values, inverse, block = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
    of_first = np.bincount(inverse[:n], minlength=len(values)).cumsum()[:-1]
    share = block.cumsum()[:-1] / (2 * n)
    return float((block[:-1] * (of_first / n - share) ** 2 / (share * (1 - share))).sum())


def anderson_tail(score: float) -> float:
    """P(A > score) in the limit: A is the sum of independent chi-squares over j (j + 1), j = 1, 2, ...

    Smirnov's formula (1937) for such sums, with the Fredholm determinant -cos(pi sqrt(1 + 8 u) / 2) / (2 pi u); by
    Gauss-Chebyshev quadrature, since its root vanishes at both ends of each interval.
    """
    if score < 0.2:
        return 1.0  # P(A > 0.2) = 0.99
    u, size = _smirnov_nodes()
    return min(1.0, float((size * np.exp(-u * score)).sum()))


@cache
def _smirnov_nodes() -> tuple[Float[np.ndarray, "intervals nodes"], Float[np.ndarray, "intervals nodes"]]:
    """Where the integrand of `anderson_tail` is looked at, and its factor there."""
    k = np.arange(1, 30)[:, None]
    low, high = (2 * k - 1) * k, k * (2 * k + 1)
    u = 0.5 * (low + high) + 0.5 * (high - low) * np.cos((np.arange(64) + 0.5) * np.pi / 64)
    determinant = np.abs(np.cos(0.5 * np.pi * np.sqrt(1 + 8 * u))) / (2 * np.pi * u)
    return u, (-1.0) ** (k - 1) / 64 * np.sqrt((u - low) * (high - u) / determinant) / u


@lru_cache(maxsize=1024)
def anderson_threshold(alpha: float) -> float:
    """The score from which on the doubled tail is at most alpha."""
    if anderson_tail(0.2) <= alpha / SAFETY:
        return 0.2
    return float(optimize.brentq(lambda score: math.log(anderson_tail(score) * SAFETY / alpha), 0.2, 700.0))


def _evidence(
    what: str,
    statistic: str,
    found: list[tuple[float, float]],
    distances: list[float],
    n: int,
    alpha: float,
    beta: float,
    delta: float,
) -> Evidence:
    """Evidence from each projection's statistic, p-value and Kolmogorov distance."""
    scores, p_values = (list(part) for part in zip(*found, strict=True))
    rejected = design.holm(p_values, alpha)
    p_value = min(1.0, len(p_values) * min(p_values))
    worst = int(np.argmin(p_values))
    return Evidence(
        check=f"projections, {what} ({statistic})",
        statistic=scores[worst],
        p_value=p_value,
        alpha=alpha,
        beta=beta,
        delta=delta,
        metric=KOLMOGOROV,
        n=n,
        rejected=p_value <= alpha,
        basis="exact" if statistic == "ks" else "asymptotic",
        power="finite-sample bound",
        estimate=max(distances),
        vacuous=nothing_below_one(delta, n),
        blind=BLIND,
        detail=f"{int(rejected.sum())} of {len(p_values)} projections rejected; most deviant: direction {worst}, "
        f"distance {distances[worst]:.4g}, p = {p_values[worst]:.3g}",
        coverage={"samples": n, "projections": len(p_values)},
        data={"distance": distances, "p_value": p_values, "rejected": rejected.tolist()},
    )


def _check_axes(axes: Directions, statistic: str) -> None:
    if statistic not in ("ks", "ad"):
        raise InputError(f"statistic {statistic!r} is not known; choose 'ks' or 'ad'")
    if not axes.size or not np.allclose((axes**2).sum(1), 1):
        raise InputError(f"directions have shape {axes.shape} and are not all of length 1; see `directions`")


def _check_fewest(n: int) -> None:
    if n < FEWEST:
        raise InputError(f"{n} samples are too few for the limit law of Anderson and Darling; use {FEWEST}, or 'ks'")


def _project(samples: Matrix, axes: Float[np.ndarray, "directions width"]) -> Float[np.ndarray, "n directions"]:
    if samples.shape[1] != axes.shape[1]:
        raise InputError(f"samples have {samples.shape[1]} coordinates, but the directions {axes.shape[1]}")
    return np.asarray(samples @ axes.T)


def _between(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Kolmogorov's distance between two samples of one size."""
    levels = np.concatenate([first, second])
    counts = [np.searchsorted(np.sort(values), levels, side="right") for values in (first, second)]
    return float(np.abs(counts[0] - counts[1]).max()) / len(first)
