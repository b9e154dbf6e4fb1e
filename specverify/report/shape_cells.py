"""What a record holds of a cell, as classes: see `shape.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from specverify.declared import Initial
from specverify.plan import KINDS

if TYPE_CHECKING:
    KindOfCell = str
else:
    KindOfCell = Literal[tuple(KINDS)]
closed = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
"""A class whose dicts have no other fields, and no number that JSON lacks."""

Kind = Literal["PROVED-FOR-ALL", "PROVED", "CONSISTENT", "REFUTED", "INCONCLUSIVE", "VACUOUS", "ERROR"]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1.000001, description="a share, up to rounding")]
Range = Annotated[list[float], Field(min_length=2, max_length=2, description="95% interval: low, high")]


@closed
class NoNumber(TypedDict):
    """A number that JSON lacks."""

    number: Literal["inf", "-inf", "nan"]


Number = float | NoNumber
Interval = Annotated[list[Number], Field(min_length=2, max_length=2)]


@closed
class Judged(TypedDict):
    """A verdict and why."""

    kind: Kind
    reason: str


class Settings(TypedDict):
    """How a cell's decoder was made; of relaxed rules also which rule, and the value of its parameter."""

    window: Size | None
    initial: Text | None
    draft: Text | None
    guidance: float | None
    batch: Size | None
    rule: NotRequired[str]
    value: NotRequired[float | None]


@closed
class Exact(TypedDict):
    """What enumeration found: figures of one sequence are expectations."""

    tv: Annotated[Rate, Field(description="between the decoder's exact law and the target law")]
    passes: Annotated[float, Field(ge=0, description="forward passes")]
    acceptance_rate: Rate | None
    verified: Annotated[float, Field(ge=0, description="draft tokens judged")]
    accepted: Annotated[float, Field(ge=0, description="draft tokens kept")]
    branches: Annotated[dict[str, Amount], Field(description="tokens emitted by each branch")]
    states: Count
    worlds: Count
    sequences: Count


@closed
class EvidenceRow(TypedDict):
    """One statistical check; see specverify/evidence/result.py."""

    check: Text
    statistic: Number | None
    p_value: Probability | None
    alpha: Probability
    beta: Probability
    delta: Number
    metric: Text
    n: Count
    rejected: bool
    basis: Literal["exact", "finite-sample bound", "monte-carlo", "asymptotic"]
    power: Literal["finite-sample bound", "asymptotic"]
    estimate: Number | None
    interval: Interval | None
    vacuous: str
    blind: str
    detail: str
    coverage: dict[str, Number]
    data: dict[str, Any]


@closed
class LockStep(TypedDict):
    """A batch that waits for its slowest row."""

    batch: Size
    passes: Annotated[float, Field(ge=0, description="expected passes of the slowest row")]
    interval: Range
    speedup: Annotated[float, Field(ge=0, description="forward passes of autoregressive decoding over them")]


@closed
class Run(TypedDict):
    """Sequences that were decoded, and what they cost."""

    n: Size
    tokens: Count
    passes_mean: Annotated[float, Field(ge=0, description="forward passes per sequence")]
    passes_interval: Range
    draft_passes_mean: NotRequired[
        Annotated[float, Field(ge=0, description="of the draft model, per sequence; 0 without one")]
    ]
    acceptance_rate: Rate | None
    acceptance_interval: Range | None
    branches: dict[str, Count]
    seconds: Amount
    tokens_per_second: Amount
    step_compression: Annotated[
        float, Field(ge=0, description="passes of autoregressive decoding over these; rows are replaced as they finish")
    ]
    lock_step: NotRequired[Annotated[list[LockStep], Field(description="none larger than there are sequences")]]


@closed
class Pit(TypedDict):
    """Probability integral transforms, counted in bins of equal width on [0, 1]."""

    counts: Annotated[list[Count], Field(min_length=2)]


@closed
class Price(TypedDict):
    """What a relaxed rule pays for a judged token, on average."""

    acceptance: Rate
    alpha: Annotated[Rate, Field(description="1 - TV(p, q)")]
    gain: Annotated[float, Field(description="acceptance - alpha")]
    bias: Annotated[Rate, Field(description="TV of the token's law from p")]
    excess: Annotated[float, Field(description="bias - gain")]


@closed
class Density(TypedDict):
    """One continuous token by quadrature, and densities at points x, of target, draft and output."""

    tv: Annotated[Rate, Field(description="of its law from p")]
    error: Annotated[float, Field(ge=0, description="of the quadrature")]
    accepted: Rate
    overlap: Annotated[Rate, Field(description="1 - TV(p, q)")]
    atom: Annotated[Rate, Field(description="mass on the zero vector")]
    x: Annotated[list[float], Field(min_length=2)]
    p: Annotated[list[Amount], Field(min_length=2)]
    q: Annotated[list[Amount], Field(min_length=2)]
    out: Annotated[list[Amount], Field(min_length=2)]


