"""The checkers of the kill matrix over continuous tokens, each on a known-wrong decoder in its smallest setting.

    density       the exact output density of the first token, by quadrature (of two, where the first is right)
    rosenblatt    transforms under the target's laws: uniform, by coordinate, and in pairs at all distances
    repeats       values that many tokens share or that came before, which no law with a density has
    projections   Kolmogorov-Smirnov and Anderson-Darling on sequences, against as many of plain decoding
    energy        energy distance of the same two samples
    moments       means and covariances of sequences standardised by the laws that they are due
    acceptance    the rate at which first drafts are kept is the overlap; of trajectories, at most that
    ratio         what is taken for p / q has mean 1 under q, its inverse under p, and one overlap from both sides
    trials        proposals for a rejected draft are geometric
    cap           no decision of a lossless rule ends without a token
    judge_continuous  a judgement as of anybody's decoder, without a hint

Sizes are what each check needs to see `delta`, up to a million sequences; but for the energy distance, whose pairs are
too many for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from specverify import continuous_density as densities
from specverify.batteries import vectors
from specverify.decoders import sample
from specverify.decoders.continuous import Autoregressive
from specverify.decoders.registry import Settings
from specverify.defects import continuous
from specverify.defects.continuous_parts import Judging, Means
from specverify.draws import Sampled
from specverify.evidence import bounds
from specverify.evidence.energy import Energy
from specverify.evidence.moments import Moments
from specverify.evidence.projections import Projected, directions
from specverify.evidence.ratio import RatioMean, RatioSymmetry
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import RosenblattUniformity, transforms
from specverify.evidence.trials import Trials
from specverify.killmatrix_density import distance, judging, overlaps
from specverify.kinds.density import TOLERANCE
from specverify.laws import ContinuousModel, Law, select
from specverify.rules import cspd
from specverify.rules.trajectory import Paths, align
from specverify.seeds import derived_seed
from specverify.subjects.continuous import judge_continuous
from specverify.verdict import Kind
from toymodels.continuous import toy
from toymodels.continuous_drafts import draft

ALPHA = 1e-6
"""False-alarm rate of each checker."""
BETA = 1e-6
SHIFT = 2.5
"""A mean that is off by this many standard deviations, times a small total variation, moves a Gaussian by it."""
ENERGY = {"rows": 1000, "relabellings": 9999, "alpha": 1e-4}
"""All pairs of rows are looked at, and no rate below 1 / relabellings can be had."""
DIRECTIONS = 10
_MOST = 1_000_000


class Found(TypedDict):
    """What a checker says of a subject, its discrepancy where it is exact, and what rejected, the strongest first."""

    verdict: Kind
    reason: str
    tv: NotRequired[float | None]
    n: NotRequired[int | None]
    by: NotRequired[Sequence[str]]


def absent(name: str, checker: str) -> str:
    """Why a checker cannot take a defect; empty if it can."""
    by = judging(name)
    if checker == "cap" and by.limit is None:
        return "it has no cap"
    return ""


def _tokens(name: str, n: int, seed: int) -> tuple[ContinuousModel, Float[Tensor, "n length dim"]]:
    known = continuous.get(name)
    toy_name, window, kind = known.smallest
    model = toy(toy_name)
    decoder = known.build(Settings(window, draft_model=draft(kind, model)))
    return model, sample(decoder, model, min(n, _MOST), derived_seed(seed, 0)).tokens


def _plain(name: str, n: int, seed: int) -> Float[Tensor, "n length dim"]:
    model = toy(continuous.get(name).smallest[0])
    return sample(Autoregressive(), model, min(n, _MOST), derived_seed(seed, 1)).tokens


def density(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    tv, what = distance(name)
    wrong = tv > TOLERANCE
    return {
        "verdict": Kind.REFUTED if wrong else Kind.PROVED,
        "tv": tv,
        "reason": f"exact TV {tv:.6g} {what}" + (f", where lossless allows {TOLERANCE:g}" if wrong else ""),
    }


def rosenblatt(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    return _listed(name, seed, delta, vectors.LAW)


def repeats(name: str, seed: int, delta: float) -> Found:
    """See the module. As many tokens as the transforms take."""
    return _listed(name, seed, delta, vectors.VALUES)


def _listed(name: str, seed: int, delta: float, group: Sequence[str]) -> Found:
    """Those of the one list of checks that are in a group."""
    model = toy(continuous.get(name).smallest[0])
    names = [one for one in vectors.names(model.length, model.dim) if one in group]
    share = ALPHA / len(names)
    planned = RosenblattUniformity("all", model.length, model.dim)
    model, tokens = _tokens(name, planned.sample_size(delta, alpha=share, beta=BETA), seed)
    alphas = dict.fromkeys(names, share)
    return _found(list(vectors.carry_out(tokens, transforms(model, tokens), alphas, BETA, names).values()))


def projections(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    model = toy(continuous.get(name).smallest[0])
    width = model.length * model.dim
    axes = np.concatenate([np.eye(width), directions(width, DIRECTIONS)])
    n = Projected(axes).sample_size(delta, alpha=ALPHA / 2, beta=BETA)
    mine, plain = _tokens(name, n, seed)[1].flatten(1), _plain(name, n, seed).flatten(1)
    checks = (Projected(axes, statistic) for statistic in ("ks", "ad"))
    return _found([check.check(mine, plain, alpha=ALPHA / 2, beta=BETA) for check in checks])


def energy(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    n = int(ENERGY["rows"])
    mine, plain = _tokens(name, n, seed)[1].flatten(1), _plain(name, n, seed).flatten(1)
    generator = np.random.default_rng(derived_seed(seed, 2))
    check = Energy(int(ENERGY["relabellings"]))
    return _found([check.check(mine, plain, alpha=ENERGY["alpha"], beta=BETA, generator=generator)])


def moments(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    model = toy(continuous.get(name).smallest[0])
    width = model.length * model.dim
    check = Moments(np.zeros(width), np.eye(width))
    n = check.sample_size(SHIFT * delta, alpha=ALPHA, beta=BETA)
    _, tokens = _tokens(name, n, seed)
    laws = densities.marginal(model.laws(model.start(len(tokens)), tokens[:, :-1]))
    return _found([check.check(laws.whiten(tokens).flatten(1), alpha=ALPHA, beta=BETA)])


def acceptance(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    model, by = toy(continuous.get(name).smallest[0]), judging(name)
    common = densities.overlap(model, continuous.get(name).smallest[2])
    on_paths = isinstance(_views(name, by, 1)[0], Means | Paths)
    check = bounds.at_most(common) if on_paths else bounds.acceptance(common)
    n = check.sample_size(delta, alpha=ALPHA, beta=BETA)
    p, q = _views(name, by, n)
    found = by.decide(p, q, *_drafts(q, seed))
    return _found([check.check(found.accepted, alpha=ALPHA, beta=BETA)])


def ratio(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    by, share = judging(name), ALPHA / 2
    n = RatioSymmetry().sample_size(delta, alpha=share, beta=BETA)
    p, q = _views(name, by, n)
    drafts, draws, where = _drafts(q, seed)
    wanted = p.sample(draws, where)
    if isinstance(p, Means | Paths) and isinstance(q, Means | Paths):
        # A trajectory that the draft might have: of the noise of the target's, and with its token.
        path = wanted.unflatten(-1, (p.chain.steps + 1, p.chain.dim))
        aligned = align(q.chain, p.chain, path)
        wanted = torch.cat([path[..., :1, :], aligned[..., 1:, :]], -2).flatten(-2)
    checks: tuple[RatioMean | RatioSymmetry, ...] = (RatioMean(), RatioSymmetry())
    ratio, inverse = by.log_ratio(p, q, drafts), -by.log_ratio(p, q, wanted)
    return _found([check.check(ratio, inverse, alpha=share, beta=BETA) for check in checks])


def trials(name: str, seed: int, delta: float) -> Found:
    """See the module. Of trajectories, with the overlap of each two last transitions."""
    by, n = judging(name), Trials().sample_size(delta, alpha=ALPHA, beta=BETA)
    p, q = _views(name, by, n)
    drafts, draws, where = _drafts(q, seed)
    found = by.decide(p, q, drafts, draws, where)
    share: Any = densities.overlap(toy(continuous.get(name).smallest[0]), continuous.get(name).smallest[2])
    if isinstance(p, Means | Paths) and isinstance(q, Means | Paths):
        path = drafts.unflatten(-1, (q.chain.steps + 1, q.chain.dim))
        last = cspd.last(p.chain, align(p.chain, q.chain, path)), cspd.last(q.chain, path)
        share = overlaps(*last)
    generator = np.random.default_rng(derived_seed(seed, 2))
    return _found([Trials().check(found.trials, share, alpha=ALPHA, beta=BETA, generator=generator)])


def cap(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    by = judging(name)
    check = bounds.Rate(0.0, 0.0, "decisions that found no token", "failure rate")
    n = RatioSymmetry().sample_size(delta, alpha=ALPHA, beta=BETA)
    p, q = _views(name, by, n)
    found = by.decide(p, q, *_drafts(q, seed))
    return _found([check.check(~found.resolved, alpha=ALPHA, beta=BETA)])


def judge(name: str, seed: int, delta: float) -> Found:
    """See the module."""
    found = judge_continuous(continuous.get(name).build, name=name, seed=seed, delta=delta)
    rejected = [item for item in found.evidence if item.rejected]
    return {
        "verdict": found.verdict.kind,
        "reason": found.verdict.reason,
        "n": max((item.n for item in rejected or found.evidence), default=None),
        "by": [item.check for item in rejected],
    }


def _views(name: str, by: Judging, n: int) -> tuple[Any, Any]:
    """The laws of the first token of n sequences, the target's and its draft's, as they are judged."""
    model, kind = toy(continuous.get(name).smallest[0]), continuous.get(name).smallest[2]
    every = torch.zeros(min(n, _MOST), dtype=torch.int64)
    p, q = (by.view(select(law, every)) for law in densities.first_laws(model, kind))
    return p, q


def _drafts(q: Law, seed: int) -> tuple[Float[Tensor, "n width"], Sampled, Tensor]:
    draws, where = Sampled(derived_seed(seed, 0)), torch.ones(q.shape, dtype=torch.bool)
    return q.sample(draws, where), draws, where


def _found(evidence: Sequence[Evidence]) -> Found:
    """A verdict from checks, any of which may refute."""
    rejected = sorted((item for item in evidence if item.rejected), key=lambda item: item.p_value or 0.0)
    shown = rejected[0] if rejected else max(evidence, key=lambda item: item.n)
    return {
        "verdict": Kind.REFUTED if rejected else Kind.CONSISTENT,
        "reason": f"{shown.check}: {shown.detail}",
        "n": shown.n,
        "by": [item.check for item in rejected],
    }


CHECKS: dict[str, Callable[[str, int, float], Found]] = {
    "density": density,
    "rosenblatt": rosenblatt,
    "repeats": repeats,
    "projections": projections,
    "energy": energy,
    "moments": moments,
    "acceptance": acceptance,
    "ratio": ratio,
    "trials": trials,
    "cap": cap,
    "judge_continuous": judge,
}
"""(defect, seed, visible discrepancy) -> verdict, reason, and tv or n and by."""
