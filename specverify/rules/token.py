"""The token rule and the couplings: pure functions on laws, over any leading shape.

`p` is the law a token should have, `q` the law that the draft was really drawn from. Sources: for the rule
Leviathan et al. (arXiv 2211.17192) and Chen et al. (arXiv 2302.01318), for Gumbel coupling Daliri et al. (arXiv
2408.07978).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from specverify.errors import InputError
from specverify.model import check_laws


def accept_probability(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """min(1, p(x) / q(x)) of the draft token x; NaN where q(x) = p(x) = 0, a draft that q cannot have drawn."""
    return (at(p, draft) / at(q, draft)).clamp(max=1)


def residual(p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape vocab"]:
    """(p - q)+ normalised: what a rejected draft is replaced from.

    Where nothing is left of it (p = q, so that only rounding can have rejected), it is p.
    """
    left = (p - q).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, left / mass, p)


def maximal_coupling(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape vocab"]:
    """The law of the coupled token given that the draft is x ~ q: x where the token rule accepts, else the residual.

    Averaged over x ~ q it is p, and it keeps x with probability 1 - TV(p, q), which no coupling exceeds.
    """
    keep = accept_probability(p, q, draft)[..., None]
    return ((1 - keep) * residual(p, q)).scatter_add(-1, draft[..., None], keep)


def total_variation(p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape"]:
    """Half the sum of |p - q|; the token rule accepts with probability 1 - TV(p, q)."""
    return (p - q).abs().sum(-1) / 2


def gumbel_collision(p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape"]:
    """The probability that one race has the same winner under p and under q: sum_j 1 / sum_i max(p_i/p_j, q_i/q_j).

    Tokens with p_j q_j = 0 contribute nothing. Takes memory vocab^2.
    """
    ratio = torch.maximum(p[..., :, None] / p[..., None, :], q[..., :, None] / q[..., None, :])
    possible = (p > 0) & (q > 0)
    # For a possible j the column is finite; the others hold 0/0 and are dropped whole.
    column = ratio.where(possible[..., None, :], 1.0).sum(-2)
    return (1 / column).where(possible, 0.0).sum(-1)


def at(values: Num[Tensor, "*shape options"], index: Int[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """One value of each row: of a law, the probability of one token."""
    return values.gather(-1, index[..., None]).squeeze(-1)


def check_round(p: Tensor, q: Tensor, draft: Tensor) -> None:
    """Raise InputError unless p and q are laws of one shape and each draft token can have come from q."""
    if p.shape != q.shape or p.shape[:-1] != draft.shape:
        raise InputError(
            f"shapes do not match: p {tuple(p.shape)}, q {tuple(q.shape)}, draft {tuple(draft.shape)}; "
            "p and q are [..., vocab] and draft is [...]"
        )
    if p.dtype != q.dtype:
        raise InputError(f"p has dtype {p.dtype} and q {q.dtype}; convert them to one dtype")
    if draft.dtype != torch.int64:
        raise InputError(f"the draft tokens have dtype {draft.dtype}; tokens are int64")
    check_laws(p, what="p")
    check_laws(q, what="q")
    if draft.numel() and (int(draft.min()) < 0 or int(draft.max()) >= p.shape[-1]):
        raise InputError(f"draft tokens {int(draft.min())}..{int(draft.max())} lie outside 0..{p.shape[-1] - 1}")
    impossible = at(q, draft) == 0
    if bool(impossible.any()):
        raise InputError(
            f"draft token {int(draft[impossible][0])} has q = 0, so it cannot have been drawn from q; "
            "pass the law that the draft was really drawn from"
        )
