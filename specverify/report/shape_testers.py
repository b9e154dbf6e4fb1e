"""What a record holds of the checks themselves and of other people's decoders, as classes: see `shape.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from specverify.report.shape_cells import (
    Amount,
    Count,
    EvidenceRow,
    Judged,
    Kind,
    Probability,
    Rate,
    Size,
    Text,
    closed,
)

Level = Literal["decoder", "round", "sampler", "continuous"]
Outcome = Literal["caught", "missed", "flagged", "not flagged", "not applicable", "out of time", "error"]


@closed
class Trial(TypedDict):
    """One defect or control before one checker."""

    defect: Text
    level: Level
    category: Annotated[str, Field(min_length=1, description="which part is wrong; control if none is")]
    lossy: Annotated[bool, Field(description="false for a control, which only looks wrong")]
    checker: Text
    named: Annotated[bool, Field(description="whether this checker must catch it")]
    outcome: Outcome
    verdict: Kind | None
    reason: str
    tv: Annotated[Rate | None, Field(description="exact total variation, where it was enumerated")]
    n: Annotated[
        Count | None, Field(description="samples of the check that rejected most strongly, else of the largest")
    ]
    by: Annotated[list[str], Field(description="statistical checks that rejected, strongest first")]
    seconds: Amount


@closed
class KillMatrix(TypedDict):
    """Every known-wrong subject, and every control, against every checker of its level."""

    seed: Count
    delta: Annotated[float, Field(gt=0, le=1, description="discrepancy that the statistics had to be able to see")]
    level: NotRequired[Annotated[Level | None, Field(description="that was tried; null: all")]]
    only: NotRequired[Annotated[Text | None, Field(description="the pattern of ids that were tried; null: all")]]
    rows: Annotated[list[Trial], Field(min_length=1)]


@closed
class Rates(TypedDict):
    """A rate that a check states, and the one that was counted."""

    check: Text
    what: Literal["false alarms", "misses", "optional stopping", "uniform p-values"]
    on: Annotated[str, Field(min_length=1, description="which sampler, of which law")]
    stated: Annotated[Probability, Field(description="the rate that it may have at most")]
    delta: Annotated[Amount | None, Field(description="the discrepancy that it says it sees, in its own metric")]
    tv: Annotated[Rate | None, Field(description="total variation of the sampler from the law")]
    n: Annotated[int, Field(ge=0, description="samples in a trial, in the check's own unit")]
    trials: Size
    events: Annotated[int, Field(ge=0, description="false alarms, or misses, among the trials")]
    interval: Annotated[list[Rate], Field(min_length=2, max_length=2, description="99% interval of the rate")]
    p_value: Annotated[Probability | None, Field(description="of the statement that the rate is as stated")]
    holds: bool
    seconds: Amount


@closed
class Calibration(TypedDict):
    """How often the checks reject perfect samplers, and miss known discrepancies."""

    seed: Count
    rows: Annotated[list[Rates], Field(min_length=1)]


@closed
class Judgement(TypedDict):
    """What was said of one subject; see specverify/subjects/judgement.py."""

    subject: Text
    level: Literal["decoder", "continuous", "round", "sampler", "trace", "unknown"]
    claim: Text
    seed: NotRequired[Annotated[Count | None, Field(description="all randomness derived from it; null: not known")]]
    verdict: Judged
    evidence: list[EvidenceRow]
    exact: Annotated[list[dict[str, Any]], Field(description="one row per exact enumeration")]
    location: Annotated[dict[str, Any] | None, Field(description="where a refuted subject goes wrong")]
    certificate: Annotated[
        dict[str, Any] | None,
        Field(description="a counterexample or a proof for all laws, complete enough to be replayed"),
    ]
    not_covered: list[Text]
    reproduce: str
    seconds: Amount
    notes: Annotated[list[str], Field(description="one of several lines is a counterexample, set for 80 columns")]
