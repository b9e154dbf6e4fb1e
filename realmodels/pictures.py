"""Images as one PNG: a grid of them."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

SMALLEST = 56
"""Pixels that a side of an image has at least, so that small ones can be looked at."""
GAP = 2


def sheet(pixels: Float[Tensor, "n channels height width"], columns: int) -> UInt8[Tensor, "down across 3"]:
    """Images beside and below each other, in their order; those of few pixels are enlarged, pixel by pixel."""
    pixels = pixels.detach().float().cpu().clamp(0, 1)
    if pixels.shape[1] != 3:
        pixels = pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    larger = max(1, -(-SMALLEST // min(pixels.shape[2:])))
    pixels = F.pad(pixels.repeat_interleave(larger, 2).repeat_interleave(larger, 3), (0, GAP, 0, GAP), value=1.0)
    missing = -len(pixels) % columns
    pixels = torch.cat([pixels, pixels.new_ones(missing, *pixels.shape[1:])])
    rows = pixels.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # rows, height, columns, width, channels
    joined = rows.flatten(0, 1).flatten(1, 2)[:-GAP, :-GAP]
    found: Tensor = (joined * 255).round().to(torch.uint8)
    return found


def png(image: UInt8[Tensor, "down across 3"]) -> bytes:
    """As a file; the same image gives the same bytes."""
    from matplotlib.image import imsave  # slow to import, and models run without it

    file = io.BytesIO()
    imsave(file, image.numpy(), format="png", metadata={"Software": ""})
    return file.getvalue()
