"""Judging a decoder of continuous tokens: `init` and `step` over models that give densities (`laws/model.py`).

    from specverify.subjects.continuous import judge_continuous

    judgement = judge_continuous(MyDecoder(window=3))
    print(judgement.verdict.kind.value, judgement.verdict.reason)

It is run on toys whose laws are known after every prefix. If each token has the law of the target given those before
it, Rosenblatt's transforms of all coordinates are independent uniforms (`evidence/rosenblatt.py`): that is tested over
all tokens, for each position and dimension, and for pairs of neighbours, at an n fixed beforehand at which a
discrepancy of `delta` would be seen. The false-alarm rate is split over all checks before the first run.

What may be handed over is told in `factory.py`; `settings` is here one of `decoders.continuous.registry`. A decoder
that does not take a model (its law, its size) says so by raising `InputError`, and is not judged there.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from specverify.claims import Claim, Lossless, Relaxed
from specverify.decoders.continuous.registry import Settings
from specverify.draws import derived_seed
from specverify.errors import InputError, SpecverifyError
from specverify.evidence.design import AlphaBudget
from specverify.evidence.distance import deviation
from specverify.evidence.result import Evidence, check_delta, check_rates
from specverify.evidence.rosenblatt import RosenblattPairs, RosenblattUniformity, transforms
from specverify.laws import ContinuousModel
from specverify.subjects.continuous_location import locate
from specverify.subjects.continuous_play import Played, play, trial
from specverify.subjects.factory import Factory, as_factory
from specverify.subjects.judgement import Judgement
from specverify.subjects.resolve import claim_text, place_of
from specverify.verdict import Coverage, Kind, Verdict, combine, judge_evidence
from toymodels import continuous, continuous_drafts

_NO_VOCAB = "has no attribute 'vocab'"
MAIN = "uniformity"
PAIRS = {"pairs of positions": "position", "pairs of dimensions": "dimension", "pairs of rows": "row"}


@dataclass(frozen=True)
class Setting:
    """A toy, and a draft model for it and a window where the subject takes them."""

    toy: str
    draft: str | None = None
    window: int | None = None

    def __str__(self) -> str:
        window = None if self.window is None else f"w{self.window}"
        return "/".join(part for part in (self.toy, self.draft, window) if part)


SUITE = (
    Setting("gauss-1x6", "wider", 3),
    Setting("gauss-2x6", "shifted", 1),
    Setting("equal-1x6", "shifted", 3),
    Setting("full-2x4", "shifted", 2),
    Setting("chain-1x4", "wider", 2),
    Setting("mix-2x4", "wider", 3),
    Setting("gauss-2x6", "narrower", 8),
    Setting("chain-2x4", "narrower", 3),
    Setting("equal-4x4", "shifted", 3),
    Setting("gauss-8x4", "wider", 3),
    Setting("gauss-16x4", "shifted", 3),
)
"""Where a decoder is judged, the cheap ones first: each kind of law, windows from 1 to beyond the length."""


def judge_continuous(
    subject: Any,
    claim: Claim | None = None,
    *,
    seed: int = 0,
    delta: float = 0.01,
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
            CONSISTENT. n grows as 1 / delta^2.
        alpha: probability of refuting a perfect decoder.
        beta: probability of missing a discrepancy of delta on a toy.
        seconds: no toy is begun after this time.
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
    check_delta(delta)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; give the decoder some time")
    factory = as_factory(subject, name)
    settings = _settings(factory, toys)
    claim = claim or _own_claim(factory, settings)
    if not isinstance(claim, Lossless | Relaxed):
        raise InputError(f"vectors have no clusters to judge the claim {claim} by; choose Lossless() or Relaxed(tv)")
    budget = AlphaBudget(alpha)
    budget.allocate([f"{one}: {check}" for one in settings for check in _checks(one)])
    parts: list[_Part] = []
    for number, one in enumerate(settings):
        refuted = any(part.kind is Kind.REFUTED for part in parts)
        late = "the time was up" if time.monotonic() > start + seconds else ""
        alphas = {check: budget.spend(f"{one}: {check}") for check in _checks(one)}
        if refuted or late:
            parts.append(_Part(one, None, late or "it was refuted before"))
        else:
            parts.append(_part(factory, one, claim, alphas, delta, beta, derived_seed(seed, number)))
    return _judgement(factory, claim, parts, (seed, seconds, delta, alpha, beta), start)


@dataclass(frozen=True)
class _Part:
    """What was found in one setting: a verdict, or why there is none."""

    setting: Setting
    verdict: Verdict | None
    left_out: str = ""
    evidence: tuple[Evidence, ...] = ()
    played: Played | None = None
    location: Mapping[str, Any] | None = None

    @property
    def kind(self) -> Kind | None:
        return self.verdict.kind if self.verdict else None


def _settings(factory: Factory, toys: Sequence[str] | None) -> list[Setting]:
    """Those that differ in what the subject takes."""
    for name in toys or ():
        if continuous.toy(name).name.startswith("score"):
            raise InputError(f"toy {name!r}: each of its transforms costs a quadrature; choose toys with closed forms")
    chosen = [one for one in SUITE if toys is None or one.toy in toys]
    chosen += [Setting(toy, "wider", 3) for toy in toys or () if toy not in {one.toy for one in SUITE}]
    drafts, windows = "draft_model" in factory.takes, "window" in factory.takes
    adapted = [
        replace(one, draft=one.draft if drafts else None, window=one.window if windows else None) for one in chosen
    ]
    return list(dict.fromkeys(adapted))


def _checks(one: Setting) -> tuple[str, ...]:
    many = continuous.toy(one.toy).dim > 1
    return (MAIN, "coordinates", *(name for name in PAIRS if many or "dimensions" not in name))


def _maker(factory: Factory, one: Setting) -> Callable[[ContinuousModel], Any]:
    def make(model: ContinuousModel) -> Any:
        draft = continuous_drafts.draft(one.draft, continuous.toy(one.toy)) if one.draft else None
        return factory.build(Settings(window=one.window or 1, draft_model=draft))

    return make


def _own_claim(factory: Factory, settings: Sequence[Setting]) -> Claim:
    """What a decoder says of itself; lossless if it says nothing."""
    for one in settings[:1]:
        try:
            claim = getattr(_maker(factory, one)(continuous.toy(one.toy)), "claim", None)
        except Exception:
            break  # told when it is judged
        if isinstance(claim, Lossless | Relaxed):
            return claim
    return Lossless()


def _part(
    factory: Factory, one: Setting, claim: Claim, alphas: Mapping[str, float], delta: float, beta: float, seed: int
) -> _Part:
    model, make = continuous.toy(one.toy), _maker(factory, one)
    try:
        trial(make, model)
        main = RosenblattUniformity("all", model.length, model.dim)
        n = main.sample_size(delta, alpha=alphas[MAIN], beta=beta)
        played = play(make(model), model, n, seed)
    except InputError as error:
        return _Part(one, None, f"it says {error}")
    except SpecverifyError as error:
        return _Part(one, Verdict(Kind.ERROR, f"{error}; on {one}"))
    except Exception as error:  # whatever a subject raises is its answer
        said = " ".join(str(error).split()) or "no message"
        ids = "; decoders of models over ids are judged at level decoder" if _NO_VOCAB in said else ""
        reason = f"raised {type(error).__name__}: {said}{place_of(error)}; on {one}{ids}"
        return _Part(one, Verdict(Kind.ERROR, reason))
    uniforms, by = transforms(model, played.tokens), RosenblattUniformity("coordinate")
    evidence = [
        replace(main.check(uniforms, alpha=alphas[MAIN], beta=beta), check=MAIN),
        replace(by.check(uniforms, alpha=alphas["coordinates"], beta=beta), check="coordinates"),
        *(
            replace(RosenblattPairs(axis).check(uniforms, alpha=alphas[check], beta=beta), check=check)
            for check, axis in PAIRS.items()
            if check in alphas
        ),
    ]
    # What was at stake is asked over all settings: here a draft may never be kept.
    verdict = _relaxed(claim, evidence[1]) if isinstance(claim, Relaxed) else _lossless(evidence, delta)
    location = locate(uniforms, played, evidence, str(one)) if verdict.kind is Kind.REFUTED else None
    if location and "direction" in location:
        reason = f"tokens are {location['direction']} ({verdict.reason}, n = {len(played.tokens):,})"
        if "position" in location:
            reason = f"at position {location['position']}, dimension {location['dimension']} {reason}"
        verdict = Verdict(verdict.kind, f"{one}: {reason}")
    elif verdict.kind is not Kind.CONSISTENT:
        verdict = Verdict(verdict.kind, f"{one}: {verdict.reason}")
    return _Part(one, verdict, "", tuple(evidence), played, location)


def _lossless(evidence: Sequence[Evidence], delta: float) -> Verdict:
    verdict = judge_evidence(Lossless(), evidence, Coverage(False, 0, 0, 0), {evidence[0].check: delta})
    if verdict.kind is not Kind.REFUTED:
        return verdict
    telling = next(item for item in (evidence[1], evidence[0], *evidence[2:]) if item.rejected)  # what locates best
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


def _judgement(
    factory: Factory, claim: Claim, parts: Sequence[_Part], plan: tuple[int, float, float, float, float], start: float
) -> Judgement:
    seed, seconds, delta, alpha, beta = plan
    judged = [part for part in parts if part.verdict is not None]
    verdict = _overall(factory, claim, judged, parts, delta, alpha, beta)
    refuted = [part for part in judged if part.kind is Kind.REFUTED]
    missed: dict[str, list[str]] = {}
    for part in parts:
        if part.left_out:
            missed.setdefault(part.left_out, []).append(str(part.setting))
    named = shlex.quote(factory.reference or factory.name)
    return Judgement(
        subject=factory.name,
        level="continuous",
        claim=str(claim),
        verdict=verdict,
        evidence=[replace(e, check=f"{part.setting}: {e.check}") for part in judged for e in part.evidence],
        location=refuted[0].location if refuted else None,
        not_covered=[
            *(f"{'; '.join(what)}: {why}" for why, what in missed.items()),
            "laws, lengths and dimensions other than these toys'",
        ],
        reproduce=f"specverify validate {named} --claim {claim_text(claim)} --level continuous --seed {seed} "
        f"--seconds {seconds:g} --delta {delta:g}",
        seconds=time.monotonic() - start,
    )


def _overall(
    factory: Factory,
    claim: Claim,
    judged: Sequence[_Part],
    parts: Sequence[_Part],
    delta: float,
    alpha: float,
    beta: float,
) -> Verdict:
    if not judged:
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
    return Verdict(
        kind,
        f"{len(judged)} settings, {sum(len(each.tokens) for each in played):,} sequences: a Kolmogorov distance of "
        f"{delta:.3g} in any of them would have been missed with probability at most {beta:.2g}; alpha = {alpha:.2g}",
    )
