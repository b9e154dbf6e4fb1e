"""How far a token's law is from p under CSpD's criterion, or under a limit of trials."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.decoders.continuous.cspd import Surrogate
from specverify.decoders.judging import TokenRule
from specverify.draws import Draws
from specverify.laws import repeated

POINTS = 256
"""Random points for the distance of one token's law from p."""


def bias_of(
    rule: Surrogate | TokenRule,
    p: Any,
    q: Any,
    draft: Float[Tensor, "some width"],
    draws: Draws,
    points: int = POINTS,
) -> Float[Tensor, " some"]:
    """Total variation between p and the law of the token that comes out of judging a draft of q, by random points.

    For CSpD it is the distance of the last transitions, given the noise that the draft's trajectory is made of; the
    mean of it over that noise bounds the distance of the tokens' laws, which is not known. Points come in equal parts
    from p and q. What is estimated for an exact rule is 0 whatever the points.

    Args:
        rule: how drafts are judged; with a limit, or CSpD's.
        p, q: of shape [some], as the rule views them.
        draft: one for each, as the rule views them.
        draws: where the points come from.
        points: for each.
    """
    factor = torch.zeros(len(draft), dtype=torch.float64, device=draft.device)
    limit = rule.criterion.limit if isinstance(rule, Surrogate) else rule.limit
    if isinstance(rule, Surrogate):
        on = rule.last_step(p, q, draft)
        assert on.log_sigma is not None  # of trajectories
        p, q, factor = on.p, on.q, rule.criterion.power * on.log_sigma
    mine, theirs, factor = repeated(p, points // 2), repeated(q, points // 2), factor[:, None]
    everywhere = torch.ones(mine.shape, dtype=torch.bool, device=draft.device)
    x = [law.sample(draws, everywhere) for law in (mine, theirs)]
    log_p, log_q = (torch.cat([law.log_prob(part) for part in x], 1) for law in (mine, theirs))
    ratio = log_p - log_q
    accept = ratio
    if isinstance(rule, Surrogate):
        accept = rule.criterion.tempered(ratio, repeated(p, 1), repeated(q, 1)) + factor
    # Densities over that of the points, (p + q) / 2.
    density_p, density_q = 2 * ratio.sigmoid(), 2 * (-ratio).sigmoid()
    kept = density_q * accept.clamp(max=0).exp()
    residual = density_p * -torch.expm1(-(ratio + factor).clamp(min=0))
    # Masses by what is left over: where the two leave the same, as for an exact rule, the estimates are the same.
    rejected = (1 - kept.mean(1, keepdim=True)).clamp(0, 1)
    found = (1 - (density_p - residual).mean(1, keepdim=True)).clamp(0, 1)
    found = torch.where(residual.amax(1, keepdim=True) > 0, found, 0.0)
    failed = torch.zeros_like(found) if limit is None else (1 - found) ** limit
    redrawn = residual / found.clamp(min=1e-12) * (1 - failed) + density_p * failed
    return (kept + rejected * redrawn - density_p).abs().mean(1) / 2
