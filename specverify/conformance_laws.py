"""What one window of laws tells of a model: what it heeds and remembers, and whether its guidance is guidance."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.conformance_like import same_condition
from specverify.conformance_walk import MOST, SHARE, Truth, read
from specverify.processors import guidance

PLACES = 8
"""Places at which a token is changed to see how much a law depends on it."""

HARDLY = 0.1
"""A share of places below which a wrong cache could hardly show."""

ALONG = 0.9
"""A cosine from which on laws at scale 0 differ as those at scale 1 do; tiny adapters of tests come to 0.5 at most."""

HALF = 0.1
"""How far from a half the slope of such differences may lie."""

OTHER = 0.001
"""A distance from which on the laws of two scales are others, in any precision."""


def conditions(
    model: Any, given: list[Any], tokens: Int[Tensor, "batch length"], chunk: int, tolerance: float
) -> dict[str, str]:
    """A finding, if rows with different conditions have the same laws behind the same tokens, to the last one.

    Args:
        model: whose laws they are.
        given: each row's condition.
        tokens: of which the first row's are put into all.
        chunk: drafts of the windows in which they are read, until laws have differed.
        tolerance: what is no difference.
    """
    same, context, done = tokens[:1].repeat(len(given), 1), model.start(len(given)), 0
    alike = different(given)
    while alike and done < same.shape[1]:
        part = same[:, done : done + chunk + 1].clone()
        laws = model.laws(context, part[:, :-1]).double()
        alike = [(row, other) for row, other in alike if float(_apart(laws[row], laws[other]).max()) <= tolerance]
        done += part.shape[1]
        if alike and done < same.shape[1]:
            context = model.advance(context, part, torch.full_like(part[:, 0], part.shape[1]))
    if not alike:
        return {}
    row, other = alike[0]
    sentence = (
        f"conditions: behind the same {done - 1} tokens all laws of row {row}, whose condition is "
        f"{repr(given[row])[:60]}, are those of row {other}, whose condition is {repr(given[other])[:60]}, "
        f"but for {tolerance:g} in total variation: another row's condition in its place could not show"
    )
    return {"conditions": sentence}


def different(given: list[Any]) -> list[tuple[int, int]]:
    """Rows that have different conditions, in pairs; the later one first."""
    pairs = itertools.combinations(range(len(given)), 2)
    return [(row, other) for other, row in pairs if not same_condition(given[row], given[other])]


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
    tokens, done, effect, said = truths[0].tokens, 0, 0.0, ""
    contexts, fit = [one.start(len(tokens)) for one in models], Fit(scale, min(tolerance, OTHER))
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
            effect = max(effect, float(_apart(c, u).max()))
            said = said or _unguided(found, c, u, scale, min(tolerance * (1 + 2 * scale), MOST), place)
            fit.add(found, c, u)
            count = torch.full_like(part[:, 0], part.shape[1])
            contexts = [one.advance(context, part, count) for one, context in zip(models, contexts, strict=True)]
    if words := "; ".join(filter(None, (said, fit.words()))):
        return {"guidance": f"guidance: {words}"}
    if effect > tolerance:
        return {}
    sentence = (
        f"guidance: the law at scale 1 is that at scale 0 but for {tolerance:g} in total variation, so conditions have "
        "no effect, or less than that, or both are one prompt"
    )
    return {"guidance": sentence}


class Fit:
    """Which scale guided laws fit best, on average over all places: in half precision single ones say little.

    Another one fits better if the laws are less than half as far from its own. Rounding moves them anywhere, and so
    does not bring them nearer to another scale's.

    Args:
        scale: at which they are to be.
        least: how far another scale's laws are from those on average, to be others.
    """

    def __init__(self, scale: float, least: float) -> None:
        self.scale, self.least, self.number = scale, least, 0
        self.others = {
            scale - 1: "with the scale one less",
            scale + 1: "with the scale one more, as of c + s (c - u)",
            1 - scale: "with the two rows swapped",
            0.0: "without condition",
            1.0: "without guidance",
        }
        self.others.pop(scale, None)
        self.sums = {each: torch.zeros(2, dtype=torch.float64) for each in (scale, *self.others)}

    def add(self, found: Tensor, c: Tensor, u: Tensor) -> None:
        """Take in some laws, beside those at scales 1 and 0."""
        due = guidance(c, u, self.scale)
        self.number += found[..., 0].numel()
        for each, sums in self.sums.items():
            law = guidance(c, u, each) if each >= 0 else guidance(u, c, 1 - each)
            sums += torch.stack([_apart(found, law).sum(), _apart(due, law).sum()]).cpu()

    def words(self) -> str:
        """What they fit better than the scale that they are to be at; empty if that fits best."""
        means = {each: (sums / self.number).tolist() for each, sums in self.sums.items()}
        mine = means[self.scale][0]
        nearer = [(mean, each) for each, (mean, apart) in means.items() if mean < mine / 2 and apart > self.least]
        if not nearer:
            return ""
        mean, each = min(nearer)
        return (
            f"on average over {self.number} laws they differ by {mine:.3g} from those at scale {self.scale:g}, and by "
            f"{mean:.3g} from those at scale {each:g}: they fit the law {self.others[each]}"
        )


def unconditional(model: Any, given: list[Any], tokens: Int[Tensor, "batch n"], tolerance: float) -> dict[str, str]:
    """A finding, if the law at scale 0 heeds a row's condition as the one at scale 1 does.

    A prompt without condition may have the length of the one with it, and laws at scale 0 then depend on that, but in
    ways of their own; and some places may not be guided at all. Of c + s (c - u), logarithms at scale 0 differ from row
    to row along with those at scale 1, by half as much.

    Args:
        model: guided.
        given: each row's condition.
        tokens: of which the first row's are put into all.
        tolerance: of the laws.
    """
    if not (pairs := different(given)):
        return {}
    same, each = tokens[:1].repeat(len(given), 1), torch.tensor(pairs, device=tokens.device).T
    models = [model.like(guidance=scale) for scale in (0.0, 1.0)]
    free, bound = (one.laws(one.start(len(given)), same[:, :-1].clone()).double()[each] for one in models)
    means = [float(_apart(*laws).mean()) for laws in (free, bound)]
    along, slope = _along(free, bound)
    if means[1] <= tolerance / SHARE or along < ALONG or abs(slope - 0.5) > HALF:
        return {}
    sentence = (
        f"guidance: behind the same {tokens.shape[1] - 1} tokens laws of rows that have different conditions differ by "
        f"{means[0]:.3g} in total variation at scale 0, on average, and by {means[1]:.3g} at scale 1, in the same "
        f"direction (cosine {along:.2f}; their logarithms by {slope:.2f} times as much): scale 0 is to be the law "
        "without condition and 1 that with it, as they are of u + s (c - u), and not of c + s (c - u)"
    )
    return {"guidance": sentence}


def _along(free: Float[Tensor, "2 pairs n vocab"], bound: Float[Tensor, "2 pairs n vocab"]) -> tuple[float, float]:
    """The cosine between differences of logarithms of two laws and those of two others, weighted by probability, and
    how many times the others the former are."""
    weight = (free + bound).sum(0) / 4
    logs = [laws.clamp(min=torch.finfo(torch.float32).tiny).log() for laws in (free, bound)]
    one, other = (log[0] - log[1] - (weight * (log[0] - log[1])).sum(-1, keepdim=True) for log in logs)
    both, square = (weight * one * other).sum(), (weight * other**2).sum()
    return float(both / ((weight * one**2).sum() * square).sqrt()), float(both / square)


def _apart(laws: Tensor, others: Tensor) -> Tensor:
    """Total variation between laws."""
    return (laws - others).abs().sum(-1) / 2


def _unguided(found: Tensor, c: Tensor, u: Tensor, scale: float, tolerance: float, begin: int) -> str:
    """Where guided laws are not what guidance makes, in words; empty if they are."""
    error = _apart(found, guidance(c, u, scale))
    if float(error.max()) <= tolerance:
        return ""
    place = int(error.amax(0).argmax())
    row = int(error[:, place].argmax())
    return (
        f"at position {begin + place} of row {row} the law at scale {scale:g} differs by "
        f"{float(error[row, place]):.3g} in total variation from u^(1 - s) c^s, "
        "with c the law at scale 1 and u that at scale 0"
    )
