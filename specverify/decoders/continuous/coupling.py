"""Couplings of vectors beside the token rule: how drafts are judged, and Jacobi decoders' next drafts are made.

A coupling takes a draft x ~ q to y ~ p that often is the draft (`judging.py`). That is all that a verifier needs, and
it also makes the next iteration's drafts. Couplings of diffusion heads take trajectories to trajectories.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from specverify.decoders.judging import Coupled, Limited, TokenRule
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, FullGaussian, Gaussian, Law
from specverify.rules.reflection import couple
from specverify.rules.trajectory import Paths, couple_last, couple_steps


@dataclass(frozen=True)
class Reflection(Limited):
    """Reflection-maximal coupling of Gaussians; the token rule where covariances differ.

    The limit is as for the token rule.
    """

    name: str = field(default="reflection", kw_only=True)

    def view(self, law: Any) -> Law:
        """The law itself, a Gaussian one."""
        if not isinstance(law, Gaussian | FullGaussian):
            raise InputError(
                f"a {type(law).__name__} cannot be reflected, a Gaussian can; use the token rule, "
                "or for diffusion heads reflect step by step: StepRule()"
            )
        return law

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        found = couple(p, q, draft, draws, where, self.limit)
        return Coupled(found.x, found.accepted)


@dataclass(frozen=True)
class PathRule(Limited):
    """The token rule on the path space of diffusion heads: a draft is kept with its whole trajectory or not at all.

    The limit is as for the token rule.
    """

    name: str = field(default="path", kw_only=True)

    def view(self, law: Any) -> Law:
        """The law of trajectories."""
        return trajectories(law, self)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        return TokenRule(self.limit).couple(p, q, draft, draws, where)


@dataclass(frozen=True)
class StepRule:
    """Coupling of diffusion heads at every denoising step (De Bortoli et al., arXiv 2501.05370), by reflection."""

    name: str = "steps"
    bias: float = 0.0

    def view(self, law: Any) -> Law:
        """The law of trajectories."""
        return trajectories(law, self)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling. The draft is kept if both trajectories end in one token."""
        walked = couple_steps(p.chain, q.chain, split(p, draft), draws, where)
        return Coupled(walked.path.flatten(-2).where(where[..., None], draft), walked.same[..., 0])


@dataclass(frozen=True)
class LastRule(Limited):
    """Coupling of diffusion heads at their last step alone, after trajectories that share their noise.

    The limit is as for the token rule.
    """

    name: str = field(default="last", kw_only=True)

    def view(self, law: Any) -> Law:
        """The law of trajectories."""
        return trajectories(law, self)

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        walked = couple_last(p.chain, q.chain, split(p, draft), draws, where, self.limit)
        return Coupled(walked.path.flatten(-2).where(where[..., None], draft), walked.same[..., 0])


def trajectories(law: Any, asker: Any) -> Paths:
    """The law of a diffusion head's trajectories, for something that compares these.

    Raises:
        InputError: the law is none of a diffusion head.
    """
    if not isinstance(law, Chain):
        raise InputError(
            f"{type(asker).__name__} compares the trajectories of diffusion heads, "
            f"and a {type(law).__name__} has none; use the token rule or reflection"
        )
    return Paths(law)


def split(law: Any, path: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape steps dim"]:
    """Trajectories of `law.chain` with an axis of their states, x_0 first."""
    return path.unflatten(-1, (law.chain.steps + 1, law.chain.dim))  # type: ignore[no-any-return]
