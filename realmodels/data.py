"""The images that the small models are trained on: scikit-learn's digits, 8x8 pixels of 17 grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SIDE, LEVELS, CLASSES = 8, 17, 10
HELD_OUT, SPLIT_SEED = 360, 0


@dataclass(frozen=True)
class Images:
    """Labelled images as tokens in raster order.

    Attributes:
        tokens: Int[n, 64], grey levels 0..16.
        labels: Int[n], digits 0..9.
    """

    tokens: Int[Tensor, "n length"]
    labels: Int[Tensor, " n"]


@cache
def digits() -> tuple[Images, Images]:
    """The 1437 training images and the 360 held-out ones; stratified by class, the same on every call.

    Source: UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998), CC BY 4.0, test half, as
    shipped in scikit-learn.
    """
    from sklearn.datasets import load_digits  # slow to import, and models run without it
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels, labels, test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED)
    train, held_out, train_labels, held_out_labels = (torch.from_numpy(part).to(torch.int64) for part in parts)
    return Images(train, train_labels), Images(held_out, held_out_labels)


def augment(tokens: Int[Tensor, "n length"], generator: torch.Generator) -> Int[Tensor, "n length"]:
    """A light random affine change of each image: up to 8 degrees, 8 % of scale and shear, half a pixel of shift."""
    moved = move(tokens.view(-1, 1, SIDE, SIDE).float(), generator, 0.5)
    return moved.round().to(torch.int64).clamp(0, LEVELS - 1).view(len(tokens), -1)


def move(images: Float[Tensor, "n 1 h w"], generator: torch.Generator, pixels: float) -> Float[Tensor, "n 1 h w"]:
    """A light random affine change of each image, with a shift of up to so many pixels; values are not clamped."""
    n, side = len(images), images.shape[-1]
    angle, shear, wide, high, right, down = (torch.rand(6, n, generator=generator) * 2 - 1).unbind()
    angle, shear, shift = angle * 0.14, shear * 0.08, pixels * 2 / side
    rows = [
        torch.stack([(1 + 0.08 * wide) * angle.cos(), shear - angle.sin(), shift * right], dim=-1),
        torch.stack([angle.sin(), (1 + 0.08 * high) * angle.cos(), shift * down], dim=-1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1).to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
