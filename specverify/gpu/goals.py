"""What a GPU is to show, held against what was measured: each goal, the figure, and whether it is met."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from specverify.bench import PLAIN
from specverify.bench_judging import LOOP, TOKEN
from specverify.bench_judging import Record as Judging
from specverify.bench_shape import Bench, Row
from specverify.gpu import carry

SHARE, OWN, FLOOR, FASTER, WAITS = 0.85, 0.05, 2.0, 100.0, 2.0
"""Least share of the limit at batch 1; most of a 1B model's pass that a step may take; most times the floor that the
token rule may take, and least times that it is as fast as a loop; most times a pass that the device may be waited for:
once to ask whether all rows are done, and once where rows are dropped."""
ONE_BILLION = "janus-pro-1b-1-graphs"
LARGE = 1 << 22
"""Numbers of a window's laws from which on reading them is what the token rule is held against."""


class Goal(NamedTuple):
    """One of them.

    Attributes:
        what: it is.
        asked: as a number with its sign.
        found: the figure that is farthest from it.
        met: whether that is good enough.
    """

    what: str
    asked: str
    found: str
    met: bool


def section(folder: Path) -> Iterator[str]:
    """A table of the goals that something was measured for; nothing if there is none."""
    if found := [*_of_rules(folder / "judging"), *_of_decoders(folder / "decoders")]:
        yield "## Goals"
        lines = [("goal", "asked", "found", "met"), ("---",) * 4]
        lines += [(goal.what, goal.asked, goal.found, "yes" if goal.met else "**no**") for goal in found]
        yield "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judged(folder: Path) -> list[Judging]:
    """The records of what judging costs."""
    return [json.loads(path.read_text()) for path in _records(folder)]


def benches(folder: Path) -> dict[str, Bench]:
    """The records of decoders, by step."""
    return {path.stem: json.loads(path.read_text()) for path in _records(folder)}


def share(row: Row) -> float | None:
    """Of the speed-up that step compression and a window's cost allow, how much was had; None with a draft model."""
    return None if row["limit"] is None else row["speedup"] / row["limit"]


def own_milliseconds(row: Row, record: Bench) -> tuple[float, float]:
    """What a decoder takes beside a pass of the batch, and as a share of that pass."""
    passes = {one["window"]: one["milliseconds"] for one in record["passes"]}
    own = 1e3 * row["outside"] * sum(row["seconds"]) / record["rounds"] / row["calls"]
    return own, own / passes[row["window"] or 0]


def _of_rules(folder: Path) -> Iterable[Goal]:
    every = [row for record in judged(folder) for row in record["rows"]]
    if rows := [row for row in every if row["batch"] * row["window"] * row["vocab"] >= LARGE]:
        floor = max(row["milliseconds"][TOKEN] / row["floor"] for row in rows)
        yield Goal("the token rule beside reading p and q once", f"<= {FLOOR:g}", f"{floor:.2f}", floor <= FLOOR)
        faster = min(row["milliseconds"][LOOP] / row["milliseconds"][TOKEN] for row in rows)
        yield Goal("a loop over tokens beside the token rule", f">= {FASTER:g}", f"{faster:.1f}", faster >= FASTER)


def _of_decoders(folder: Path) -> Iterable[Goal]:
    alone = {name: record for name, record in benches(folder).items() if record["batch"] == 1}
    parts = [part for record in alone.values() for row in _drafting(record) if (part := share(row)) is not None]
    if parts:
        what = "speed-up at batch 1, of what step compression and a window's cost allow"
        yield Goal(what, f">= {SHARE:g}", f"{min(parts):.2f}", min(parts) >= SHARE)
    if (record := alone.get(ONE_BILLION)) is not None:
        most = max(own_milliseconds(row, record)[1] for row in _drafting(record))
        yield Goal("a decoder's own step, of a pass of 1B parameters", f"<= {OWN:g}", f"{most:.3f}", most <= OWN)
    every = [row["waits"] for record in benches(folder).values() for row in record["rows"]]
    if known := [waits for waits in every if waits is not None]:
        yield Goal("waits for the device, a pass", f"<= {WAITS:g}", f"{max(known):.2f}", max(known) <= WAITS)


def _drafting(record: Bench) -> list[Row]:
    return [row for row in record["rows"] if row["decoder"] != PLAIN]


def _records(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.name != carry.STEPS)
