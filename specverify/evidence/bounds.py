"""The bounds of acceptance and rejection over continuous tokens, as checks of what a sampler reports of its decisions.

With beta = 1 - TV(p, q), the overlap:

* a draft is kept with probability beta, and no lossless rule keeps it more often (`acceptance`, `at_most`); a rule over
  whole trajectories keeps it at most as often as one over tokens can, by data processing (`at_most`);
* a redraw by thinning takes T proposals, T = 0 for drafts that are kept: P(T > k) = (1 - beta) beta^k, so that E T = 1,
  Var T = 2 beta / (1 - beta), and 1 / (1 - beta) proposals on average for a rejected draft (`trials.Trials`).

What a claimed ratio p / q must satisfy, whatever the laws, is in `ratio.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from scipy import stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence import design
from specverify.evidence.result import (
    Evidence,
    check_delta,
    check_rates,
    check_size,
)

RATE = "acceptance rate"
Hits = Bool[np.ndarray, " n"] | Bool[Tensor, " n"]


@dataclass(frozen=True)
class Rate:
    """Exact binomial test that independent events have a probability between `low` and `high`.

    One-sided where low = 0 or high = 1, otherwise each side has alpha / 2. `delta` is how far outside the probability
    is. See `acceptance` and `at_most`.

    Attributes:
        low, high: ends of the allowed probabilities, one number twice where it is known exactly.
        what: what the events are.
        metric: what delta measures.
    """

    low: float
    high: float
    what: str
    metric: str = RATE

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1 or (self.low, self.high) == (0, 1):
            raise InputError(
                f"the probability is to lie between {self.low} and {self.high}; give 0 <= low <= high <= 1, not all"
            )

    @property
    def _sides(self) -> int:
        return 1 if self.low == 0 or self.high == 1 else 2

    def check(self, hits: Hits, *, alpha: float, beta: float) -> Evidence:
        """Test n events, one bool for each."""
        check_rates(alpha, beta)
        if hits.dtype not in (torch.bool, np.bool_):
            raise InputError(f"events have dtype {hits.dtype}; give one bool for each")
        n = int(hits.shape[0])
        check_size(n)
        found = int(hits.sum())
        tails = (stats.binom.sf(found - 1, n, self.high), stats.binom.cdf(found, n, self.low))
        p_value = min(1.0, self._sides * float(min(tails)))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        share = alpha / 2
        interval = (
            float(stats.beta.ppf(share, found, n - found + 1)) if found else 0.0,
            float(stats.beta.isf(share, found + 1, n - found)) if found < n else 1.0,
        )
        allowed = f"{self.low:.6g}" if self.low == self.high else f"between {self.low:.6g} and {self.high:.6g}"
        return Evidence(
            check=self.what,
            statistic=found / n,
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=self.metric,
            n=n,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=max(0.0, found / n - self.high, self.low - found / n),
            vacuous="" if self._can_reject(n, alpha) else f"n = {n} events can reject nothing; draw more",
            blind="which events they are: a right rate says nothing of what is kept or drawn",
            detail=f"{found} of {n}: {found / n:.6g} (between {interval[0]:.6g} and {interval[1]:.6g}), "
            f"where the law has {allowed}",
            coverage={"events": n, "hits": found},
            data={"rate": found / n, "low": interval[0], "high": interval[1]},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """How far outside a probability is that n events miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        many, few = self._critical(n, alpha)
        above = below = 0.0
        if self.high < 1:
            above = float(stats.beta.isf(beta, many, n - many + 1)) - self.high if many <= n else 1 - self.high
        if self.low > 0:
            below = self.low - float(stats.beta.ppf(beta, few + 1, n - few)) if few >= 0 else self.low
        return max(above, below) if self._can_reject(n, alpha) else 1.0

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of events that misses a probability delta outside at rate beta."""
        check_delta(delta, self.metric)
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)

    def _critical(self, n: int, alpha: float) -> tuple[int, int]:
        """The fewest hits that are too many, above n if none are; and the most that are too few, -1 if none are."""
        share = alpha / self._sides
        many = int(stats.binom.isf(share, n, self.high)) + 1 if self.high < 1 else n + 1
        few = int(stats.binom.ppf(share, n, self.low)) - 1 if self.low > 0 else -1
        return many, few

    def _can_reject(self, n: int, alpha: float) -> bool:
        many, few = self._critical(n, alpha)
        return many <= n or few >= 0


def acceptance(overlap: float | tuple[float, float]) -> Rate:
    """E[accept] = 1 - TV(p, q), as of every maximal coupling; an interval where the overlap is only bounded."""
    low, high = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    return Rate(low, high, "acceptance rate is the overlap")


def at_most(overlap: float, what: str = "acceptance over trajectories is at most that over tokens") -> Rate:
    """Acceptance at most the overlap: what every lossless rule keeps, and trajectories by data processing."""
    return Rate(0.0, overlap, what)


def check_overlap(overlap: float | np.ndarray) -> None:
    """Raise InputError unless every overlap lies between 0 and 1."""
    bad = ~((np.asarray(overlap) >= 0) & (np.asarray(overlap) <= 1))
    if bad.any():
        raise InputError(f"the overlap is {np.asarray(overlap)[bad].ravel()[0]}; 1 - TV(p, q) lies between 0 and 1")
