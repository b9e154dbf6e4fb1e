"""What is said of a decoder that nothing refuted: which verdict its evidence bears, and in which box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from specverify.claims import Claim, Lossless, Relaxed, says_nothing
from specverify.errors import number_of
from specverify.evidence.found import Outcome
from specverify.evidence.result import Evidence
from specverify.evidence.rounding import UNITS, floor
from specverify.judge import Coverage
from specverify.subjects.box import box, outside
from specverify.subjects.modes import Mode
from specverify.subjects.sampling import ALPHA, BETA, Task
from specverify.subjects.suite import label
from specverify.verdict import Kind, Verdict, combine

_OF = {"joint law": " of sequences", "pairs": " of pairs"}
"""What a total variation is of, by a part of the check's name."""
OWN_PATH = "what it does when nobody looks at its draws"


@dataclass(frozen=True)
class Findings:
    """All that was found.

    Attributes:
        claim: what is claimed.
        outcomes: enumerations, all within the claim.
        evidence: of samples, none rejected.
        larger: that of it over more than two tokens.
        tried: drawn cases.
        precision: that the decoder computes in, as far as its law shows.
        dependence: how its rows depend on each other, empty if they do not.
        own_path: whether it gives other tokens when nobody looks at its draws.
        keeps: where it keeps something that changes even when the same calls come again, as no cache does.
    """

    claim: Claim
    outcomes: Sequence[Outcome]
    evidence: Sequence[Evidence]
    larger: Sequence[Evidence]
    tried: int
    precision: torch.dtype
    dependence: str
    own_path: bool = False
    keeps: str = ""

    def verdict(self, modes: Sequence[Mode]) -> Verdict:
        """The verdict on what was enumerated, together with that on what was sampled."""
        exact = [outcome.exact for outcome in self.outcomes]
        coverage = Coverage(
            any(mode.shown for mode in modes) or any(e.verified > 0 for e in exact),
            sum(e.verified for e in exact),
            sum(e.accepted for e in exact),
            # The residual may be drawn in the next step, as a token that has no draft there.
            sum(max(e.branches["recovered"], e.verified - e.accepted) for e in exact),
        )
        if (gap := coverage.gap()) and not isinstance(self.claim, Relaxed):
            return Verdict(Kind.VACUOUS, gap)
        parts = [self._enumerated()]
        if parts[0].kind is Kind.VACUOUS:
            return parts[0]
        sampled, samples = Kind.CONSISTENT if self.evidence else Kind.INCONCLUSIVE, _samples(self.evidence)
        if self.dependence:
            parts.append(
                Verdict(
                    sampled,
                    f"its rows depend on each other, which is outside the contract ({self.dependence}): one row at a "
                    f"time it is exact, and in batches of several sizes {samples}",
                )
            )
        elif any(mode.races for mode in modes) and isinstance(self.claim, Lossless):
            races = f"races over more than two tokens were sampled: {_samples(self.larger)}"
            parts.append(Verdict(Kind.CONSISTENT if self.larger else Kind.INCONCLUSIVE, races))
        elif self.own_path:
            parts.append(Verdict(sampled, f"it draws otherwise when nobody looks: {samples}"))
        elif self.keeps:
            parts.append(
                Verdict(
                    sampled,
                    f"it keeps something, in {self.keeps}, that changes when the same calls come again, so nothing "
                    f"is proved of later ones: run as it is, {samples}",
                )
            )
        elif self.evidence:
            parts.append(Verdict(parts[0].kind, f"run as it is, {samples}"))
        return Verdict(
            combine(part.kind for part in parts),
            ". ".join(
                part.reason[:1].upper() + part.reason[1:] if number else part.reason
                for number, part in enumerate(parts)
            ),
        )

    def complete(self, verdict: Verdict, modes: Sequence[Mode]) -> bool:
        """Whether it is lossless as far as it can be enumerated: that of races is two tokens, and more were sampled."""
        races = any(mode.races for mode in modes) and verdict.kind is Kind.CONSISTENT
        nothing_else = self.precision == torch.float64 and not (self.dependence or self.own_path or self.keeps)
        return isinstance(self.claim, Lossless) and (verdict.kind is Kind.PROVED or (races and nothing_else))

    def outside(self) -> list[str]:
        """What lies outside, each as `what: why`."""
        return outside(self.outcomes)

    def _enumerated(self) -> Verdict:
        models = len({outcome.case.model for outcome in self.outcomes})
        worst = max((o for o in self.outcomes), key=lambda o: o.tv if o.case.precision == "float64" else -1.0)
        drawn = (
            f"no counterexample among {number_of(self.tried, 'drawn case')}" if self.tried else "no others were drawn"
        )
        where = (
            f"on {number_of(models, 'model')} in {number_of(len(self.outcomes), 'setting')}; {drawn}. Box: "
            f"{box(self.outcomes)}"
        )
        if isinstance(self.claim, Relaxed):
            largest = f"the largest exact TV seen is {worst.tv:.3g}, with {label(worst.case)}; {where}"
            if says_nothing(self.claim):
                return Verdict(Kind.VACUOUS, f"{self.claim} allows nearly every law and says nothing: {largest}")
            return Verdict(Kind.PROVED, largest)
        text = f"exact TV at most {worst.tv:.2g} from the target {where}"
        if says_nothing(self.claim):
            return Verdict(Kind.VACUOUS, f"{self.claim} allows every law and says nothing: {text}")
        if self.precision == torch.float64:
            return Verdict(Kind.PROVED, text)
        name = str(self.precision).removeprefix("torch.")
        limit = floor(self.precision, worst.case.target().length)
        rounds = (
            f"up to the rounding of {name}, and no farther off: the floor of that is {UNITS:g} epsilons a position, "
            f"{limit:.2g} there, and a defect below it looks the same"
        )
        if self.precision == torch.float32:
            return Verdict(Kind.CONSISTENT, f"{rounds}; {text}")
        return Verdict(Kind.INCONCLUSIVE, f"right {rounds}; {text}")


