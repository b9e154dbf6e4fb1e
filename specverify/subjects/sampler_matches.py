"""Of which other law does a refuted sampler look? Conventions and contradictions that are no bug of a decoder.

Top-k keeps the lowest ids among ties here and all of them elsewhere; a setting of the user's may override what the
target is handed with; guidance may be left out. Each such law can be written down, and what came is held against it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from specverify.evidence.result import Law
from specverify.evidence.sequences import target_law
from specverify.model import Model
from specverify.processors import Guided, Processed, parse_processors
from specverify.subjects.sampler_suite import TOP_K, Case, by_convention
from specverify.subjects.shortened import guided_still

AHEAD = 12.0
"""How much more probable, in nats, what came must be under another law than under the target's."""
NEAR = 1e-3
"""Probability that a law which it does come from is not named."""
_TIES = {
    "": ("the lowest ids", "--suite standard", "top_k"),
    "ties": ("all of them", "--suite standard-ties", "top_k_ties"),
    "high": ("the highest ids", "--suite standard-high", "top_k_high"),
}
"""By convention: what top-k keeps of the tokens that tie with the k-th, and how to ask for it."""


def others(case: Case) -> Iterator[tuple[str, Model]]:
    """Laws that a sampler may have instead of a case's target's, and what to say of each.

    Conventions of ties first: a greedy law that keeps all ties may be the law before its processors.
    """
    target = guided_still(case.target)
    if isinstance(target, Processed):
        yield from _by_ties(target)
        yield (
            "looks like the target without its processors: a setting of your own may override them, or they are not "
            "applied",
            target.inner,
        )
        for number, step in enumerate(target.processors):
            rest = [other for at, other in enumerate(target.processors) if at != number]
            if rest:
                yield f"looks like the target without {step.label}", Processed(target.inner, rest)
        if len(target.processors) > 1:
            yield "looks like the processors in the opposite order", Processed(target.inner, target.processors[::-1])
    if isinstance(target, Guided):
        c, u, scale = target.conditional, target.unconditional, target.scale
        yield "looks like the conditional law, without guidance", c
        yield "looks like the unconditional law", u
        for other, said in ((scale + 1, "one more than"), (max(scale - 1, 0), "one less than")):
            yield (
                f"looks like a guidance scale {said} the target's {scale:g}, as other papers count it",
                Guided(c, u, other),
            )
        yield "looks like guidance with both laws exchanged", Guided(u, c, scale)
    else:
        yield (
            "looks like temperature 0.5, or like a guidance scale one more than the target's 1, as other papers count "
            "it, where rows without a condition say nothing",
            Processed(target, parse_processors("temperature=0.5")),
        )
    yield "looks like the draft model's law", case.draft


def _by_ties(target: Processed) -> Iterator[tuple[str, Model]]:
    """The target by other conventions of top-k, where it has one and it makes a difference."""
    functions = {step.function for step in target.processors}
    mine = next((convention for convention, function in TOP_K.items() if function in functions), None)
    if mine is None:
        return
    for convention, (kept, suite, processor) in _TIES.items():
        if convention != mine:
            said = (
                f"ties at the k-th probability: this target keeps {_TIES[mine][0]}, yours looks like it keeps {kept}, "
                f"which is no defect where it is meant; judge it by that convention with {suite}, or a --target with "
                f"{processor}"
            )
            yield said, by_convention(target, convention)


def matches_counts(case: Case, law: Law, counts: Int[np.ndarray, " sequences"]) -> list[str]:
    """What to say of counts of whole sequences that are not those of the target's law."""
    n = int(counts.sum())
    for said, model in others(case):
        other = target_law(model).cpu().numpy()
        if np.abs(other - np.asarray(law)).sum() < 1e-9 or counts[other == 0].any():
            continue
        seen = counts > 0
        ahead = special.xlogy(counts, other).sum() - special.xlogy(counts[seen], np.asarray(law)[seen]).sum()
        possible = other > 0
        statistic = 2 * special.rel_entr(counts[possible].astype(np.float64), n * other[possible]).sum()
        freedom = int(possible.sum()) - 1  # none: all of them are the one that can come
        if ahead >= AHEAD and (freedom == 0 or special.gammaincc(freedom / 2, statistic / 2) >= NEAR):
            return [said]
    return _tied(case, np.asarray(law), counts)


def _tied(case: Case, law: Float[np.ndarray, " sequences"], counts: Int[np.ndarray, " sequences"]) -> list[str]:
    """What to say where whatever should not come ties with what should, by no convention that has a name."""
    all_ties = target_law(by_convention(case.target, "ties")).cpu().numpy()
    if counts[law == 0].any() and not counts[all_ties == 0].any():
        return [
            "ties at the k-th probability: all that should not come ties with what this target keeps; the suites "
            "standard-ties and standard-high keep all ties, or the highest ids"
        ]
    return []


def matches_law(case: Case, came: Float[np.ndarray, " sequences"], tolerance: float) -> list[str]:
    """What to say of an exact law that is not the target's."""
    for said, model in others(case):
        if 0.5 * float(np.abs(target_law(model).cpu().numpy() - came).sum()) <= tolerance:
            return [said]
    return []
