"""Mixtures of Gaussians with independent coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws.gaussian import LOG_ROOT_TAU
from specverify.laws.law import check_mean, check_scale


@dataclass(frozen=True)
class Mixture:
    """Mixtures of `k` Gaussians each.

    Args:
        log_weight: Float[*shape, k], logs of weights that sum to 1; -inf for none.
        mean: Float[*shape, k, dim].
        scale: Float[*shape, k, dim], standard deviations.

    Raises:
        InputError: shapes or types that do not fit.
    """

    log_weight: Tensor
    mean: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.scale.shape or self.mean.shape[:-1] != self.log_weight.shape or self.mean.ndim < 2:
            raise InputError(
                f"a mixture has log weights of shape {tuple(self.log_weight.shape)}, means of {tuple(self.mean.shape)} "
                f"and scales of {tuple(self.scale.shape)}; they are [*shape, k], [*shape, k, dim] and [*shape, k, dim]"
            )
        dtypes = {self.log_weight.dtype, self.mean.dtype, self.scale.dtype}
        if len(dtypes) > 1 or not self.mean.is_floating_point():
            raise InputError(f"a mixture has parameters of dtypes {dtypes}; use one floating point type")

    @property
    def dim(self) -> int:
        """Coordinates of a token."""
        return self.mean.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return tuple(self.log_weight.shape[:-1])

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """See Law."""
        return torch.logsumexp(self.log_weight + self._coordinates(x)[1].sum(-1), -1)

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """See Law."""
        component = draws.categorical(self.log_weight.exp(), where)[..., None, None].expand(*self.shape, 1, self.dim)
        mean = self.mean.gather(-2, component).squeeze(-2)
        used = where[..., None].expand_as(mean)
        noise = draws.normal(mean, used)
        return (noise * self.scale.gather(-2, component).squeeze(-2) + mean).where(used, 0.0)

    def rosenblatt(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The distribution function of each coordinate given those before it."""
        z, log_density = self._coordinates(x)
        before = log_density.cumsum(-1) - log_density
        share = (self.log_weight[..., None] + before).softmax(-2)  # of each component, given the coordinates before
        return torch.sum(share * torch.special.ndtr(z), -2).clamp(0, 1)

    def check(self, what: str) -> None:
        """See Law."""
        check_mean(self.mean, what)
        check_scale(self.scale, what)
        error = (self.log_weight.double().logsumexp(-1).exp() - 1).abs()
        tolerance = 1e-9 if self.log_weight.dtype == torch.float64 else 1e-4
        if not bool((error <= tolerance).all()):
            raise InputError(
                f"{what} has weights that do not sum to 1: they are off by {float(error.max()):.3g}; "
                "pass log weights through log_softmax"
            )

    def _coordinates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each component's standardised coordinates and their log densities, both Float64[*shape, k, dim]."""
        z = (x.double()[..., None, :] - self.mean) / self.scale
        return z, -0.5 * z.square() - self.scale.double().log() - LOG_ROOT_TAU
