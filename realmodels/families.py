"""Models of codes: for each kind of images a classifier, a tokenizer and a transformer, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from realmodels import vq
from realmodels.data import move
from realmodels.fit import Recipe
from specverify.errors import InputError


@dataclass(frozen=True)
class Family:
    """Three models of one kind of images, and how each is trained.

    Attributes:
        data: the name of the images.
        licence: of the weights, and of the data.
        channels: of an image.
        classifier, tokenizer, model: their names.
        recipes: by name, in the order in which they are trained.
        judge: sizes of the classifier.
        rounding: sizes of the tokenizer.
        law: sizes of the transformer, but for classes, codes and grid.
        changed: copies of images, which the transformer sees half of the time.
        larger: sizes of a larger transformer, and how it is trained; None if there is none.
    """

    data: str
    licence: str
    channels: int
    classifier: str
    tokenizer: str
    model: str
    recipes: dict[str, Recipe]
    judge: dict[str, int]
    rounding: vq.Shape
    law: dict[str, int]
    changed: Callable[[Tensor, torch.Generator], list[Tensor]]
    larger: tuple[dict[str, int], Recipe] | None = None


def moved(pixels: Float[Tensor, "n channels h w"], generator: torch.Generator) -> list[Tensor]:
    """Four copies, each moved a little."""
    return [move(pixels, generator, 1.0).clamp(0, 1) for _ in range(4)]


def mirrored(pixels: Float[Tensor, "n channels h w"], generator: torch.Generator) -> list[Tensor]:
    """One copy, left and right exchanged."""
    return [pixels.flip(-1)]


FAMILIES = (
    Family(
        data="MNIST",
        licence="Apache-2.0; data CC BY-SA 3.0",
        channels=1,
        classifier="mnist-classifier",
        tokenizer="mnist-vq-tokenizer",
        model="mnist-vq",
        recipes={
            "mnist-classifier": Recipe(steps=800, batch=64, rate=2e-3, decay=0.05, every=100),
            "mnist-vq-tokenizer": Recipe(steps=3000, batch=64, rate=3e-3, decay=0.0, every=100),
            "mnist-vq": Recipe(steps=1200, batch=64, rate=3e-3, decay=0.3, average=0.99, every=100),
        },
        judge={"width": 16, "side": 28, "levels": 256},
        rounding=vq.Shape(side=28, codes=256, width=32, dim=8),
        law={"dim": 128, "layers": 4, "heads": 4, "hidden": 344},
        changed=moved,
    ),
    Family(
        data="CIFAR-10",
        licence="Apache-2.0; data: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        channels=3,
        classifier="cifar-classifier",
        tokenizer="cifar-fsq-tokenizer",
        model="cifar-fsq",
        recipes={
            "cifar-classifier": Recipe(steps=2000, batch=128, rate=2e-3, decay=0.05, every=200),
            "cifar-fsq-tokenizer": Recipe(steps=8000, batch=64, rate=2e-3, decay=0.0, every=200),
            "cifar-fsq": Recipe(steps=4000, batch=64, rate=2e-3, decay=0.3, average=0.99, every=250),
        },
        judge={"width": 32, "side": 32, "levels": 256, "channels": 3},
        rounding=vq.Shape(side=32, codes=4375, width=48, dim=5, channels=3, blocks=2, levels=(7, 5, 5, 5, 5)),
        law={"dim": 160, "layers": 5, "heads": 5, "hidden": 432},
        changed=mirrored,
        larger=(
            {"dim": 224, "layers": 9, "heads": 7, "hidden": 600},
            Recipe(steps=20_000, batch=256, rate=1e-3, decay=0.3, average=0.999, every=500),
        ),
    ),
)


def larger(family: Family) -> Family:
    """One with its larger transformer, under the same name.

    Raises:
        InputError: it has none.
    """
    if family.larger is None:
        raise InputError(f"there is no larger transformer of {family.data}; leave out --larger")
    law, recipe = family.larger
    return replace(family, law=law, recipes={**family.recipes, family.model: recipe})


def names() -> list[str]:
    """Of all that can be trained."""
    return [name for family in FAMILIES for name in family.recipes]
