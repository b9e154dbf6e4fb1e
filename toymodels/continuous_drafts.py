"""Draft models for targets over continuous tokens: every law of the target, altered in one way.

    shifted     means moved by one standard deviation in all: TV = 0.38 for Gaussians
    near        moved by a fortieth: TV = 0.01
    disjoint    moved by 40
    wider       standard deviations times 1.5^(1 / sqrt(dim)), so that the overlap depends little on the dimension
    narrower    divided by it: p / q has no bound
    leaning     means moved by one standard deviation, by other amounts in each coordinate
    other       in means, standard deviations, correlations and weights, each by an amount that depends on the law
    identical   the target itself

What is altered in one way, alike in all coordinates or at all positions, makes some wrong formulas right. Of chains
towards known data, shifting moves the data, which leaves the covariances of all transitions, and widening stretches the
transitions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.catalogue import near
from specverify.errors import InputError
from specverify.laws import Chain, ContinuousModel, Denoised, FullGaussian, Gaussian, Law, Mixture
from specverify.model import Context

_MOVED = {"shifted": 1.0, "near": 0.025, "disjoint": 40.0, "leaning": 1.0}
_STRETCHED = {"wider": 1.5, "narrower": 1 / 1.5}
_OTHER = "other"


class Altered:
    """A draft model: a target whose every law is altered in one way; a forward pass costs one of the target."""

    def __init__(self, target: ContinuousModel, kind: str) -> None:
        self.target, self.kind = target, kind
        self.name, self.dim, self.length = f"{kind}:{target.name}", target.dim, target.length
        self.dtype, self.device = target.dtype, target.device

    def start(self, batch: int) -> Context:
        """The target's context."""
        return self.target.start(batch)

    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Law:
        """One forward pass."""
        return alter(self.kind, self.target.laws(context, draft))

    def advance(self, context: Context, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> Context:
        """The target's context after the first `count` tokens of each row."""
        return self.target.advance(context, tokens, count)


def kinds() -> tuple[str, ...]:
    """The kinds of draft model."""
    return (*_MOVED, *_STRETCHED, _OTHER, "identical")


def draft(kind: str, target: ContinuousModel) -> ContinuousModel:
    """The draft model of that kind for `target`; for `identical`, the target itself.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in kinds():
        raise InputError(f"unknown draft model {kind!r}; {near(kind, kinds())}")
    return target if kind == "identical" else Altered(target, kind)


def alter(kind: str, law: Law) -> Law:
    """The law of a draft model of that kind beside a target law."""
    if isinstance(law, Chain) and isinstance(law.condition, Mixture):
        return Chain(alter(kind, law.condition), law.head)
    if kind == _OTHER:
        return _otherwise(law)
    if kind in _MOVED:
        along = _leaning if kind == "leaning" else _alternating
        return _move(law, _MOVED[kind] * along(law.dim, next(tree.tensors(law))))
    return _stretch(law, _STRETCHED[kind] ** (law.dim**-0.5))


def _otherwise(law: Law) -> Law:
    """A law altered in all that it has, by amounts that are functions of it: other ones after each prefix, too."""
    if isinstance(law, Chain) and isinstance(law.condition, Denoised):
        data, stretch = law.condition.data, law.condition.stretch
        factor = (0.3 * torch.sin(3 * data.mean[..., 0, 0])).exp()
        return Chain(Denoised(_another(data), stretch * factor), law.head)
    if isinstance(law, Mixture):
        return _another(law)
    if isinstance(law, Gaussian):
        return Gaussian(*_moved_and_stretched(law.mean, law.scale))
    if isinstance(law, FullGaussian):
        scale = law.cholesky.diagonal(dim1=-2, dim2=-1)
        mean, stretched = _moved_and_stretched(law.mean, scale)
        share = 0.5 + 0.4 * torch.sin(4 * law.mean[..., None] - 3 * law.mean[..., None, :])
        below = law.cholesky.tril(-1) * share * (stretched / scale)[..., None]
        return FullGaussian(mean, below + stretched.diag_embed())
    raise _unknown(law)


def _another(law: Mixture) -> Mixture:
    """Each component altered by itself, and what it weighs."""
    weight = torch.log_softmax(law.log_weight + torch.sin(7 * law.mean.sum(-1)), -1)
    return Mixture(weight, *_moved_and_stretched(law.mean, law.scale))


def _moved_and_stretched(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Each coordinate by an amount of its own, less in many."""
    some, width = torch.arange(mean.shape[-1], dtype=mean.dtype, device=mean.device), mean.shape[-1] ** -0.5
    moved = mean + 0.8 * width * scale * torch.sin(5 * mean + some)
    return moved, scale * (0.5 * width * torch.sin(4 * mean + 3 * scale + 2 * some)).exp()


def _move(law: Law, by: Float[Tensor, " dim"]) -> Law:
    """A law moved by a vector in units of its standard deviations."""
    if isinstance(law, Chain) and isinstance(law.condition, Denoised):
        return Chain(Denoised(_moved_mixture(law.condition.data, by), law.condition.stretch), law.head)
    if isinstance(law, Mixture):
        return _moved_mixture(law, by)
    if isinstance(law, Gaussian):
        return Gaussian(law.mean + by * law.scale, law.scale)
    if isinstance(law, FullGaussian):
        return FullGaussian(law.colour(by.expand_as(law.mean)).to(law.mean.dtype), law.cholesky)
    raise _unknown(law)


def _moved_mixture(law: Mixture, by: Tensor) -> Mixture:
    """All components moved by one vector: an average scale is the unit."""
    return Mixture(law.log_weight, law.mean + by * law.scale.mean(-2, keepdim=True), law.scale)


def _stretch(law: Law, factor: float | Tensor) -> Law:
    """A law whose standard deviations, or whose transitions', are multiplied, by one factor or one a coordinate."""
    if isinstance(law, Chain) and isinstance(law.condition, Denoised):
        return Chain(Denoised(law.condition.data, law.condition.stretch * factor), law.head)
    if isinstance(law, Mixture):
        return Mixture(law.log_weight, law.mean, law.scale * factor)
    if isinstance(law, Gaussian):
        return Gaussian(law.mean, law.scale * factor)
    if isinstance(law, FullGaussian):
        return FullGaussian(law.mean, law.cholesky * factor)
    raise _unknown(law)


def _unknown(law: Law) -> InputError:
    return InputError(f"no draft is known for this {type(law).__name__}; give a draft model of your own")


def _alternating(dim: int, like: Tensor) -> Float[Tensor, " dim"]:
    """The unit vector (1, -1, 1, ..) / sqrt(dim)."""
    sign = torch.ones(dim, dtype=like.dtype, device=like.device)
    sign[1::2] = -1
    return sign / math.sqrt(dim)


def _leaning(dim: int, like: Tensor) -> Float[Tensor, " dim"]:
    """The unit vector along (1, -1/2, 1/3, ..)."""
    size = 1 / torch.arange(1, dim + 1, dtype=like.dtype, device=like.device)
    scale: Tensor = math.sqrt(dim) / torch.linalg.vector_norm(size)
    return _alternating(dim, like) * size * scale
