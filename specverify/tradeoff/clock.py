"""Seconds beside plain decoding's, and how sure they are.

A machine is not as fast at one time as at another, so that what counts as noise is what whole runs differ by, not the
batches or images within one. Two plain runs show it, and so do the settings of one window, whose passes do the same
work: what is common to all is the deviation of the logarithm of a run's seconds per pass, `drift`. Where the rule or
its parameter changes the work after all, that counts as drift, too, and intervals are wider for it. Decoders of patches
draft in different ways: there runs are alike if decoder and window are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from specverify.errors import number_of
from specverify.report.tables import UNKNOWN, interval, number
from specverify.tradeoff.plan import AR
from specverify.tradeoff.shape import Row, Sweep, Timed

CONFIDENCE = 0.95
CLOCKS: tuple[Timed, ...] = ("seconds_alone", "seconds_per_image")


@dataclass(frozen=True)
class Drift:
    """What runs differ by that do the same work in a pass.

    Attributes:
        deviation: standard deviation of the logarithm of a run's seconds per pass.
        freedom: degrees of freedom that it is known with.
        runs: that it is taken from.
    """

    deviation: float
    freedom: int
    runs: int


@dataclass(frozen=True)
class Pace:
    """Plain decoding's seconds over a setting's: above 1 the setting is faster.

    Attributes:
        value: the mean of the plain runs over the setting's.
        deviation: of its logarithm; None if nothing was run twice.
        freedom: degrees of freedom of that.
    """

    value: float
    deviation: float | None
    freedom: int

    @property
    def within(self) -> tuple[float, float] | None:
        """The 95% interval, of this setting alone."""
        low, high = self._off((1 - CONFIDENCE) / 2, -1), self._off((1 - CONFIDENCE) / 2, 1)
        return None if low is None or high is None else (low, high)

    def slowest(self, compared: int) -> float | None:
        """The lower limit that holds for as many figures at once."""
        return self._off((1 - CONFIDENCE) / compared, -1)

    def _off(self, error: float, sign: int) -> float | None:
        if self.deviation is None:
            return None
        return self.value * math.exp(sign * float(stats.t.isf(error, self.freedom)) * self.deviation)

    def words(self, unit: str = "") -> str:
        """The factor, a unit, and the interval; of a factor below 1 it says that this is slower."""
        said = f"{number(self.value, 3)}{unit}{interval(self.within, 3)}"
        if self.value >= 1:
            return said
        return f"{said} ({'perhaps ' if self.within is not None and self.within[1] > 1 else ''}slower)"


def plain(record: Sweep, guidance: float | None, what: Timed, but: str = "") -> list[float]:
    """The seconds of the plain runs of a guidance, of all `but` one."""
    runs = (row for row in record["rows"] if row["rule"] == AR and row["guidance"] == guidance and row["id"] != but)
    return [seconds for row in runs if (seconds := row[what])]


def drift(record: Sweep, what: Timed) -> Drift | None:
    """See the module; None if no two runs do the same."""
    alike: dict[tuple[object, ...], list[float]] = {}
    patches = record["tokens"] == "patches"
    for row in record["rows"]:
        if (seconds := row[what]) and "speedup" in row["metrics"]:
            rule = row["rule"] if patches or row["rule"] == AR else None
            key = row["guidance"], row["drafting"], rule, row["window"]
            alike.setdefault(key, []).append(math.log(seconds * row["metrics"]["speedup"]["value"]))
    groups = [np.array(found) for found in alike.values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in groups)
    if freedom == 0:
        return None
    squares = sum(float(((found - found.mean()) ** 2).sum()) for found in groups)
    return Drift(math.sqrt(squares / freedom), freedom, sum(map(len, groups)))


def pace(record: Sweep, row: Row, what: Timed) -> Pace | None:
    """A setting's, by one clock; of a plain run itself, beside the others. None where one of the two was not timed.

    The plain runs are taken to drift by no less than they differ here. With the setting's own drift and what the images
    leave open of its mean number of passes that makes the deviation.
    """
    own, base = row[what], plain(record, row["guidance"], what, row["id"])
    if not own or not base:
        return None
    value, common = sum(base) / len(base) / own, drift(record, what)
    if common is None:
        return Pace(value, None, 0)
    shared = common.deviation**2
    apart = float(np.log(base).var(ddof=1)) if len(base) > 1 else 0.0
    variance = shared + max(shared, apart) / len(base) + _passes(row) ** 2
    return Pace(value, math.sqrt(variance), common.freedom)


def _passes(row: Row) -> float:
    """The deviation of the logarithm of the mean number of passes, over images."""
    low, high = row["metrics"]["speedup"]["interval"] if "speedup" in row["metrics"] else (1.0, 1.0)
    return math.log(high / low) / (2 * float(stats.norm.isf((1 - CONFIDENCE) / 2)))


def gain(record: Sweep, row: Row, what: Timed) -> str:
    """`pace` as a table has it."""
    found = pace(record, row, what)
    return UNKNOWN if found is None else found.words()


def processor(record: Sweep) -> str:
    """What the seconds were measured on."""
    return record["hardware"]["accelerator"] or "a CPU"


def basis(record: Sweep) -> str:
    """What the seconds of a sweep rest on, and what their intervals are from; empty if nothing was timed."""
    times = [row["times"] for row in record["rows"] if row.get("times") is not None]
    known = [one for one in times if one is not None]
    drifts = {what: found for what in CLOCKS if (found := drift(record, what)) is not None}
    said = []
    if known:
        batches = _span([len(one["seconds_per_image"]) for one in known], "batch")
        single = _span([len(one["seconds_alone"]) for one in known], "image")
        spread = all("labels_alone" in one and len(set(one["labels_alone"])) > 1 for one in known)
        classes = "of different classes" if spread else "all of the first class"
        said.append(
            f"Seconds of a setting rest on {batches} of {record['setting']['batch']}, and on {single} "
            f"decoded alone, {classes}, scaled to the mean number of passes of all its images"
        )
    if apart := [f"{_apart(record, what):.0%} {where(what)}" for what in CLOCKS if _apart(record, what) > 0]:
        said.append(f"two plain runs differ by up to {' and '.join(apart)}")
    if drifts:
        each = [f"{found.deviation:.0%} {where(what)}" for what, found in drifts.items()]
        runs = max(found.runs for found in drifts.values())
        said.append(
            f"intervals of seconds are from what {runs} runs of equal windows differ by per pass (a standard deviation "
            f"of {' and '.join(each)}), not from what the images of one run do"
        )
    return "; ".join(said) + "." if said else ""


def where(what: Timed) -> str:
    """A clock, in words."""
    return "alone" if what == "seconds_alone" else "in a batch"


def _span(counts: list[int], what: str) -> str:
    least = "" if min(counts) == max(counts) else f"{min(counts)} to "
    return least + number_of(max(counts), what)


def _apart(record: Sweep, what: Timed) -> float:
    """By how much the slower plain run of a guidance is slower than the faster, at most."""
    scales = dict.fromkeys(row["guidance"] for row in record["rows"] if row["rule"] == AR)
    runs = [found for scale in scales if len(found := plain(record, scale, what)) > 1]
    return max((max(found) / min(found) - 1 for found in runs), default=0.0)
