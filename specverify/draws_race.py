"""The noise of races, standard exponentials where they are asked for; and which token comes first."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def exponentials(
    generator: torch.Generator, shape: tuple[int, int, int], where: Bool[Tensor, "batch slots"] | None
) -> Float[Tensor, "batch slots vocab"]:
    """One number above 0 for each token of every slot in `where`, or of all; elsewhere 0.

    A CPU draws no more than it needs. On a GPU nobody waits to learn how many that is: all are drawn.
    """
    few = generator.device.type == "cpu"
    size = shape if where is None or not few else (int(where.sum()), shape[-1])
    noise = torch.rand(*size, dtype=torch.float64, device=generator.device, generator=generator)
    # In a third of the time that torch's own takes on a CPU; none is 0, so that a weight of 0 never wins.
    noise.neg_().log1p_().neg_().clamp_(min=torch.finfo(torch.float64).tiny)
    if where is None:
        return noise
    if not few:
        return noise.mul_(where[..., None])
    found = noise.new_zeros(shape)
    found[where] = noise
    return found


def first(
    race: Float[Tensor, "batch slots vocab"], weights: Float[Tensor, "batch slots vocab"]
) -> tuple[Float[Tensor, "batch slots"], Int[Tensor, "batch slots"]]:
    """When the first token of each race comes under its law, and which it is."""
    times = weights.to(race.dtype, copy=True)  # of one precision: a quotient of two takes twice as long
    return torch.div(race, times, out=times).min(-1)
