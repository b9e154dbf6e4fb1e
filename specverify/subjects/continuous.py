"""Judging a decoder of continuous tokens: `init` and `step` over models that give densities (`laws/model.py`).

    from specverify.subjects.continuous import judge_continuous

    judgement = judge_continuous(MyDecoder(window=3))
    print(judgement.verdict.kind.value, judgement.verdict.reason)

It is run on toys whose laws are known after every prefix. If each token has the law of the target given those before
it, Rosenblatt's transforms of all coordinates are independent uniforms (`evidence/rosenblatt.py`): that is tested over
all tokens, for each position and dimension, and for pairs at all distances, at an n fixed beforehand at which a
discrepancy of `delta` would be seen; equal values are looked for apart (`batteries/vectors.py` lists the checks). Small
batches of all settings are pooled, and so are rows of one place (`continuous_pool.py`). Where the overlap of target and
draft is known, no lossless rule keeps a first draft more often. The false-alarm rate is
split over all checks before the first run.

What the decoder says of itself is held against what it did (`continuous_watch.py`).

What may be handed over is told in `factory.py`. A decoder that does not take a model (its law, its size) says so by
raising `InputError`, and is not judged there.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from specverify.batteries import vectors
from specverify.claims import Claim, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.errors import ContractError, InputError, SpecverifyError, number_of
from specverify.evidence.design import AlphaBudget
from specverify.evidence.distance import deviation
from specverify.evidence.result import Evidence, aims, check_rates
from specverify.evidence.rosenblatt import RosenblattUniformity, transforms
from specverify.judge import Coverage, judge_evidence
from specverify.seeds import derived_seed
from specverify.subjects import continuous_pool
from specverify.subjects.continuous_kept import KEPT, first_drafts
from specverify.subjects.continuous_location import locate, said
from specverify.subjects.continuous_play import SEEN, Played, play, play_small, trial
from specverify.subjects.continuous_suite import SUITE, Setting, maker, settings
from specverify.subjects.continuous_words import box, hardly, sentence
from specverify.subjects.factory import Factory, as_factory
from specverify.subjects.judgement import Judgement
from specverify.subjects.places import OfVectors, Pair
from specverify.subjects.resolve import claim_text, place_of
from specverify.verdict import Kind, Verdict, combine

__all__ = ["SUITE", "Setting", "judge_continuous"]

NO_VOCAB = "has no attribute 'vocab'"
MAIN = "uniformity"
_SHARES = {MAIN: 8.0, "coordinates": 8.0}
"""Parts of the false-alarm rate: what a subtle slip shows in, and what locates it, take more than copies do."""
_EVERYWHERE = "all settings"
_LATE = "the time was up"
"""Why a setting is left out that the subject did not refuse; `seconds` gives it more."""


def judge_continuous(
    subject: Any,
    claim: Claim | None = None,
    *,
    seed: int = 0,
    delta: float | None = None,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    seconds: float = 60.0,
    toys: Sequence[str] | None = None,
    name: str | None = None,
) -> Judgement:
    """Judge a decoder of continuous tokens.

    Args:
        subject: a decoder, what makes one, or a reference to one of these (see `factory.as_factory`).
        claim: what it claims; by default what it says of itself in `claim`, else that it is lossless. A claim of a
            distance can be refuted here, not upheld: no statistic bounds a density's distance from above.

    Other args:
        seed: all randomness derives from it.
        delta: the Kolmogorov distance of all tokens' transforms from uniform that must be seen on each toy for
            CONSISTENT; None to aim at 0.01, and to answer with what is reached in time. n grows as 1 / delta^2.
        alpha: probability of refuting a perfect decoder.
        beta: probability of missing a discrepancy of delta on a toy.
        seconds: of the processor; when they are over no batch is begun.
        toys: by name, those to judge it on; by default all that it takes.
        name: what to call it.

    Returns:
        CONSISTENT, REFUTED with the position, dimension and direction, VACUOUS if no draft was ever rejected,
        INCONCLUSIVE, or ERROR with the reason.

    Raises:
        InputError: the subject is no decoder and makes none; rates, a delta, a claim or toys that cannot be used.
    """
    start = time.monotonic()
    check_rates(alpha, beta)
    aim = aims(delta, 0.01)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the decoder some time")
    factory, deadline = as_factory(subject, name), Deadline(seconds)
    chosen = settings(factory, toys)
    claim = claim or _own_claim(factory, chosen)
    if not isinstance(claim, Lossless | Relaxed):
        raise InputError(f"vectors have no clusters to judge the claim {claim} by; choose Lossless() or Relaxed(tv)")
    alphas = _alphas(chosen, alpha)
    parts: list[_Part] = []
    for number, one in enumerate(chosen):
        if any(part.kind is Kind.REFUTED for part in parts):
            parts.append(_Part(one, None, "it was refuted before"))
        elif deadline.over:
            parts.append(_Part(one, None, _LATE))
        else:
            parts.append(_part(factory, one, claim, alphas[str(one)], aim, beta, derived_seed(seed, number), deadline))
    if isinstance(claim, Lossless) and not any(part.kind is Kind.REFUTED for part in parts):
        parts += _small(parts, alphas[_EVERYWHERE], beta)
    return _judgement(factory, claim, parts, (seed, seconds, delta, aim[0], alpha, beta), start)


@dataclass(frozen=True)
class _Part:
    """What was found in one setting: a verdict, or why there is none."""

    setting: Setting | None
    verdict: Verdict | None
    left_out: str = ""
    evidence: tuple[Evidence, ...] = ()
    played: Played | None = None
    location: OfVectors | None = None
    small: continuous_pool.Pooled | None = None
    unkept: str = ""

    @property
    def kind(self) -> Kind | None:
        return self.verdict.kind if self.verdict else None

    def __str__(self) -> str:
        return str(self.setting or _EVERYWHERE)


def _alphas(chosen: Sequence[Setting], alpha: float) -> dict[str, dict[str, float]]:
    """The false-alarm rate of each check of each setting, and of those of all settings together."""
    named = {str(one): _checks(one) for one in chosen} | {_EVERYWHERE: continuous_pool.NAMES}
    budget = AlphaBudget(alpha)
    budget.allocate({f"{one}: {check}": _SHARES.get(check, 1) for one, checks in named.items() for check in checks})
    return {one: {check: budget.spend(f"{one}: {check}") for check in checks} for one, checks in named.items()}


def _checks(one: Setting) -> tuple[str, ...]:
    model = one.model()
    return (*vectors.names(model.length, model.dim), *([KEPT] if one.overlap_is_known else []))


def _own_claim(factory: Factory, chosen: Sequence[Setting]) -> Claim:
    """What a decoder says of itself; lossless if it says nothing."""
    for one in chosen[:1]:
        try:
            claim = getattr(maker(factory, one)[0](), "claim", None)
        except Exception:
            break  # told when it is judged
        if isinstance(claim, Lossless | Relaxed):
            return claim
    return Lossless()


def _part(
    factory: Factory,
    one: Setting,
    claim: Claim,
    alphas: Mapping[str, float],
    aim: tuple[float, float],
    beta: float,
    seed: int,
    deadline: Deadline,
) -> _Part:
    model, (make, drafts) = one.model(), maker(factory, one)
    early = vectors.compared(model.length, model.dim, model.dtype)
    try:
        trial(make, model)
        main = RosenblattUniformity("all", model.length, model.dim)
        n = main.sample_size(aim[0], alpha=alphas[MAIN], beta=beta)
        decoder = make()
        played = play(decoder, model, n, seed, early, deadline)
        small, fault = play_small(decoder, model, derived_seed(seed, 0), deadline, one.often)
        if drafts is not None and drafts.breach:
            raise ContractError(f"of the draft model, {drafts.breach}")
    except InputError as error:
        return _Part(one, None, f"it says {error}")
    except Exception as error:
        return _broken(one, error)
    uniforms = transforms(model, played.tokens)
    found = vectors.carry_out(played.tokens, uniforms, alphas, beta)
    evidence = [replace(item, check=name) for name, item in found.items()]
    kept, note = first_drafts(one, played, alphas[KEPT], beta) if KEPT in alphas else (None, "")
    evidence += [kept] if kept else []
    # What was at stake is asked over all settings: here a draft may never be kept.
    verdict = _relaxed(claim, evidence[1]) if isinstance(claim, Relaxed) else _lossless(evidence, aim)
    location = locate(uniforms, played, evidence, str(one)) if verdict.kind is Kind.REFUTED else None
    if verdict.kind is not Kind.CONSISTENT:
        words = verdict.reason if location is None else said(location, verdict.reason, evidence[1], len(played.tokens))
        verdict = Verdict(verdict.kind, f"{one}: {words}")
    elif false := played.false_figure or fault:
        verdict = Verdict(Kind.ERROR, f"what it says of itself is false: {false}; on {one}")
    short = f"{_LATE} after {len(played.tokens):,} of {n:,} sequences" if len(played.tokens) < n else ""
    if short and verdict.kind is Kind.INCONCLUSIVE and isinstance(claim, Lossless):
        return _Part(one, None, short, tuple(evidence), played, unkept=note)
    pool = continuous_pool.pooled(str(one), model, small, uniforms, played.batches)
    return _Part(one, verdict, "", tuple(evidence), played, location, pool, note)


def _broken(one: Setting, error: Exception) -> _Part:
    """Whatever a subject raises is its answer; one that goes wrong in float32 alone is no less right in float64."""
    reason, hint = str(error), ""
    if not isinstance(error, SpecverifyError):
        said = " ".join(reason.split()) or "no message"
        hint = "; decoders of models over ids are judged by judge_decoder" if NO_VOCAB in said else ""
        reason = f"raised {type(error).__name__}: {said}{place_of(error)}"
    if one.dtype != "float64":
        return _Part(one, None, f"an error in {one.dtype}: {reason}")
    return _Part(one, Verdict(Kind.ERROR, f"{reason}; on {one}{hint}"))


def _lossless(evidence: Sequence[Evidence], aim: tuple[float, float]) -> Verdict:
    delta, slack = aim
    verdict = judge_evidence(Lossless(), evidence, Coverage(False, 0, 0, 0), {evidence[0].check: delta}, slack)
    if verdict.kind is not Kind.REFUTED:
        return verdict
    by_use = sorted(evidence[2:], key=lambda item: item.check == vectors.AGAIN)  # a grid's noise comes again, too
    telling = next(item for item in (evidence[1], evidence[0], *by_use) if item.rejected)  # what locates best
    return Verdict(verdict.kind, f"{telling.check}: {telling.detail}")


def _relaxed(claim: Relaxed, found: Evidence) -> Verdict:
    """A coordinate's transform is a function of the sequence: its distance is at most that of sequences."""
    distances = np.asarray(found.data["distance"])
    low = float(distances.max()) - deviation(found.n, found.alpha / len(distances))
    if low > claim.tv:
        return Verdict(Kind.REFUTED, f"total variation at least {low:.4g}, where {claim.tv:.4g} is allowed")
    if claim.tv >= 1:
        return Verdict(Kind.VACUOUS, "a distance of 1 allows every law; judge it as lossless to see how far it is")
    return Verdict(
        Kind.INCONCLUSIVE, f"total variation at least {max(0.0, low):.4g}; nothing here bounds it from above"
    )


