"""Ratio scaling: accept as if the target's probability were omega times as large.

`Scaling` is the lenience of Leviathan et al. (arXiv 2211.17192), with omega = 1 / lenience. `CoolSchedule` tightens it
along the window: Cool-SD (arXiv 2601.09212) has omega_i = delta exp(-nu i - mu) at slot i.

Both accept no less than the token rule and draw from its residual, so that they pay for their gain exactly one to one:
no rule with the same acceptance is closer to p. Every token comes out with at most omega times its probability, whence
the bound on sequences of n tokens, TV <= 1 - omega^-n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from specverify.claims import Claim, Relaxed
from specverify.errors import InputError
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens, ratio
from specverify.rules.token import at, residual


@dataclass(frozen=True)
class Scaling:
    """Keep x with probability min(1, omega p(x) / q(x)); omega = 1 is the token rule. No published default."""

    recovers_alike: ClassVar[bool] = True
    omega: float = 1.5

    def __post_init__(self) -> None:
        if not 1 <= self.omega < math.inf:
            raise InputError(f"omega = {self.omega}: it multiplies p, and is at least 1 (the token rule)")

    @property
    def claim(self) -> Claim:
        """Nothing that holds at every length; see `bound`."""
        return NOTHING

    def bound(self, length: int) -> Relaxed:
        """What holds of sequences of at most `length` tokens, on every model and with every drafting."""
        return Relaxed(1 - self.omega**-length)

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        return ratio(self.omega * at(p, draft), q, draft)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return residual(p, q)


@dataclass(frozen=True)
class EntropyScaling:
    """Keep x with probability min(1, p(x) / (s q(x))), s = clamp(H(p) / scale + floor, 0, 1), H in nats.

    Entropy-aware acceptance (arXiv 2510.09012, NeurIPS 2025; code krennic999/ARsample, SJD/scheduler): where p is
    certain, drafts are kept more readily.

    Args:
        floor: the least s, and so what bounds the loss. Published 0.05 for Lumina-mGPT.
        scale: the entropy at which s would be 1. Published 9 for Lumina-mGPT; for LlamaGen 8 with a floor of 0, which
            the code released with the paper overwrites by s = 1/2: `Scaling(2)`.
    """

    recovers_alike: ClassVar[bool] = True
    floor: float = 0.05
    scale: float = 9.0

    def __post_init__(self) -> None:
        if not (0 <= self.floor <= 1 and 0 < self.scale < math.inf):
            raise InputError(f"{self}: floor lies between 0 and 1, scale is positive and finite")

    @property
    def claim(self) -> Claim:
        """Nothing that holds at every length; see `bound`."""
        return NOTHING

    def bound(self, length: int) -> Relaxed:
        """What holds of sequences of at most `length` tokens: as `Scaling` by 1 / floor."""
        return Relaxed(1 - self.floor**length)

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        share = (torch.special.entr(p).sum(-1) / self.scale + self.floor).clamp(0, 1)
        own = at(p, draft)
        # Certain laws with a floor of 0: what they rule out stays out.
        scaled = torch.where(share > 0, own / share, torch.full_like(own, torch.inf).where(own > 0, 0.0))
        return ratio(scaled, q, draft)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return residual(p, q)


@dataclass(frozen=True)
class CoolSchedule:
    """Keep x in slot i = 0, 1, ... of the window with probability min(1, omega_i p(x) / q(x)).

    omega_i = delta exp(-nu i - mu), but never below 1: there the rule would be stricter than an exact one, and need a
    residual of its own. From 1 on, Cool-SD's resampling law (p - q f)+ is the token rule's, which needs no slot.

    Args:
        delta: relaxation of the first slot (published: 1.1 and 2).
        nu: how fast it is withdrawn (published: 0.7).
        mu: a constant in the exponent. What the paper sets it to is not known here; 0 leaves delta as it is.
    """

    recovers_alike: ClassVar[bool] = True
    delta: float = 1.1
    nu: float = 0.7
    mu: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.delta < math.inf and self.nu >= 0 and math.isfinite(self.mu)):
            raise InputError(f"{self}: delta is positive, nu at least 0, mu finite")

    @property
    def claim(self) -> Claim:
        """Nothing that holds at every length; see `bound`."""
        return NOTHING

    def bound(self, length: int) -> Relaxed:
        """What holds of sequences of at most `length` tokens: each may be the first of its window."""
        return Relaxed(1 - max(1.0, self.delta * math.exp(-self.mu)) ** -length)

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging. The slot is the axis before the vocabulary: laws are [..., window, vocab]."""
        if p.ndim < 2:
            raise InputError(f"laws of shape {tuple(p.shape)} have no slots; a schedule needs [..., window, vocab]")
        slot = torch.arange(p.shape[-2], dtype=p.dtype, device=p.device)
        omega = (self.delta * torch.exp(-self.nu * slot - self.mu)).clamp(min=1)
        return ratio(omega * at(p, draft), q, draft)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return residual(p, q)
