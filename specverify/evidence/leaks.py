"""Do tokens leak that the target all but forbids? The mean surprisal sees them late: see `surprisal.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import stats

from specverify.errors import InputError
from specverify.evidence.result import Evidence, check_delta, check_rates, check_size, nothing_below_one
from specverify.evidence.tokens import TokenStatistics

LEAKED = "share of leaked tokens"


@dataclass(frozen=True)
class Leaks:
    """Test of how many tokens lie among the least likely tenth, hundredth, ... of their laws.

    A transform lies above 1 - a with probability a (`TokenStatistics.pit` adds up a law from its most probable token
    down), so the number of those is binomial, exactly and at every n; the levels share alpha evenly.

    `delta` is the share of tokens, of those that are tested, that are taken from the least likely `finest` of their law
    instead of the law itself, however improbable they are there: such leaks are independent coins.

    Attributes:
        finest: the smallest level. Laws that were logged with few digits do not tell smaller ones apart.
    """

    finest: float = 1e-9

    def __post_init__(self) -> None:
        if not 0 < self.finest <= 0.1:
            raise InputError(f"finest is {self.finest}; a level of probability is above 0 and at most 0.1")

    def check(self, statistics: TokenStatistics, *, alpha: float, beta: float) -> Evidence:
        """Test every token of a trace."""
        check_rates(alpha, beta)
        behind = 1 - statistics.pit.numpy().ravel()
        n, choice = behind.size, int(statistics.choice.sum())
        levels, impossible = self._levels(), int(statistics.impossible.sum())
        length = statistics.pit.shape[-1]
        counts = np.array([int((behind <= level).sum()) for level in levels])
        tails = np.asarray(stats.binom.sf(counts - 1, n, levels))
        worst = int(tails.argmin())
        p_value = 0.0 if impossible else min(1.0, float(tails[worst]) * len(levels))
        delta = min(1.0, self.smallest_detectable(n, alpha=alpha, beta=beta) * n / max(choice, 1))
        return Evidence(
            check="leaks",
            statistic=float(counts[worst]),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=LEAKED,
            n=choice,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=max(0.0, float(counts[-1]) / n - self.finest),
            vacuous=nothing_below_one(delta, choice),
            blind="which of the improbable tokens they are",
            detail=f"{counts[worst]} tokens among the least likely {levels[worst]:.3g} of their laws, "
            f"{n * levels[worst]:.3g} due"
            + (_where((behind <= levels[worst]).reshape(-1, length)) if p_value <= alpha else "")
            + (f"; {impossible} tokens have probability 0" if impossible else ""),
            coverage={"tokens": n, "choice": choice, "impossible": impossible},
            data={"level": levels.tolist(), "count": counts.tolist(), "worst": float(levels[worst])},
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The share of leaks that n tokens, all with a choice, miss with probability at most beta, at most 1."""
        check_rates(alpha, beta)
        check_size(n)
        enough = 1 + int(stats.binom.isf(alpha / len(self._levels()), n, self.finest))
        return float(stats.beta.isf(beta, enough, n - enough + 1)) if enough <= n else 1.0

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of tokens that misses a share delta of leaks with probability at most beta."""
        check_delta(delta, LEAKED)
        n = 1
        while self.smallest_detectable(n, alpha=alpha, beta=beta) > delta:
            n += max(1, n // 500)
        return n

    def _levels(self) -> np.ndarray:
        steps = round(-np.log10(self.finest))
        return np.asarray(np.geomspace(self.finest, 0.1, steps)[::-1])


def _where(leaked: Bool[np.ndarray, "rows length"]) -> str:
    """The position with most of the leaked tokens, in words."""
    by_position = leaked.sum(0)
    most = int(by_position.argmax())
    return f"; most at position {most}: {by_position[most]:,} of {len(leaked):,}"
