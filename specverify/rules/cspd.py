"""Continuous Speculative Decoding, CSpD (arXiv 2411.11925): its criterion as published, and as its code has it.

Both compare the draft's trajectory with another one: the target's, denoised again with the draft's own noise
(*trajectory alignment*, `trajectory.align`). As the squares of the shared noise cancel, the ratio of the two path
densities is

    r = Sigma p(x_0 | x_1^p) / q(x_0 | x_1^q),    Sigma = prod_{t=2..T} sqrt|Sigma_t^q| / sqrt|Sigma_t^p|,

and on rejection x_0 alone is drawn again, from the last transition after x_1^p. Given the noise that both share, x_0 is
a draft of q(. | x_1^q) for a token of p(. | x_1^p), and this the token rule with a wrong factor. The mean of r is that
of Sigma (C7), and tokens have the law of p only where Sigma is 1: where all transitions of draft and target share their
covariances. `trajectory.couple_last` leaves Sigma out and is exact for all chains. So nothing here claims to be
lossless. The code (github.com/MarkXCloud/CSpD, spec_decode_runner.py) departs from the paper in the numbers of a
`Criterion`, and in `released_token`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, Gaussian
from specverify.rules.rejection import Decision, Resolved, check_limit, log_ratio, thin


class LastStep(NamedTuple):
    """What is judged: a draft x of one law for a token of another.

    Attributes:
        p, q: the laws; of two trajectories their last transitions.
        x: the drafts.
        log_sigma: log Sigma; None where there are no steps before.
    """

    p: Any
    q: Any
    x: Float[Tensor, "*shape dim"]
    log_sigma: Float[Tensor, "*shape"] | None = None


@dataclass(frozen=True)
class Criterion:
    """CSpD's criterion, as published but for the numbers in which its code departs from the paper.

    Args:
        temperature: what standardised distances are divided by in accepting, not in replacing; 42 as released.
        power: Sigma's: 1 as published, -1 as released; at 0 it is left out, and the rule is exact.
        limit: proposals for what replaces a draft, None for as many as it takes. The paper sets none and does not say
            what happens to trajectories that keep nothing, which there are where Sigma < 1; 100 as released.
        zero: whether what is then not found is the zero vector, as released, and not one draw of p.

    Raises:
        InputError: for a temperature that is not positive, or a limit below 1.
    """

    temperature: float = 1.0
    power: float = 1.0
    limit: int | None = 1000
    zero: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature {self.temperature}: it is a positive number; 1 as published, 42 as released")
        check_limit(self.limit)

    def log_ratio(self, on: LastStep) -> Float[Tensor, "*shape"]:
        """The log of what a draft is accepted by, up to 1 (C7)."""
        ratio = log_ratio(on.p, on.q, on.x)
        ratio = ratio if self.temperature == 1 else self.tempered(ratio, on.p, on.q)
        return ratio if on.log_sigma is None else ratio + self.power * on.log_sigma

    def tempered(self, ratio: Float[Tensor, "*shape"], p: Gaussian, q: Gaussian) -> Float[Tensor, "*shape"]:
        """A log ratio of Gaussians, its distances divided by the temperature."""
        volumes = q.log_volume() - p.log_volume()
        return (ratio - volumes) / self.temperature**2 + volumes

    def replacement(self, on: LastStep, draws: Draws, where: Bool[Tensor, "*shape"]) -> Resolved:
        """What replaces a draft: a draw x of p that is kept with (1 - q(x) / (Sigma p(x)))+."""
        factor = None if on.log_sigma is None else self.power * on.log_sigma
        found = thin(on.p, on.q, draws, where, self.limit, factor)
        return found._replace(x=found.x.where(found.resolved[..., None], 0.0)) if self.zero else found

    def decide(self, on: LastStep, draws: Draws, where: Bool[Tensor, "*shape"]) -> Decision:
        """Each draft, or what replaces it, where asked; 0 elsewhere."""
        kept = draws.bernoulli(self.log_ratio(on).clamp(max=0).exp(), where)
        found = self.replacement(on, draws, where & ~kept)
        token = torch.where(kept[..., None], on.x, found.x.to(on.x.dtype))
        return Decision(token, kept, found.trials, found.resolved, found.bias)


PUBLISHED = Criterion()
RELEASED = Criterion(temperature=42.0, power=-1.0, limit=100, zero=True)


def last_step(
    p: Chain, q: Chain, path: Float[Tensor, "*shape steps dim"], aligned: Float[Tensor, "*shape steps dim"]
) -> LastStep:
    """The draft token `path[..., 0, :]`, given the rest of its trajectory and the target's with the same noise."""
    return LastStep(last(p, aligned), last(q, path), path[..., 0, :], log_sigma(p, q, path, aligned))


def log_sigma(
    p: Chain, q: Chain, path: Float[Tensor, "*shape steps dim"], aligned: Float[Tensor, "*shape steps dim"]
) -> Float[Tensor, "*shape"]:
    """log Sigma, from the transitions to x_(T-1) .. x_1."""
    total = torch.zeros(p.shape, dtype=torch.float64, device=path.device)
    for t in range(p.steps, 1, -1):
        mine, theirs = p.transition(t, aligned[..., t, :]), q.transition(t, path[..., t, :])
        total = total + theirs.log_volume() - mine.log_volume()
    return total


def last(chain: Chain, path: Float[Tensor, "*shape steps dim"]) -> Gaussian:
    """The law of x_0 given the trajectory's x_1."""
    return chain.transition(1, path[..., 1, :])


def released_token(chain: Chain, path: Float[Tensor, "*shape steps dim"]) -> Float[Tensor, "*shape dim"]:
    """What the released code emits for a trajectory: the mean of its last transition, to which it adds no noise."""
    return last(chain, path).mean
