"""Is a claimed ratio r of densities the ratio p / q? What it must satisfy, whatever the laws.

* E_q[p / q] = 1 and E_p[q / p] = 1: `RatioMean`. A ratio with the wrong factor has one of the two means above 1.
* E_q min(1, p / q) = E_p min(1, q / p), both the overlap: `RatioSymmetry`. Bounded, so with rates at every n.

A criterion that passes may still be none of the marginals' ratio: over trajectories, path densities satisfy both, and
so does the ratio of two last transitions whose factor Sigma is 1. What is caught is a criterion that biases its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.bounds import RATE
from specverify.evidence.result import (
    Evidence,
    check_delta,
    check_rates,
    check_size,
    nothing_below_one,
    to_numpy,
)
from specverify.evidence.vectors import OtherValues, Values

EXCESS = "excess of the mean ratio"
BETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
LogRatios = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class RatioMean:
    """E-process against mean ratios above 1, however heavy their tails.

    If E r <= 1, also given the ratios before, then the product of 1 + b (r - 1) is a supermartingale of mean 1 for each
    bet b in [0, 1); so is the mean over `BETS`, which by Ville's inequality ever reaches 1 / alpha with probability at
    most alpha. No moment beyond the first is used. A mean below 1 cannot be told from one made up by rare large values;
    but if r is c p / q with c < 1, then 1 / r has mean 1 / c under p, so give ratios from both sides. Each side has
    alpha / 2, whether it is given or not.

    The miss rate is asymptotic, from the samples' own spread; with a tail so heavy that this is not to be trusted the
    check only watches, and `RatioSymmetry` has a delta.

    Attributes:
        deviation: standard deviation of the ratio, for planning alone.
    """

    deviation: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.deviation < math.inf:
            raise InputError(f"deviation is {self.deviation}; a standard deviation is finite and at least 0")

    def check(
        self, log_ratio: Values, log_inverse: OtherValues | None = None, *, alpha: float, beta: float
    ) -> Evidence:
        """Test ratios in the order in which they were drawn.

        Args:
            log_ratio: log r at drafts x ~ q.
            log_inverse: -log r at tokens x ~ p.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
        """
        check_rates(alpha, beta)
        sides = [_log_ratios(log_ratio, "log_ratio")]
        if log_inverse is not None:
            sides.append(_log_ratios(log_inverse, "log_inverse"))
        paths = [self.log_e(side) for side in sides]
        heights = [float(path.max()) for path in paths]
        side = int(np.argmax(heights))
        p_value = min(1.0, 2 * math.exp(-max(0.0, heights[side])))
        n = min(map(len, sides))
        with np.errstate(over="ignore", invalid="ignore"):
            means = [float(np.exp(values).mean()) for values in sides]
            spread = max(float(np.exp(values).std()) for values in sides)
        known = math.isfinite(spread)
        delta = RatioMean(spread).smallest_detectable(n, alpha=alpha, beta=beta) if known else math.inf
        return Evidence(
            check="mean ratio is 1",
            statistic=heights[side],
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=EXCESS,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="asymptotic",
            estimate=max(0.0, max(means) - 1),
            vacuous=nothing_below_one(delta, n),
            blind="criteria of mean 1 that are not the ratio" + ("" if log_inverse is not None else "; means below 1"),
            detail=f"mean ratio {means[0]:.6g} under q"
            + (f", inverse {means[1]:.6g} under p" if len(means) > 1 else "")
            + f"; log e-value at most {heights[side]:.4g}, {math.log(2 / alpha):.4g} rejects",
            coverage={"ratios": sum(map(len, sides)), "sides": len(sides)},
            data={"log_e": [path[:: max(1, len(path) // 500)].tolist() for path in paths]},
        )

    @staticmethod
    def log_e(log_ratio: LogRatios) -> LogRatios:
        """Logarithm of the e-value after each ratio."""
        bets = np.array(BETS)[:, None]
        gains = np.logaddexp(np.log1p(-bets), np.log(bets) + log_ratio).cumsum(1)
        return np.asarray(np.logaddexp.reduce(gains, axis=0) - math.log(len(BETS)))

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The mean's excess over 1, on either side, that n ratios miss with probability at most beta.

        The log e-value of bet b is near n (b excess - b^2 (deviation^2 + excess^2) / 2).
        """
        check_rates(alpha, beta)
        check_size(n)
        needed = [math.log(2 * len(BETS) / alpha) / (n * bet) + bet * self.deviation**2 / 2 for bet in BETS]
        return min(needed) + float(stats.norm.isf(beta)) * self.deviation / math.sqrt(n)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of ratios that misses an excess of delta with probability at most beta."""
        check_delta(delta, EXCESS)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


@dataclass(frozen=True)
class RatioSymmetry:
    """Test that a claimed ratio r gives one overlap from both sides: E_q min(1, r) = E_p min(1, 1 / r).

    Hoeffding's inequality on the difference of two means of n values in [0, 1]. `delta` is that difference. If r is
    c p / q the second mean is the first over c, so a wrong factor c is seen once n (1 - 1 / c)^2 overlap^2 is large.
    """

    def check(self, log_ratio: Values, log_inverse: OtherValues, *, alpha: float, beta: float) -> Evidence:
        """Test n independent ratios of each side.

        Args:
            log_ratio: log r at drafts x ~ q.
            log_inverse: -log r at tokens x ~ p, as many.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
        """
        check_rates(alpha, beta)
        one, two = _log_ratios(log_ratio, "log_ratio"), _log_ratios(log_inverse, "log_inverse")
        if len(one) != len(two):
            raise InputError(f"{len(one)} ratios under q and {len(two)} under p; compare as many")
        n = len(one)
        means = [float(np.exp(np.minimum(side, 0)).mean()) for side in (one, two)]
        off = abs(means[0] - means[1])
        p_value = min(1.0, 2 * math.exp(-n * off**2))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        half = math.sqrt(math.log(2 / alpha) / n)
        return Evidence(
            check="overlap from both sides",
            statistic=off,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=RATE,
            n=n,
            rejected=p_value <= alpha,
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=off,
            interval=(max(0.0, off - half), min(1.0, off + half)),
            vacuous=nothing_below_one(delta, n),
            blind="criteria that err alike on both sides",
            detail=f"mean of min(1, r) {means[0]:.6g} under q, of min(1, 1 / r) {means[1]:.6g} under p",
            coverage={"ratios": 2 * n},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The difference that n ratios of each side miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        return min(1.0, math.sqrt(math.log(2 / alpha) / n) + math.sqrt(math.log(1 / beta) / n))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of ratios of each side that misses a difference of delta with probability at most beta."""
        check_delta(delta, RATE)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def _log_ratios(values: Values | OtherValues, what: str) -> LogRatios:
    """In float64; -inf is a ratio of 0."""
    found = to_numpy(values).astype(np.float64)
    check_size(len(found), f"the number of values of {what}")
    bad = np.isnan(found) | (found == math.inf)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"row {row} of {what} is {found[row]}; a log ratio is a number, or -inf where p is 0")
    return np.asarray(found)
