"""What changed between two records of the same kind: the gate that a new version of a decoder has to pass.

Cells (of a campaign) and settings (of a sweep) are matched by id; where both records have them, judged subjects, the
pairs of a kill matrix and the rates of a calibration by their names. A change is a *regression* where a verdict gets
worse, a known-wrong decoder is no longer caught, a rate no longer holds, one of these or a figure is gone, forward
passes grow, or a measured quality gets worse. Distances in other features are not compared.

What was enumerated is compared to 1e-9; what was measured by its 95% intervals: two figures differ where they lie
farther apart than a normal difference would with a chance of `ALPHA`, shared out over all figures compared. Seconds
depend on what else the machine did: they are told where they differ by more than `SLOWER`, and are no regression. Nor
is recall: one image that lies far from all others may make most of it (Naeem et al. 2020, arXiv 2002.09797), which the
images at hand do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

from scipy.stats import norm

from specverify.errors import InputError
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, Run
from specverify.report.tables import caught, number
from specverify.tradeoff import spaces
from specverify.tradeoff.shape import Row as Setting
from specverify.tradeoff.shape import Sweep

ALPHA = 0.01
"""Chance that any measured figure of two equal decoders is said to differ."""
SAME = 1e-9
ROUNDING = 1e-6
"""Measured figures of float32 that differ by less are the same, whatever their intervals."""
SLOWER = 1.5
WEAKER = 1.25
"""How many times as large a discrepancy has to be that a check sees, to be told."""
Sign = Literal["worse", "better", "other"]
_ORDER = ("PROVED-FOR-ALL", "PROVED", "CONSISTENT", "VACUOUS", "INCONCLUSIVE", "ERROR", "REFUTED")
_BAD = ("caught", "not flagged", "not applicable", "out of time", "error", "missed", "flagged")
_TOLD = ("recall",)
"""Metrics whose interval is none of another set of images."""
_ZERO_IS_BEST = ("surprisal",)
_MORE_IS_BETTER = (
    "acceptance",
    "gain",
    "speedup",
    "lockstep",
    "accuracy",
    "precision",
    "recall",
    "density",
    "coverage",
)


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        sign: worse (a regression), better, or neither.
        where: the cell or setting.
        what: which figure.
        old, new: as shown.
    """

    sign: Sign
    where: str
    what: str
    old: str
    new: str


@dataclass(frozen=True)
class Figure:
    """A measured figure: its value and standard error, and which way is better; if that is 0, its size counts."""

    value: float
    error: float
    more_is_better: bool
    zero_is_best: bool = False

    def worth(self, other: Figure) -> Sign:
        """What it is to have this instead of the other."""
        if self.zero_is_best:
            noise = math.hypot(self.error, other.error)
            apart = abs(self.value) - abs(other.value)
            return "other" if abs(apart) <= noise else "worse" if apart > 0 else "better"
        return "better" if (self.value > other.value) == self.more_is_better else "worse"


def campaigns(old: Record, new: Record) -> list[Change]:
    """What changed between two records of `specverify verify`."""
    before, after = ({c["id"]: c for c in record["cells"]} for record in (old, new))
    both = [(before[name], after[name]) for name in before if name in after]
    changes = [change for one, other in both for change in (*_verdicts(one, other), *_exact(one, other))]
    pairs = [(one["id"], _figures(one), _figures(other)) for one, other in both]
    changes += _measured(pairs)
    changes += [change for one, other in both for change in (*_weaker(one, other), *_seconds(one, other))]
    changes += _there(before, after)
    return [*_status(old, new), *changes, *(change for part in _PARTS for change in _part(part, old, new))]


def _status(old: Record | Sweep, new: Record | Sweep) -> Iterator[Change]:
    """Whether one of them is a part of its plan alone: what is not in it is not done, rather than gone."""
    if old["status"] != new["status"]:
        yield Change("other", "the record", "status", old["status"], new["status"])


