"""Means and covariances of laws, in closed form."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.laws.chain import Chain
from specverify.laws.gaussian import FullGaussian, Gaussian
from specverify.laws.mixture import Mixture


def moments(
    law: Gaussian | FullGaussian | Mixture | Chain,
) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim dim"]]:
    """The mean and the covariance of each distribution, in double precision.

    Raises:
        InputError: a chain whose marginal is not known.
    """
    if isinstance(law, Chain):
        return moments(law.marginal())
    if isinstance(law, Gaussian):
        return law.mean.double(), torch.diag_embed(law.scale.double().square())
    if isinstance(law, FullGaussian):
        factor = law.cholesky.double()
        return law.mean.double(), factor @ factor.mT
    weight = law.log_weight.double().softmax(-1)[..., None]
    mean = torch.sum(weight * law.mean, -2)
    away = law.mean - mean[..., None, :]
    within = torch.diag_embed(torch.sum(weight * law.scale.double().square(), -2))
    return mean, within + (weight * away).mT @ away
