"""Races under enumeration: whether two are one, and which token comes first in any of several."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def shared(place: Int[Tensor, "batch slots"], where: Bool[Tensor, "batch slots"]) -> bool:
    """Whether two of a row's slots in `where` are one race."""
    used = torch.where(where, place, -1 - torch.arange(place.shape[1], device=place.device))
    ordered = used.sort(1).values
    return bool((ordered[:, 1:] == ordered[:, :-1]).any())


def chance_of_zero(
    race: Float[Tensor, "batch slots 2"], p: Float[Tensor, " batch"], where: Bool[Tensor, "batch slots"]
) -> Float[Tensor, " batch"]:
    """The chance that token 0 comes first in any of several races, each known by the interval [a, b] of its noise.

    Under the law (p, 1 - p) one race brings token 0 at time t with density p (exp(-p t / b') - exp(-p t / a')), where
    a' = min(a, p) and b' = min(b, p), and token 1 likewise, with 1 - p, 1 - a and 1 - b in place of p, b and a. So the
    chance that it brings nothing before t is a sum of four exponentials c exp(-r t), and a product of such sums is
    integrated term by term.
    """
    low, high = race.unbind(-1)
    cut = p[:, None]
    size = torch.stack([high.minimum(cut), -low.minimum(cut), 1 - low.maximum(cut), high.maximum(cut) - 1], -1)
    rate = torch.stack([cut, cut, 1 - cut, 1 - cut], -1) / size.abs().where(size != 0, 1.0)
    size = size.where(where[..., None], torch.tensor([1.0, 0, 0, 0], dtype=size.dtype, device=size.device))
    rate = rate.where(where[..., None], 0.0)
    product, total, zero = torch.ones_like(cut), torch.zeros_like(cut), torch.zeros_like(cut)
    of_zero = torch.tensor([1.0, 1, 0, 0], dtype=size.dtype, device=size.device)
    for slot in range(race.shape[1]):
        product = (product[..., None] * size[:, slot, None]).flatten(1)
        total = (total[..., None] + rate[:, slot, None]).flatten(1)
        zero = (zero[..., None] + (rate[:, slot] * of_zero)[:, None]).flatten(1)
    chance = (product * zero / total.where(total > 0, 1.0)).sum(1) / product.sum(1)
    return chance.clamp(0, 1).where(where.any(1), 1.0)
