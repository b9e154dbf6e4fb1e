"""What cells on the real model would have shown: known-wrong decoders as measured there, beside the campaign's n."""

from __future__ import annotations

from specverify.report.shape import Record
from specverify.report.tables import Row, Table, number, plain


def sensitivity(record: Record) -> Table:
    """Each known-wrong decoder that runs on the real model: how far it is off, and from how many images on it shows."""
    seen = record.get("sensitivity")
    rows = []
    for one in [] if seen is None else seen["rows"]:
        shown = "yes" if one["shown"] else "no"
        figures = (_within(one["kolmogorov"], one["kolmogorov_error"]), _within(one["nats"], one["nats_error"], "+"))
        cells = (one["defect"], *figures, number(one["images"]), number(one["needed"]), shown)
        rows.append(Row(tuple(map(plain, cells)), bad=() if one["shown"] else (5,)))
    intro = ""
    if seen is not None and rows:
        intro = (
            f"CONSISTENT on a real model does not say that there is no bug. Known-wrong decoders on {seen['model']} at "
            f"window {seen['window']}, guidance {seen['guidance']:g}: the distance of their tokens' transforms from "
            "uniform, their surprisal less the target's entropy, and the images with which the uniformity or the "
            f"surprisal check, at this campaign's alpha, misses them with probability at most {number(seen['beta'])}; "
            "unknown where neither figure is told from 0. Other checks may see more. Measured once, by "
            f"{seen['command']}."
        )
    columns = ("known-wrong decoder", "Kolmogorov#", "nats a token#", "measured on#", "images needed#")
    last = f"shown with {0 if seen is None else seen['images']:,}"
    return Table("sensitivity", "What a real cell would have shown", intro, (*columns, last), tuple(rows))


def _within(value: float, error: float, sign: str = "") -> str:
    return f"{value:{sign}.4f} ± {error:.4f}"
