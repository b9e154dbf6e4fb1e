"""Rates of the judgement of black boxes, at the n that it plans for itself: the stated alpha, and 1% of misses.

Most trials use the engine of `judge_sampler` (`sampler_series.Series`: the calls, the e-process that stops them, the
fixed-n tests) on one toy, and leave out the search for the place of a flaw; some are whole judgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.calibration.sources import Source, distance, exact, target, tuned
from specverify.calibration.trial import Measured
from specverify.claims import Lossless
from specverify.deadline import Deadline
from specverify.decoders import sample
from specverify.evidence import alternatives
from specverify.evidence.design import AlphaBudget
from specverify.evidence.distance import tv
from specverify.model import Model
from specverify.seeds import derived_seed
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_series import Sampler, Series
from specverify.subjects.sampler_suite import SUITES, Case
from specverify.verdict import Kind

PATIENCE = 1e6
"""Seconds: no judgement ends for want of time, which would make it depend on the machine."""


@dataclass(frozen=True)
class FromLaw:
    """A black box that draws sequences from a table, whatever the models say.

    Attributes:
        law: Float[vocab ** length], last position fastest.
    """

    law: Float[np.ndarray, " sequences"]

    def __call__(self, model: Model, draft: Model, n: int, seed: int) -> Int[Tensor, "n length"]:
        """See `sampler_series.Sampler`."""
        edges = np.cumsum(self.law)
        index = np.searchsorted(edges, np.random.default_rng(seed).random(n) * edges[-1], side="right")
        tokens = np.stack(np.unravel_index(index, (model.vocab,) * model.length), 1)
        return torch.from_numpy(tokens)


@dataclass(frozen=True)
class FromDecoder:
    """A black box that runs a decoder on whatever target it is given.

    Attributes:
        source: which decoder, and in which setting; its toy plays no part.
    """

    source: Source

    def __call__(self, model: Model, draft: Model, n: int, seed: int) -> Int[Tensor, "n length"]:
        """See `sampler_series.Sampler`."""
        return sample(self.source.build(), model, n, seed).tokens


def engine_alarms(trials: int, seed: int, *, source: Source, decoded: bool, delta: float, alpha: float) -> Measured:
    """Perfect samples of a toy, from its law or decoded for real."""
    box: Sampler = FromDecoder(source) if decoded else FromLaw(target(source.toy))
    return _engine(trials, seed, source.toy, box, delta, alpha, 0.1, None)


def engine_misses(
    trials: int, seed: int, *, source: Source, kind: str | None, delta: float, alpha: float, beta: float
) -> Measured:
    """Samples of a law at distance delta: an alternative of that kind, or a wrong decoder's tuned to it."""
    p = target(source.toy)
    wrong = exact(tuned(source, delta)) if kind is None else alternatives.alternative(p, delta, kind)
    return _engine(trials, seed, source.toy, FromLaw(wrong), delta, alpha, beta, tv(wrong, p))


def whole_alarms(trials: int, seed: int, *, source: Source, suite: str, delta: float, alpha: float) -> Measured:
    """Whole judgements of a correct decoder, over a suite of toys."""
    return _whole(trials, seed, source, SUITES[suite](), delta, alpha, 0.1, None)


def whole_misses(trials: int, seed: int, *, source: Source, delta: float, alpha: float, beta: float) -> Measured:
    """Whole judgements of a wrong decoder that is tuned to distance delta on its toy."""
    wrong = tuned(source, delta)
    return _whole(trials, seed, wrong, (case_of(source.toy),), delta, alpha, beta, distance(wrong))


def case_of(toy: str) -> Case:
    """A toy as a case, with its own law for a draft."""
    model = Source("ar", toy).model()
    return Case(model, model)


def _engine(
    trials: int, seed: int, toy: str, box: Sampler, delta: float, alpha: float, beta: float, distance: float | None
) -> Measured:
    rejected, planned = [], 0
    for number in range(trials):
        generator = np.random.default_rng(derived_seed(seed, number, 1))
        series = Series(box, case_of(toy), Lossless(), derived_seed(seed, number) % 2**40, generator)
        budget = AlphaBudget(alpha)
        budget.allocate(dict(series.checks))
        series.plan({check: budget.spend(check) for check in series.checks}, delta, beta, PATIENCE)
        planned = series.planned
        while series.progress < 1:
            series.advance(Deadline(inf))
        if not series.refuted:
            series.settle(Deadline(0))  # the tests at the end, but no search for the place
        if series.error:
            raise RuntimeError(series.error)
        rejected.append(series.refuted)
    return Measured(planned, np.array(rejected), delta=delta if distance is not None else None, tv=distance)


def _whole(
    trials: int,
    seed: int,
    source: Source,
    suite: Sequence[Case],
    delta: float,
    alpha: float,
    beta: float,
    distance: float | None,
) -> Measured:
    rejected, drawn = [], 0
    for number in range(trials):
        found = judge_sampler(
            FromDecoder(source), seed=derived_seed(seed, number) % 2**32, delta=delta, alpha=alpha, beta=beta,
            seconds=PATIENCE, suite=suite, name=source.decoder, exact=False,
        )  # fmt: skip
        if found.verdict.kind not in (Kind.REFUTED, Kind.CONSISTENT):
            raise RuntimeError(f"{found.verdict.kind.value}: {found.verdict.reason}")
        rejected.append(found.verdict.kind is Kind.REFUTED)
        drawn = max(drawn, *(item.n for item in found.evidence))
    return Measured(drawn, np.array(rejected), delta=delta if distance is not None else None, tv=distance)
