"""Options of the commands that open an image model, one that ships or one of the user's."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer


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


def read_condition(text: str) -> Any:
    """A class or token ids if it reads like that, else a prompt."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    ids = isinstance(found, list) and all(type(one) is int for one in found)
    return found if ids or type(found) is int else text
