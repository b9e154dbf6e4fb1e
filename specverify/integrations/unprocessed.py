"""Raw logits of which a given law is what temperature, top-k and top-p make: processors, the other way round.

A function that processes logits itself must be handed logits that still have to be processed, or its processors would
never do anything: tokens that the target excludes get some probability, as much as the processors have to cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.errors import InputError

IMPOSSIBLE = -1e4
"""The logit of what has no probability: finite, as those of networks are, for guidance takes differences of logits."""


@dataclass(frozen=True)
class Processing:
    """What is done to logits, in this order.

    Attributes:
        temperature: they are divided by it.
        top_k: all but so many of the most probable tokens are cut; None for none.
        top_p: all but the smallest set of the most probable tokens with so much mass; None for none.

    Raises:
        InputError: for a number out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; it must be a finite number above 0")
        if self.top_k is not None and (isinstance(self.top_k, bool) or self.top_k < 1):
            raise InputError(f"top_k is {self.top_k}; it keeps at least 1 token, and None keeps all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it is a mass above 0 and at most 1")

    @property
    def cuts(self) -> str:
        """What makes laws that these cut nothing of and can make again, as on the command line; "" if none has to."""
        named = ("top_k", self.top_k), ("top_p", self.top_p)
        return ",".join(f"{name}={value}" for name, value in named if value is not None)

    def logits(self, law: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """Logits from which these processors make a law.

        Where a law has as many tokens as `top_k` keeps, those that it lacks lie just below the others; where `top_p`
        is to cut them, they share what it cuts.

        Raises:
            InputError: they cannot make it.
        """
        logits = law.log()
        absent, kept = law == 0, (law > 0).sum(-1, keepdim=True)
        least = law.where(~absent, torch.inf).amin(-1, keepdim=True)
        if self.top_k is not None:
            if bool((kept > self.top_k).any()):
                raise InputError(f"top_k={self.top_k} leaves no law of more tokens")
            logits = torch.where(absent & (kept == self.top_k), least.log() - 1, logits)
        if self.top_p is not None:
            share = self._cut(law.shape[-1] - kept, least) if self.top_k is None else torch.zeros_like(least)
            if bool(((1 - least) / (1 + share * (law.shape[-1] - kept)) >= self.top_p).any()):
                raise InputError(f"top_p={self.top_p} would cut tokens of this model's laws")
            logits = torch.where(absent & (share > 0), share.log(), logits)
        return logits.clamp(min=IMPOSSIBLE) * self.temperature

    def _cut(self, missing: Tensor, least: Tensor) -> Tensor:
        """The weight of each missing token, beside a law that sums to 1: less than the least, and cut together."""
        assert self.top_p is not None
        most = 0.9 * (1 / self.top_p - 1) / missing.clamp(min=1)
        return torch.minimum(most, least / 2).where(missing > 0, 0.0)
