"""Several drafts for one position: pure functions on laws, over any leading shape.

Sources: recursive rejection as in SpecInfer (Miao et al., arXiv 2305.09781) and, without replacement, Jeon et al.
(arXiv 2402.14160); the optimum over all couplings by Sun et al. (SpecTr, arXiv 2310.15141); lists of Gumbel races,
whose verifier never asks for q, extend Daliri et al. (arXiv 2408.07978).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.rules.token import accept_probability, residual, total_variation


def recursive_rejection(
    p: Float[Tensor, "*shape vocab"],
    q: Float[Tensor, "*shape drafts vocab"],
    draft: Int[Tensor, "*shape drafts"],
    there: Bool[Tensor, "*shape drafts"],
) -> tuple[Float[Tensor, "*shape drafts"], Float[Tensor, "*shape vocab"]]:
    """Test each draft against what the rejected ones before it have left of p.

    Args:
        p: the law that the token should have.
        q: the law that each draft was drawn from, given those before it.
        draft: the drafts, in the order in which they are tested.
        there: which of them are tested; the others are passed over, whatever they hold.

    Returns:
        the probability to keep each draft once those before it are rejected, 0 for those that are not there; and the
        law that replaces them if all are rejected.
    """
    left, keep = p, []
    for number in range(draft.shape[-1]):
        law, tested = q[..., number, :], there[..., number]
        keep.append(accept_probability(left, law, draft[..., number]).where(tested, 0.0))
        left = torch.where(tested[..., None], residual(left, law), left)
    return torch.stack(keep, -1), left


def without(q: Float[Tensor, "*shape vocab"], token: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape vocab"]:
    """q without one token, normalised: the law of the next draft that is drawn without replacement.

    All 0 where q has nothing else.
    """
    left = q.scatter(-1, token[..., None], 0.0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, left / mass, 0.0)


def recursive_acceptance(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], drafts: int
) -> Float[Tensor, "*shape"]:
    """The chance that recursive rejection keeps one of `drafts` independent draws from q."""
    _check_drafts(drafts)
    left, rejected = p, torch.ones_like(p[..., 0])
    for _ in range(drafts):
        rejected = rejected * total_variation(left, q)
        left = residual(left, q)
    return 1 - rejected


def best_acceptance(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], drafts: int
) -> Float[Tensor, "*shape"]:
    """The largest chance of any coupling that a token of law p is among `drafts` independent draws from q.

    It is the least p(S) + 1 - q(S)^drafts over sets S of tokens (max-flow, min-cut), and since that is concave in
    q(S), the least over the sets of tokens with the smallest ratios p/q.
    """
    _check_drafts(drafts)
    order = (p / q).where(q > 0, torch.inf).argsort(-1)
    ours, theirs = p.gather(-1, order).cumsum(-1), q.gather(-1, order).cumsum(-1)
    return (ours + 1 - theirs.clamp(max=1) ** drafts).amin(-1).clamp(max=1)


def list_gumbel_bound(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], drafts: int
) -> Float[Tensor, "*shape"]:
    """A lower bound of the chance that the earliest token of `drafts` races under p wins one of them under q.

    The chance that it wins its own: sum_j K / (sum_i max(p_i/p_j, q_i/q_j) + (K - 1) / p_j); for one race it is
    the chance itself (Daliri et al.). Tokens with p_j q_j = 0 contribute nothing. Takes memory vocab^2.
    """
    _check_drafts(drafts)
    ratio = torch.maximum(p[..., :, None] / p[..., None, :], q[..., :, None] / q[..., None, :])
    possible = (p > 0) & (q > 0)
    column = ratio.where(possible[..., None, :], 1.0).sum(-2) + (drafts - 1) / p.where(possible, 1.0)
    return (drafts / column).where(possible, 0.0).sum(-1)


def _check_drafts(drafts: int) -> None:
    if drafts < 1:
        raise InputError(f"{drafts} drafts for a position; there is at least 1")
