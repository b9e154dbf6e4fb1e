"""What one image at a time costs, beside plain decoding."""

from __future__ import annotations

from collections.abc import Iterator

from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, run_of
from specverify.report.tables import Table, cell_row, number, settings


def one_at_a_time(cells: list[Cell]) -> Iterator[tuple[Cell, Cell | None]]:
    """The cells of a real model that decode one sequence at a time, each with plain decoding's in the same setting."""
    found = [c for c in cells if c["kind"] == "real" and c["settings"]["batch"] == 1 and c["run"] is not None]
    found.sort(key=lambda c: (c["model"], c["settings"]["guidance"] or 0))
    for c in found:
        same = (
            other
            for other in found
            if other["decoder"] == "ar"
            and (other["model"], other["settings"]["guidance"]) == (c["model"], c["settings"]["guidance"])
        )
        yield c, next(same, None)


def latency(record: Record) -> Table:
    """What one image costs, in passes and seconds, beside plain decoding in the same run."""
    rows = []
    for c, plain in one_at_a_time(record["cells"]):
        r, seconds = run_of(c), run_of(c)["seconds"] / run_of(c)["n"]
        beside = None if plain is None else run_of(plain)["seconds"] / run_of(plain)["n"] / seconds
        cost = [number(r["passes_mean"], 4), number(r.get("draft_passes_mean") or None, 4)]
        cost += [number(r["step_compression"], 3), number(seconds, 3), number(beside, 3)]
        cost.append(number(seconds / r["passes_mean"] * 1000, 3))
        rows.append(cell_row(c, [c["decoder"], c["model"], settings(c), number(r["n"]), *cost]))
    intro = (
        "One image at a time, as one user waits for it. Speed-up in passes: the forward passes of plain decoding over "
        "the decoder's; in seconds: plain decoding's time over the decoder's, both by the clock, in this run on the "
        "hardware named below, with other cells at work beside them. Nothing is tested here."
    )
    columns = ("decoder", "model", "settings", "images#", "NFE#", "draft NFE#", "speed-up in passes#")
    more = ("seconds per image#", "speed-up in seconds#", "ms per pass#")
    return Table("latency", "One image at a time: passes and seconds", intro, (*columns, *more), tuple(rows))
