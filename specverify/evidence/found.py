"""A decoder on one case: what enumeration gave beside what was due, and the case in which a claim does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim
from specverify.evidence.cases import Case
from specverify.evidence.localise import TOLERANCE, Location
from specverify.evidence.sequences import ExactLaw


class ExactRow(TypedDict):
    """What a record keeps of an outcome."""

    model: str
    window: int | None
    initial: str | None
    draft: str | None
    arrangement: str
    precision: str
    tv: float
    passes: float
    acceptance_rate: float | None
    verified: float
    accepted: float
    branches: Mapping[str, float]
    sequences: int
    worlds: int


@dataclass(frozen=True)
class Outcome:
    """A decoder on one case.

    Attributes:
        case: the setting.
        exact: what the enumeration gave.
        due: the target law.
        came: the law that came out, and due, over clusters where the claim is of clusters.
        tv: their total variation, as the claim measures it.
        rounding: what rounding may leave of it.
        bound: what the claim allows, and rounding.
        breach: how the decoder breaks what a model relies on in `advance`: a proof on toys, which do not mind, is none.
    """

    case: Case
    exact: ExactLaw
    due: Float[Tensor, " outcomes"]
    came: Float[Tensor, " outcomes"]
    tv: float
    rounding: float
    bound: float
    breach: str = ""

    @property
    def fails(self) -> bool:
        """Whether the claim does not hold here."""
        return not self.tv <= self.bound

    @property
    def exactly(self) -> bool:
        """Whether the claim holds without any rounding but float64's."""
        return self.tv <= self.bound - self.rounding + TOLERANCE

    def row(self) -> ExactRow:
        """What a record keeps of it."""
        case, exact = self.case, self.exact
        return {
            "model": case.model if isinstance(case.model, str) else f"drawn, {case.target().vocab} tokens",
            "window": case.window,
            "initial": case.initial,
            "draft": case.draft if case.draft is None or isinstance(case.draft, str) else "drawn",
            "arrangement": case.arrangement,
            "precision": case.precision,
            "tv": self.tv,
            "passes": exact.passes,
            "acceptance_rate": exact.acceptance_rate if exact.verified > 0 else None,
            "verified": exact.verified,
            "accepted": exact.accepted,
            "branches": exact.branches,
            "sequences": len(exact.law),
            "worlds": exact.worlds,
        }


@dataclass(frozen=True)
class Counterexample:
    """A case in which a claim does not hold, or in which the decoder breaks down.

    Attributes:
        case: the setting.
        claim: what was claimed.
        problem: "law", or "error".
        outcome: the laws and their distance, for a law.
        location: where the law goes wrong.
        error: what was raised, for an error.
        largest: the outcome of largest total variation that was seen on the way; None if it is not known.
    """

    case: Case
    claim: Claim
    problem: Literal["law", "error"]
    outcome: Outcome | None = None
    location: Location | None = None
    error: str = ""
    largest: Outcome | None = None
