"""What a record is made of, as classes: its JSON schema is generated from them, records are held against them, and mypy
reads them.

What is of these classes is a plain dict, as JSON has it. A field that is NotRequired is there where there is something
to say, or came after the first records of format 1, which are still read.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from specverify.errors import InputError
from specverify.report.shape_cells import Amount, Cell, Kind, Probability, Size, Text, closed
from specverify.report.shape_testers import Calibration, Judgement, KillMatrix

ExitCode = Literal[0, 1, 2, 3]
Tier = Literal["quick", "full"]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
Time = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
        description="ISO 8601 with an offset",
    ),
]
_PLAIN = re.compile(r"[A-Za-z_]\w*")


@closed
class Software(TypedDict):
    """The releases that made the record."""

    specverify: Text
    python: Text
    torch: Text
    numpy: Text
    scipy: Text


@closed
class Hardware(TypedDict):
    """The machine that made it; `threads` are processes of one thread each."""

    cpus: Size
    threads: Size
    device: Text
    accelerator: Text | None


@closed
class Share(TypedDict):
    """A check's part of alpha."""

    check: Text
    alpha: Probability


@closed
class Alpha(TypedDict):
    """The rate of false alarms: at most `total` that any check rejects a perfect decoder."""

    total: Probability
    parts: list[Share]


@closed
class Errors(TypedDict):
    """What the checks may miss, and how often they may be wrong."""

    delta: Annotated[
        dict[str, Annotated[float, Field(gt=0)]],
        Field(description="by check, the discrepancy that it had to be able to see, in its own metric"),
    ]
    beta: Annotated[Probability, Field(description="each check's miss rate at delta")]
    alpha: Alpha


@closed
class DecoderVerdict(TypedDict):
    """The verdict on one decoder's claim over all its cells."""

    decoder: Text
    claim: Text
    kind: Kind
    reason: str
    cells: Annotated[list[Text], Field(description="ids of the cells that it rests on")]


@closed
class Overall(TypedDict):
    """The verdict over all decoders and defects."""

    kind: Kind
    reason: str
    exit_code: ExitCode


@closed
class Shown(TypedDict):
    """A known-wrong decoder as it was measured on the real model."""

    defect: Text
    kolmogorov: Annotated[Probability, Field(description="distance of transforms from uniform")]
    kolmogorov_error: Amount
    nats: Annotated[float, Field(description="surprisal less entropy, per token that had a choice")]
    nats_error: Amount
    images: Annotated[int, Field(ge=1, description="that it was measured on")]
    needed: Annotated[
        Size | None, Field(description="images with which a check sees it; null where no figure is above 0")
    ]
    shown: Annotated[bool, Field(description="whether a cell of this campaign has as many")]


@closed
class Sensitivity(TypedDict):
    """Known-wrong decoders as measured on the real model, and whether this campaign's cells would have shown them."""

    command: Annotated[str, Field(min_length=1, description="what measures them anew")]
    model: Text
    window: Size
    guidance: Amount
    images: Annotated[int, Field(ge=1, description="of each real cell of this campaign")]
    alpha: Annotated[Probability, Field(description="of each check there")]
    beta: Annotated[Probability, Field(description="with which a defect that is shown may be missed")]
    rows: list[Shown]


@closed
class Header(TypedDict):
    """What was asked for, of what, and where."""

    schema: Literal["specverify-record"]
    version: Literal[1]
    created: Time
    command: Annotated[str, Field(min_length=1, description="the command line that made the record")]
    tier: Tier
    seed: Annotated[int, Field(ge=0, description="every cell's seed derives from this and the cell's id")]
    software: Software
    hardware: Hardware
    errors: Errors
    checkpoint: NotRequired[
        Annotated[Text, Field(description="SHA-256 of the files of the real model, where those are the user's")]
    ]


@closed
class Record(Header):
    """What a campaign found: the one source of every figure in a report. An unknown number is null."""

    status: Annotated[
        Literal["complete", "partial"], Field(description="partial: cells of the plan have no result yet")
    ]
    finished: Time | None
    cells: list[Cell]
    not_covered: Annotated[list[Text], Field(description="what could be expected, and was not checked")]
    verdicts: list[DecoderVerdict]
    verdict: Overall
    sensitivity: NotRequired[Sensitivity]
    kill_matrix: NotRequired[KillMatrix]
    calibration: NotRequired[Calibration]
    judgements: NotRequired[Annotated[list[Judgement], Field(description="on other people's decoders and traces")]]
    checksum: NotRequired[
        Annotated[
            str,
            Field(
                pattern="^sha256:[0-9a-f]{64}$",
                description="of all other fields, as JSON with sorted keys and without spaces",
            ),
        ]
    ]


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def schema(shape: Any = Record) -> dict[str, Any]:
    """The JSON schema of a class."""
    return {"$schema": DRAFT, **_adapter(shape).json_schema()}


def fit(found: Any, shape: Any, source: str, remedy: str) -> None:
    """Raise InputError unless what JSON holds is of a class, saying where it is not."""
    try:
        _adapter(shape).validate_python(found, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, value = _place(found, first["loc"]), repr(first["input"])
        name = first["loc"][-1] if first["loc"] else ""
        said = {
            "missing": f"{name!r} is missing",
            "extra_forbidden": f"{name!r} is unknown",
            "finite_number": "the number is not finite; an unknown one is null",
            "literal_error": f"{value} is not one of {first.get('ctx', {}).get('expected')}",
        }.get(first["type"], f"{value if len(value) <= 80 else value[:60] + ' ...'}: {first['msg']}")
        raise InputError(f"{source} is invalid at {place}: {said}; {remedy}") from None


def _place(found: Any, parts: tuple[int | str, ...]) -> str:
    """The JSON path of a fault, as far as the parts lead through what was found: others name the member of a union."""
    place = "$"
    for part in parts:
        if isinstance(found, list) and isinstance(part, int):
            place, found = f"{place}[{part}]", found[part]
        elif isinstance(found, dict) and part in found:
            place += f".{part}" if _PLAIN.fullmatch(str(part)) else f"[{part!r}]"
            found = found[part]
    return place
