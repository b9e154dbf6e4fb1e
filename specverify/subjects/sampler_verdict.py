"""What is said of a black box, from what its calls add up to: the verdict, its reason, and the box that it holds in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.batteries.traces import telling
from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders.protocol import Branch
from specverify.errors import number_of
from specverify.evidence.result import COPIES, Evidence
from specverify.judge import Coverage, judge_evidence
from specverify.processors import Guided, Processed
from specverify.subjects.judgement import Judgement
from specverify.subjects.places import Prefixed
from specverify.subjects.sampler_batches import INNER, SIZES, Batches, group_of
from specverify.subjects.sampler_location import sentence
from specverify.subjects.sampler_logs import CHECK as LOG_CHECK
from specverify.subjects.sampler_order import first_equal, order
from specverify.subjects.sampler_pairs import FAR, NEAR
from specverify.subjects.sampler_series import Series
from specverify.subjects.sampler_suite import Case
from specverify.verdict import Kind, Verdict, combine

WEAKLY = "pairs of rows"
NAMED = 4
"""Most toys that are named where only some of all were sampled as planned."""
PLACES = "PIT by position"
"""What a position by itself is seen by: a flaw in one of many is a small one on average."""


@dataclass(frozen=True)
class Asked:
    """What was asked for: see `judge_sampler`; `aim` and `slack` are what `result.aims` makes of delta, and `share` is
    the part of the seconds that is for samples."""

    name: str
    claim: Claim
    seed: int
    delta: float | None
    aim: float
    slack: float
    alpha: float
    beta: float
    seconds: float
    suite: Sequence[Case] | str | None
    share: float

    @property
    def reproduce(self) -> str:
        """The call."""
        suite = f", suite={self.suite!r}" if isinstance(self.suite, str) else ""
        delta = "" if self.delta is None else f"delta={self.delta:g}, "
        suite += ", exact=False" if self.share == 1 else ""
        return (
            f"judge_sampler({self.name}, {self.claim!r}, seed={self.seed}, {delta}alpha={self.alpha:g}, "
            f"beta={self.beta:g}, seconds={self.seconds:g}{suite})"
        )


def judgement(series: Sequence[Series], batches: Batches, asked: Asked, elapsed: float) -> Judgement:
    """The judgement over all cases."""
    evidence = [replace(item, check=f"{one.case.name}: {item.check}") for one in series for item in one.evidence]
    verdicts = [_verdict(one, asked) for one in series]
    groups = batches.evidence(asked.beta)
    answers = [
        (one, verdict)
        for one, verdict in zip(series, verdicts, strict=True)
        if not one.left or verdict.kind in (Kind.REFUTED, Kind.ERROR)
    ]
    kind = combine(verdict.kind for _, verdict in answers)
    decisive = [(one, verdict) for one, verdict in answers if verdict.kind is kind]
    deciding, verdict = min(decisive, key=lambda pair: _vagueness(pair[0]))
    location, reason = deciding.location, verdict.reason
    if kind is not Kind.REFUTED and (wrong := [item for item in groups if item.rejected]):
        kind = Kind.REFUTED
        location, reason = _of_groups(wrong, series, batches, asked.beta)
    drawn, planned = sum(one.drawn for one in series), sum(one.planned for one in series)
    kept = [one for one in series if not one.left]
    if kind is Kind.CONSISTENT and len(kept) < len(series) and max(one.choices for one in kept) < 3:
        kind = Kind.INCONCLUSIVE
        reason = f"{reason}; where two tokens or one can come, what is wrong with a residual is hidden"
    if kind is Kind.CONSISTENT:
        reason = _consistent(kept, len(series), asked)
    if kind in (Kind.CONSISTENT, Kind.INCONCLUSIVE) and drawn < planned:
        reason += _late(series, asked, drawn, planned, elapsed)
    return Judgement(
        subject=asked.name,
        level="sampler",
        claim=str(asked.claim),
        verdict=Verdict(kind, reason),
        evidence=[*evidence, *groups],
        location=location if kind is Kind.REFUTED else None,
        not_covered=_not_covered(series, asked.claim),
        reproduce=asked.reproduce,
        seconds=elapsed,
        notes=(
            f"{number_of(drawn, 'sequence')} in {number_of(sum(one.calls for one in series), 'call')} on "
            f"{number_of(len(series), 'toy')}",
            f"tried: {box([one.case for one in series])}; calls of {_few(set().union(*(one.sizes for one in series)))} "
            "rows",
            *dict.fromkeys(f"{one.case.name}: {note}" for one in series for note in one.notes),
            *(one.error for one in series if one.error),
        ),
    )


def box(cases: Sequence[Case]) -> str:
    """What a suite's targets are, in a few words."""
    models = [case.target for case in cases]
    parts = [
        f"vocabularies of {_few({model.vocab for model in models})} tokens",
        f"lengths of {_few({model.length for model in models})}",
    ]
    cut = [", ".join(step.label for step in model.processors) for model in models if isinstance(model, Processed)]
    parts += [f"processors {'; '.join(dict.fromkeys(cut))}"] if cut else ["no processors"]
    guided = {_inner(model).scale for model in models if isinstance(_inner(model), Guided)}
    parts += [f"guidance of {_few(guided)}"] if guided else ["no guidance"]
    parts += [f"laws in {_few({str(model.dtype).removeprefix('torch.') for model in models})}"]
    return ", ".join(parts)


