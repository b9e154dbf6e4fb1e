"""Do neighbouring rows depend on each other, beyond what sorting them explains?

Rows of a log come sorted by length, by when they were done, by prompt or by likelihood. Independent rows in such an
order are not independent: neighbours are alike. But an order of n rows says no more than which of so many orders it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from specverify.evidence.result import Evidence, check_rates
from specverify.evidence.tokens import TokenStatistics

GRID = 4


@dataclass(frozen=True)
class Neighbours:
    """Test that the transforms of rows 2 k and 2 k + 1 of a log, and of 2 k + 1 and 2 k + 2, are independent.

    The pairs of transforms at each position fall into 4 x 4 cells. Were the rows paired at random, n KL(counts / n,
    uniform) would exceed x with probability at most exp(-x) (e x / 15)^15 (Agrawal, 2020; `finite.entropy_tail`). They
    are paired as they stand, in an order that may depend on them in any way: so the bound is multiplied by the number
    of ways to pair them. What is left refutes; what is not, but is seen without that factor, is called `ordered`.
    """

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test a trace whose rows stand as they were logged."""
        check_rates(alpha, beta)
        pit = statistics.pit.numpy()
        rows = len(pit)
        cells = np.minimum((pit * GRID).astype(np.int64), GRID - 1)
        logs, sizes = [], []
        for start in (0, 1):
            first = cells[start : start + (rows - start) // 2 * 2 : 2]
            table = np.bincount((first * GRID + cells[start + 1 :: 2][: len(first)]).ravel(), minlength=GRID**2).astype(
                np.float64
            )
            n = table.sum()
            sizes.append(int(n))
            logs.append(_log_tail(float(special.rel_entr(table, n / GRID**2).sum())) if n else 0.0)
        log_p = min(0.0, min(logs) + math.log(2))
        ways = _log_pairings(rows)
        found = min(0.0, log_p + ways)
        seen = _least_shared(min(sizes), ways + math.log(2 / alpha), beta)
        return Evidence(
            check="neighbouring rows",
            statistic=-log_p,
            p_value=math.exp(found),
            alpha=alpha,
            beta=beta,
            delta=seen,
            metric="share of transforms that neighbours have in common",
            n=min(sizes),
            rejected=found <= math.log(alpha),
            basis="finite-sample bound",
            power="asymptotic",
            vacuous="" if seen < 1 else "rows are too short to tell shared randomness from sorting",
            blind="dependence that some order of independent rows explains, and rows farther apart",
            detail=f"neighbouring rows depend on each other by {-log_p:,.5g} nats; an order explains up to {ways:,.5g}",
            coverage={"rows": rows, "ordered": float(log_p <= math.log(alpha))},
        )


def _least_shared(n: int, need: float, beta: float) -> float:
    """The share of n pairs whose two transforms are one, at which the tail of their cells is above exp(-need) with a
    probability of beta: their log-likelihood ratio is taken as normal."""
    reach = float(stats.norm.isf(beta))

    def lacks(share: float) -> float:
        same = share + (1 - share) / GRID
        entropy = special.rel_entr(same, 1 / GRID) + special.rel_entr(1 - same, 1 - 1 / GRID)
        step = special.xlogy(1.0, same * GRID) - special.xlogy(1.0, max(1 - same, 1e-300) / (1 - 1 / GRID))
        spread = math.sqrt(n * same * (1 - same)) * float(step)
        return need + _log_tail(max(0.0, n * float(entropy) - reach * spread))

    return float(optimize.brentq(lacks, 0.0, 1.0)) if lacks(1.0) < 0 else 1.0


def _log_tail(x: float) -> float:
    shape = GRID**2 - 1
    return 0.0 if x <= shape else -x + shape * (1 + math.log(x / shape))


def _log_pairings(rows: int) -> float:
    """Of so many rows, one of them left over if their number is odd."""
    pairs = rows // 2
    return float(special.gammaln(rows + 1) - pairs * math.log(2) - special.gammaln(pairs + 1))