def _settings(old: Sweep, new: Sweep) -> Iterator[Change]:
    """What was asked for otherwise, other than seeds and machines."""
    unsaid = {"dtype": "float32", "processors": ""}
    for name in ("n", "window", "batch", "dtype", "conditions", "processors"):
        one, other = (record["setting"].get(name, unsaid.get(name)) for record in (old, new))
        if one != other:
            yield Change("other", "all settings", name, str(one), str(other))


def _part(name: str, old: Record, new: Record) -> Iterator[Change]:
    """What changed in a part that is added to a record by a command of its own; one that is not there is told."""
    one, other = (_PARTS[name](record) for record in (old, new))
    if not one or not other:
        if one or other:
            yield Change("other", name, "covered", "yes" if one else "no", "yes" if other else "no")
        return
    for where in one:
        if where in other and one[where] != other[where]:
            (before, rank), (after, now) = one[where], other[where]
            yield Change("worse" if now > rank else "better" if now < rank else "other", where, name, before, after)
    yield from _there(one, other)


Ranked = dict[str, tuple[str, int]]
"""What was found of each, and how bad that is."""


def _judged(record: Record) -> Ranked:
    found: Ranked = {}
    for one in record.get("judgements", []):
        kind = one["verdict"]["kind"]
        seed = f", seed {one['seed']}" if one.get("seed") else ""
        found[f"{one['subject']}, {one['level']}, {one['claim']}{seed}"] = kind, _ORDER.index(kind)
    return found


def _killed(record: Record) -> Ranked:
    rows = record["kill_matrix"]["rows"] if "kill_matrix" in record else []
    return {f"{row['defect']} by {row['checker']}": (row["outcome"], _BAD.index(row["outcome"])) for row in rows}


def _calibrated(record: Record) -> Ranked:
    rows = record["calibration"]["rows"] if "calibration" in record else []
    return {
        f"{row['check']}, {row['what']}, {row['on']}, {row['stated']:g}": ("holds", 0)
        if row["holds"]
        else ("exceeded", 1)
        for row in rows
    }


_PARTS = {"judgement": _judged, "kill matrix": _killed, "calibration": _calibrated}


def sweeps(old: Sweep, new: Sweep) -> list[Change]:
    """What changed between two records of `specverify tradeoff`.

    Raises:
        InputError: they are of different models.
    """
    if old["setting"]["model"] != new["setting"]["model"] or old["length"] != new["length"]:
        of = [f"{one['setting']['model']}, {one['length']} tokens" for one in (old, new)]
        raise InputError(f"one record is of {of[0]}, the other of {of[1]}; compare two of one model")
    before, after = ({row["id"]: row for row in record["rows"]} for record in (old, new))
    both = [(before[name], after[name]) for name in before if name in after]
    broken = [
        Change(
            "worse" if other["error"] else "better",
            one["id"],
            "error",
            one["error"] or "none",
            other["error"] or "none",
        )
        for one, other in both
        if bool(one["error"]) != bool(other["error"])
    ]
    moved, without = [], set[str]()
    if not spaces.alike(old, new):
        without |= {*spaces.METRICS}
        moved = [Change("other", "all settings", "features", spaces.space(old), spaces.space(new))]
    if old["setting"]["n"] != new["setting"]["n"]:
        without |= {"fd"}  # whose bias depends on how many images there are
    asked = list(_settings(old, new))
    return [
        *_status(old, new),
        *asked,
        *broken,
        *moved,
        *_measured(
            [
                (one["id"], _metrics(one, without), _metrics(other, without))
                for one, other in both
                if not (one["error"] or other["error"])  # which is told
            ],
            "other" if asked else "worse",
        ),
        *_there(before, after),
    ]


