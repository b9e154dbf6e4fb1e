"""Means, variances and covariances of samples in R^dim against those of a known law, with calibrated intervals.

The tests are of linear functionals a.x: each coordinate, and the sum and the difference of each two standardised ones,
whose variances 2 (1 + r) and 2 (1 - r) are the correlation r. For a Gaussian law the mean of a functional is normal and
its scatter about the known mean is chi-square, so that every rate of a false alarm is exact at every n. For any other
law the scatter's own variance is estimated, and rates are asymptotic.

Moments say how a sampler is off, where a test of the whole law only says that it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.result import Evidence, check_delta, check_rates, check_size, nothing_below_one
from specverify.evidence.vectors import Samples, to_finite

STANDARDISED = "standardised moment"


@dataclass(frozen=True, eq=False)
class Moments:
    """Tests of all first and second moments, at alpha / (their number).

    `delta` is the least of two things that is seen for certain: a shift of a functional's mean, in its standard
    deviations, at the target's spread; and a relative change of its variance, at the target's mean. Both suppose a
    sampler of the law's own shape: Gaussian, or of its fourth moments.

    Attributes:
        mean: Float[dim].
        covariance: Float[dim, dim].
        gaussian: whether the law is Gaussian.
        kurtosis: the largest fourth standardised moment of a functional, for laws that are not. Rates hold best where
            it is known; the samples' own counts too where it is larger.
    """

    mean: Float[np.ndarray, " dim"]
    covariance: Float[np.ndarray, "dim dim"]
    gaussian: bool = True
    kurtosis: float = 3.0

    def __post_init__(self) -> None:
        for what, values in (("mean", self.mean), ("covariance", self.covariance)):
            if not np.isfinite(values).all():
                raise InputError(f"the {what} holds {values[~np.isfinite(values)][0]}; moments of a law are finite")
        square = self.covariance.shape == (len(self.mean),) * 2
        spread = np.sqrt(np.clip(np.diag(self.covariance), 0, None)) if square else np.zeros(1)
        # coordinates may differ in scale by many orders, so correlations are looked at
        related = self.covariance / np.outer(spread, spread) if (spread > 0).all() else np.atleast_2d(self.covariance)
        if not square or not np.allclose(related, related.T):
            raise InputError(
                f"a mean of shape {self.mean.shape} needs a symmetric covariance of {(len(self.mean),) * 2}, "
                f"not {self.covariance.shape}"
            )
        smallest = float(np.linalg.eigvalsh(related)[0])
        if not smallest > 0:
            raise InputError(f"the covariance is not positive definite: its smallest eigenvalue is {smallest:.3g}")
        if not self.kurtosis > 1:
            raise InputError(f"kurtosis is {self.kurtosis}; a fourth standardised moment exceeds 1")

    @property
    def dim(self) -> int:
        """Coordinates of a sample."""
        return len(self.mean)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What is tested: the mean of each coordinate, then the variance of each functional."""
        pairs = [f"variance {i} {sign} {j}" for i, j in combinations(range(self.dim), 2) for sign in "+-"]
        return (
            *(f"mean {i}" for i in range(self.dim)),
            *(f"variance {i}" for i in range(self.dim)),
            *pairs,
        )

    @cached_property
    def _functionals(self) -> Float[np.ndarray, "functionals dim"]:
        """Each of variance 1 under the law."""
        spread = np.sqrt(np.diag(self.covariance))
        unit = np.eye(self.dim) / spread[:, None]
        pairs = [unit[i] + sign * unit[j] for i, j in combinations(range(self.dim), 2) for sign in (1, -1)]
        rows = np.stack([*unit, *pairs])
        return np.asarray(rows / np.sqrt(np.einsum("ai,ij,aj->a", rows, self.covariance, rows))[:, None])

    def check(self, samples: Samples, *, alpha: float, beta: float) -> Evidence:
        """Test n independent samples."""
        check_rates(alpha, beta)
        values = to_finite(samples, "the sample", least=2)
        n, dim = values.shape
        if dim != self.dim:
            raise InputError(f"samples have {dim} coordinates, but the moments {self.dim}")
        scores = (values - self.mean) @ self._functionals.T
        shift, squares = scores[:, :dim].mean(0), scores**2
        ratio = squares.mean(0)
        share = alpha / len(self.names)
        z = float(stats.norm.isf(share / 2))
        p_shift = 2 * stats.norm.sf(np.abs(shift) * math.sqrt(n))
        if self.gaussian:
            p_ratio = 2 * np.minimum(stats.chi2.sf(n * ratio, n), stats.chi2.cdf(n * ratio, n))
            ends = np.stack([n * ratio / stats.chi2.isf(share / 2, n), n * ratio / stats.chi2.ppf(share / 2, n)], 1)
            kurtosis = 3.0
        else:
            # a scatter that happens to be low has a low spread too: the law's own guards that side
            spread = np.maximum(squares.std(0, ddof=1), math.sqrt(self.kurtosis - 1)) / math.sqrt(n)
            p_ratio = 2 * stats.norm.sf(np.abs(ratio - 1) / spread)
            ends = np.stack([ratio - z * spread, ratio + z * spread], 1)
            kurtosis = 1 + n * float((spread**2).max())
        p_values = np.minimum(1.0, np.concatenate([p_shift, p_ratio]))
        p_value = min(1.0, len(p_values) * float(p_values.min()))
        rejected = design.holm(p_values.tolist(), alpha)
        worst = int(p_values.argmin())
        estimates = np.concatenate([shift, ratio - 1])
        delta = Moments(self.mean, self.covariance, self.gaussian, kurtosis).smallest_detectable(
            n, alpha=alpha, beta=beta
        )
        half = z / math.sqrt(n)
        return Evidence(
            check="moments",
            statistic=float(np.abs(estimates[worst])),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=STANDARDISED,
            n=n,
            rejected=p_value <= alpha,
            basis="exact" if self.gaussian else "asymptotic",
            power="asymptotic",
            estimate=float(np.abs(estimates).max()),
            vacuous=nothing_below_one(delta, n),
            blind="laws with the same means and covariances",
            detail=f"{int(rejected.sum())} of {len(p_values)} moments rejected; most deviant: {self.names[worst]}, "
            f"off by {estimates[worst]:+.4g} (standardised), p = {p_values[worst]:.3g}",
            coverage={"samples": n, "moments": len(p_values)},
            data={
                "name": list(self.names),
                "estimate": estimates.tolist(),
                "low": [*(shift - half).tolist(), *(ends[:, 0] - 1).tolist()],
                "high": [*(shift + half).tolist(), *(ends[:, 1] - 1).tolist()],
                "rejected": rejected.tolist(),
            },
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The shift, or the relative change of a variance, that n samples miss with probability at most beta."""
        check_rates(alpha, beta)
        check_size(n)
        share = alpha / len(self.names)
        reach = float(stats.norm.isf(share / 2) + stats.norm.isf(beta))
        shift = reach / math.sqrt(n)
        if not self.gaussian:
            return max(shift, self._widened(n, share, beta))
        high, low = stats.chi2.isf(share / 2, n), stats.chi2.ppf(share / 2, n)
        wider = high / stats.chi2.ppf(beta, n) - 1
        narrower = 1 - low / stats.chi2.isf(beta, n)
        return max(shift, float(wider), float(narrower))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of samples that misses a moment off by delta with probability at most beta."""
        check_delta(delta, STANDARDISED)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _widened(self, n: int, share: float, beta: float) -> float:
        """The change of variance at which the score, studentised by a spread that grows with it, is seen."""
        noise = math.sqrt((self.kurtosis - 1) / n)
        far = (float(stats.norm.isf(share / 2)) + float(stats.norm.isf(beta))) * noise
        return far / (1 - far) if far < 1 else math.inf
