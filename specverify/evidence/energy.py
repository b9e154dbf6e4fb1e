"""Energy distance between two samples in R^dim, with a permutation null.

E = 2 E|X - Y| - E|X - X'| - E|Y - Y'| is 0 if and only if X and Y have one law (Szekely and Rizzo, Energy statistics,
2013). Unlike projections it looks in all directions at once. Under the null any relabelling of the pooled rows is as
likely as the one at hand, so that p = (1 + relabellings that reach the statistic) / (1 + relabellings) is valid at
every n (Phipson and Smyth, 2010).

The miss rate is asymptotic, and stated for the energy coefficient H = E / (2 E|X - Y|) in [0, 1]. The root of E is the
length of a difference of means in a Hilbert space, so the root of its estimate is that of E less, at most, that of the
noise; and the noise, a weighted sum of chi-squares of mean at most 2 E|X - Y| / n in the limit, exceeds its mean
z(rate / 2)^2 times with probability at most `rate`, for rates up to 0.215 (Szekely and Bakirov, 2003). The same bound
holds for the relabelled statistic, so that n H >= (z(alpha / 2) + z(beta / 2))^2 is seen, whatever the laws. Most
discrepancies are seen much earlier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial import distance

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.result import Evidence, check_delta, check_rates, check_size, nothing_below_one
from specverify.evidence.vectors import Matrix, OtherSamples, Samples, to_pair

COEFFICIENT = "energy coefficient"
LARGEST = 4000  # rows of a sample: a pooled matrix of distances of half a gigabyte
CHUNK = 64  # relabellings at a time


@dataclass(frozen=True)
class Energy:
    """Permutation test of equal laws; n counts the rows of each sample.

    Attributes:
        relabellings: how many. At least 1 / alpha - 1, or nothing could be rejected; ten times as many cost little
            power against all of them.
    """

    relabellings: int = 999

    def __post_init__(self) -> None:
        check_size(self.relabellings, "relabellings")

    def check(
        self, first: Samples, second: OtherSamples, *, alpha: float, beta: float, generator: np.random.Generator
    ) -> Evidence:
        """Compare n independent samples with as many others.

        Args:
            first: Float[n, dim].
            second: Float[n, dim].
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            generator: of the relabellings.
        """
        check_rates(alpha, beta)
        one, two = to_pair(first, second, least=2)
        n = len(one)
        if n > LARGEST:
            raise InputError(f"{n} rows have too many pairs; the energy test takes at most {LARGEST} of each sample")
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        apart = distance.squareform(distance.pdist(np.concatenate([one, two])))
        across = float(apart[:n, n:].mean())
        signs = np.repeat([1.0, -1.0], n) / n
        energy = float(_energies(apart, signs[None])[0])
        reached = 0
        # a relabelling that splits the rows alike ties up to rounding, and must count
        least = energy - 1e-12 * across
        for start in range(0, self.relabellings, CHUNK):
            rows = min(CHUNK, self.relabellings - start)
            reached += int((_energies(apart, generator.permuted(np.tile(signs, (rows, 1)), axis=1)) >= least).sum())
        p_value = (1 + reached) / (1 + self.relabellings)
        estimate = max(0.0, energy) / (2 * across) if across else 0.0
        return Evidence(
            check="energy distance",
            statistic=energy,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=COEFFICIENT,
            n=n,
            rejected=p_value <= alpha,
            basis="monte-carlo",
            power="asymptotic",
            estimate=estimate,
            vacuous=nothing_below_one(delta, n) or ("" if across else "all samples are one point"),
            blind="differences that are small beside the distances between samples",
            detail=f"energy distance {energy:.4g}, coefficient {estimate:.4g}; {reached} of {self.relabellings} "
            "relabellings reach it",
            coverage={"rows": n, "relabellings": self.relabellings},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The energy coefficient that n rows of each sample miss with probability at most beta, at most 1."""
        level = self._level(alpha, beta)
        check_size(n)
        reach = sum(float(stats.norm.isf(min(rate, 0.215) / 2)) for rate in (level, beta / 2))
        return min(1.0, reach**2 / n)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of rows of each sample that misses a coefficient of delta with probability at most beta."""
        check_delta(delta, COEFFICIENT)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _level(self, alpha: float, beta: float) -> float:
        """The p-value over all relabellings up to which those drawn reject, but for a probability of beta / 2."""
        check_rates(alpha, beta)
        most = math.floor(alpha * (1 + self.relabellings) * (1 + 1e-12))
        if most < 1:
            raise InputError(
                f"{self.relabellings} relabellings cannot reject at alpha = {alpha:.3g}; "
                f"use at least {math.ceil(1 / alpha) - 1}"
            )
        return float(stats.beta.ppf(beta / 2, most, self.relabellings - most + 1))


def _energies(apart: Matrix, signs: Float[np.ndarray, "labels rows"]) -> Float[np.ndarray, " labels"]:
    return np.asarray(-((signs @ apart) * signs).sum(1))
