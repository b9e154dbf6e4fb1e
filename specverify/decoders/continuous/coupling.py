"""How drafts of continuous tokens are judged: couplings of the law p that a token should have with the draft's law q.

A coupling takes a draft x ~ q to y ~ p that often is the draft. That is all that a verifier needs, and it also makes
the next iteration's drafts of a Jacobi decoder. Couplings of diffusion heads take trajectories to trajectories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, FullGaussian, Gaussian, Law
from specverify.rules.reflection import couple
from specverify.rules.rejection import check_limit, decide, failure_bound
from specverify.rules.trajectory import Paths, couple_last, couple_steps


class Coupled(NamedTuple):
    """What became of drafts.

    Attributes:
        value: what stands in each one's place; a trajectory for couplings of trajectories, the token first.
        kept: whether its token is the draft's. False where none was judged.
    """

    value: Float[Tensor, "*shape width"]
    kept: Bool[Tensor, "*shape"]


@runtime_checkable
class Coupling(Protocol):
    """A coupling.

    Attributes:
        name: what it adds to a decoder's name; empty for the token rule.
        bias: how far from p, in total variation, the law of one token can be; 0 for exact couplings.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def bias(self) -> float: ...  # noqa: D102

    def view(self, law: Any) -> Law:
        """The law of what is drafted and judged: `law` itself, or that of its trajectories.

        Raises:
            InputError: the coupling does not go with such a law.
        """

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """Judge each draft ~ q where asked; `p` and `q` are views. Elsewhere the draft stays, and is not `kept`."""


@dataclass(frozen=True)
class TokenRule:
    """Keep x with probability min(1, p(x) / q(x)), else draw from the residual: a maximal coupling of any two laws.

    Args:
        limit: proposals for each rejected draft, None for as many as it takes.
    """

    limit: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        check_limit(self.limit)

    @property
    def bias(self) -> float:
        """See Coupling."""
        return _bias(self.limit)

    def view(self, law: Any) -> Law:
        """The law itself."""
        return law  # type: ignore[no-any-return]

    def couple(
        self, p: Any, q: Any, draft: Float[Tensor, "*shape width"], draws: Draws, where: Bool[Tensor, "*shape"]
    ) -> Coupled:
        """See Coupling."""
        found = decide(p, q, draft, draws, where, self.limit)
        return Coupled(found.x.where(where[..., None], draft), found.accepted)


@dataclass(frozen=True)
class Reflection:
    """Reflection-maximal coupling of Gaussians; the token rule where covariances differ.

    Args:
        limit: as for the token rule.
    """

    limit: int | None = None
    name: str = "reflection"

    def __post_init__(self) -> None:
        check_limit(self.limit)

    @property
    def bias(self) -> float:
        """See Coupling."""
        return _bias(self.limit)

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
class PathRule:
    """The token rule on the path space of diffusion heads: a draft is kept with its whole trajectory or not at all.

    Args:
        limit: as for the token rule.
    """

    limit: int | None = None
    name: str = "path"

    def __post_init__(self) -> None:
        check_limit(self.limit)

    @property
    def bias(self) -> float:
        """See Coupling."""
        return _bias(self.limit)

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
class LastRule:
    """Coupling of diffusion heads at their last step alone, after trajectories that share their noise.

    Args:
        limit: as for the token rule.
    """

    limit: int | None = None
    name: str = "last"

    def __post_init__(self) -> None:
        check_limit(self.limit)

    @property
    def bias(self) -> float:
        """See Coupling."""
        return _bias(self.limit)

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


def _bias(limit: int | None) -> float:
    return 0.0 if limit is None else failure_bound(limit)