def _inner(model: Any) -> Any:
    while not isinstance(model, Guided) and (inner := getattr(model, "inner", None)) is not None:
        model = inner
    return model


def _few(values: Iterable[Any]) -> str:
    """All of a few values; of many, the smallest and the largest."""
    known = sorted(values)
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in known]
    return ", ".join(shown) if len(shown) <= 8 else f"{', '.join(shown[:6])} .. {shown[-1]}"


def _consistent(series: Sequence[Series], of: int, asked: Asked) -> str:
    """What was seen, each figure with the metric that it is one of."""
    toys = number_of(len(series), "toy") if len(series) == of else f"{len(series)} of {of} toys"
    if len(series) <= min(NAMED, of - 1):
        toys += f" ({', '.join(one.case.name for one in series)})"
    begin = f"{toys}, {number_of(sum(one.drawn for one in series), 'sequence')}: "
    if isinstance(asked.claim, Relaxed):
        return f"{begin}within {asked.claim.tv:.3g} on each; alpha = {asked.alpha:.2g}"
    seen: dict[str, list[tuple[Series, Evidence]]] = {}
    for one in series:
        for item in one.evidence:
            if item.check in (one.tally.main, PLACES):
                what = f"the law at any one of {one.case.target.length} positions" if item.check == PLACES else ""
                seen.setdefault(what or one.tally.what, []).append((one, item))
    parts = [
        f"{what} off by {max(item.delta for _, item in found):.3g} ({found[0][1].metric}) on "
        + ("any of them" if len(seen) == 1 else f"any of {len(found)}" if len(found) > 1 else found[0][0].case.name)
        for what, found in seen.items()
    ]
    return (
        f"{begin}{'; or '.join(parts)} would have been missed with probability at most {asked.beta:.2g}; "
        f"alpha = {asked.alpha:.2g}"
    )


def _late(series: Sequence[Series], asked: Asked, drawn: int, planned: int, elapsed: float) -> str:
    mains = [item.delta for one in series for item in one.evidence if item.check == one.tally.main]
    known = len(mains) == len(series) and max(mains) < 1
    reached = f", or a delta above {max(mains):.2g}" if known else ", or a larger delta"
    reached = reached if asked.delta is not None else ""
    return (
        f"; {drawn:,} of {planned:,} sequences were drawn: for {asked.aim:g} some "
        f"{elapsed * planned / max(drawn, 1) / asked.share:.0f} seconds would do{reached}, or fewer and smaller toys "
        "(the suites small and tiny)"
    )


def _of_groups(
    wrong: Sequence[Evidence], series: Sequence[Series], batches: Batches, beta: float
) -> tuple[Prefixed | None, str]:
    """Which row is wrong, as far as that can be told, and the same in words."""
    worst = min(wrong, key=lambda item: item.p_value or 0.0)
    right = ", while the rows of all calls together are not rejected" if all(one.drawn > 1000 for one in series) else ""
    found = batches.place(worst.check, worst.alpha, beta)
    where = f"{found['where']} on {found['toy']}: {sentence(found)}; " if found else ""
    names = ", ".join(item.check for item in wrong)
    return found, f"{where}{names} {'is' if len(wrong) == 1 else 'are'} rejected{right}; {worst.check}: {worst.detail}"


