"""Several drafts for one position: pure functions on laws, over any leading shape.

Sources: recursive rejection as in SpecInfer (Miao et al., arXiv 2305.09781) and, without replacement, Jeon et al.
(arXiv 2402.14160); the optimum over all couplings by Sun et al. (SpecTr, arXiv 2310.15141); lists of Gumbel races,
whose verifier never asks for q, extend Daliri et al. (arXiv 2408.07978).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.rules.token import accept_probability, residual


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
