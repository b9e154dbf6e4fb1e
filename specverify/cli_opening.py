"""Options of the commands that open an image model, one that ships or one of the user's."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from specverify import fetched
from specverify.errors import InputError
from specverify.opening import USUAL, Condition, Real

Number = TypeVar("Number", int, float)


class Dtype(StrEnum):
    """Types of weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="TEXT",
        help="A class, a prompt, or token ids as [1, 2]; repeat it for more. Images take them in turn.",
        show_default="all classes, where there are any",
    ),
]
Processors = Annotated[
    str, typer.Option(metavar="NAME=VALUE,...", help="Such as temperature=0.9,top_k=100.", show_default="none")
]
DtypeOption = Annotated[Dtype, typer.Option(help="Of the weights.")]
Guidance = Annotated[str | None, typer.Option(metavar="SCALE,...", help="Of the real model.", show_default="1,1.5")]
Batch = Annotated[int | None, typer.Option(help="Of its images, those decoded together at most.", show_default="400")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model's passes with torch, which takes minutes at first.")
]


def read_condition(text: str) -> Any:
    """A class or token ids if it reads like that, else a prompt."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    ids = isinstance(found, list) and all(type(one) is int for one in found)
    return found if ids or type(found) is int else text


def conditions(texts: list[str] | None) -> tuple[Condition, ...] | None:
    """What was given with --condition, as it can be kept and compared; None for nothing."""
    each = [read_condition(text) for text in texts or ()]
    return tuple(tuple(one) if isinstance(one, list) else one for one in each) or None


def numbers(what: str, text: str | None, kind: Callable[[str], Number], example: str) -> list[Number] | None:
    """A list of numbers with commas; None for nothing."""
    try:
        return None if text is None else [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{what} {text!r} is not a list of numbers; write --{what} {example}") from None


def scales(text: str | None, example: str) -> list[float] | None:
    """Scales of guidance, each once and as it is named, with six digits; None for nothing."""
    found = numbers("guidance", text, float, example)
    return None if found is None else list(dict.fromkeys(float(f"{scale:g}") for scale in found))


def asked_real(
    model: str | None,
    texts: list[str] | None,
    dtype: Dtype = Dtype.float32,
    processors: str = "",
    compiled: bool = False,
    guidance: str | None = None,
    batch: int | None = None,
) -> Real | None:
    """The real model of a campaign as it was asked for; None for that which is usual."""
    asked = scales(guidance, "1, or 1,1.5")
    found = Real(
        USUAL.model if model is None else fetched.pinned(model),
        conditions(texts),
        dtype.value,
        processors,
        compiled,
        USUAL.guidance if asked is None else tuple(asked),
        USUAL.batch if batch is None else batch,
    )
    return None if found == USUAL else found
