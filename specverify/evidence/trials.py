"""What thinning reports of itself: how many proposals it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy import stats
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.bounds import check_overlap
from specverify.evidence.pit import PitUniformity
from specverify.evidence.result import (
    KOLMOGOROV,
    Evidence,
    check_rates,
    check_size,
    nothing_below_one,
    to_numpy,
)
from specverify.evidence.vectors import Values
from specverify.rules.rejection import check_limit

Whole = Int[np.ndarray, " n"] | Int[Tensor, " n"]


@dataclass(frozen=True)
class Trials:
    """Test of the number T of proposals of each decision, 0 for drafts that were kept: P(T > k) = (1 - beta) beta^k.

    Kolmogorov's test of the randomised transforms of T, exact at every n, also where each decision has an overlap of
    its own. `delta` is their Kolmogorov distance from uniform, at most the total variation of the law of T.

    Attributes:
        cap: the number of proposals after which a decision gives up, None for as many as it takes.
    """

    cap: int | None = None

    def __post_init__(self) -> None:
        check_limit(self.cap, "cap")

    def check(
        self, trials: Whole, overlap: float | Values, *, alpha: float, beta: float, generator: np.random.Generator
    ) -> Evidence:
        """Test n decisions.

        Args:
            trials: Int[n], proposals of each.
            overlap: 1 - TV(p, q), of all decisions or of each.
            alpha: false-alarm rate.
            beta: miss rate that delta is stated for.
            generator: of the randomisation.
        """
        check_rates(alpha, beta)
        taken = to_numpy(trials)
        if not np.issubdtype(taken.dtype, np.integer):
            raise InputError(f"trials have dtype {taken.dtype}; give whole numbers, one for each decision")
        taken = taken.astype(np.int64)
        n = len(taken)
        check_size(n)
        if taken.min() < 0:
            raise InputError(f"a decision took {taken.min()} trials; count 0 for drafts that were kept")
        share = np.broadcast_to(to_numpy(overlap) if not isinstance(overlap, float) else np.array(overlap), taken.shape)
        check_overlap(share)
        # log space, so that a probability below rounding of 1 is still told from 0
        above = np.where(taken > 0, (1 - share) * share ** np.maximum(taken - 1, 0), 1.0)
        beyond = (1 - share) * share**taken
        if self.cap is not None:
            beyond = np.where(taken >= self.cap, 0.0, beyond)
        impossible = int(((above <= beyond) | (taken > (self.cap or np.inf))).sum())
        uniforms = 1 - above + generator.random(n) * (above - beyond)
        test = stats.kstest(uniforms, "uniform", method="exact")
        p_value = 0.0 if impossible else float(test.pvalue)
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta)
        expected = float((1 - share**self.cap).mean()) if self.cap else float((share < 1).mean())
        rejected_drafts = taken > 0
        after = float(taken[rejected_drafts].mean()) if rejected_drafts.any() else 0.0
        return Evidence(
            check="trials are geometric",
            statistic=float(test.statistic),
            p_value=p_value,
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=KOLMOGOROV,
            n=n,
            rejected=p_value <= alpha,
            basis="exact",
            power="finite-sample bound",
            estimate=float(test.statistic),
            vacuous=nothing_below_one(delta, n)
            or ("" if (share < 1).any() else "p = q everywhere: nothing is redrawn"),
            blind="what the proposals are, and which is kept",
            detail=f"{taken.mean():.5g} trials on average, where {expected:.5g} are expected; {after:.5g} after a "
            f"rejection, variance {taken.var():.5g}" + (f"; {impossible} are impossible" if impossible else ""),
            coverage={
                "decisions": n,
                "rejected drafts": int(rejected_drafts.sum()),
                "mean": float(taken.mean()),
                "expected": expected,
                "variance": float(taken.var()),
                "impossible": impossible,
            },
        )

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The Kolmogorov distance that n decisions miss with probability at most beta, at most 1."""
        return PitUniformity().smallest_detectable(n, alpha=alpha, beta=beta)

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The number of decisions that misses Kolmogorov distance delta with probability at most beta."""
        return PitUniformity().sample_size(delta, alpha=alpha, beta=beta)
