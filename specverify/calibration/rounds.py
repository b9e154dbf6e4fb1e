"""Rates of what is checked of verification kernels alone, and of whole judgements of them: of one that is right, and of
one at an exactly known distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from specverify.batteries import calls
from specverify.calibration.blackbox import PATIENCE
from specverify.calibration.trial import Measured, gather
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


LAWS = np.array([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
STRATA = ("first", "second", "third")
"""Contexts, the last of them without a choice, and what rows are tested apart by."""
CHANCES = np.array([0.2, 0.7, 0.9])
"""Of a row's coins."""


def pooled(trials: int, seed: int, *, check: str, delta: float, alpha: float, beta: float) -> Measured:
    """A check of strata, of which one is off by delta in every context with a choice; at the n that it asks for."""
    generator = np.random.default_rng(seed)
    tool = calls.CHECKS[check].make(LAWS, STRATA)
    n = tool.sample_size(delta or 0.2, alpha=alpha, beta=beta)
    off = LAWS + delta * np.array([[-1.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = []
    for _ in range(trials):
        rows = [[generator.multinomial(-(-n // 2), law) for law in laws] for laws in (LAWS, off, LAWS)]
        found.append(tool.check(np.array(rows), alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta or None)


def counted(trials: int, seed: int, *, check: str, delta: float, alpha: float, beta: float) -> Measured:
    """The check of what is reported, where rows are said to have delta more, on average, than they have."""
    generator = np.random.default_rng(seed)
    tool = calls.CHECKS[check].make(float((CHANCES * (1 - CHANCES)).sum()))
    n = tool.sample_size(delta or 0.05, alpha=alpha, beta=beta)
    due = n * float(CHANCES.sum())
    found = []
    for _ in range(trials):
        fell = sum(int(generator.binomial(n, chance)) for chance in CHANCES)
        found.append(tool.check(fell + math.ceil(delta * n), due, due, n, alpha=alpha, beta=beta))
    return gather(found, n=n, delta=delta or None)


TOOLS: dict[str, Callable[..., Measured]] = {
    **dict.fromkeys(calls.of("batches"), pooled),
    **dict.fromkeys(calls.of("reports"), counted),
}
"""The checks of calls that are not also checks of counts."""


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
