"""Verdicts: what the evidence says about a claim.

    PROVED-FOR-ALL  as PROVED, and the law is the target's whatever the models' laws are, in a box of sizes; up to the
                  error of a random evaluation, which is stated (`evidence/exact`)
    PROVED        the exact law satisfies the claim on this model
    CONSISTENT    no check saw a discrepancy; one of at least delta would have been missed with probability at most beta
    REFUTED       the exact law breaks the claim, or a check rejected it at its alpha
    INCONCLUSIVE  nothing was rejected, but the checks cannot see discrepancies as small as was asked for
    VACUOUS       nothing was rejected, but nothing was at stake: no draft was verified, none was ever rejected, or the
                  claim allows nearly every law
    ERROR         the check could not be carried out

A verdict is a function of evidence alone. Several combine as follows (`combine`; symmetric, associative):

                    FOR-ALL       PROVED        CONSISTENT    VACUOUS       INCONCLUSIVE  ERROR  REFUTED
    PROVED-FOR-ALL  FOR-ALL       PROVED        CONSISTENT    FOR-ALL       INCONCLUSIVE  ERROR  REFUTED
    PROVED                        PROVED        CONSISTENT    PROVED        INCONCLUSIVE  ERROR  REFUTED
    CONSISTENT                                  CONSISTENT    CONSISTENT    INCONCLUSIVE  ERROR  REFUTED
    VACUOUS                                                   VACUOUS       INCONCLUSIVE  ERROR  REFUTED
    INCONCLUSIVE                                                            INCONCLUSIVE  ERROR  REFUTED
    ERROR                                                                                 ERROR  REFUTED
    REFUTED                                                                                      REFUTED

A verdict on every law of some sizes lifts one on models by name (`lifted`): PROVED or CONSISTENT becomes
PROVED-FOR-ALL, of these sizes, and nothing that is worse becomes better.

A vacuous part adds nothing and takes nothing away; it is reported as not covered. One refutation refutes,
whatever else went wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from specverify.claims import Claim, ClusterLossless, Lossless, Relaxed, says_nothing
from specverify.errors import InputError
from specverify.evidence.result import TOTAL_VARIATION, Evidence
from specverify.evidence.sequences import ExactLaw
from specverify.rules.token import total_variation

BLIND = 0.5
"""No discrepancy above it is an answer, of whatever metric, where nothing finer was asked for."""
EXACT_TOLERANCE = 1e-12
"""Total variation that float64 rounding may leave between two exact laws."""


class Kind(enum.Enum):
    """The seven verdicts."""

    PROVED_FOR_ALL = "PROVED-FOR-ALL"
    PROVED = "PROVED"
    CONSISTENT = "CONSISTENT"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    VACUOUS = "VACUOUS"
    ERROR = "ERROR"

    @property
    def exit_code(self) -> int:
        """0 if the claim holds, 1 if it is refuted, 2 if nothing can be said, 3 for an error."""
        return {Kind.REFUTED: 1, Kind.INCONCLUSIVE: 2, Kind.VACUOUS: 2, Kind.ERROR: 3}.get(self, 0)

    @property
    def proved(self) -> bool:
        """Whether a claim was proved, on models that are named or for all laws."""
        return self in (Kind.PROVED, Kind.PROVED_FOR_ALL)


_PRECEDENCE = (
    Kind.REFUTED,
    Kind.ERROR,
    Kind.INCONCLUSIVE,
    Kind.CONSISTENT,
    Kind.PROVED,
    Kind.PROVED_FOR_ALL,
    Kind.VACUOUS,
)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a claim, and why.

    Attributes:
        kind: which of the seven.
        reason: one sentence with the figures that it rests on.
    """

    kind: Kind
    reason: str


def combine(kinds: Iterable[Kind]) -> Kind:
    """The verdict over several parts, by the table above.

    Raises:
        InputError: for no parts at all: nothing checked is not a pass.
    """
    present = set(kinds)
    for kind in _PRECEDENCE:
        if kind in present:
            return kind
    raise InputError("no verdicts to combine: nothing was checked, so nothing can be said")


def lifted(models: Sequence[Kind], laws: Sequence[Kind]) -> Kind:
    """The verdict over models by name and over every law of some sizes.

    Args:
        models: verdicts on models by name, proved or tested.
        laws: verdicts of tries to prove it for every law.

    Raises:
        InputError: for no parts at all.
    """
    if not models or not laws:
        return combine([*models, *laws])
    over, every = combine(models), combine(laws)
    if over in (Kind.PROVED, Kind.CONSISTENT) and every is Kind.PROVED_FOR_ALL:
        return every
    return combine([over, every])


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
            return Verdict(
                Kind.INCONCLUSIVE,
                f"{e.check} with n = {e.n:,} sees {e.delta:.3g} ({e.metric}), not the {most:.3g} {wanted}",
            )
    seen = {e.metric: max(other.delta for other in asked if other.metric == e.metric) for e in asked}
    first = sorted(seen.items(), key=lambda item: item[0] != TOTAL_VARIATION)  # what delta is, before what goes with it
    bounds = ", ".join(f"{value:.3g} ({metric})" for metric, value in first)
    alpha, beta = sum(e.alpha for e in evidence), max(e.beta for e in asked)
    return Verdict(Kind.CONSISTENT, f"delta = {bounds}; alpha = {alpha:.2g}, beta = {beta:.2g}, {len(evidence)} checks")


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
