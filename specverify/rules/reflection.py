"""Maximal couplings of Gaussian laws: by reflection where covariances are equal, by the token rule where they are not.

With equal covariance S S', Delta = S^-1 (mean_p - mean_q) and e = Delta / |Delta|, a draft x ~ q is kept with min(1,
p(x) / q(x)) and is otherwise reflected: y = mean_p + S (I - 2 e e') S^-1 (x - mean_q). Then y ~ p, and the draft is
kept with probability 2 Phi(-|Delta| / 2) = 1 - TV(p, q), which no coupling exceeds. It takes one coin, and nothing is
drawn anew. It is the reflection-maximal coupling of Bou-Rabee, Eberle and Zimmer (arXiv 1805.00452), which De Bortoli
et al. (arXiv 2501.05370) made a rule of speculative sampling.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.special import ndtr

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import FullGaussian, Gaussian, check_fit, select
from specverify.rules.rejection import Decision, accept, thin

G = TypeVar("G", Gaussian, FullGaussian)


def distance(p: G, q: G) -> Float[Tensor, "*shape"]:
    """|Delta|, between means in units of p's standard deviations, in double precision."""
    norm: Tensor = torch.linalg.vector_norm(_delta(p, q), dim=-1)
    return norm


def overlap(p: G, q: G) -> Float[Tensor, "*shape"]:
    """beta = 1 - TV(p, q) = 2 Phi(-|Delta| / 2) of Gaussians with equal covariance (C1).

    Raises:
        InputError: covariances differ, shapes too, or a law is none.
    """
    check_fit(p, q)
    p.check("p")
    q.check("q")
    if not bool(equal_covariance(p, q).all()):
        raise InputError(
            "the covariances of p and q differ, so that their overlap has no closed form; "
            "estimate the mean of accept_probability under q"
        )
    tail: Tensor = ndtr(-distance(p, q) / 2)
    return 2 * tail


def equal_covariance(p: G, q: G) -> Bool[Tensor, "*shape"]:
    """Where p and q have one covariance, to the last bit of its factor."""
    if isinstance(p, FullGaussian) and isinstance(q, FullGaussian):
        return (p.cholesky == q.cholesky).flatten(-2).all(-1)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return (p.scale == q.scale).all(-1)
    raise InputError(
        f"a coupling of {type(p).__name__} and {type(q).__name__}: both laws must be Gaussian, or both FullGaussian"
    )


def reflect(p: G, q: G, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
    """The token that a rejected draft x turns into: its mirror image, for equal covariances; x moved, where p = q."""
    delta = _delta(p, q)
    length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True)
    direction = delta / length.where(length > 0, 1.0)
    noise = q.whiten(x)
    return p.colour(noise - 2 * direction * (direction * noise).sum(-1, keepdim=True)).to(x.dtype)


def couple(
    p: G,
    q: G,
    x: Float[Tensor, "*shape dim"],
    draws: Draws,
    where: Bool[Tensor, "*shape"],
    limit: int | None = None,
) -> Decision:
    """A token y ~ p that is the draft x ~ q as often as any coupling allows.

    Rejected drafts are reflected where covariances are equal, and thinned from the residual where they are not; `limit`
    bounds the trials of the latter (see `rejection.thin`).
    """
    check_fit(p, q, x, where)
    mirror = equal_covariance(p, q)
    accepted = accept(p, q, x, draws, where)
    rejected = where & ~accepted
    found = thin(p, q, draws, rejected & ~mirror, limit)
    token = torch.where((rejected & ~mirror)[..., None], found.x.to(x.dtype), x)
    rows = rejected & mirror
    token[rows] = reflect(select(p, rows), select(q, rows), x[rows])
    return Decision(token, accepted, found.trials, found.resolved, found.bias)


def _delta(p: G, q: G) -> Float[Tensor, "*shape dim"]:
    """S^-1 (mean_p - mean_q)."""
    return -p.whiten(q.mean)
