"""Gaussian laws: with independent coordinates, and with any covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.special import ndtr

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws.law import check_mean, check_scale

LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Gaussians with independent coordinates.

    Args:
        mean: Float[*shape, dim].
        scale: Float[*shape, dim], standard deviations.

    Raises:
        InputError: the two differ in shape, or are not floating point.
    """

    mean: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.scale.shape or self.mean.ndim == 0:
            raise InputError(
                f"a Gaussian has means of shape {tuple(self.mean.shape)} and scales of {tuple(self.scale.shape)}; "
                "both are [*shape, dim]"
            )
        _check_dtypes(self.mean, self.scale)

    @property
    def dim(self) -> int:
        """Coordinates of a token."""
        return self.mean.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return tuple(self.mean.shape[:-1])

    def whiten(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The standard normal vector that x is made from, in double precision."""
        return (x.double() - self.mean) / self.scale

    def colour(self, noise: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The token made from a standard normal vector, in double precision."""
        return noise.double() * self.scale + self.mean

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """See Law."""
        return -0.5 * self.whiten(x).square().sum(-1) - self.log_volume() - self.dim * LOG_ROOT_TAU

    def log_volume(self) -> Float[Tensor, "*shape"]:
        """Half the log determinant of the covariance."""
        return self.scale.double().log().sum(-1)

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """See Law."""
        used = where[..., None].expand_as(self.mean)
        return (draws.normal(self.mean, used) * self.scale + self.mean).where(used, 0.0)

    def rosenblatt(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The distribution function of each coordinate given those before it."""
        return ndtr(self.whiten(x))  # type: ignore[no-any-return]

    def check(self, what: str) -> None:
        """See Law."""
        check_mean(self.mean, what)
        check_scale(self.scale, what)


@dataclass(frozen=True)
class FullGaussian:
    """Gaussians with any covariance.

    Args:
        mean: Float[*shape, dim].
        cholesky: Float[*shape, dim, dim], the lower triangular factor of the covariance, its diagonal positive.

    Raises:
        InputError: shapes or types that do not fit.
    """

    mean: Tensor
    cholesky: Tensor

    def __post_init__(self) -> None:
        if self.mean.ndim == 0 or self.cholesky.shape != (*self.mean.shape, self.mean.shape[-1]):
            raise InputError(
                f"a Gaussian has means of shape {tuple(self.mean.shape)} and Cholesky factors of "
                f"{tuple(self.cholesky.shape)}; they are [*shape, dim] and [*shape, dim, dim]"
            )
        _check_dtypes(self.mean, self.cholesky)

    @property
    def dim(self) -> int:
        """Coordinates of a token."""
        return self.mean.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return tuple(self.mean.shape[:-1])

    def whiten(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The standard normal vector that x is made from, in double precision."""
        centred = (x.double() - self.mean)[..., None]
        noise: Tensor = torch.linalg.solve_triangular(self.cholesky.double(), centred, upper=False)
        return noise.squeeze(-1)

    def colour(self, noise: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The token made from a standard normal vector, in double precision."""
        return (self.cholesky.double() @ noise.double()[..., None]).squeeze(-1) + self.mean

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """See Law."""
        return -0.5 * self.whiten(x).square().sum(-1) - self.log_volume() - self.dim * LOG_ROOT_TAU

    def log_volume(self) -> Float[Tensor, "*shape"]:
        """Half the log determinant of the covariance."""
        return self.cholesky.double().diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """See Law."""
        used = where[..., None].expand_as(self.mean)
        return self.colour(draws.normal(self.mean, used)).to(self.mean.dtype).where(used, 0.0)

    def rosenblatt(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The distribution function of each coordinate given those before it: the factor is triangular."""
        return ndtr(self.whiten(x))  # type: ignore[no-any-return]

    def check(self, what: str) -> None:
        """See Law."""
        check_mean(self.mean, what)
        check_scale(self.cholesky.diagonal(dim1=-2, dim2=-1), what)
        if not bool(self.cholesky.isfinite().all()) or bool(self.cholesky.triu(1).any()):
            raise InputError(
                f"{what} has a Cholesky factor that is not lower triangular and finite; use from_covariance"
            )


def from_covariance(mean: Tensor, covariance: Tensor) -> FullGaussian:
    """The Gaussians of given means, Float[*shape, dim], and covariances, Float[*shape, dim, dim].

    Raises:
        InputError: shapes that do not fit, or a covariance that is not symmetric and positive definite.
    """
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise InputError(f"a covariance has shape {tuple(covariance.shape)}; covariances are [*shape, dim, dim]")
    gap = float((covariance - covariance.mT).abs().max()) if covariance.numel() else 0.0
    if not gap <= 1e-5 * float(covariance.abs().max()):
        raise InputError(f"a covariance is not symmetric: it differs from its transpose by {gap:.3g}")
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool((failed != 0).any()):
        smallest = float(torch.linalg.eigvalsh(covariance).amin())
        raise InputError(
            f"a covariance is not positive definite: its smallest eigenvalue is {smallest:.3g}; "
            "add a multiple of the identity, or repair the network that gave it"
        )
    return FullGaussian(mean, factor)


def _check_dtypes(mean: Tensor, spread: Tensor) -> None:
    if not mean.is_floating_point() or mean.dtype != spread.dtype:
        raise InputError(
            f"a Gaussian has means of dtype {mean.dtype} and scales of {spread.dtype}; use one floating point type"
        )
