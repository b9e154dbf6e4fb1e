"""Judging a black box that returns sequences: `sample(target, draft, n, seed) -> tokens`.

    from specverify.decoders import DraftModel, Speculative, sample
    from specverify.subjects.sampler import judge_sampler

    def mine(target, draft, n, seed):
        return sample(Speculative(DraftModel(draft), window=3), target, n, seed).tokens

    judgement = judge_sampler(mine)
    print(judgement.verdict.kind.value, judgement.verdict.reason)

The sampler is called on a suite of toys in turn, first eight small calls with consecutive seeds each, then ever
larger ones. The calls stop as soon as the evidence suffices to refute the claim (an e-process, valid whenever one
stops), and otherwise at an n fixed beforehand, at which a discrepancy of `delta` would be seen; then the fixed-n tests
are made. The false-alarm rate is split over all checks before the first call.

What is asked of a sampler besides the law of its sequences: Int[n, length] tokens in range; behind an end of sequence,
that id again; rows that are independent of each other and of other calls with other seeds; the same sequences again for
the same seed; models left as they were.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from specverify.claims import Claim, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.decoders.protocol import Branch
from specverify.draws import derived_seed
from specverify.errors import InputError
from specverify.evidence.design import AlphaBudget
from specverify.evidence.result import COPIES, Evidence, check_delta, check_rates
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_location import sentence
from specverify.subjects.sampler_series import Sampler, Series, name_of
from specverify.subjects.sampler_suite import Case, chosen
from specverify.verdict import Coverage, Kind, Verdict, combine, judge_evidence


def judge_sampler(
    sample: Sampler,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    seed: int = 0,
    delta: float = 0.01,
    alpha: float = 1e-6,
    beta: float = 1e-6,
    seconds: float = 300.0,
    suite: Sequence[Case] | str | None = None,
    exact: bool = False,
    name: str | None = None,
    reproducible: bool = True,
) -> Judgement:
    """Judge a sampler.

    Args:
        sample: the black box. It may ignore the draft model.
        claim: what it claims.
        seed: all randomness derives from it, the seeds that the sampler gets included.

    Other args:
        delta: the total variation from the target law, of sequences on any toy of the suite, that must be seen for
            CONSISTENT. n grows as 1 / delta^2.
        alpha: probability of refuting a perfect sampler.
        beta: probability of missing a discrepancy of delta on a toy.
        seconds: of the processor; no call is begun after them, and what is seen until then counts. A call that hangs
            is not interrupted.
        suite: the toys, or the name of a suite of `sampler_suite`; by default "standard", or the toys with the claim's
            clusters.
        exact: by every possible run of the sampler rather than by samples of it, as far as that is possible; see
            `sampler_exact.prove_sampler`. Rates and seed then play no part.
        name: what to call it.
        reproducible: whether the same seed must give the same sequences. If not, that is not asked.

    Raises:
        InputError: for rates, a delta or a suite that cannot be used.
    """
    start = time.process_time()
    check_rates(alpha, beta)
    check_delta(delta)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the calls some time")
    if exact:
        return prove_sampler(sample, claim, seconds=seconds, suite=suite, name=name)
    cases = chosen(suite, claim, "standard")
    base = derived_seed(seed) % 2**30
    series = [
        Series(sample, case, claim, base + number * 2**16, np.random.default_rng(derived_seed(seed, number)))
        for number, case in enumerate(cases)
    ]
    budget = AlphaBudget(alpha)
    budget.allocate({f"{one.case.name}: {check}": weight for one in series for check, weight in one.checks.items()})
    for one in series:
        one.plan({check: budget.spend(f"{one.case.name}: {check}") for check in one.checks}, delta, beta, seconds)
    _carry_out(series, Deadline(seconds), reproducible)
    return _judgement(series, suite, claim, seed, delta, alpha, beta, seconds, name or name_of(sample), start)


def _carry_out(series: Sequence[Series], deadline: Deadline, reproducible: bool) -> None:
    """Make the calls: the first ones of every case, then whichever case is furthest behind, until one is refuted."""
    again: Series | None = None
    for one in series:
        one.advance(deadline)
        if one.refuted:
            break
        if reproducible and again is None and one.first and not one.error:
            again = one
            again.repeat("gives other sequences when it is called twice with the same seed")
    while not any(one.refuted for one in series) and not deadline.over:
        behind = min(series, key=lambda one: one.progress)
        if behind.progress >= 1:
            break
        behind.advance(deadline)
    if again is not None and not again.error and not any(one.refuted for one in series):
        again.repeat("gives other sequences for a seed after other calls than before them: state leaks between calls")
    for one in series:
        one.settle(deadline)


def _judgement(
    series: Sequence[Series],
    suite: Sequence[Case] | str | None,
    claim: Claim,
    seed: int,
    delta: float,
    alpha: float,
    beta: float,
    seconds: float,
    name: str,
    start: float,
) -> Judgement:
    evidence: list[Evidence] = []
    verdicts: list[Verdict] = []
    for one in series:
        evidence += [replace(item, check=f"{one.case.name}: {item.check}") for item in one.evidence]
        verdicts.append(_verdict(one, claim, delta))
    kind = combine(verdict.kind for verdict in verdicts)
    decisive = [(one, verdict) for one, verdict in zip(series, verdicts, strict=True) if verdict.kind is kind]
    deciding, verdict = min(decisive, key=lambda pair: _vagueness(pair[0]))
    drawn, planned = sum(one.drawn for one in series), sum(one.planned for one in series)
    elapsed, reason = time.process_time() - start, verdict.reason
    if kind is Kind.CONSISTENT and isinstance(claim, Relaxed):
        reason = f"{len(series)} toys, {drawn:,} sequences: within {claim.tv:.3g} on each; alpha = {alpha:.2g}"
    elif kind is Kind.CONSISTENT:
        reason = (
            f"{len(series)} toys, {drawn:,} sequences: {_seen(series)} would have been missed with probability at most "
            f"{beta:.2g}; alpha = {alpha:.2g}"
        )
    elif kind is Kind.INCONCLUSIVE and drawn < planned:
        reason += (
            f"; the time was up after {drawn:,} of {planned:,} sequences: some {elapsed * planned / max(drawn, 1):.0f} "
            "seconds would do, or a larger delta, or fewer and smaller toys (sampler_suite.small)"
        )
    return Judgement(
        subject=name,
        level="sampler",
        claim=str(claim),
        verdict=Verdict(kind, reason),
        evidence=evidence,
        location=deciding.location if kind is Kind.REFUTED else None,
        not_covered=_not_covered(series, kind, claim),
        reproduce=f"judge_sampler({name}, {claim!r}, seed={seed}, delta={delta:g}, alpha={alpha:g}, beta={beta:g}, "
        f"seconds={seconds:g}{f', suite={suite!r}' if isinstance(suite, str) else ''})",
        seconds=elapsed,
        notes=(
            f"{drawn:,} sequences in {sum(one.calls for one in series):,} calls on {len(series)} toys",
            *(one.error for one in series if one.error),
        ),
    )


def _verdict(one: Series, claim: Claim, delta: float) -> Verdict:
    """The verdict on one case; copies are named before the law, whose tests suppose that there are none."""
    where = f"on {one.case.name}, {one.drawn:,} sequences"
    dependent = [item for item in one.evidence if item.rejected and item.metric == COPIES]
    if dependent:
        identical = all(torch.equal(part, one.first[0]) for part in one.first)
        what = "calls with other seeds give the same sequences" if identical else "sequences are not independent"
        return Verdict(Kind.REFUTED, f"{where}: {what}; {dependent[0].check}: {dependent[0].detail}")
    if isinstance(claim, Relaxed):
        judged = _judge_bounds(claim, [item for item in one.evidence if item.check == one.tally.main])
    else:
        judged = judge_evidence(Lossless(), one.evidence, _coverage(one.inside), {one.tally.main: delta})
    if judged.kind is Kind.REFUTED:
        found = f"; {sentence(one.location)}" if one.location else ""
        return Verdict(Kind.REFUTED, f"{where}: {judged.reason}{found}")
    if one.error:
        return Verdict(Kind.ERROR, one.error)
    return Verdict(judged.kind, f"{where}: {judged.reason}")


def _seen(series: Sequence[Series]) -> str:
    """What would have shown, each figure with the metric that it is one of and the toys that it holds on."""
    seen: dict[str, list[tuple[str, float]]] = {}
    for one in series:
        for item in one.evidence:
            if item.check == one.tally.main:
                seen.setdefault(one.tally.what, []).append((one.case.name, item.delta))
    parts = []
    for what, found in seen.items():
        where = found[0][0] if len(found) == 1 else f"any of {len(found)} toys"
        parts.append(f"{what.format(delta=max(delta for _, delta in found))} on {where}")
    return "; or ".join(parts)


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


def _not_covered(series: Sequence[Series], kind: Kind, claim: Claim) -> list[str]:
    notes = [
        f"{one.case.name}: {one.drawn:,} of {one.planned:,} sequences" for one in series if one.drawn < one.planned
    ]
    if not any(one.inside is not None for one in series):
        notes.append(
            "what happens inside: whether a draft was verified or rejected, and which branch a token came from"
        )
    if isinstance(claim, Relaxed):
        notes.append("sequences too long for their joint law to be known, such as those of hash-16x24")
    if kind is Kind.CONSISTENT:
        notes.append("models of other sizes, vocabularies and lengths than these toys'")
    return notes


def _coverage(branches: Int[Tensor, " branches"] | None) -> Coverage:
    """What was at stake, where the sampler says so: tokens by `Branch`."""
    if branches is None:
        return Coverage(False, 0, 0, 0)
    accepted, recovered, bonus = (int(branches[kind]) for kind in (Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS))
    return Coverage(accepted + recovered + bonus > 0, accepted + recovered, accepted, recovered)
