"""A diffusion head that is not linear, and whose tokens have a law that is known."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.laws import Gaussian, Mixture

KEEPS, NOISE = 0.95, 0.15
"""What a later step keeps of the state, and its noise, in units of the condition's mean standard deviation."""


class Fork:
    """The first transition goes one of two ways, by a coordinate of the noise; the others are linear.

    The condition is a Mixture of two: the state behind the first transition has its law, so that a token's is one of
    two Gaussians, too. What takes a head for linear, or follows one way alone, is far off.

    Args:
        dim: coordinates of a token.
        steps: T.
    """

    def __init__(self, dim: int, steps: int) -> None:
        self.dim, self.steps = dim, steps

    def first(self, condition: Mixture) -> Gaussian:
        """The law of x_T, standard normal."""
        mean = torch.zeros_like(condition.mean[..., 0, :])
        return Gaussian(mean, torch.ones_like(mean))

    def transition(self, condition: Mixture, t: int, x: Float[Tensor, "*shape dim"]) -> Gaussian:
        """The law of x_(t-1) given x_t."""
        if t < self.steps:
            return Gaussian(KEEPS * x, (NOISE * condition.scale.mean(-2)).expand_as(x))
        one = (x[..., 0] < torch.special.ndtri(condition.log_weight[..., 0].exp()))[..., None]
        mean, scale = condition.mean, condition.scale
        return Gaussian(*(torch.where(one, each[..., 0, :], each[..., 1, :]) for each in (mean, scale)))

    def marginal(self, condition: Mixture) -> Mixture:
        """The law of x_0."""
        kept, noise = KEEPS ** (self.steps - 1), (NOISE * condition.scale.mean(-2, keepdim=True)).square()
        added = noise * sum(KEEPS ** (2 * step) for step in range(self.steps - 1))
        scale = (kept**2 * condition.scale.square() + added).sqrt()
        return Mixture(condition.log_weight, kept * condition.mean, scale)

    def check(self, condition: Mixture, what: str) -> None:
        """Raise InputError unless the condition is a law."""
        condition.check(what)
