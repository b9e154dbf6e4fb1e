"""One judgement of a sampler that was sampled and whose draws were followed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch

from specverify.claims import Relaxed
from specverify.evidence.rounding import Precisions, floor
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_exact import BESIDE, LEAK
from specverify.subjects.sampler_series import Sampler
from specverify.subjects.sampler_suite import Case, chosen
from specverify.subjects.sampler_verdict import Asked
from specverify.verdict import Kind, Verdict

TO_FOLLOW = (Kind.CONSISTENT, Kind.INCONCLUSIVE)
"""Verdicts of samples that an exact law can add to."""
HALVES = (torch.float16, torch.bfloat16)
"""Precisions whose rounding looks like a small defect."""


def together(
    sampled: Judgement, whole: bool, followed: Judgement, two: Judgement | None, sample: Sampler, asked: Asked
) -> Judgement:
    """What both come to.

    Args:
        sampled: what samples of it came to. Where they refuted it, or it broke down, that is the judgement: rows in
            batches may be wrong though one alone is right.
        whole: whether all toys were sampled, and not only those on which there was time for an answer.
        followed: what every possible run on the smallest toys came to, if it could be followed.
        two: what every possible call for two rows came to, if it was followed: where samples say too little of rows in
            batches, nothing is proved without it.
        sample: the sampler, to see which precision it computes in.
        asked: what was asked for.
    """
    if sampled.verdict.kind not in TO_FOLLOW:
        return sampled
    notes = (*sampled.notes, *followed.notes)
    seen = sampled.verdict.reason
    seconds = sampled.seconds + followed.seconds
    if followed.verdict.kind is Kind.PROVED:
        seconds += 0.0 if two is None else two.seconds
        kind, said = _beside(sampled.verdict, whole, two)
        gaps = [gap for gap in followed.not_covered if gap != BESIDE]
        return replace(
            sampled,
            verdict=Verdict(kind, f"one row at a time, {followed.verdict.reason}. {said}: {seen}"),
            exact=followed.exact,
            location=two.location if two is not None and kind is Kind.REFUTED else sampled.location,
            not_covered=(*sampled.not_covered, *gaps),
            notes=notes,
            seconds=seconds,
        )
    if followed.verdict.kind is Kind.REFUTED:
        rounded = _rounded(followed, sample, asked)
        if not rounded:
            reason = f"followed draw by draw, {followed.verdict.reason}; samples alone do not show it"
            return replace(followed, verdict=Verdict(Kind.REFUTED, reason), evidence=sampled.evidence, notes=notes,
                           reproduce=sampled.reproduce, seconds=seconds)  # fmt: skip
        return replace(sampled, verdict=Verdict(sampled.verdict.kind, f"{seen}; {rounded}"), exact=followed.exact,
                       notes=notes, seconds=seconds)  # fmt: skip
    if followed.verdict.kind is sampled.verdict.kind:
        said = f"followed draw by draw, {followed.verdict.reason}. By samples: {seen}"
        sampled = replace(sampled, verdict=Verdict(sampled.verdict.kind, said))
    gap = f"the exact law: its draws were not followed to an end ({followed.verdict.reason})"
    return replace(sampled, not_covered=(*sampled.not_covered, gap), seconds=seconds)


def in_calls(followed: Judgement, two: Judgement | None) -> Judgement:
    """One row's judgement, where nothing is sampled, with what two rows of a call came to."""
    if two is None or two.verdict.kind not in (Kind.PROVED, Kind.REFUTED):
        return followed
    wrong = two.verdict.kind is Kind.REFUTED
    one = f"one row at a time, {followed.verdict.reason}"
    gaps = (gap for gap in followed.not_covered if gap != BESIDE)
    return replace(
        followed,
        verdict=Verdict(two.verdict.kind, f"{one}. Rows in one call are {'wrong' if wrong else 'right'} "
                                          f"{two.verdict.reason}"),
        location=two.location if wrong else followed.location,
        not_covered=(*gaps, "more rows in a call than two or three, and other calls"),
        seconds=followed.seconds + two.seconds,
    )  # fmt: skip


def _beside(sampled: Verdict, whole: bool, two: Judgement | None) -> tuple[Kind, str]:
    """The verdict on a sampler whose rows are right one at a time, and what is said of rows in batches."""
    if two is not None and two.verdict.kind is Kind.REFUTED:
        return Kind.REFUTED, f"Rows in one call are wrong {two.verdict.reason}. Samples"
    proved = two is not None and two.verdict.kind is Kind.PROVED
    said = f"Two rows in one call are right {two.verdict.reason}. " if two is not None and proved else ""
    if sampled.kind is Kind.CONSISTENT and (whole or proved):
        return Kind.PROVED, f"{said}Rows in batches are sampled"
    slow = "too slow for samples to say more than what they saw"
    if proved:
        return Kind.PROVED, f"{said}More are {slow}"
    why = "they have too many worlds" if two is None else two.verdict.reason
    lack = f"Two rows in one call were not followed to an end ({why})"
    if sampled.kind is Kind.CONSISTENT:
        return sampled.kind, f"{lack}. Rows in batches are sampled, on some toys"
    return Kind.INCONCLUSIVE, (
        f"{lack}, and rows in batches are {slow}; allow more seconds, or ask for one row alone (--exact)"
    )


def _rounded(followed: Judgement, sample: Sampler, asked: Asked) -> str:
    """How an exact distance may come of 16 bits, if the sampler uses them; empty if it does not, or cannot."""
    row = followed.exact[-1]
    case = next(case for case in chosen(asked.suite, asked.claim, "smallest") if case.name == row["model"])
    bits = _halves(sample, case)
    allowed = asked.claim.tv if isinstance(asked.claim, Relaxed) else 0.0
    limit = max((floor(precision, case.target.length) for precision in bits), default=0.0)
    if row["leak"] > LEAK or row["tv"] - allowed > limit:
        return ""
    names = " and ".join(str(precision).removeprefix("torch.") for precision in bits)
    return (
        f"followed draw by draw on {case.name} it is off by TV {row['tv']:.2g}, which may be the rounding of {names} "
        f"({limit:.2g} there) or a defect of that size; `--exact` takes it for one"
    )


def _halves(sample: Sampler, case: Case) -> list[torch.dtype]:
    """The 16-bit precisions that tensors of one call have."""
    with Precisions() as found, suppress(Exception):  # what it raises, samples have told
        sample(case.target, case.draft, 8, 0)
    return [precision for precision in HALVES if precision in found.seen]
