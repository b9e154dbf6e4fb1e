"""What the record of a sweep is made of, as classes: see `report/shape.py`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from specverify.report.shape_cells import Amount, Count, Range, Size, Text, closed

Tokens = Literal["grey levels", "codes", "patches"]
Timed = Literal["seconds_per_image", "seconds_alone"]


@closed
class Shared(TypedDict):
    """What all settings share."""

    model: Text
    n: Annotated[int, Field(ge=2, description="images of each setting")]
    window: Annotated[Size | None, Field(description="drafts per forward pass; null where rows have their own")]
    seed: Count
    batch: Annotated[int, Field(ge=1, description="images decoded together")]
    device: Text
    resamples: Annotated[int, Field(ge=2, description="bootstrap replicates, over images")]
    dtype: NotRequired[Annotated[str, Field(description="of the weights; float32 if it is not said")]]
    conditions: NotRequired[
        Annotated[list[str | int | list[int]] | None, Field(description="that take turns; null for all classes")]
    ]
    processors: NotRequired[Annotated[str, Field(description="what shapes the law behind guidance")]]
    compiled: NotRequired[Annotated[bool, Field(description="whether torch compiled the passes")]]


@closed
class Hardware(TypedDict):
    """The machine."""

    cpus: Size
    jobs: Size
    accelerator: str | None


@closed
class Features(TypedDict):
    """What fd, kd, precision, recall, density and coverage are taken in."""

    network: Annotated[str, Field(min_length=1, description="whose features they are")]
    axes: Annotated[Size | None, Field(description="that they are projected to; null for features as they are")]


@closed
class Metric(TypedDict):
    """A figure with its interval."""

    value: float
    interval: Range
    replicates: NotRequired[
        Annotated[
            list[float],
            Field(description="of resampled images, moved to the value; the i-th of all metrics has the same images"),
        ]
    ]


@closed
class Times(TypedDict):
    """What two means are of: each full batch, and each image alone."""

    seconds_per_image: Annotated[list[Amount], Field(min_length=1)]
    seconds_alone: Annotated[list[Amount], Field(min_length=1)]
    labels_alone: NotRequired[
        Annotated[list[Count], Field(description="the class of each image alone; the first one's if it is not said")]
    ]


@closed
class Images(TypedDict):
    """Decoded images, one list of levels each: of grey, or of red, then of green, then of blue, each row by row."""

    tokens: list[list[Count]]
    labels: list[Count]


@closed
class Row(TypedDict):
    """One setting, measured."""

    id: Text
    rule: Annotated[
        str, Field(min_length=1, description="real, ar, lossless or a relaxed rule; of models of patches a decoder")
    ]
    guidance: Amount | None
    drafting: Literal["independent", "maximal", "gumbel"] | None
    window: Annotated[Size | None, Field(description="drafts per forward pass, where rows have their own")]
    parameter: str | None
    value: float | None
    claim: Annotated[str | None, Field(description="what the decoder says of itself where it is meant for; not tested")]
    n: Size
    z: Annotated[float | None, Field(description="surprisal less entropy, summed, over its standard deviation under p")]
    seconds_per_image: Annotated[
        Amount | None, Field(description="in the sweep's batch; of the processor on a CPU, by the clock on a GPU")
    ]
    seconds_alone: Annotated[Amount | None, Field(description="one image at a time, else as seconds_per_image")]
    times: NotRequired[Times | None]
    head_evaluations: Annotated[
        Amount | None,
        Field(description="of a model of patches, per image: laws or denoising steps that the target's head gave"),
    ]
    looked: NotRequired[
        Annotated[int, Field(ge=0, description="steps by which gain and bias are known; too few: they are not there")]
    ]
    metrics: Annotated[
        dict[str, Metric],
        Field(description="speedup: rows are replaced as they finish; lockstep-N: N rows wait for the slowest"),
    ]
    images: Images | None
    error: Annotated[str | None, Field(description="why there are no figures")]


@closed
class Header(TypedDict):
    """What was asked for, of what, and where."""

    schema: Literal["specverify-tradeoff"]
    version: Literal[1]
    status: Annotated[Literal["complete", "partial"], Field(description="partial: some settings have no row yet")]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\+00:00$")]
    command: Annotated[str, Field(min_length=1, description="the command line that made the record")]
    tokens: Annotated[Tokens, Field(description="of the model; patches are continuous")]
    setting: Shared
    length: Annotated[int, Field(ge=1, description="tokens of an image")]
    levels: Annotated[int, Field(ge=2, description="of grey, or of each colour")]
    priced: NotRequired[
        Annotated[float, Field(gt=0, le=1, description="share of the steps by which gain and bias are known; 1 unsaid")]
    ]
    features: NotRequired[
        Annotated[Features | None, Field(description="null if images are not judged; a classifier's if it is not said")]
    ]
    omitted: Annotated[dict[str, Text], Field(description="decoders that do not go with the model, and why not")]
    software: dict[str, Text]
    hardware: Hardware
    checkpoint: NotRequired[
        Annotated[Text, Field(description="SHA-256 of the files of the model, where those are the user's")]
    ]


@closed
class Sweep(Header):
    """What decoders bought and paid on a real image model: the one source of every figure in its report."""

    planned: Annotated[int, Field(ge=1, description="settings asked for")]
    rows: list[Row]


def images_of(row: Row) -> Images:
    """The images of a setting that was measured."""
    assert row["images"] is not None
    return row["images"]


def scale_of(row: Row) -> float:
    """The guidance of a setting of a decoder."""
    assert row["guidance"] is not None
    return row["guidance"]