@closed
class EProcess(TypedDict):
    """Evidence against the target law as samples come in."""

    n: Annotated[list[Count], Field(min_length=1)]
    log10_e: Annotated[list[Number], Field(min_length=1)]
    threshold: Annotated[float, Field(description="log10 of the e-value that rejects")]


@closed
class Passes(TypedDict):
    """How many sequences took how many forward passes."""

    values: Annotated[list[Count], Field(min_length=1)]
    counts: Annotated[list[Count], Field(min_length=1)]


@closed
class Images(TypedDict):
    """Decoded images, one list of levels each: of grey, or of red, then of green, then of blue, each row by row."""

    height: Size
    width: Size
    levels: Annotated[int, Field(ge=2)]
    labels: Annotated[list[Count], Field(min_length=1)]
    tokens: Annotated[list[list[Count]], Field(min_length=1)]


@closed
class Accepted(TypedDict):
    """Over the image plane, row by row: the share of sequences whose token there was a draft that was accepted."""

    height: Size
    width: Size
    share: Annotated[list[Rate], Field(min_length=1)]


@closed
class Apart(TypedDict):
    """Total variation between the laws that judged tokens and those of single tokens, in half precision."""

    mean: Rate
    largest: Rate
    laws: Count
    sequences: Count


@closed
class Figures(TypedDict, total=False):
    """Numbers behind the report's pictures."""

    pit: Pit
    price: Price
    overlap: Annotated[
        Rate, Field(description="1 - TV(p, q) of the first continuous token and its draft: no lossless rule keeps more")
    ]
    density: Density
    e_process: EProcess
    passes: Passes
    images: Images
    accepted: Accepted
    apart: Apart


@closed
class Asked(TypedDict):
    """What of the sizes of a proof was really asked."""

    tokens: Annotated[int, Field(ge=1, description="the most that one step committed")]
    ended: Annotated[bool, Field(description="whether a sequence ended before it was full")]
    drafted: Annotated[bool, Field(description="whether a law of the draft model was read")]


@closed
class Proof(TypedDict):
    """What came of trying to prove a decoder for every law of some sizes at once; see docs/proofs.md."""

    outcome: Annotated[
        Literal["proved", "differs", "out of reach", "too large"],
        Field(description="differs: at a random point, which alone refutes nothing"),
    ]
    vocab: Annotated[int, Field(ge=2)]
    length: Size
    window: Size | None
    eos: Annotated[Count | None, Field(description="the id that ends a sequence")]
    drafts: Annotated[bool, Field(description="whether there is a draft model, with any laws")]
    initial: Initial | None
    rule: Annotated[Text | None, Field(description="a relaxed rule, of which it is proved what it keeps to exactly")]
    value: float | None
    seed: Count
    prime: Annotated[str, Field(pattern="^[0-9]+$", description="modulus of the field")]
    error_bits: Annotated[float, Field(description="the error of a proof is at most 2^-this")]
    worlds: Annotated[int, Field(ge=0, description="outcomes that were followed")]
    numbers: Annotated[int, Field(ge=0, description="different rational functions of the laws")]
    symbols: Annotated[int, Field(ge=0, description="free symbols for minima")]
    assumptions: Annotated[int, Field(ge=0, description="of numbers not to be 0, that fail in worlds of weight 0 only")]
    orders: NotRequired[Annotated[int, Field(ge=0, description="of what is compared, each proved by a run of its own")]]
    asked: NotRequired[Asked]
    seconds: Annotated[float, Field(ge=0, description="of the processor")]


@closed
class Cell(TypedDict):
    """One cell of a campaign, carried out."""

    id: Annotated[str, Field(min_length=1, description="kind/decoder/model/settings; unique, and what --only matches")]
    kind: KindOfCell
    decoder: Text
    claim: Text
    model: Text
    settings: Settings
    expected: Annotated[Kind | None, Field(description="what must be said of a known-wrong decoder; null for others")]
    reproduce: Annotated[str, Field(min_length=1, description="a command line that runs this cell again")]
    exact: Exact | None
    evidence: list[EvidenceRow]
    run: Run | None
    figures: Figures
    proof: NotRequired[Proof]
    verdict: Judged
    seconds: Amount


def exact_of(cell: Cell) -> Exact:
    """What enumeration found; of a cell that was enumerated."""
    assert cell["exact"] is not None
    return cell["exact"]


def run_of(cell: Cell) -> Run:
    """What was decoded; of a cell that decoded."""
    assert cell["run"] is not None
    return cell["run"]


def proof_of(cell: Cell) -> Proof:
    """What came of a proof; of a cell in which one was tried."""
    return cell["proof"]
