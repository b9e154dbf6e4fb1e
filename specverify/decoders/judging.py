"""How the drafts of a window are judged: token by token from left to right, or the whole window at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.model import row_mask
from specverify.rules.token import accept_probability, at, residual


@dataclass(frozen=True)
class Draft:
    """The drafts of one window.

    Attributes:
        token: slot k holds a draft for the k-th position after the committed ones.
        law: the law q that each draft was drawn from, given all that was looked at before its slot is judged.
        passes: forward passes of the draft model that this took, per row.
    """

    token: Int[Tensor, "batch window"]
    law: Float[Tensor, "batch window vocab"]
    passes: Int[Tensor, " batch"]


@runtime_checkable
class Judging(Protocol):
    """How drafts are judged: when to keep one, and what replaces the first that is not kept."""

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """The probability to keep each draft."""

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """The law that replaces a rejected draft."""


@runtime_checkable
class WindowJudging(Protocol):
    """How a whole window is judged at once, where a draft's fate may depend on those behind it."""

    @property
    def name(self) -> str:
        """What a decoder that judges so is called, behind its drafting."""

    def verify(
        self,
        p: Float[Tensor, "batch window vocab"],
        draft: Draft,
        drafted: Int[Tensor, " batch"],
        draws: Draws,
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
        """How many of the first `drafted` drafts to keep, and the law that follows where these are not all."""


@dataclass(frozen=True)
class TokenRule:
    """Keep x with probability min(1, p(x) / q(x)), else draw from the residual (Leviathan et al., arXiv 2211.17192)."""

    def accept(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """See Judging."""
        return accept_probability(p, q, draft)

    def recover(
        self, p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape vocab"]:
        """See Judging."""
        return residual(p, q)


def left_to_right(
    judging: Judging,
    p: Float[Tensor, "batch window vocab"],
    draft: Draft,
    drafted: Int[Tensor, " batch"],
    draws: Draws,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, "batch vocab"]]:
    """Judge token by token up to the first rejection; returns as `WindowJudging.verify`."""
    window = p.shape[1]
    run = draws.accept_run(judging.accept(p, draft.law, draft.token), row_mask(drafted, window))
    slot = run.clamp(max=window - 1)
    return run, judging.recover(row(p, slot), row(draft.law, slot), at(draft.token, slot))


def row(law: Float[Tensor, "batch slots vocab"], slot: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocab"]:
    """Each row's law at its own slot."""
    return law.gather(1, slot[:, None, None].expand(-1, 1, law.shape[-1])).squeeze(1)


def check_window(window: object) -> None:
    """Raise InputError for a window below 1."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise InputError(f"window {window!r}: it is the number of draft tokens per forward pass, at least 1")
