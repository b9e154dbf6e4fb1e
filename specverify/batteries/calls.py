"""The checks of calls of a verification kernel, against the laws that its drafts and the target were given.

    laws                  in each context, what is emitted completes to sequences of the target law, at every look
    copies between calls  rows that are given the same do not repeat those of the call before
    copies between rows   nor their neighbours
    pairs of rows         nor do they depend on rows near them, half a call away, or a call away
    pairs in small calls  nor in calls of few rows, or of as many as fill no block
    dispersion of calls   and each outcome comes in a call as often as independent rows have it
    batch sizes           rows of batches of each size have the law
    places in the batch   rows of each place in the batch
    kinds of batch        rows of each kind of batch: ragged, full, equal, empty, ...
    accepted counts       what a kernel reports beside its tokens is what happened

Kernels whose coins are an argument are tried besides with coins at the edges and integrated over, which no statistic
does: `forced-coins`, and those that claim to take them with draft laws of NaN: `nan-rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from specverify.evidence.coins import Coins
from specverify.evidence.copies import Copies
from specverify.evidence.independence import Dispersion
from specverify.evidence.lags import CIRCULAR, PitLags
from specverify.evidence.pooled import Pooled
from specverify.evidence.result import Evidence
from specverify.evidence.sequential import EProcess

Group = Literal["laws", "independence", "batches", "reports"]
STANDARD: tuple[Group, ...] = ("laws", "independence", "batches")
"""What is asked of every kernel; what it reports is looked at wherever it reports anything."""
EXACT = ("forced-coins", "nan-rows")
"""What is tried beside statistics."""
ASKED = ("standard", *STANDARD, *EXACT)
"""What may be asked for; `standard` is all of `STANDARD`."""
CHECKERS = ("standard", *EXACT)
"""Of the kill matrix: each is asked for alone."""
REPORTED = "drafts per row that are said to pass beyond those that were kept"
TOSSED = "if the rejected draft is tossed for again"


@dataclass(frozen=True)
class Check:
    """A check of calls.

    Attributes:
        group: what it is asked for with.
        make: from what is known of the calls, the check.
        unit: what its n counts.
        coarse: what has to be seen, as a multiple of the judgement's delta.
        most: and never more than this.
        share: what has to be seen whatever delta is, for checks of another metric; None for those of delta's.
        metric: of those.
    """

    group: Group
    make: Callable[..., Any]
    unit: str
    coarse: float = 1.0
    most: float = 1.0
    share: float | None = None
    metric: str = "share of copied samples"

    def delta(self, asked: float) -> float:
        """What has to be seen where a judgement is asked for some delta."""
        return min(self.most, self.coarse * asked) if self.share is None else self.share


def _strata(what: str) -> Check:
    return Check("batches", lambda laws, strata: Pooled(laws, strata, what), "rows of each", coarse=10.0, most=0.5)


CHECKS: dict[str, Check] = {
    "laws": Check("laws", EProcess, "rows of a context"),
    "copies between calls": Check("independence", Copies, "pairs of rows", share=0.3),
    "copies between rows": Check("independence", Copies, "pairs of rows", share=0.3),
    "pairs of rows": Check("independence", PitLags, "pairs of rows", share=0.3, metric=CIRCULAR),
    "pairs in small calls": Check("independence", PitLags, "pairs of rows", share=0.5, metric=CIRCULAR),
    "dispersion of calls": Check("independence", Dispersion, "calls", share=0.6),
    "batch sizes": _strata("batch sizes"),
    "places in the batch": _strata("places in the batch"),
    "kinds of batch": _strata("kinds of batch"),
    "accepted counts": Check("reports", lambda variance: Coins(variance, REPORTED, TOSSED), "rows"),
}


def of(group: Group) -> tuple[str, ...]:
    """The checks of a group."""
    return tuple(name for name, check in CHECKS.items() if check.group == group)


def names(groups: Collection[str], laws: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of evidence that has a share of alpha: `laws` has one for each law that is tested."""
    found: list[str] = []
    for name, check in CHECKS.items():
        if check.group in groups:
            found += laws if name == "laws" else [name]
    return tuple(found)


def carry_out(name: str, check: Any, *data: Any, alpha: float, beta: float) -> Evidence:
    """One of the checks, by its name, on its own kind of data."""
    found: Evidence = check.check(*data, alpha=alpha, beta=beta)
    return replace(found, check=name)