def _there(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[Change]:
    for name in before:
        if name not in after:
            yield Change("worse", name, "covered", "yes", "no")
    for name in after:
        if name not in before:
            yield Change("other", name, "covered", "no", "yes")


def _verdicts(old: Cell, new: Cell) -> Iterator[Change]:
    one, other = old["verdict"]["kind"], new["verdict"]["kind"]
    if one == other:
        return
    if new["expected"] is not None:
        sign: Sign = "better" if caught(new) else "worse" if caught(old) else "other"
    else:
        sign = "worse" if _ORDER.index(other) > _ORDER.index(one) else "better"
    yield Change(sign, new["id"], "verdict", one, other)


def _exact(old: Cell, new: Cell) -> Iterator[Change]:
    one, other = old["exact"], new["exact"]
    if one is None or other is None:
        if one is not None:
            yield Change("worse", new["id"], "exact TV", number(one["tv"], 6), "not known")
        return
    claimed = new["expected"] is None
    for name, words in (("tv", "exact TV"), ("passes", "expected passes")):
        before, after = cast("float", one[name]), cast("float", other[name])  # type: ignore[literal-required]
        if abs(before - after) > SAME * max(1.0, abs(before)):
            sign: Sign = ("worse" if after > before else "better") if claimed else "other"
            yield Change(sign, new["id"], words, number(before, 6), number(after, 6))


def _figures(cell: Cell) -> dict[str, Figure]:
    run = cell["run"]
    if run is None:
        return {}
    return {"passes": Figure(run["passes_mean"], _error(run["passes_interval"]), more_is_better=False)}


def _metrics(row: Setting, without: Collection[str]) -> dict[str, Figure]:
    """With their signs: an unbiased distance may be below 0, and a surprisal off to either side."""
    return {
        name: Figure(
            metric["value"], _error(metric["interval"]), name.startswith(_MORE_IS_BETTER), name in _ZERO_IS_BEST
        )
        for name, metric in row["metrics"].items()
        if name not in without
    }


def _error(interval: Sequence[float]) -> float:
    """The standard error behind a 95% interval."""
    return (interval[1] - interval[0]) / (2 * 1.96)


def _measured(
    pairs: Sequence[tuple[str, Mapping[str, Figure], Mapping[str, Figure]]], gone: Sign = "worse"
) -> Iterator[Change]:
    """Figures that differ by more than noise, and those that are `gone`."""
    count = sum(len(one.keys() & other.keys()) for _, one, other in pairs)
    noise = float(norm.isf(ALPHA / (2 * max(1, count))))
    for where, one, other in pairs:
        for name in one:
            if name not in other:
                yield Change(gone, where, name, number(one[name].value), "not measured")
                continue
            old, new = one[name], other[name]
            apart = new.value - old.value
            if abs(apart) > noise * math.hypot(old.error, new.error) + ROUNDING * max(1.0, abs(old.value)):
                sign = "other" if name in _TOLD else new.worth(old)
                yield Change(sign, where, name, number(old.value), number(new.value))


def _weaker(old: Cell, new: Cell) -> Iterator[Change]:
    """Checks that see less than they did, as of fewer samples: the same verdict says less."""
    before = {one["check"]: one["delta"] for one in old["evidence"]}
    for one in new["evidence"]:
        was, now = before.get(one["check"]), one["delta"]
        if isinstance(was, float) and isinstance(now, float) and now > WEAKER * was:
            yield Change("other", new["id"], f"delta of {one['check']}", number(was, 3), number(now, 3))


def _seconds(old: Cell, new: Cell) -> Iterator[Change]:
    one, other = old["run"], new["run"]
    if one is None or other is None or new["kind"] != "real":
        return
    before, after = _each(one), _each(other)
    if max(before, after) > SLOWER * min(before, after):
        yield Change("other", new["id"], "seconds per image", number(before, 3), number(after, 3))


def _each(run: Run) -> float:
    return run["seconds"] / run["n"]


def told(changes: Sequence[Change]) -> str:
    """The changes in a sentence."""
    counts = {sign: sum(change.sign == sign for change in changes) for sign in ("worse", "better", "other")}
    if not changes:
        return "nothing changed beyond noise"
    words = {"worse": "worse", "better": "better", "other": "changed otherwise"}
    return ", ".join(f"{count} {words[sign]}" for sign, count in counts.items() if count)


def to_json(changes: Sequence[Change]) -> list[dict[str, str]]:
    """As plain JSON."""
    return [asdict(change) for change in changes]
