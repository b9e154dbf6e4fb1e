"""What an image model is besides a `specverify.model.Model`: conditions, a size, pixels, perhaps a draft model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import Processor

LARGEST = 64
"""Pixels of a side of the images that records keep, at most."""


@dataclass(frozen=True)
class Description:
    """What is known of a model's weights.

    Attributes:
        source: where they come from: a checkpoint id, or how they were trained.
        licence: of the weights.
        grid: rows and columns of image tokens.
        guidance: the scale that its makers recommend; 1 is none.
        tokens: what is special about its tokens; empty if all of them are codes.
        levels: of grey, or of each colour, in pictures of its images.
    """

    source: str
    licence: str
    grid: tuple[int, int]
    guidance: float = 1.0
    tokens: str = ""
    levels: int = 256


@runtime_checkable
class ImageModel(Model, Protocol):
    """An autoregressive model of images.

    Attributes:
        conditions: classes or prompts; row i of a batch has `conditions[i % len(conditions)]`.
        size: height and width of an image, in pixels.
        guidance: the scale; 1 is the conditional law, 0 the unconditional one.
        processors: what shapes the law behind guidance, first to last.
        precision: floating type of the weights; laws are at least float32.
        description: of the weights.
    """

    @property
    def conditions(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def guidance(self) -> float: ...  # noqa: D102
    @property
    def processors(self) -> tuple[Processor, ...]: ...  # noqa: D102
    @property
    def precision(self) -> torch.dtype: ...  # noqa: D102
    @property
    def description(self) -> Description: ...  # noqa: D102

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """Pixels from 0 to 1."""

    def row_bytes(self, window: int) -> int:
        """Bytes that an image takes while it is decoded, about: its cache, and a pass over a window."""

    def embedding(self) -> Float[Tensor, "vocab dim"]:
        """A row per token, by which tokens are near to each other: the tokenizer's codebook, or the model's inputs."""

    def draft(self) -> Model | None:
        """A cheaper model over the same tokens, if one came with it."""

    def like(
        self,
        *,
        guidance: float | None = None,
        processors: Sequence[Processor] | None = None,
        conditions: Sequence[Any] | None = None,
    ) -> ImageModel:
        """The same weights with other settings; what is None stays."""


def levels(
    model: ImageModel, tokens: Int[Tensor, "n length"], size: tuple[int, int] | None = None
) -> Int[Tensor, "n levels"]:
    """Images as levels of grey, or of one colour behind the other, each in raster order; on the CPU.

    Args:
        model: theirs.
        tokens: of the images.
        size: height and width; the model's own if None.
    """
    pixels = torch.cat([model.render(part).float() for part in tokens.to(model.device).split(50)])
    if size is not None and size != tuple(pixels.shape[2:]):
        pixels = F.interpolate(pixels, size, mode="area")
    return (pixels * (model.description.levels - 1)).round().to(torch.int64).flatten(1).cpu()


def thumbnails(
    model: ImageModel, tokens: Int[Tensor, "n length"], size: tuple[int, int]
) -> Int[Tensor, "n levels"] | None:
    """As `levels`; None of codes that nothing here makes pixels of."""
    try:
        return levels(model, tokens, size)
    except InputError:
        return None


def labels(conditions: Sequence[Any], n: int, batch: int) -> Int[Tensor, " n"]:
    """The class of each of the first images, on the CPU; of a condition that is none, its number.

    Args:
        conditions: of the model.
        n: images.
        batch: of those that were decoded together, which begin with the first condition.
    """
    own = [one if type(one) is int else number for number, one in enumerate(conditions)]
    return torch.tensor(own)[torch.arange(n) % batch % len(own)]


def unlike(conditions: Sequence[Any], most: int) -> list[Any]:
    """Some conditions: the shortest and the longest to write, the last, and others evenly between.

    Args:
        conditions: of a model.
        most: of them, at least 2.
    """
    each = range(len(conditions))
    if len(each) <= most:
        return [*conditions]
    by_length = sorted(each, key=lambda number: len(str(conditions[number])))
    evenly = (round(step * each[-1] / (most - 1)) for step in reversed(range(most)))
    chosen = dict.fromkeys((by_length[0], by_length[-1], *evenly))
    return [conditions[number] for number in [*chosen][:most]]


def turned(model: Model, first: int) -> Model:
    """A model whose batches begin with another condition; one that has none as it is.

    Args:
        model: any.
        first: the number of that condition, which may be beyond the last.
    """
    if not isinstance(model, ImageModel) or first % len(model.conditions) == 0:
        return model
    first %= len(model.conditions)
    return model.like(conditions=[*model.conditions[first:], *model.conditions[:first]])
