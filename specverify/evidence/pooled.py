"""One e-process for rows of several contexts, each with a law of its own; and one for each of several strata of rows.

The e-value is the mixture over concentrations, as in `sequential.py`, of the product over contexts of the
e-values of their counts. Given which rows are in which context, rows are independent under the target laws, so that the
product is a likelihood ratio, and the mixture a martingale from 1. Contexts with a single possible outcome have nothing
to say here: any other outcome is a fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from specverify.evidence import design
from specverify.evidence.result import TOTAL_VARIATION, Evidence, nothing_below_one
from specverify.evidence.sequential import CONCENTRATIONS, rise

SPARSE = 1.4
"""Factor on n, over the asymptotic formula. With it an adversarial law at the stated delta, whose mass is moved between
the rarer and the commoner half of each context's outcomes, is missed no more often than stated (by simulation)."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """Sequential test of counts by context against each context's law, at a share of alpha in each stratum.

    Attributes:
        laws: the target laws, padded with zeros.
        strata: what the rows of each have in common.
        what: what strata differ in.
    """

    laws: Float[np.ndarray, "contexts outcomes"]
    strata: tuple[str, ...] = ("all",)
    what: str = "strata"

    def check(
        self,
        counts: Int[np.ndarray, "strata contexts outcomes"],
        *,
        alpha: float,
        beta: float,
        highest: Float[np.ndarray, " strata"] | None = None,
    ) -> Evidence:
        """What the worst stratum says, and what the smallest is sure to see.

        Args:
            counts: of everything so far.
            alpha, beta: false-alarm rate of all strata together, and miss rate.
            highest: of each stratum the highest log e-value at any look; that of these counts if None.
        """
        highest = self.log_e(counts) if highest is None else highest
        sizes = counts[:, self.open].sum((1, 2))
        used = [number for number in range(len(self.strata)) if sizes[number]]
        limit = math.log(len(self.strata) / alpha)
        n = int(min(sizes[used], default=0))
        delta = self.smallest_detectable(n, alpha=alpha, beta=beta) if n else 1.0
        worst = max(used, key=lambda number: float(highest[number]), default=0)
        most = float(highest[worst])
        return Evidence(
            check=self.what,
            statistic=most,
            p_value=min(1.0, len(self.strata) * math.exp(-most)),
            alpha=alpha,
            beta=beta,
            delta=delta,
            metric=f"{TOTAL_VARIATION} in each of the {self.what}",
            n=n,
            rejected=most >= limit,
            basis="finite-sample bound",
            power="asymptotic",
            vacuous=nothing_below_one(delta, n) if n else "no row was counted",
            detail=f"{self.strata[worst]}: log e-value at most {most:.6g} in {int(sizes[worst]):,} rows, "
            f"{limit:.6g} rejects",
            coverage={"strata": len(used), "rows": int(sizes.sum())},
            data={"strata": [self.strata[number] for number in used], "n": sizes[used].tolist()},
        )

    @property
    def open(self) -> np.ndarray:
        """Which contexts have a choice."""
        return np.asarray((self.laws > 0).sum(1) > 1)

    @property
    def freedom(self) -> int:
        """Degrees of freedom, over all contexts."""
        return int(((self.laws > 0).sum(1) - 1).sum())

    def log_e(self, counts: Int[np.ndarray, "strata contexts outcomes"]) -> Float[np.ndarray, " strata"]:
        """Logarithm of each stratum's e-value."""
        open = self.open
        law, counts = self.laws[open], counts[:, open]
        possible = law > 0
        p, seen = law[possible], counts[:, possible]
        within = rise(CONCENTRATIONS[:, None, None] * p, seen[None]).sum(-1)
        total = rise(CONCENTRATIONS[:, None, None], counts.sum(2)[None]).sum(-1)
        return np.asarray(logsumexp(within - total, axis=0) - math.log(len(CONCENTRATIONS)))

    def smallest_detectable(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation, on average over the contexts with a choice, that n of a stratum's rows there see."""
        s = n / SPARSE / max(1, int(self.open.sum())) / CONCENTRATIONS
        need = 2 * math.log(len(CONCENTRATIONS) * len(self.strata) / alpha)
        critical = float(((1 + s) / s * (need + self.freedom * np.log1p(s))).min())
        return min(1.0, math.sqrt(design.noncentrality_above(critical, self.freedom, beta) / (4 * n / SPARSE)))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n of a stratum that is sure to see delta."""
        return design.sample_size(lambda n: self.smallest_detectable(n, alpha=alpha, beta=beta), delta)
