"""What one window of laws tells of a model: what it heeds and remembers, and whether its guidance is guidance."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.conformance_walk import Truth, read
from specverify.processors import guidance

PLACES = 8
"""Places at which a token is changed to see how much a law depends on it."""

HARDLY = 0.1
"""A share of places below which a wrong cache could hardly show."""


def conditions(model: Any, given: list[Any], tokens: Int[Tensor, "batch n"], tolerance: float) -> dict[str, str]:
    """A finding, if rows with different conditions have the same laws behind the same tokens.

    Args:
        model: whose laws they are.
        given: each row's condition.
        tokens: of which the first row's are put into all.
        tolerance: what is no difference.
    """
    laws = model.laws(model.start(len(given)), tokens[:1].repeat(len(given), 1)).double().clone()
    for row in range(len(given)):
        for other in range(row):
            if repr(given[row]) == repr(given[other]):
                continue
            if float((laws[row] - laws[other]).abs().sum(-1).max()) / 2 <= tolerance:
                sentence = (
                    f"conditions: behind the same {tokens.shape[1]} tokens all laws of row {row}, whose condition is "
                    f"{repr(given[row])[:60]}, are those of row {other}, whose condition is {repr(given[other])[:60]}, "
                    f"but for {tolerance:g} in total variation: another row's condition in its place could not show"
                )
                return {"conditions": sentence}
    return {}


def memory(model: Any, tokens: Int[Tensor, "batch n"], tolerance: float) -> tuple[dict[str, str], float | None]:
    """Whether laws depend on tokens before the last so much that a wrong one among them would show.

    Returns:
        a finding, if hardly one would; and at which share of the places a single other token changes some law behind
        the next by more than the tolerance, None where there is no such place or token.
    """
    n = tokens.shape[1]
    if n < 3 or model.vocab == 1:
        return {}, None
    before = model.laws(model.start(len(tokens)), tokens[:, :-1]).clone()
    most = []
    for place in torch.linspace(0, n - 3, min(PLACES, n - 2)).round().long().tolist():
        other = (tokens[:, place] + 1) % model.vocab
        if model.eos is not None:
            other = torch.where(other == model.eos, (tokens[:, place] + 2) % model.vocab, other)
        changed = torch.cat([tokens[:, :place], other[:, None], tokens[:, place + 1 : -1]], 1)
        after = model.laws(model.start(len(tokens)), changed)
        most.append((after - before)[:, place + 2 :].double().abs().sum(-1).amax(1) / 2)
    change = torch.stack(most)
    share = float((change > tolerance).double().mean())
    if share >= HARDLY:
        return {}, share
    sentence = (
        f"memory: another token further back than the last one changes laws by {float(change.median()):.3g} in total "
        f"variation (the median of {change.numel()}), and by more than what is no finding ({tolerance:g}) in "
        f"{100 * share:.0f}% of places: a wrong cache could hardly show here; run this in float32, or on weights whose "
        "laws depend more on what came before. A model that is to heed the last token alone has no cache to be wrong"
    )
    return {"memory": sentence}, share


def guided(model: Any, scale: float, truths: list[Truth], chunk: int, tolerance: float) -> dict[str, str]:
    """A finding, if the law at a scale is not made of those at scales 1 and 0 as guidance makes it.

    Args:
        model: at its scale.
        scale: of guidance.
        truths: stretches, in whose tokens laws are compared, in windows.
        chunk: drafts of the windows.
        tolerance: of the laws; that of guided ones grows with the scale.
    """
    models = model, model.like(guidance=1.0), model.like(guidance=0.0)
    tokens, done, effect = truths[0].tokens, 0, 0.0
    contexts = [one.start(len(tokens)) for one in models]
    for truth in truths:
        contexts = [
            read(one, context, tokens, done, truth.begin, chunk) for one, context in zip(models, contexts, strict=True)
        ]
        for place in range(truth.begin, truth.end, chunk + 1):
            done = min(place + chunk + 1, truth.end)
            part = tokens[:, place:done]
            found, c, u = (
                one.laws(context, part[:, :-1]).double().clone() for one, context in zip(models, contexts, strict=True)
            )
            effect = max(effect, float((c - u).abs().sum(-1).max()) / 2)
            if said := _unguided(found, c, u, scale, tolerance * (1 + 2 * scale), place):
                return {"guidance": said}
            count = torch.full_like(part[:, 0], part.shape[1])
            contexts = [one.advance(context, part, count) for one, context in zip(models, contexts, strict=True)]
    if effect > tolerance:
        return {}
    sentence = (
        f"guidance: the law at scale 1 is that at scale 0 but for {tolerance:g} in total variation, so conditions have "
        "no effect, or less than that, or both are one prompt"
    )
    return {"guidance": sentence}


def _unguided(found: Tensor, c: Tensor, u: Tensor, scale: float, tolerance: float, begin: int) -> str:
    """Where guided laws are not what guidance makes, in words; empty if they are."""
    error = (found - guidance(c, u, scale)).abs().sum(-1) / 2
    if float(error.max()) <= tolerance:
        return ""
    place = int(error.amax(0).argmax())
    row = int(error[:, place].argmax())
    swapped = (found - guidance(u, c, scale)).abs().sum(-1) / 2
    why = "; it is the law with the two rows swapped" if float(swapped[:, place].max()) <= tolerance else ""
    return (
        f"guidance: at position {begin + place} of row {row} the law at scale {scale:g} differs by "
        f"{float(error[row, place]):.3g} in total variation from u^(1 - s) c^s, with c the law at scale 1 and u that "
        f"at scale 0{why}"
    )
