"""Continuous Speculative Decoding, CSpD (arXiv 2411.11925): its criterion as published, and as its code has it.

Both compare the draft's trajectory with another one: the target's, denoised again with the draft's own noise
(*trajectory alignment*, `trajectory.align`). As the squares of the shared noise cancel, the ratio of the two path
densities is

    r = Sigma p(x_0 | x_1^p) / q(x_0 | x_1^q),    Sigma = prod_{t=2..T} sqrt|Sigma_t^q| / sqrt|Sigma_t^p|,

and on rejection x_0 alone is drawn again, from the last transition after x_1^p. Given the noise that both share, x_0 is
a draft of q(. | x_1^q) for a token of p(. | x_1^p), and this the token rule with a wrong factor. The mean of r is that
of Sigma (C7), and tokens have the law of p only where Sigma is 1: where all transitions of draft and target share their
covariances. `trajectory.couple_last` leaves Sigma out and is exact for all chains. So nothing here claims to be
lossless. The code (github.com/MarkXCloud/CSpD, spec_decode_runner.py) departs from the paper in what the functions
named `released` say.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.draws import Draws
from specverify.laws import Chain, Gaussian
from specverify.rules.rejection import Resolved, thin

INNER_TEMPERATURE = 42.0
"""What the released code divides the standardised distances by, in accepting but not in resampling."""
RELEASED_TRIALS = 100
"""Proposals after which the released code gives up."""


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


def log_surrogate(
    p: Chain, q: Chain, path: Float[Tensor, "*shape steps dim"], aligned: Float[Tensor, "*shape steps dim"]
) -> Float[Tensor, "*shape"]:
    """log r as published: a draft, `path[..., 0, :]`, is accepted with probability min(1, r) (C7)."""
    x = path[..., 0, :]
    return log_sigma(p, q, path, aligned) + last(p, aligned).log_prob(x) - last(q, path).log_prob(x)


def resample(
    p: Chain,
    q: Chain,
    path: Float[Tensor, "*shape steps dim"],
    aligned: Float[Tensor, "*shape steps dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int = 1000,
) -> Resolved:
    """The replacement as published: x_0 from p(. | x_1^p), kept with (1 - q(x_0 | x_1^q) / (Sigma p(x_0 | x_1^p)))+.

    For Sigma < 1 there are trajectories that keep nothing: such rows are reported as not resolved, and take one draw
    of p(. | x_1^p). The paper sets no limit and does not say what happens then.
    """
    factor = log_sigma(p, q, path, aligned)
    return thin(last(p, aligned), last(q, path), draws, where, limit, factor)


def log_released(
    p: Chain, q: Chain, path: Float[Tensor, "*shape steps dim"], aligned: Float[Tensor, "*shape steps dim"]
) -> Float[Tensor, "*shape"]:
    """The log ratio as released: distances divided by 42, and Sigma upside down."""
    x, mine, theirs = path[..., 0, :], last(p, aligned), last(q, path)
    squares = (theirs.whiten(x).square() - mine.whiten(x).square()).sum(-1)
    volumes = theirs.log_volume() - mine.log_volume()
    return squares / (2 * INNER_TEMPERATURE**2) + volumes - log_sigma(p, q, path, aligned)


def resample_released(
    p: Chain,
    q: Chain,
    path: Float[Tensor, "*shape steps dim"],
    aligned: Float[Tensor, "*shape steps dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
) -> Resolved:
    """The replacement as released: at temperature 1, Sigma upside down; after 100 proposals the zero vector."""
    factor = -log_sigma(p, q, path, aligned)
    found = thin(last(p, aligned), last(q, path), draws, where, RELEASED_TRIALS, factor)
    return found._replace(x=found.x.where(found.resolved[..., None], 0.0))


def released_token(chain: Chain, path: Float[Tensor, "*shape steps dim"]) -> Float[Tensor, "*shape dim"]:
    """What the released code emits for a trajectory: the mean of its last transition, to which it adds no noise."""
    return last(chain, path).mean
