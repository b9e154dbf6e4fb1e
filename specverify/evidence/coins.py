"""How often coins fell, where each one's chance is known: is the count what is due?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from specverify.evidence import design
from specverify.evidence.result import Evidence


@dataclass(frozen=True)
class Coins:
    """Bernstein's inequality for the sum of independent coins, each row with some of its own.

    Attributes:
        variance: of a row's sum, on average.
        metric: what is counted, per row.
        otherwise: when the larger of two expected numbers is due.
    """

    variance: float = 0.25
    metric: str = "coins per row"
    otherwise: str = "at most"

    def check(self, counted: float, least: float, most: float, n: int, *, alpha: float, beta: float) -> Evidence:
        """Whether the count is further from what is due than chance allows.

        Args:
            counted: how many fell.
            least, most: the expected number, where it is known only to lie between these.
            n: rows.
            alpha, beta: false-alarm rate and miss rate.
        """
        off = max(0.0, least - counted, counted - most)
        variance, rows = self.variance * n, max(1, n)
        mean = f"{counted / rows:.4g} in {n:,} rows, {least / rows:.4g} expected"
        if most > least:
            mean += f" (to {most / rows:.4g}, {self.otherwise})"
        return Evidence(
            check="coins",
            statistic=off,
            p_value=min(1.0, 2 * math.exp(-(off**2) / (2 * variance + 2 * off / 3))) if off else 1.0,
            alpha=alpha,
            beta=beta,
            delta=self.smallest_detectable(rows, alpha=alpha, beta=beta),
            metric=self.metric,
            n=n,
            rejected=off > _bernstein(variance, alpha / 2),
            basis="finite-sample bound",
            power="finite-sample bound",
            estimate=off / rows,
            blind="counts that are wrong for single rows and right on average",
            detail=f"{self.metric}: {mean}",
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The difference per row that n rows are sure to see."""
        variance = self.variance * n
        return (_bernstein(variance, alpha / 2) + _bernstein(variance, beta)) / n

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The rows that are sure to see a difference of delta per row."""
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)


def _bernstein(variance: float, rate: float) -> float:
    """What a sum of coins, less its mean, exceeds with at most this probability."""
    log = math.log(1 / rate)
    return log / 3 + math.sqrt(log**2 / 9 + 2 * variance * log)
