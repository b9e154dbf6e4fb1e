"""Exact rules for diffusion heads, whose tokens have no density to compare: on trajectories, and step by step.

*On path space* a draft is its trajectory Y = (x_T .. x_0) ~ q, kept with min(1, p(Y) / q(Y)) and otherwise replaced by
a trajectory of the residual, found by thinning those of p. The token then has the law of p's chain. The draft is kept
with 1 - TV of the two laws of trajectories, which is never above that of the two laws of tokens (C5), and which falls
with every step where two transitions differ in their covariance.

*Step by step* each state of p's trajectory is coupled with the draft's state, given the states before (De Bortoli et
al., arXiv 2501.05370): by reflection where two transitions share their covariance, by the token rule elsewhere. Given
the past each state has the law of p's transition, so that the whole trajectory has that of p's chain. The draft is kept
if the trajectories end in the same token. They start together as often as any coupling allows, and may meet again.

*At the last step* alone: the target's trajectory is made from the draft's noise down to x_1, and x_0 is coupled, given
both x_1. This is the alignment of CSpD (arXiv 2411.11925) without its factor Sigma, which is what biases it: given the
noise that both share, the draft token is one of q(. | x_1^q), and the token wanted is one of p(. | x_1^p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, check_fit
from specverify.rules.reflection import couple


@dataclass(frozen=True)
class Paths:
    """The law of a chain's trajectories, x_0 .. x_T in one row: every rule of `rejection` applies to it."""

    chain: Chain

    @property
    def dim(self) -> int:
        """Coordinates of a trajectory, (T + 1) times those of a token."""
        return (self.chain.steps + 1) * self.chain.dim

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return self.chain.shape

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """See Law."""
        return self.chain.path_log_prob(x.unflatten(-1, (self.chain.steps + 1, self.chain.dim)))

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """See Law."""
        return self.chain.path(draws, where).flatten(-2)

    def colour(self, noise: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The trajectory made from the standard normal noise of all its steps, in double precision."""
        each = noise.unflatten(-1, (self.chain.steps + 1, self.chain.dim))
        states = [self.chain.first().colour(each[..., self.chain.steps, :])]
        for t in range(self.chain.steps, 0, -1):
            states.append(self.chain.transition(t, states[-1]).colour(each[..., t - 1, :]))
        return torch.stack(states[::-1], -2).flatten(-2)

    def check(self, what: str) -> None:
        """See Law."""
        self.chain.check(what)


class Walked(NamedTuple):
    """A trajectory of p's chain beside the draft's.

    Attributes:
        path: Float[*shape, T + 1, dim], the trajectory, the token first; 0 where none was asked for.
        same: Bool[*shape, T + 1], where it is the draft's; `same[..., 0]` says that the draft token is accepted.
        resolved: Bool[*shape], False where a limit of trials ended a step's search for a residual.
        bias: how far from p, in total variation, the limit can have moved the law of one trajectory.
    """

    path: Float[Tensor, "*shape steps dim"]
    same: Bool[Tensor, "*shape steps"]
    resolved: Bool[Tensor, "*shape"]
    bias: float


def couple_steps(
    p: Chain,
    q: Chain,
    path: Float[Tensor, "*shape steps dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int | None = None,
) -> Walked:
    """A trajectory of p's chain, coupled with the draft's, Float[*shape, T + 1, dim] ~ q, at every step."""
    check_chains(p, q, path, where)
    steps = p.steps
    found = couple(p.first(), q.first(), path[..., steps, :], draws, where, limit)
    states, same = [found.x], [found.accepted]
    resolved, bias = found.resolved, found.bias
    for t in range(steps, 0, -1):
        mine, theirs = p.transition(t, states[-1]), q.transition(t, path[..., t, :])
        found = couple(mine, theirs, path[..., t - 1, :], draws, where, limit)
        states.append(found.x)
        same.append(found.accepted)
        resolved, bias = resolved & found.resolved, bias + found.bias
    walked = torch.stack(states[::-1], -2).where(where[..., None, None], 0.0)
    return Walked(walked, torch.stack(same[::-1], -1), resolved, min(bias, 1.0))


def couple_last(
    p: Chain,
    q: Chain,
    path: Float[Tensor, "*shape steps dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int | None = None,
) -> Walked:
    """A trajectory of p's chain from the noise of the draft's, but for the token, which is coupled with the draft."""
    check_chains(p, q, path, where)
    aligned = align(p, q, path)
    mine, theirs = p.transition(1, aligned[..., 1, :]), q.transition(1, path[..., 1, :])
    found = couple(mine, theirs, path[..., 0, :], draws, where, limit)
    walked = torch.cat([found.x[..., None, :], aligned[..., 1:, :]], -2).where(where[..., None, None], 0.0)
    same = (walked == path).all(-1) & where[..., None]
    return Walked(walked, same, found.resolved, found.bias)


def align(p: Chain, q: Chain, path: Float[Tensor, "*shape steps dim"]) -> Float[Tensor, "*shape steps dim"]:
    """The target's trajectory from the noise of the draft's."""
    check_chains(p, q, path)
    steps = p.steps
    states = [p.first().colour(q.first().whiten(path[..., steps, :])).to(path.dtype)]
    for t in range(steps, 0, -1):
        noise = q.transition(t, path[..., t, :]).whiten(path[..., t - 1, :])
        states.append(p.transition(t, states[-1]).colour(noise).to(path.dtype))
    return torch.stack(states[::-1], -2)


def check_chains(p: Chain, q: Chain, path: Tensor, where: Tensor | None = None) -> None:
    """Raise InputError unless two chains have the same steps, dimension and shape, and `path` a trajectory of each."""
    if (p.steps, p.dim, p.shape) != (q.steps, q.dim, q.shape):
        raise InputError(
            f"p has {p.steps} steps, dimension {p.dim} and shape {p.shape}, q {q.steps}, {q.dim} and {q.shape}; "
            "trajectories are compared step by step"
        )
    expected = (*p.shape, p.steps + 1, p.dim)
    if tuple(path.shape) != expected:
        raise InputError(f"the drafts have shape {tuple(path.shape)}, expected {expected}: trajectories x_0 .. x_T")
    check_fit(p, q, where=where)
