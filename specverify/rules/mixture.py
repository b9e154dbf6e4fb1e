"""The mixture rule: the exact token rule, to the target (1 - lambda) p + lambda q instead of p.

Static ensemble verification: DIVERSE (arXiv 2604.07622), and transformers' `assistant_ensemble_weight`, which is
1 - lambda. It lies on the frontier: gain = bias = lambda TV(p, q). Bonus tokens are drawn from p, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from specverify.claims import Claim, Relaxed
from specverify.errors import InputError
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens, ratio
from specverify.rules.token import at, residual


@dataclass(frozen=True)
class Mixture:
    """The token rule to (1 - share) p + share q.

    Args:
        share: lambda, between 0 (the token rule) and 1 (keep every draft). No published default (transformers: off).
    """

    recovers_alike: ClassVar[bool] = True
    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"share = {self.share}: the draft law's part in the mixture lies between 0 and 1")

    @property
    def claim(self) -> Claim:
        """Nothing that holds at every length; see `bound`."""
        return NOTHING

    def bound(self, length: int) -> Relaxed:
        """What holds of sequences of at most `length` tokens, on every model and with every drafting.

        Each token comes out with at least 1 - share of its probability, so that TV <= 1 - (1 - share)^length.
        """
        return Relaxed(1 - (1 - self.share) ** length)

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        return ratio((1 - self.share) * at(p, draft) + self.share * at(q, draft), q, draft)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging. It is the residual to p, as (m - q)+ = (1 - share) (p - q)+."""
        return residual(p, q)
