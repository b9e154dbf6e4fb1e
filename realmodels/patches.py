"""Digits as continuous tokens: an 8x8 image is a 4x4 grid of 2x2 patches, 16 vectors of 4 numbers in raster order.

A grey level g in 0..16 is the number (g - 8) / 8. Grey levels are steps, so a density fitted to them would be infinite;
uniform noise of one step makes them continuous (dequantisation: Theis, van den Oord and Bethge 2016, section 3.1), and
rounding takes it away again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels.data import LEVELS, SIDE
from specverify.errors import InputError

EDGE = 2
DIM, LENGTH = EDGE**2, (SIDE // EDGE) ** 2
STEP = 2 / (LEVELS - 1)
"""One grey level: black is -1, white is 1, and the noise takes half a step off either end."""


def to_patches(
    pixels: Int[Tensor, "n pixels"], generator: torch.Generator | None = None
) -> Float[Tensor, "n length dim"]:
    """Images in raster order as patches, in float32, dequantised if a generator is given.

    Raises:
        InputError: pixels that are not 8x8, or not grey levels 0..16.
    """
    if pixels.shape[1] != SIDE * SIDE:
        raise InputError(f"images have {pixels.shape[1]} pixels; patches are cut from {SIDE} x {SIDE} = {SIDE * SIDE}")
    if pixels.numel() and (int(pixels.min()) < 0 or int(pixels.max()) >= LEVELS):
        raise InputError(f"pixels hold {int(pixels.min())}..{int(pixels.max())}, outside 0..{LEVELS - 1}")
    values = pixels.float()
    if generator is not None:
        values = values + torch.rand(values.shape, generator=generator) - 0.5
    grid = (values * STEP - 1).view(-1, SIDE // EDGE, EDGE, SIDE // EDGE, EDGE)
    return grid.transpose(2, 3).reshape(len(pixels), LENGTH, DIM)


def to_pixels(patches: Float[Tensor, "n length dim"]) -> Int[Tensor, "n pixels"]:
    """The images that patches stand for: each number's nearest grey level.

    Raises:
        InputError: patches of another size, or a number that is not finite.
    """
    if tuple(patches.shape[1:]) != (LENGTH, DIM):
        raise InputError(f"patches have shape {tuple(patches.shape)}, expected (n, {LENGTH}, {DIM})")
    if not bool(patches.isfinite().all()):
        raise InputError("patches hold a number that is not finite; it has no nearest grey level")
    grid = patches.view(-1, SIDE // EDGE, SIDE // EDGE, EDGE, EDGE).transpose(2, 3)
    levels = ((grid.reshape(len(patches), SIDE * SIDE) + 1) / STEP).round().clamp(0, LEVELS - 1)
    return levels.to(torch.int64)
