"""What is said of a subject: a verdict, the evidence that it rests on, and where a refuted one goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypedDict, cast

from specverify.evidence.result import Evidence, EvidenceRow, Plain
from specverify.verdict import Verdict

Level = Literal["decoder", "continuous", "round", "sampler", "trace", "unknown"]
"""Unknown: of a subject whose module could not be imported, where nobody said what it is. Continuous: what level
decoder was once called for models over vectors."""


class VerdictRow(TypedDict):
    """A verdict as plain data."""

    kind: str
    reason: str


class JudgementRow(TypedDict):
    """A `Judgement` as plain data; what it says of a place differs from level to level."""

    subject: str
    level: Level
    claim: str
    verdict: VerdictRow
    evidence: list[EvidenceRow]
    exact: Sequence[Mapping[str, Plain]]
    location: Mapping[str, Plain] | None
    certificate: Mapping[str, Plain] | None
    not_covered: Sequence[str]
    reproduce: str
    seconds: float
    notes: Sequence[str]


@dataclass(frozen=True)
class Judgement:
    """The outcome of judging one subject.

    Attributes:
        subject: its name, as the user gave it.
        level: at which level it was handed over.
        claim: what it claims, in words.
        verdict: the verdict and its reason.
        evidence: statistical checks that were carried out, in order.
        exact: one row for each exact enumeration: model, setting, tv, passes, coverage.
        location: for a refuted subject, where it goes wrong: position, prefix, branch, direction, each part's share.
        certificate: the counterexample, complete enough to be replayed.
        not_covered: what this judgement says nothing about.
        reproduce: a command line that reaches the same verdict.
        seconds: how long it took.
    """

    subject: str
    level: Level
    claim: str
    verdict: Verdict
    evidence: Sequence[Evidence] = ()
    exact: Sequence[Mapping[str, Any]] = ()
    location: Mapping[str, Any] | None = None
    certificate: Mapping[str, Any] | None = None
    not_covered: Sequence[str] = ()
    reproduce: str = ""
    seconds: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> JudgementRow:
        """Plain data for a record."""
        plain = asdict(self)
        plain["verdict"] = {"kind": self.verdict.kind.value, "reason": self.verdict.reason}
        plain["evidence"] = [item.to_json() for item in self.evidence]
        return cast("JudgementRow", plain)
