"""The checks of sequences that can be counted, against their law.

    joint law (g)      all sequences together
    next-token laws    after each prefix
    total variation    an interval of the distance
    e-process          the same as the first, at every look, so that a wrong decoder is soon seen to be
    dispersion         counts of calls vary as those of independent rows do
    copies             no run repeats another's rows

The last two need more of a sample than its counts, and are left out where it has no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from specverify.evidence.conditional import Conditionals
from specverify.evidence.copies import Copies, collision_probability
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.finite import TotalVariation
from specverify.evidence.independence import Dispersion
from specverify.evidence.result import Evidence
from specverify.evidence.sequential import EProcess

Counts = Int[np.ndarray, " sequences"]


@dataclass(frozen=True)
class Counted:
    """A sample that was counted.

    Attributes:
        total: of each sequence.
        looks: the same of consecutive parts, behind each of which the e-process looks.
        calls: the same of calls of as many rows each; None leaves their dispersion out.
        runs: rows of two runs; None leaves copies out.
    """

    total: Counts
    looks: Sequence[Counts]
    calls: Int[np.ndarray, "calls sequences"] | None = None
    runs: tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"]] | None = None


@dataclass(frozen=True)
class Check:
    """A check of counts.

    Attributes:
        make: (law, vocabulary, rows of a call) -> the check.
        run: (check, sample, generator, alpha and beta) -> evidence.
        possible: whether a sample can tell.
        unit: what its n counts.
        of_calls: whether that is calls rather than sequences.
    """

    make: Callable[[Float[np.ndarray, " sequences"], int, int], Any]
    run: Callable[[Any, Counted, np.random.Generator, Mapping[str, float]], Evidence]
    possible: Callable[[Counted], bool] = lambda sample: True
    unit: str = "sequences"
    of_calls: bool = False


CHECKS: dict[str, Check] = {
    "joint law (g)": Check(
        lambda law, vocab, rows: ChiSquare(law),
        lambda check, sample, generator, rates: check.check(sample.total, generator=generator, **rates),
    ),
    "next-token laws": Check(
        lambda law, vocab, rows: Conditionals(law, vocab),
        lambda check, sample, generator, rates: check.check(sample.total, **rates),
    ),
    "total variation": Check(
        lambda law, vocab, rows: TotalVariation(law),
        lambda check, sample, generator, rates: check.check(sample.total, generator=generator, **rates),
    ),
    "e-process": Check(
        lambda law, vocab, rows: EProcess(law),
        lambda check, sample, generator, rates: check.check(sample.looks, **rates),
    ),
    "dispersion": Check(
        lambda law, vocab, rows: Dispersion(law, rows),
        lambda check, sample, generator, rates: check.check(sample.calls, **rates),
        lambda sample: sample.calls is not None,
        "calls",
        of_calls=True,
    ),
    "copies": Check(
        lambda law, vocab, rows: Copies(collision_probability(law)),
        lambda check, sample, generator, rates: check.check(*(sample.runs or ()), **rates),
        lambda sample: sample.runs is not None,
        "rows of 2 runs",
    ),
}
NAMES = tuple(CHECKS)


def carry_out(
    law: Float[np.ndarray, " sequences"],
    vocab: int,
    sample: Counted,
    alphas: Mapping[str, float],
    beta: float,
    generator: np.random.Generator,
    only: Sequence[str] = NAMES,
) -> list[Evidence]:
    """The checks in the order of the list, but for those that the sample cannot tell.

    Args:
        law: of every sequence.
        vocab: number of tokens.
        sample: what was counted.
        alphas: the false-alarm rate of each check.
        beta: the miss rate that their deltas are stated for.
        generator: for the checks that draw.
        only: carry out these alone.
    """
    rows = 0 if sample.calls is None else int(sample.calls[0].sum())
    rates = {name: {"alpha": alphas[name], "beta": beta} for name in NAMES if name in only}
    return [
        check.run(check.make(law, vocab, rows), sample, generator, rates[name])
        for name, check in CHECKS.items()
        if name in rates and check.possible(sample)
    ]
