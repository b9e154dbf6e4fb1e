"""How often first drafts are kept, against what the laws of target and draft model have in common."""

from __future__ import annotations

from dataclasses import replace

from specverify import continuous_density as densities
from specverify.evidence import bounds
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattUniformity, transform
from specverify.subjects.continuous_play import Played
from specverify.subjects.continuous_suite import Setting

KEPT = "first drafts kept"
_DRAFTED = 0.01
"""First drafts whose p-value under the draft model's law is below are not said to be drawn from it."""


def first_drafts(one: Setting, played: Played, alpha: float, beta: float) -> tuple[Evidence | None, str]:
    """Whether first drafts are kept more often than any lossless rule can keep them, or why that is not asked.

    Of a token of law p and a draft of law q the two are equal with probability at most 1 - TV(p, q), however they
    depend on each other. That the draft is one of law q is looked at first.
    """
    draft = one.draft_model()
    if draft is None:
        return None, ""
    if played.first is None:
        return None, "none is shown in the only pass of a first step"
    tokens, kept = played.first
    law = draft.laws(draft.start(len(tokens)), tokens[:, None, :][:, :0])
    drafted = RosenblattUniformity("coordinate").check(transform(law, tokens[:, None]), alpha=_DRAFTED, beta=beta)
    if drafted.rejected:
        return None, "they have not the draft model's law"
    common = densities.overlap(one.model(), str(one.draft))
    found = bounds.at_most(common, "first drafts kept against the overlap").check(kept, alpha=alpha, beta=beta)
    return replace(found, check=KEPT), ""
