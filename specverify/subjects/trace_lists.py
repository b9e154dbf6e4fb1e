"""Logs of the most probable tokens alone: what is listed, and the rest behind it as one outcome."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.errors import InputError
from specverify.evidence.tokens import TokenStatistics
from specverify.subjects.trace_given import Block, first

TOP = ("top_ids", "top_logprobs")


def told_apart(
    ids: Int[Tensor, "tokens listed"],
    top: Float[Tensor, "tokens listed"],
    emitted: Int[Tensor, "tokens one"],
    counts: Tensor,
    slack: float,
    block: Block,
) -> tuple[Int[Tensor, "tokens listed"], Int[Tensor, "tokens one"], Float[Tensor, "tokens options"]]:
    """Of each token the ids, -1 where a place of a list is filled up; which outcome came; and the law over all.

    What is impossible and no id, or named twice, fills up a list that is shorter than others.

    Raises:
        InputError: an id is named twice with a probability, or they come to more than 1.
    """
    ordered, order = ids.sort(stable=True, dim=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    nothing = torch.zeros_like(ids[:, :1], dtype=torch.bool)
    several = torch.zeros_like(ids, dtype=torch.bool).scatter(
        1, order, torch.cat([same, nothing], 1) | torch.cat([nothing, same], 1)
    )
    ids = ids.masked_fill((top == 0) & (several | (ids < 0)), -1)
    apart = torch.where(ids < 0, -1 - torch.arange(ids.shape[1]), ids)
    twice = apart.sort(1).values.diff(dim=1) == 0
    if bool((bad := (twice & counts).any(1)).any()):
        raise InputError(
            f"top_ids name a token twice at one position, {first(bad, block)}; list each once, and fill up what is "
            "shorter with ids of -1 and log-probabilities of -inf"
        )
    rest = 1 - top.sum(1, keepdim=True)
    if bool((bad := (rest < -slack) & counts).any()):
        raise InputError(
            f"top_logprobs sum to {float(1 - rest.min()):.4g} in probability at one position, {first(bad, block)}"
        )
    laws = torch.cat([top, rest.clamp(min=0)], 1)
    is_listed = (ids == emitted) & (emitted >= 0)
    place = torch.where(is_listed.any(1), is_listed.int().argmax(1), ids.shape[1])
    return ids, place[:, None], laws / laws.sum(1, keepdim=True)


def rest_last(
    statistics: TokenStatistics,
    laws: Float[Tensor, "tokens options"],
    place: Int[Tensor, "tokens one"],
    generator: np.random.Generator,
) -> Float[Tensor, "tokens one"]:
    """Transforms through the listed tokens by falling probability, and then through the rest, however large it is.

    With the rest among them by its size, what moves from the lists to the rest would cancel over laws.
    """
    listed, own = laws[:, :-1], laws.gather(1, place)
    earlier = torch.arange(listed.shape[1]) < place
    ahead = (listed * ((listed > own) | ((listed == own) & earlier))).sum(1, keepdim=True)
    ahead = torch.where(place == listed.shape[1], 1 - own, ahead)
    uniform = torch.from_numpy(generator.random(tuple(place.shape)))
    return torch.where(statistics.open, (ahead + uniform * own).clamp(0, 1), statistics.pit)
