"""What one window of laws tells of a model: whether it remembers, and whether its guidance is guidance."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.processors import guidance


def memory(model: Any, tokens: Int[Tensor, "batch n"], tolerance: float) -> list[str]:
    """A finding, if no law changes when tokens before the last are others; nothing where there are fewer than three."""
    half = tokens.shape[1] // 2
    if half < 1 or tokens.shape[1] < 3:
        return []
    others = tokens.clone()
    others[:, :half] = (others[:, :half] + 1) % model.vocab
    if model.eos is not None:
        others = torch.where(others == model.eos, (tokens + 2) % model.vocab, others)
    one, other = (model.laws(model.start(len(each)), each[:, :-1])[:, half + 1 :] for each in (tokens, others))
    change = float((one - other).abs().sum(-1).max()) / 2
    if change > 2 * tolerance:
        return []
    return [
        f"memory: with other tokens up to position {half - 1} no law behind position {half} changes by more than "
        f"{change:.3g} in total variation, no more than twice what is no finding ({tolerance:g}): a wrong cache could "
        "not show here; run this on weights whose laws depend on what came before"
    ]


def guided(model: Any, scale: float, tokens: Int[Tensor, "batch n"], tolerance: float) -> list[str]:
    """A finding, if the law at a scale is not made of those at scales 1 and 0 as guidance makes it."""
    tolerance, floor = tolerance * (1 + 2 * scale), tolerance
    found, c, u = (
        one.laws(one.start(len(tokens)), tokens).double()
        for one in (model, model.like(guidance=1.0), model.like(guidance=0.0))
    )
    if float((c - u).abs().sum(-1).max()) / 2 <= floor:
        return [
            f"guidance: the law at scale 1 is that at scale 0 but for {floor:g} in total variation, so conditions have "
            "no effect, or less than that, or both are one prompt"
        ]
    error = (found - guidance(c, u, scale)).abs().sum(-1) / 2
    if float(error.max()) <= tolerance:
        return []
    row, place = divmod(int(error.argmax()), error.shape[1])
    swapped = (found - guidance(u, c, scale)).abs().sum(-1) / 2
    why = "; it is the law with the two rows swapped" if float(swapped.max()) <= tolerance else ""
    return [
        f"guidance: at position {place} of row {row} the law at scale {scale:g} differs by {float(error.max()):.3g} in "
        f"total variation from u^(1 - s) c^s, with c the law at scale 1 and u that at scale 0{why}"
    ]