def _samples(evidence: Sequence[Evidence]) -> str:
    if not evidence:
        return "nothing could be sampled"
    seen: dict[str, list[float]] = {}
    for item in evidence:
        of = next((what for part, what in _OF.items() if part in item.check), "")
        seen.setdefault(item.metric + of, []).append(item.delta)
    told = "; ".join(
        f"{metric}: {min(deltas):.2g}" + (f" to {max(deltas):.2g}" if min(deltas) < max(deltas) else "")
        for metric, deltas in seen.items()
    )
    return (
        f"samples agree in {number_of(len(evidence), 'check')} (alpha = {ALPHA:.1g}, beta = {BETA:g}; what they see, "
        f"{told})"
    )


def sampled_wrong(claim: Claim, task: Task, evidence: Evidence, dependence: str) -> Verdict:
    """The verdict where samples of the bare decoder have another law than the enumeration, or than the target."""
    p = "" if evidence.p_value is None else f", p = {evidence.p_value:.2g} at n = {evidence.n:,}"
    reason = f"sampled as it is, {task.rows:,} rows at once, its sequences have another law ({evidence.check}{p}"
    reason += f"; {evidence.detail})" if evidence.detail else ")"
    if dependence:
        return Verdict(
            Kind.REFUTED, f"{reason}; its rows influence each other: {dependence}; one row at a time it is right"
        )
    if isinstance(claim, Lossless):
        return Verdict(Kind.REFUTED, f"{reason}; where its draws are enumerated it is right")
    return Verdict(Kind.ERROR, f"{reason} than where its draws are enumerated: what was proved is not what runs")


def differ(one: Outcome, other: Outcome) -> bool:
    """Whether two enumerations of one setting gave different laws or figures, by more than rounding."""

    def figures(outcome: Outcome) -> list[float]:
        exact = outcome.exact
        return [exact.passes, exact.verified, exact.accepted, exact.draft_passes, *exact.branches.values()]

    gap = max(abs(a - b) for a, b in zip(figures(one), figures(other), strict=True))
    return one.exact.tv(other.exact.law) > one.rounding or gap > max(1e-9, 10 * one.rounding)


def apart(one: Outcome, other: Outcome) -> str:
    """How far two enumerations are apart."""
    return f"TV {one.exact.tv(other.exact.law):.3g} apart, {one.exact.passes:.6g} and {other.exact.passes:.6g} passes"
