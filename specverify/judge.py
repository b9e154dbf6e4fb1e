"""From evidence to a verdict: what exact laws, and statistical checks, say of a claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed, says_nothing
from specverify.errors import InputError, number_of
from specverify.evidence.result import TOTAL_VARIATION, Evidence
from specverify.evidence.sequences import ExactLaw
from specverify.rules.token import total_variation
from specverify.verdict import Kind, Verdict

BLIND = 0.5
"""No discrepancy above it is an answer, of whatever metric, where nothing finer was asked for."""
SLIGHT = 20
"""Drafts that must be kept, and rejected, for samples to say anything of what is done then."""
KEPT, REPLACED = "what is done when drafts are kept", "what replaces rejected drafts"
EXACT_TOLERANCE = 1e-12
"""Total variation that float64 rounding may leave between two exact laws."""


@dataclass(frozen=True)
class Coverage:
    """What a check exercised, in (expected) numbers of draft tokens.

    Attributes:
        drafts: whether the decoder verifies drafts at all; plain autoregressive decoding does not.
        verified, accepted, recovered: how many were judged, kept, and replaced from the residual.
    """

    drafts: bool
    verified: float
    accepted: float
    recovered: float

    def gap(self) -> str | None:
        """Why a pass would be vacuous, or None."""
        if not self.drafts:
            return None
        if self.verified <= 0:
            return "no draft token was verified"
        if self.accepted <= 0:
            return "no draft token was accepted"
        if self.recovered <= 0:
            return "no draft token was rejected, so the residual was never drawn"
        return None

    def slight(self) -> list[str]:
        """What samples can hardly say, where no pass would be vacuous: each as what, and how often it was done."""
        due = {KEPT: self.accepted, REPLACED: self.recovered} if self.drafts and not self.gap() else {}
        of = f"of {self.verified:,.0f} drafts that were judged"
        return [f"{what}: {number:,.0f} {of} were" for what, number in due.items() if number < SLIGHT]


def judge_exact(
    claim: Claim,
    exact: ExactLaw,
    target: Float[Tensor, " sequences"],
    vocab: int,
    coverage: Coverage,
    tolerance: float = EXACT_TOLERANCE,
) -> Verdict:
    """The verdict on a claim when the output law is known exactly.

    Args:
        claim: what is claimed.
        exact: the decoder's law.
        target: the law of autoregressive decoding, over the same sequences.
        vocab: vocabulary size, which says how a sequence's index falls into tokens.
        coverage: what the enumeration went through.
        tolerance: rounding that is forgiven.
    """
    law, bound = exact.law, tolerance
    if isinstance(claim, Relaxed):
        bound += claim.tv
    if isinstance(claim, ClusterLossless):
        law, target = (_by_cluster(x, claim.partition, vocab) for x in (law, target))
    tv = float(total_variation(law, target.to(law)))
    if not tv <= bound:
        return Verdict(Kind.REFUTED, f"exact TV {tv:.6g} from the target, where {claim} allows {bound:.3g}")
    # A relaxed decoder may accept everything and still keep its bound; losslessness is empty without rejections.
    if (gap := coverage.gap()) and not isinstance(claim, Relaxed):
        return Verdict(Kind.VACUOUS, gap)
    if says_nothing(claim):
        return Verdict(Kind.VACUOUS, f"{claim} allows nearly every law and says nothing; exact TV {tv:.2g}")
    return Verdict(Kind.PROVED, f"exact TV {tv:.2g} from the target over {len(exact.law):,} sequences")


def coarsest(delta: float, slack: float) -> float:
    """The coarsest discrepancy that is an answer where delta was aimed at, and may be missed by so many times."""
    return max(delta, min(BLIND, slack * delta))


def judge_evidence(
    claim: Claim, evidence: Sequence[Evidence], coverage: Coverage, delta: Mapping[str, float], slack: float = 1.0
) -> Verdict:
    """The verdict on a lossless claim from statistical checks.

    Args:
        claim: what is claimed; only Lossless can be judged this way.
        evidence: results of checks whose alphas were set before the data were seen.
        coverage: what the sampled sequences went through.
        delta: for each check, by its name, the discrepancy that should be visible. A check that is not named here
            only watches: it can refute, but its blindness does not make the verdict inconclusive.
        slack: how many times coarser what a check sees may be, up to a discrepancy of BLIND.
    """
    if not isinstance(claim, Lossless):
        raise InputError(f"these checks test losslessness; they cannot judge the claim {claim}")
    refuting = [e for e in evidence if e.rejected]
    if refuting:
        worst = min(refuting, key=lambda e: (1.0 if e.p_value is None else e.p_value, e.check))
        return Verdict(Kind.REFUTED, f"{worst.check}: {worst.detail}")
    if gap := coverage.gap():
        return Verdict(Kind.VACUOUS, gap)
    asked = [e for e in evidence if e.check in delta]
    missing = sorted(set(delta) - {e.check for e in asked})
    if missing or not asked:
        return Verdict(Kind.INCONCLUSIVE, f"not carried out: {', '.join(missing) or 'any check'}")
    for e in asked:
        if e.vacuous:
            return Verdict(Kind.INCONCLUSIVE, f"{e.check}: {e.vacuous}")
        most = coarsest(delta[e.check], slack)
        if not e.delta <= most:
            wanted = "asked for" if slack == 1 else "that an answer takes"
            few = next((d for d in range(3, 17) if f"{e.delta:.{d}g}" != f"{most:.{d}g}"), 17)
            return Verdict(
                Kind.INCONCLUSIVE,
                f"{e.check} with n = {e.n:,} sees {e.delta:.{few}g} ({e.metric}), not the {most:.{few}g} {wanted}",
            )
    seen = {e.metric: max(other.delta for other in asked if other.metric == e.metric) for e in asked}
    first = sorted(seen.items(), key=lambda item: item[0] != TOTAL_VARIATION)  # what delta is, before what goes with it
    bounds = ", ".join(f"{value:.3g} ({metric})" for metric, value in first)
    alpha, beta = sum(e.alpha for e in evidence), max(e.beta for e in asked)
    return Verdict(
        Kind.CONSISTENT,
        f"delta = {bounds}; alpha = {alpha:.2g}, beta = {beta:.2g}, {number_of(len(evidence), 'check')}",
    )


def _by_cluster(law: Tensor, partition: tuple[tuple[int, ...], ...], vocab: int) -> Tensor:
    """The law over sequences of clusters."""
    if sum(map(len, partition)) != vocab:
        raise InputError(f"the partition covers {sum(map(len, partition))} tokens, but the vocabulary has {vocab}")
    member = torch.zeros(vocab, len(partition), dtype=law.dtype, device=law.device)
    for number, cluster in enumerate(partition):
        member[list(cluster), number] = 1
    positions = 0
    while vocab**positions < len(law):
        positions += 1
    table = law.reshape([vocab] * positions)
    for _ in range(positions):
        # Each pass turns the first axis into clusters and moves it last, so that all come round once.
        table = torch.tensordot(table, member, dims=([0], [0]))
    return table.reshape(-1)