def _small(parts: Sequence[_Part], alphas: Mapping[str, float], beta: float) -> list[_Part]:
    """What the small batches of all settings say together."""
    played = [part.small for part in parts if part.small]
    evidence = continuous_pool.checks(played, alphas, beta)
    if not evidence:
        return []
    rejected = [item for item in evidence if item.rejected]
    if not rejected:
        return [_Part(None, Verdict(Kind.CONSISTENT, "small batches"), evidence=tuple(evidence))]
    worst = min(rejected, key=lambda item: item.p_value or 0.0)
    reason = f"in {', '.join(item.check for item in rejected)}: {worst.detail} (n = {worst.n:,})"
    found: list[Pair] = [{"check": item.check, "p": item.p_value, "found": item.detail} for item in rejected]
    location: OfVectors = {"setting": _EVERYWHERE, "where": worst.check, "pairs": found}
    return [_Part(None, Verdict(Kind.REFUTED, reason), "", tuple(evidence), None, location)]


def _judgement(
    factory: Factory,
    claim: Claim,
    parts: Sequence[_Part],
    plan: tuple[int, float, float | None, float, float, float],
    start: float,
) -> Judgement:
    seed, seconds, delta, aim, alpha, beta = plan
    judged = [part for part in parts if part.verdict is not None]
    verdict = _overall(factory, claim, judged, parts, (seconds, aim, alpha, beta))
    refuted = [part for part in judged if part.kind is Kind.REFUTED]
    missed: dict[str, list[str]] = {}
    for part in parts:
        if part.left_out:
            missed.setdefault(part.left_out, []).append(str(part))
        if part.unkept:
            missed.setdefault(f"how often first drafts are kept: {part.unkept}", []).append(str(part))
    named = shlex.quote(factory.reference or factory.name)
    return Judgement(
        subject=factory.name,
        level="decoder",
        claim=str(claim),
        verdict=verdict,
        evidence=[replace(e, check=f"{part}: {e.check}") for part in parts for e in part.evidence],
        location=refuted[0].location if refuted else None,
        not_covered=[
            *(f"{'; '.join(what)}: {why}" for why, what in missed.items()),
            *hardly([(p.setting, p.played.verified, p.played.accepted) for p in judged if p.setting and p.played]),
            "laws, dimensions, lengths, windows, drafts and precisions other than those of the settings, or together "
            "otherwise than there (checks are named after settings); other batches; mixtures of more than 6 "
            "components, diffusion heads of other than 6 steps, standard deviations below 0.17 or above 1.9",
            f"a slip at one place of a batch, other than its first {len(continuous_pool.INNER) + 1} rows and its last; "
            f"what a cache would hold, but once or twice in each size of batch up to {SEEN} rows",
            "the total variation of whole sequences, which no test of densities bounds; dependence of three tokens or "
            "more of which every two are independent",
        ],
        # One that takes ids, too, is judged over vectors where a delta is asked for, or by the level's earlier name.
        reproduce=f"specverify validate {named} --claim {claim_text(claim)} --level "
        f"{'continuous' if delta is None else 'decoder'} --seed {seed} --seconds {seconds:g}"
        f"{'' if delta is None else f' --delta {delta:g}'}",
        seconds=time.monotonic() - start,
    )


