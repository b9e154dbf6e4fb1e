"""One e-process for rows of several contexts, each with a law of its own.

The e-value is the mixture over concentrations, as in `evidence/sequential.py`, of the product over contexts of the
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
from specverify.evidence.sequential import CONCENTRATIONS, rise

SPARSE = 1.4
"""Factor on n, over the asymptotic formula. With it an adversarial law at the stated delta, whose mass is moved between
the rarer and the commoner half of each context's outcomes, is missed no more often than stated (by simulation)."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """Sequential test of counts by context against each context's law.

    Attributes:
        laws: the target laws, padded with zeros.
    """

    laws: Float[np.ndarray, "contexts outcomes"]

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

    def visible(self, n: int, *, alpha: float, beta: float) -> float:
        """The total variation, on average over the contexts with a choice, that n of their rows are sure to see."""
        s = n / SPARSE / max(1, int(self.open.sum())) / CONCENTRATIONS
        need = 2 * math.log(len(CONCENTRATIONS) / alpha)
        critical = float(((1 + s) / s * (need + self.freedom * np.log1p(s))).min())
        return min(1.0, math.sqrt(design.noncentrality_above(critical, self.freedom, beta) / (4 * n / SPARSE)))

    def sample_size(self, delta: float, *, alpha: float, beta: float) -> int:
        """The n that is sure to see delta."""
        return design.sample_size(lambda n: self.visible(n, alpha=alpha, beta=beta), delta)
