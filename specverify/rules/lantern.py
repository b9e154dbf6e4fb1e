"""LANTERN (arXiv 2410.03355) and LANTERN++ (arXiv 2502.06352): a draft is credited with its neighbours' probability.

A is the longest run of the k nearest tokens to x, nearest first, whose summed p stays within a limit: delta in LANTERN,
(lambda - 1) p(x) in LANTERN++. A draft is kept with probability min(1, (p(x) + p(A)) / q(x)). Only the numerator grows,
so that with the token rule's residual the gain is paid for exactly one to one.

The limit bounds how far the target *as changed for this x* is from p. It does not bound the output law: every x has its
own changed target. LANTERN++ accepts at most lambda p(x) / q(x), and so has the bound of ratio scaling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim, Relaxed
from specverify.errors import InputError
from specverify.rules.neighbours import check_embedding, nearest
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens, ratio
from specverify.rules.token import at, residual

Resample = Literal["residual", "released"]


@dataclass(frozen=True, eq=False)
class Lantern:
    """LANTERN, or with `odds` LANTERN++.

    Args:
        embedding: a row per token: the image tokenizer's codebook. Keep it on the laws' device.
        k: how many nearest tokens are looked at; beyond the vocabulary, all others.
        delta: most probability that they may lend; published 0.1 (with k = 1000).
        odds: LANTERN++'s lambda, instead of `delta`: with what they lend, at most `odds` times p(x). Published 5 (with
            k = 10), 10 and 20 (with 5).
        resample: what a rejected draft is replaced from: the token rule's residual, or, as in the code released with
            the papers for a static tree (EAGLE-1), (p - q')+ with q' the draft law without the k + 1 tokens nearest to
            x, if A is not empty. The released rule for dynamic trees is about trees of one-hot drafts, and is left out.

    Raises:
        InputError: an impossible setting, or, when judging, an embedding of another vocabulary.
    """

    embedding: Float[Tensor, "vocab dim"] = field(repr=False)
    k: int = 1000
    delta: float = 0.1
    odds: float | None = None
    resample: Resample = "residual"
    _near: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_embedding(self.embedding)
        if self.k < 1 or not 0 <= self.delta <= 1 or not (self.odds is None or 1 <= self.odds < math.inf):
            raise InputError(f"{self}: k is at least 1, delta between 0 and 1, odds at least 1")
        if self.resample not in get_args(Resample):
            raise InputError(f"unknown resampling {self.resample!r}; choose one of {', '.join(get_args(Resample))}")
        object.__setattr__(self, "_near", nearest(self.embedding, min(self.k + 1, len(self.embedding) - 1)))

    @property
    def claim(self) -> Claim:
        """Nothing that holds at every length; see `bound`."""
        return NOTHING

    def bound(self, length: int) -> Relaxed:
        """What holds of sequences of at most `length` tokens: LANTERN++ with the residual, as `Scaling` by `odds`."""
        if self.odds is None or self.resample != "residual":
            return NOTHING
        return Relaxed(1 - self.odds**-length)

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        return ratio(at(p, draft) + self.lent(p, draft), q, draft)

    @property
    def recovers_alike(self) -> bool:
        """See `specverify.rules.price`."""
        return self.resample == "residual"

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        if self.resample == "residual":
            return residual(p, q)
        near = self._around(p, draft)
        first = at(p, near[..., 0]) <= self._limit(p, draft)
        others = q.scatter(-1, near, 0.0)
        return residual(p, torch.where(first[..., None], others, q))

    def lent(self, p: Laws, draft: Tokens) -> Rates:
        """p(A): what each draft is credited with beside its own probability."""
        total = p.gather(-1, self._around(p, draft)[..., : self.k]).cumsum(-1)
        return total.where(total <= self._limit(p, draft)[..., None], 0.0).amax(-1)

    def _limit(self, p: Tensor, draft: Tensor) -> Tensor:
        own = at(p, draft)
        return torch.full_like(own, self.delta) if self.odds is None else (self.odds - 1) * own

    def _around(self, p: Tensor, draft: Tensor) -> Tensor:
        check_embedding(self.embedding, p.shape[-1])
        return self._near.to(p.device)[draft]
