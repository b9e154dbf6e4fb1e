"""What the record of a bench is made of, as classes: see `report/shape.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from specverify import files
from specverify.report.record import by_line
from specverify.report.shape import fit
from specverify.report.shape_cells import Amount, Rate, Size, Text, closed

Seconds = Annotated[float, Field(gt=0)]


@closed
class Pass(TypedDict):
    """One forward pass of the batch."""

    window: Annotated[int, Field(ge=0, description="drafts behind the token that every pass has; 0: plain decoding's")]
    milliseconds: Annotated[Seconds, Field(description="median, half way through an image")]


@closed
class Row(TypedDict):
    """A decoder, measured."""

    decoder: Text
    window: Size | None
    claim: Annotated[str, Field(description="what it says of itself; not tested here")]
    passes: Annotated[float, Field(gt=0, description="forward passes of the target, mean over images")]
    step_compression: Annotated[float, Field(gt=0, description="tokens of an image over passes")]
    draft_passes: Amount
    acceptance: Rate | None
    calls: Annotated[float, Field(gt=0, description="forward passes of a whole batch, until its last image is done")]
    slowest: NotRequired[
        Annotated[float, Field(gt=0, description="passes that its last image counts; fewer than calls: miscounted")]
    ]
    seconds: Annotated[list[Seconds], Field(min_length=1, description="of each round's batch")]
    seconds_per_image: Seconds
    speedup: Annotated[float, Field(gt=0, description="plain decoding's seconds over these, all rounds together")]
    limit: Annotated[
        float | None,
        Field(
            description="speedup if finished rows were replaced and only passes took time; null: passes of other sizes"
        ),
    ]
    inside: Annotated[Amount, Field(description="share of the seconds in the target model")]
    drafting: Annotated[Amount, Field(description="share of the seconds in the draft model")]
    outside: Annotated[Amount, Field(description="share of the seconds in neither")]
    waits: Annotated[
        Amount | None,
        Field(description="times a pass of the batch that a device is waited for; null: compiled"),
    ]


@closed
class Bench(TypedDict):
    """What decoders cost on a model."""

    schema: Literal["specverify-bench"]
    version: Literal[1]
    created: Text
    command: Text
    model: Text
    draft: str | None
    vocab: Size
    length: Size
    dtype: Annotated[Text, Field(description="of the weights")]
    device: Text
    accelerator: str | None
    threads: Size
    clock: Annotated[Literal["processor", "wall", "device"], Field(description="what seconds are")]
    batch: Size
    rounds: Size
    seed: int
    software: dict[str, Text]
    checkpoint: NotRequired[
        Annotated[Text, Field(description="SHA-256 of the files of the model, where those are the user's")]
    ]
    passes: list[Pass]
    rows: Annotated[list[Row], Field(min_length=1, description="plain decoding first")]


def keep(record: Any, shape: Any, path: Path) -> None:
    """Write a record down, one line for each row.

    Raises:
        InputError: it is not of the class that it should be, or cannot be written.
    """
    fit(record, shape, f"the record for {path}", "report this")
    files.write_atomically(path, (by_line(record) + "\n").encode())