def _overall(
    factory: Factory,
    claim: Claim,
    judged: Sequence[_Part],
    parts: Sequence[_Part],
    plan: tuple[float, float, float, float],
) -> Verdict:
    seconds, aim, alpha, beta = plan
    if not judged:
        if cut := next((part for part in parts if part.evidence), None):
            return Verdict(Kind.INCONCLUSIVE, f"{cut}: {cut.left_out}, which see {cut.evidence[0].delta:.3g}")
        return Verdict(Kind.ERROR, f"it was judged on no toy; {parts[0].left_out if parts else 'none was named'}")
    kind = combine(part.verdict.kind for part in judged if part.verdict)
    decisive = next(part for part in judged if part.kind is kind)
    assert decisive.verdict is not None
    if kind is not Kind.CONSISTENT:
        return decisive.verdict
    played = [part.played for part in judged if part.played]
    verified, accepted = sum(each.verified for each in played), sum(each.accepted for each in played)
    drafts = verified > 0 or bool(factory.takes & {"window", "draft_model"})
    if gap := Coverage(drafts, verified, accepted, verified - accepted).gap():
        return Verdict(Kind.VACUOUS, gap)
    seen: dict[str, list[float]] = {}
    for part in judged:
        for item in part.evidence:
            seen.setdefault(item.check, []).append(item.delta)
    tried = [part.setting for part in judged if part.setting]
    sizes = sorted({size for part in judged if part.small for size in part.small.sizes})
    where = box(tried, [len(each.tokens) for each in played], sizes)
    missed = sum(part.left_out.startswith(_LATE) for part in parts)
    if missed > len(tried):
        enough = math.ceil(1.5 * seconds * (missed + len(tried)) / max(1, len(tried)))
        left = f"{_LATE} for {number_of(missed, 'setting')} (some {enough} seconds would do for all)"
        return Verdict(Kind.INCONCLUSIVE, f"{left}; it was judged on {where}")
    rates = f"each would have been missed with probability at most {beta:.2g}; alpha = {alpha:.2g}"
    reached = max([aim, *seen.get(MAIN, ())])
    late = f"; in more seconds {aim:g} could have been seen" if reached > aim else ""
    return Verdict(kind, f"{where}: {sentence(seen, reached)}: {rates}{late}")
