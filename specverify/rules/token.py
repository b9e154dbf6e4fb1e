"""The token rule and the maximal coupling: pure functions on laws, over any leading shape.

`p` is the law a token should have, `q` the law that the draft was really drawn from. Sources: Leviathan et al.
(arXiv 2211.17192) and Chen et al. (arXiv 2302.01318).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor


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
    mass = total(left)[..., None]
    return torch.where(mass > 0, left / mass, p)


def maximal_coupling(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], draft: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape vocab"]:
    """The law of the coupled token given that the draft is x ~ q: x where the token rule accepts, else the residual.

    Averaged over x ~ q it is p, and it keeps x with probability 1 - TV(p, q), which no coupling exceeds.
    """
    keep, left = accept_probability(p, q, draft)[..., None], (p - q).clamp_(min=0)
    mass = total(left)[..., None]
    return left.mul_(torch.where(mass > 0, (1 - keep) / mass, 0)).scatter_add_(-1, draft[..., None], keep)


def total_variation(p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape"]:
    """Half the sum of |p - q|; the token rule accepts with probability 1 - TV(p, q)."""
    return (p - q).abs().sum(-1) / 2


def total(values: Float[Tensor, "*shape few"]) -> Float[Tensor, "*shape"]:
    """The sum of each row; of short ones by adding up columns, since a reduction takes ten times as long there."""
    if values.shape[-1] > 4:
        return values.sum(-1)
    first, *others = values.unbind(-1)
    return sum(others, first)


def at(values: Num[Tensor, "*shape options"], index: Int[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """One value of each row: of a law, the probability of one token."""
    return values.gather(-1, index[..., None]).squeeze(-1)
