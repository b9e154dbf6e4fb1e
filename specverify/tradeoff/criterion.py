"""CSpD's criterion with its departures as numbers, and how far a token's law is from p under it, or under a limit.

The published criterion (arXiv 2411.11925) keeps a draft x with min(1, Sigma p(x) / q(x)), where p and q are the last
transitions of two trajectories with one noise; the released code divides the squared distances in p / q by 42^2 and has
Sigma upside down (`rules/cspd.py`). Here both are numbers, so that what each buys and costs can be swept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.decoders.continuous.coupling import split, trajectories
from specverify.decoders.continuous.cspd import Published
from specverify.decoders.judging import Coupled, TokenRule
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Gaussian, Law, repeated
from specverify.rules import cspd
from specverify.rules.rejection import thin
from specverify.rules.trajectory import align

POINTS = 256
"""Random points for the distance of one token's law from p."""


@dataclass(frozen=True)
class Surrogate:
    """CSpD's coupling; with the defaults as published (`decoders.continuous.Published`).

    Args:
        temperature: what standardised distances are divided by in accepting, not in redrawing; 42 as released.
        power: Sigma's: 1 as published, -1 as released; at 0 it is left out, and the rule is exact.
        limit: proposals for each rejected draft, after which one is taken as it is.

    Raises:
        InputError: for a temperature that is not positive.
    """

    temperature: float = 1.0
    power: float = 1.0
    limit: int = 1000
    name: str = ""
    bias: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature {self.temperature}: it is a positive number; 1 as published, 42 as released")

    def view(self, law: Any) -> Law:
        """The law of trajectories."""
        return trajectories(law, self)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling; of the trajectory only the token is replaced."""
        path, mine, theirs, factor = self.last(p, q, draft)
        x = path[..., 0, :]
        ratio = self.log_ratio(mine, theirs, mine.log_prob(x) - theirs.log_prob(x), factor)
        kept = draws.bernoulli(ratio.clamp(max=0).exp(), where)
        rejected = where & ~kept
        found = thin(mine, theirs, draws, rejected, self.limit, factor)
        token = torch.where(rejected[..., None], found.x.to(draft.dtype), x)
        return Coupled(torch.cat([token, draft[..., p.chain.dim :]], -1), kept)

    def last(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"]
    ) -> tuple[Float[Tensor, "*shape steps dim"], Gaussian, Gaussian, Float[Tensor, "*shape"]]:
        """The draft's trajectory; the last transitions of the target's with its noise, and of its own; Sigma's log."""
        path = split(q, draft)
        aligned = align(p.chain, q.chain, path)
        factor = self.power * cspd.log_sigma(p.chain, q.chain, path, aligned)
        return path, cspd.last(p.chain, aligned), cspd.last(q.chain, path), factor

    def log_ratio(
        self, mine: Gaussian, theirs: Gaussian, log_ratio: Float[Tensor, "*shape"], factor: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*shape"]:
        """What a draft is accepted by, from log p(x) - log q(x) of the last transitions."""
        volumes = theirs.log_volume() - mine.log_volume()
        return (log_ratio - volumes) / self.temperature**2 + volumes + factor


def bias_of(
    rule: Surrogate | Published | TokenRule,
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
    if isinstance(rule, Published):
        rule = Surrogate(limit=rule.limit)
    factor = torch.zeros(len(draft), dtype=torch.float64, device=draft.device)
    if isinstance(rule, Surrogate):
        _, p, q, factor = rule.last(p, q, draft)
    mine, theirs, factor = repeated(p, points // 2), repeated(q, points // 2), factor[:, None]
    everywhere = torch.ones(mine.shape, dtype=torch.bool, device=draft.device)
    x = [law.sample(draws, everywhere) for law in (mine, theirs)]
    log_p, log_q = (torch.cat([law.log_prob(part) for part in x], 1) for law in (mine, theirs))
    ratio = log_p - log_q
    accept = ratio
    if isinstance(rule, Surrogate):
        accept = rule.log_ratio(repeated(p, 1), repeated(q, 1), ratio, factor)
    # Densities over that of the points, (p + q) / 2.
    density_p, density_q = 2 * ratio.sigmoid(), 2 * (-ratio).sigmoid()
    kept = density_q * accept.clamp(max=0).exp()
    residual = density_p * -torch.expm1(-(ratio + factor).clamp(min=0))
    # Masses by what is left over: where the two leave the same, as for an exact rule, the estimates are the same.
    rejected = (1 - kept.mean(1, keepdim=True)).clamp(0, 1)
    found = (1 - (density_p - residual).mean(1, keepdim=True)).clamp(0, 1)
    found = torch.where(residual.amax(1, keepdim=True) > 0, found, 0.0)
    failed = torch.zeros_like(found) if rule.limit is None else (1 - found) ** rule.limit
    redrawn = residual / found.clamp(min=1e-12) * (1 - failed) + density_p * failed
    return (kept + rejected * redrawn - density_p).abs().mean(1) / 2
