"""Typical acceptance (Medusa, arXiv 2401.10774): the draft law plays no part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from specverify.claims import Claim
from specverify.errors import InputError
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens
from specverify.rules.token import at, residual

Resample = Literal["target", "residual"]


@dataclass(frozen=True)
class Typical:
    """Keep x if p(x) > min(epsilon, delta exp(-H(p))), H in nats. The coin has no chance in it.

    Likely tokens are kept always and unlikely ones never, so that the output is sharper than p, far above the frontier.

    Args:
        epsilon, delta: published 0.09 and 0.3.
        resample: what a rejected draft is replaced from: p itself, as Medusa goes on, or (p - q)+.
    """

    recovers_alike: ClassVar[bool] = True
    epsilon: float = 0.09
    delta: float = 0.3
    resample: Resample = "target"

    def __post_init__(self) -> None:
        if not (0 <= self.epsilon < math.inf and 0 <= self.delta < math.inf):
            raise InputError(f"epsilon = {self.epsilon}, delta = {self.delta}: thresholds are at least 0 and finite")
        if self.resample not in get_args(Resample):
            raise InputError(f"unknown resampling {self.resample!r}; choose one of {', '.join(get_args(Resample))}")

    @property
    def claim(self) -> Claim:
        """Nothing."""
        return NOTHING

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        entropy: Tensor = torch.special.entr(p).sum(-1)
        return (at(p, draft) > (self.delta * torch.exp(-entropy)).clamp(max=self.epsilon)).to(p.dtype)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return p if self.resample == "target" else residual(p, q)
