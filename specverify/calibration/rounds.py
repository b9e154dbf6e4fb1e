"""Rates of the judgement of verification kernels: of one that is right, and of one at an exactly known distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specverify.calibration.blackbox import PATIENCE
from specverify.calibration.trial import Measured
from specverify.defects import rounds
from specverify.seeds import derived_seed
from specverify.subjects.round import judge_round
from specverify.subjects.rounds.kernel import NONE, Kernel, Outcome, Round
from specverify.verdict import Kind


@dataclass(frozen=True)
class Straying:
    """A kernel that now and then drops a row's drafts and emits the rarest possible token instead.

    What follows that token has the target law, so the sequence that is completed from any context with at least two
    possible tokens is off by exactly `distance` in total variation.
    """

    kernel: Kernel
    distance: float

    def __call__(self, given: Round, generator: torch.Generator) -> Outcome:
        """See `Kernel.verify`."""
        right = self.kernel.verify(given, generator)
        first = given.p[:, 0]
        rare, token = torch.where(first > 0, first, 2.0).min(1)
        chance = torch.where(rare < 1, self.distance / (1 - rare), 0.0)
        stray = torch.rand(len(token), generator=generator, dtype=torch.float64) < chance
        alone = torch.full_like(right.tokens, NONE).index_fill(1, torch.tensor([0]), 0)
        alone[:, 0] = token
        return Outcome(
            torch.where(stray[:, None], alone, right.tokens),
            torch.where(stray, torch.zeros_like(right.accepted), right.accepted),
        )


def alarms(trials: int, seed: int, *, name: str, delta: float, alpha: float) -> Measured:
    """Whole judgements, by sampling, of a control of the corpus."""
    return _whole(trials, seed, rounds.get(name).kernel, delta, alpha, 0.1)


def misses(trials: int, seed: int, *, name: str, delta: float, alpha: float, beta: float) -> Measured:
    """Whole judgements, by sampling, of a control that strays as far as delta."""
    kernel = Kernel("straying", Straying(rounds.get(name).kernel, delta * (1 + 1e-9)))
    found = _whole(trials, seed, kernel, delta, alpha, beta)
    return Measured(found.n, found.rejected, delta=delta, tv=delta)


def _whole(trials: int, seed: int, kernel: Kernel, delta: float, alpha: float, beta: float) -> Measured:
    rejected, n = [], 0
    for number in range(trials):
        found = judge_round(
            kernel, seed=derived_seed(seed, number) % 2**32, alpha=alpha, beta=beta, delta=delta,
            seconds=PATIENCE, checks=("standard",), name=kernel.name,
        )  # fmt: skip
        if found.verdict.kind not in (Kind.REFUTED, Kind.CONSISTENT):
            raise RuntimeError(f"{found.verdict.kind.value}: {found.verdict.reason}")
        rejected.append(found.verdict.kind is Kind.REFUTED)
        n = max(n, *(item.n for item in found.evidence))
    return Measured(n, np.array(rejected))