def _verdict(one: Series, asked: Asked) -> Verdict:
    """The verdict on one case; copies are named before the law, whose tests suppose that there are none."""
    where = f"on {one.case.name}, {one.drawn:,} sequences"
    dependent = [item for item in one.evidence if item.rejected and item.metric == COPIES]
    if dependent:
        return Verdict(Kind.REFUTED, f"{where}: {_dependence(one, dependent[0])}")
    tested = [item for item in one.evidence if item.check != LOG_CHECK]
    if isinstance(asked.claim, Relaxed):
        judged = _judge_bounds(asked.claim, [item for item in tested if item.check == one.tally.main])
    else:
        coverage, aim = _coverage(one.inside), {one.tally.main: asked.aim}
        judged = judge_evidence(Lossless(), telling(tested), coverage, aim, asked.slack)
    if judged.kind is Kind.REFUTED:
        eos = one.case.target.eos if one.cluster is None else None
        found = f"; {sentence(one.location, eos)}" if one.location else ""
        said = "; ".join(["", *one.notes])
        return Verdict(Kind.REFUTED, f"{where}: {judged.reason}{found}{said}")
    logs = [item for item in one.evidence if item.check == LOG_CHECK and item.rejected]
    if logs:
        said = f"the log-probabilities that it reports are wrong, while its tokens are not rejected; {logs[0].detail}"
        return Verdict(Kind.REFUTED, f"{where}: {said}")
    if one.error:
        return Verdict(Kind.ERROR, one.error)
    return Verdict(judged.kind, f"{where}: {judged.reason}")


def _dependence(one: Series, found: Evidence) -> str:
    """How sequences depend on each other: the same ones, an order, or what is counted alone."""
    if all(torch.equal(part, one.first[0]) for part in one.first):
        return f"calls with other seeds give the same sequences; {found.check}: {found.detail}"
    model = one.case.target
    if sorted_by := order(one.first, model.vocab, model.eos, one.law if one.cluster is None else None):
        return f"{sorted_by}, so that a row's place tells of its tokens; between calls {found.detail}"
    place = f"; {first_equal(one.first)}" if found.check == "copies between calls" else ""
    return f"sequences are not independent; {found.check}: {found.detail}{place}"


def _vagueness(one: Series) -> int:
    """How little a case says of what is wrong: copies explain most, then a prefix, then that something is."""
    if any(item.rejected and item.metric == COPIES for item in one.evidence):
        return 0
    return 1 if one.location and "prefix" in one.location else 2


def _judge_bounds(claim: Relaxed, asked: Sequence[Evidence]) -> Verdict:
    if not asked or asked[0].interval is None:
        return Verdict(Kind.INCONCLUSIVE, "not carried out: total variation")
    low, high = asked[0].interval
    said = f"total variation between {low:.4g} and {high:.4g}, where {claim.tv:.4g} is allowed"
    kind = Kind.REFUTED if low > claim.tv else Kind.CONSISTENT if high <= claim.tv else Kind.INCONCLUSIVE
    return Verdict(kind, said)


def _not_covered(series: Sequence[Series], claim: Claim) -> list[str]:
    fewer = sorted((one for one in series if one.drawn < one.planned), key=lambda one: one.progress)
    named = [f"{one.case.name} ({one.drawn:,} of {one.planned:,})" for one in fewer[:NAMED]]
    more = f" and {len(fewer) - NAMED} more" if len(fewer) > NAMED else ""
    notes = [f"as many sequences as were planned on {', '.join(named)}{more}"] if fewer else []
    if not any(one.inside is not None for one in series):
        notes.append(
            "what happens inside: whether a draft was verified or rejected, and which branch a token came from"
        )
    notes += [f"on {one.case.name}, {what}" for one in series for what in _coverage(one.inside).slight()]
    if isinstance(claim, Relaxed):
        notes.append("sequences too long for their joint law to be known, such as those of hash-16x24")
    notes.append("models of other sizes, vocabularies and lengths than these toys', and other processors and guidance")
    played = set().union(*(one.sizes for one in series))
    if left := [group_of(rows) for rows in SIZES if rows not in played]:
        notes.append(", ".join(left))
    notes.append("calls of other sizes than were made, and defects that show in few of them")
    notes.append(f"a slip at one place of every call, other than its first {len(INNER) + 1} rows and its last")
    if any(one.law is None for one in series):
        notes.append("on sequences too long to count: dependence of three tokens or more that leaves pairs independent")
    if isinstance(claim, Lossless):
        seen = max((item.delta for one in series for item in one.evidence if item.check == WEAKLY), default=1.0)
        weakly = f"by less than {seen:.2g}, as where two share one coin of many" if seen < 1 else "at all"
        notes.append(f"rows of a call whose tokens are correlated {weakly}")
    far = f"dependence between rows more than {NEAR} apart, other than {', '.join(map(str, FAR))} and half a call"
    notes.append(f"{far}, between calls with distant seeds, and of three rows or more that leaves pairs independent")
    return notes


def _coverage(branches: Int[Tensor, " branches"] | None) -> Coverage:
    """What was at stake, where the sampler says so: tokens by `Branch`."""
    if branches is None:
        return Coverage(False, 0, 0, 0)
    accepted, recovered, bonus = (int(branches[kind]) for kind in (Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS))
    return Coverage(accepted + recovered + bonus > 0, accepted + recovered, accepted, recovered)
