"""The joint ratio of groups of drafts: SJD-SV (arXiv 2609.13245) and SJD-PV (arXiv 2603.06666). Not lossless.

The window is cut into groups. Of a group x_1..x_n one coin u is tossed: with R_k the product of p/q over the last of
its first k tokens that hold a share alpha of their summed p, the longest run of k drafts with u < R_k is kept, and the
next group is judged only where all of a group was. Groups are runs along which p(x_i) does not fall (SJD-SV), or
phrases, codes that often come together (SJD-PV). The token behind the drafts comes from the token rule's residual.

No formula for u is public that would tell whether each retry has a coin of its own; it is one coin here, which is the
nearer to the target. Block verification (`block.py`) is what an exact joint test looks like.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.model import row_mask
from specverify.rules.token import at

ALPHA = 0.8
"""Published, of SJD-SV."""


def rising(p: Float[Tensor, "batch window vocab"], draft: Int[Tensor, "batch window"]) -> Bool[Tensor, "batch window"]:
    """Whether each draft goes on the group of the one before: where its p is no smaller (SJD-SV)."""
    value = at(p, draft)
    return torch.cat([torch.zeros_like(draft[:, :1], dtype=torch.bool), value[:, 1:] >= value[:, :-1]], 1)


def repeating(
    p: Float[Tensor, "batch window vocab"], draft: Int[Tensor, "batch window"]
) -> Bool[Tensor, "batch window"]:
    """Whether each draft goes on a phrase: here the same code again, for want of SJD-PV's table of phrases."""
    return torch.cat([torch.zeros_like(draft[:, :1], dtype=torch.bool), draft[:, 1:] == draft[:, :-1]], 1)


def joint_keep(
    p: Float[Tensor, "batch window vocab"],
    q: Float[Tensor, "batch window vocab"],
    draft: Int[Tensor, "batch window"],
    goes_on: Bool[Tensor, "batch window"],
    drafted: Int[Tensor, " batch"],
    alpha: float = ALPHA,
) -> Float[Tensor, "batch window"]:
    """The chance that each draft is kept once those before it are.

    Args:
        p, q: the laws of the window's slots.
        draft: the drafts.
        goes_on: whether each is in the group of the one before; False begins a group.
        drafted: how many of each row's drafts are judged.
        alpha: share of a group's summed p that its tested tail must hold.
    """
    judged, group = row_mask(drafted, p.shape[1]), (~goes_on).cumsum(1)
    value, ratio = at(p, draft).where(judged, 0.0), (at(p, draft) / at(q, draft)).where(judged, 0.0)
    rank = torch.arange(p.shape[1], device=p.device)
    # [batch, i, k]: slot i in the group of slot k and not behind it; among those the tail that holds the share.
    within = (group[:, :, None] == group[:, None, :]) & (rank[:, None] <= rank)
    mass = value[:, :, None].where(within, 0.0)
    behind = mass.flip(1).cumsum(1).flip(1) - mass
    total = mass.sum(1, keepdim=True)
    tail = within & ((behind < alpha * total) | (total == 0))
    passes = ratio[:, :, None].where(tail, 1.0).prod(1).clamp(max=1).where(judged, 0.0)
    # What is kept at slot k is kept if any longer run of its group is.
    longer = within & judged[:, None, :]
    best = passes[:, None, :].where(longer, 0.0).amax(2)
    before = torch.cat([torch.ones_like(best[:, :1]), best[:, :-1]], 1).where(goes_on, 1.0)
    return torch.where(before > 0, best / before.where(before > 0, 1.0), 0.0).clamp(max=1)
