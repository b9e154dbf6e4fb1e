"""The checks of tokens whose sequences are too many to count, against the laws that were looked up along them.

    PIT uniformity                      all transforms are uniform
    PIT by position                     at each position
    PIT pairs, positions 1 apart        neighbours along a sequence are independent
    PIT pairs, rows 1 apart             and across the batch
    surprisal                           tokens are as surprising as their laws say, on average
    surprisal by position and entropy   in each group of tokens
    leaks                               improbable tokens come no more often than they should
    tempering                           laws are neither flatter nor sharper
    ranks                               each rank comes as often as its mass
    ids                                 and each group of ids
    repetition                          and what came before in the row
    PIT by id                           where those are not known: transforms are uniform by id, too
    branches                            and those of bonus tokens, and at each slot of a window
    repeated rows                       no row repeats an earlier one
    copies                              nor the row at its place in another run
    neighbouring rows                   rows, in the order in which they came, are independent
    pairs of positions                  tokens of a row are independent, at every distance
    rows with another's noise           and so are rows, in any order, and pieces of them

A sample that was drawn has no ranks and no order that could depend on its rows: `SAMPLED` are those that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.evidence.borrowed import Borrowed
from specverify.evidence.branches import Branches
from specverify.evidence.copies import Copies, Repeats
from specverify.evidence.ids import Groups, Ids
from specverify.evidence.lags import PitLags, Transforms
from specverify.evidence.leaks import Leaks
from specverify.evidence.order import Neighbours
from specverify.evidence.pit import PitPairs, PitPositions, PitUniformity
from specverify.evidence.ranks import Masses, Ranks
from specverify.evidence.result import Evidence
from specverify.evidence.surprisal import Surprisal, SurprisalGroups, Tempering
from specverify.evidence.tokens import TokenStatistics


@dataclass(frozen=True)
class Traced:
    """A trace, and what is known of it beside its tokens' statistics.

    Attributes:
        statistics: of each token; rows in an order that does not depend on them.
        rows: the tokens and the log-probability of each row, to look for repeated ones; None leaves that out.
        runs: rows of two runs; None leaves copies out.
        masses: what the laws gave to each rank; None leaves ranks out.
        groups: what they gave to each group of ids; None leaves ids out.
        kinds: where each token that had a choice came from (`branches.kinds`); None leaves branches out.
        logged: the statistics of rows in the order in which they came, where that may depend on them; None for no such.
        order: where each row came in that order; None for no such.
        transforms: by probability, and by id if that is known, to look for noise that is used again at any distance;
            none leaves that out.
        tempered: whether the statistics have what `Tempering` needs.
        closed: whether many positions may be without a choice, as in logs.
        finest: the smallest probability that the laws tell from 0.
    """

    statistics: TokenStatistics
    rows: tuple[Int[Tensor, "rows length"], Float[Tensor, " rows"]] | None = None
    runs: tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"]] | None = None
    masses: Masses | None = None
    groups: Groups | None = None
    kinds: Int[Tensor, "rows length"] | None = None
    logged: TokenStatistics | None = None
    order: Int[np.ndarray, " rows"] | None = None
    transforms: tuple[Transforms, ...] = ()
    tempered: bool = True
    closed: bool = False
    finest: float = 1e-9

    @property
    def size(self) -> tuple[int, int]:
        """Rows, and the length of each."""
        return self.statistics.pit.shape[0], self.statistics.pit.shape[1]


@dataclass(frozen=True)
class Check:
    """A check of traces.

    Attributes:
        make: (trace) -> the check.
        possible: whether a trace can tell.
        run: (check, trace, alpha and beta) -> evidence.
        unit: what its n counts: tokens, open tokens, pairs, rows or sequences.
    """

    make: Callable[[Traced], Any]
    possible: Callable[[Traced], bool] = lambda trace: True
    run: Callable[[Any, Traced, Mapping[str, float]], Evidence] = lambda check, trace, rates: check.check(
        trace.statistics, **rates
    )
    unit: str = "tokens"


CHECKS: dict[str, Check] = {
    "PIT uniformity": Check(lambda trace: PitUniformity(fitted=trace.closed)),
    "PIT by position": Check(lambda trace: PitPositions(trace.size[1]), unit="sequences"),
    "PIT pairs, positions 1 apart": Check(lambda trace: PitPairs(), lambda trace: trace.size[1] > 1, unit="pairs"),
    "PIT pairs, rows 1 apart": Check(
        lambda trace: PitPairs(across=True), lambda trace: trace.size[0] > 1, unit="pairs of rows"
    ),
    "surprisal": Check(lambda trace: Surprisal(), unit="open tokens"),
    "surprisal by position and entropy": Check(lambda trace: SurprisalGroups(trace.size[1]), unit="sequences"),
    "leaks": Check(lambda trace: Leaks(trace.finest)),
    "tempering": Check(lambda trace: Tempering(), lambda trace: trace.tempered, unit="open tokens"),
    "ranks": Check(
        lambda trace: Ranks(),
        lambda trace: trace.masses is not None,
        lambda check, trace, rates: check.check(trace.masses, trace.statistics.choice, **rates),
    ),
    "ids": Check(
        lambda trace: Ids(trace.groups.vocab if trace.groups is not None else 2),
        lambda trace: trace.groups is not None and trace.groups.vocab > 1,
        lambda check, trace, rates: check.check(trace.groups, trace.statistics.choice, **rates),
    ),
    "repetition": Check(
        lambda trace: Ids(trace.groups.vocab if trace.groups is not None else 2, before=True),
        lambda trace: trace.groups is not None and trace.size[1] > 1,
        lambda check, trace, rates: check.check(trace.groups, trace.statistics.choice, **rates),
    ),
    "PIT by id": Check(
        lambda trace: PitUniformity(fitted=trace.closed, by_id=True),
        lambda trace: trace.groups is None and len(trace.transforms) > 1,
        lambda check, trace, rates: check.check(
            replace(trace.statistics, pit=torch.from_numpy(trace.transforms[1])), **rates
        ),
    ),
    "branches": Check(
        lambda trace: Branches(),
        lambda trace: trace.kinds is not None and bool(trace.transforms),
        lambda check, trace, rates: check.check(trace.statistics, trace.transforms, trace.kinds, **rates),
    ),
    "repeated rows": Check(
        lambda trace: Repeats(),
        lambda trace: trace.rows is not None and trace.size[0] > 1,
        lambda check, trace, rates: check.check(trace.rows[0], trace.rows[1].numpy(), **rates),  # type: ignore[index]
        "rows",
    ),
    "copies": Check(
        lambda trace: Copies(),
        lambda trace: trace.runs is not None,
        lambda check, trace, rates: check.check(*(trace.runs or ()), **rates),
        "rows of 2 runs",
    ),
    "neighbouring rows": Check(
        lambda trace: Neighbours(),
        lambda trace: trace.logged is not None and trace.size[0] > 1,
        lambda check, trace, rates: check.check(trace.logged, **rates),
        "pairs of rows",
    ),
    "pairs of positions": Check(
        lambda trace: PitLags((0,), trace.size[1], len(trace.transforms)),
        lambda trace: bool(trace.transforms) and trace.size[1] > 1,
        lambda check, trace, rates: check.check(trace.transforms, name="pairs of positions", **rates),
        "pairs",
    ),
    "rows with another's noise": Check(
        lambda trace: Borrowed(),
        lambda trace: bool(trace.transforms) and trace.size[0] > 1,
        lambda check, trace, rates: check.check(trace.transforms, order=trace.order, **rates),
        "rows",
    ),
}
AGAIN = (
    "neighbouring rows",
    "pairs of positions",
    "pairs of rows",
    "first tokens of rows",
    "pairs of calls",
    "rows with another's noise",
)
"""Those that explain nothing more where any other rejects: who has a wrong law has dependent transforms."""
APART = ("ids", "repetition", "PIT by id", "branches")
"""Those that say themselves which tokens are wrong, at whatever position."""
LOGGED = ("ranks", "PIT by id", "branches", "repeated rows", *AGAIN)
"""Those that a sample which was drawn has not in its battery; pairs of rows and of calls only a black box has."""
SAMPLED = tuple(name for name in CHECKS if name not in LOGGED)
"""Those of a sample that was drawn, rather than logged: its rows are as they were drawn, and its laws are known."""


def names(trace: Traced) -> tuple[str, ...]:
    """The checks that a trace can tell."""
    return tuple(name for name, check in CHECKS.items() if check.possible(trace))


def telling(evidence: Sequence[Evidence]) -> list[Evidence]:
    """All but the rejections in `AGAIN`, where there are others; who uses noise again repeats tokens, too."""
    for mute in ((*AGAIN, "repetition"), ("repetition",)):
        if any(item.rejected and item.check not in mute for item in evidence):
            return [item for item in evidence if not (item.rejected and item.check in mute)]
    return list(evidence)


def carry_out(trace: Traced, alphas: Mapping[str, float], beta: float) -> list[Evidence]:
    """The checks that have a share of alpha, in the order of the list.

    Args:
        trace: what is checked.
        alphas: the false-alarm rate of each check.
        beta: the miss rate that their deltas are stated for.
    """
    return [
        CHECKS[name].run(CHECKS[name].make(trace), trace, {"alpha": alphas[name], "beta": beta})
        for name in names(trace)
        if name in alphas
    ]
