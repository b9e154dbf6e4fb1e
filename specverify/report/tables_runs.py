"""What was decoded, and what it cost: passes, with rows replaced and in lock-step, drafts, acceptance and seconds."""

from __future__ import annotations

from specverify.report.shape import Record
from specverify.report.shape_cells import Run
from specverify.report.tables import UNKNOWN, Table, cell_row, interval, number


def runs(record: Record) -> Table:
    """What was decoded, and what it cost."""
    rows = []
    for c in record["cells"]:
        if (r := c["run"]) is None:
            continue
        cost = [
            number(r["passes_mean"]) + interval(r["passes_interval"]),
            number(r["step_compression"], 3),
            lock_step(r, 8),
            lock_step(r, 64),
            number(r.get("draft_passes_mean"), 3),
            number(r["acceptance_rate"], 3) + interval(r["acceptance_interval"], 3),
            number(r["tokens_per_second"], 3),
            number(r["seconds"], 3),
        ]
        rows.append(cell_row(c, [c["id"], c["verdict"]["kind"], number(r["n"]), number(r["tokens"]), *cost]))
    intro = (
        "NFE are forward passes of the target per sequence; step compression is the forward passes of autoregressive "
        "decoding over them, where rows are replaced as they finish. A batch that is decoded in lock-step waits for "
        "its slowest row: for 8 and 64 rows, expected over the rows that were drawn. The draft model's passes come on "
        "top, and seconds say what all of it takes. 95% intervals are in brackets. Speeds hold for the hardware named "
        "below."
    )
    columns = ("cell", "verdict", "sequences#", "tokens#", "NFE#", "step compression#")
    title = "Decoded sequences: forward passes, acceptance, speed"
    last = ("lock-step, 8#", "lock-step, 64#", "draft passes#", "acceptance#", "tokens/s#", "seconds#")
    return Table("runs", title, intro, (*columns, *last), tuple(rows))


def lock_step(run: Run, batch: int) -> str:
    """The step compression of a batch that waits for its slowest row, with its interval; unknown for too few rows."""
    found = next((one for one in run.get("lock_step", []) if one["batch"] == batch), None)
    if found is None:
        return UNKNOWN
    length, (low, high) = found["speedup"] * found["passes"], found["interval"]
    return number(found["speedup"], 3) + interval((length / high, length / low), 3)
