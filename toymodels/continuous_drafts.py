"""Draft models for targets over continuous tokens: every law of the target, altered in one way.

    shifted     means moved by one standard deviation in all: TV = 0.38 for Gaussians
    near        moved by a fortieth: TV = 0.01
    disjoint    moved by 40
    wider       standard deviations times 1.5^(1 / sqrt(dim)), so that the overlap depends little on the dimension
    narrower    divided by it: p / q has no bound
    identical   the target itself

Of chains towards known data, shifting moves the data, which leaves the covariances of all transitions, and widening
stretches the transitions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.catalogue import near
from specverify.errors import InputError
from specverify.laws import Chain, ContinuousModel, Denoised, FullGaussian, Gaussian, Law, Mixture
from specverify.model import Context

_MOVED = {"shifted": 1.0, "near": 0.025, "disjoint": 40.0}
_STRETCHED = {"wider": 1.5, "narrower": 1 / 1.5}


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
    return (*_MOVED, *_STRETCHED, "identical")


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
    if kind in _MOVED:
        return _move(law, _MOVED[kind])
    return _stretch(law, _STRETCHED[kind] ** (law.dim**-0.5))


def _move(law: Law, by: float) -> Law:
    """A law moved by a vector of length `by` in units of its standard deviations, of alternating signs."""
    if isinstance(law, Chain) and isinstance(law.condition, Denoised):
        return Chain(Denoised(_moved_mixture(law.condition.data, by), law.condition.stretch), law.head)
    if isinstance(law, Mixture):
        return _moved_mixture(law, by)
    if isinstance(law, Gaussian):
        return Gaussian(law.mean + by * _alternating(law.dim, law.mean) * law.scale, law.scale)
    if isinstance(law, FullGaussian):
        direction = _alternating(law.dim, law.mean).expand_as(law.mean)
        return FullGaussian(law.colour(by * direction).to(law.mean.dtype), law.cholesky)
    raise _unknown(law)


def _moved_mixture(law: Mixture, by: float) -> Mixture:
    """All components moved by one vector: an average scale is the unit."""
    unit = _alternating(law.dim, law.mean) * law.scale.mean(-2, keepdim=True)
    return Mixture(law.log_weight, law.mean + by * unit, law.scale)


def _stretch(law: Law, factor: float) -> Law:
    """A law whose standard deviations, or whose transitions', are multiplied."""
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
