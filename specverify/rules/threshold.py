"""A threshold without a coin (MuLo-SD, arXiv 2601.05149): the draft law plays no part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim
from specverify.errors import InputError
from specverify.rules.neighbours import check_embedding, nearest
from specverify.rules.relaxation import NOTHING, Laws, Rates, Tokens
from specverify.rules.token import at


@dataclass(frozen=True, eq=False)
class Threshold:
    """Keep x if p of the `k` codes nearest to it, itself among them, is at least `tau`; replace it from p.

    MuLo-SD drafts by upsampling a smaller image and redraws neighbours of a rejected token too; the rule is its own.

    Args:
        embedding: a row per token: the image tokenizer's codebook. Keep it on the laws' device.
        tau: the least mass. What the paper sets is not known here.
        k: how many nearest codes are counted, the draft itself among them; beyond the vocabulary, all.

    Raises:
        InputError: an impossible setting, or, when judging, an embedding of another vocabulary.
    """

    recovers_alike: ClassVar[bool] = True
    embedding: Float[Tensor, "vocab dim"] = field(repr=False)
    tau: float = 0.5
    k: int = 2
    _near: Tensor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_embedding(self.embedding)
        if self.k < 1 or not 0 <= self.tau <= 1:
            raise InputError(f"{self}: k is at least 1, tau between 0 and 1")
        others = min(self.k, len(self.embedding)) - 1
        object.__setattr__(self, "_near", nearest(self.embedding, others) if others else None)

    @property
    def claim(self) -> Claim:
        """Nothing."""
        return NOTHING

    def accept(self, p: Laws, q: Laws, draft: Tokens) -> Rates:
        """See Judging."""
        check_embedding(self.embedding, p.shape[-1])
        mass = at(p, draft)
        if self._near is not None:
            mass = mass + p.gather(-1, self._near.to(p.device)[draft]).sum(-1)
        return (mass >= self.tau).to(p.dtype)

    def recover(self, p: Laws, q: Laws, draft: Tokens) -> Laws:
        """See Judging."""
        return p
