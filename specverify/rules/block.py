"""Block verification: pure functions on the laws of a whole window (Sun et al., arXiv 2403.10444).

A window of drafts x_1..x_n is kept up to the last slot whose coin passes, so that a good continuation can save a draft
that the token rule would have rejected. What follows from the prefix x_1..x_i being drafted:

    P_0 = 1, P_i = min(1, P_{i-1} p(x_i) / q(x_i))          how much of it the target asks for
    S_i = sum_v (P_i p(v) - q(v))+                          what is then missing of the next token
    h_i = S_i / (S_i + 1 - P_i) for i < n, and h_n = P_n    the coin of slot i

and the token behind the drafts kept, tau of them, has the law (P_tau p - q)+ normalised, or p if tau = n. Everywhere p
and q stand for the next token's laws given the prefix, and the law of each draft is the one that it has given *all*
drafts before it and all that the laws of later ones depend on.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.model import row_mask
from specverify.rules.token import at


def prefix_weights(
    p: Float[Tensor, "batch window vocab"], q: Float[Tensor, "batch window vocab"], draft: Int[Tensor, "batch window"]
) -> Float[Tensor, "batch slots"]:
    """P_0..P_window of the prefixes of each window of drafts."""
    ratio = at(p, draft) / at(q, draft)
    weights = [torch.ones_like(ratio[:, 0])]
    for slot in range(draft.shape[1]):
        weights.append((weights[-1] * ratio[:, slot]).clamp(max=1))
    return torch.stack(weights, 1)


def keep_probability(
    p: Float[Tensor, "batch window vocab"],
    q: Float[Tensor, "batch window vocab"],
    weights: Float[Tensor, "batch slots"],
    drafted: Int[Tensor, " batch"],
) -> Float[Tensor, "batch window"]:
    """h_1..h_window, the coin of each slot; 0 behind the first `drafted` slots of a row.

    Args:
        p, q: the laws of the window's slots.
        weights: `prefix_weights`.
        drafted: n, how many slots of each row hold a draft that is judged.
    """
    window = p.shape[1]
    # What is missing behind slot i is read off the laws of slot i + 1; behind the last slot there are none.
    missing = (weights[:, 1:-1, None] * p[:, 1:] - q[:, 1:]).clamp(min=0).sum(-1)
    spare = missing + (1 - weights[:, 1:-1])
    # Nothing missing of a prefix of weight 1: p = q, and the next slot passes with certainty if this one is reached.
    inner = torch.where(spare > 0, missing / spare, 1.0)
    keep = torch.cat([inner, weights[:, -1:]], 1)
    is_last = torch.arange(1, window + 1, device=p.device) == drafted[:, None]
    return torch.where(is_last, weights[:, 1:], keep) * row_mask(drafted, window)


def block_residual(
    p: Float[Tensor, "*shape vocab"], q: Float[Tensor, "*shape vocab"], weight: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape vocab"]:
    """(P p - q)+ normalised: the law behind a prefix of weight P that was kept when the next draft was not.

    Where nothing is left of it (so that only rounding can have rejected), it is p.
    """
    left = (weight[..., None] * p - q).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return torch.where(mass > 0, left / mass, p)
