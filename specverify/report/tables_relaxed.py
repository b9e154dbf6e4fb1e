"""Tables of relaxed rules."""

from __future__ import annotations

from specverify.report.record import Record
from specverify.report.tables import Table, cell_row, number, settings


def relaxed(record: Record) -> Table:
    """What each rule claims, how far it is from the target and how fast."""
    rows = []
    for c in record["cells"]:
        if c["kind"] != "relaxed" or (e := c["exact"]) is None:
            continue
        chosen, value = c["settings"]["rule"], c["settings"]["value"]
        price = c["figures"].get("price")
        paid = [number(price and price[name], 3) for name in ("gain", "bias", "excess")]
        rows.append(
            cell_row(
                c,
                [
                    *(chosen, number(value), c["decoder"], c["model"], settings(c, ("window", "initial", "draft"))),
                    *(c["claim"], c["verdict"]["kind"]),
                    *(number(e["tv"], 3), number(e["passes"]), number(e["acceptance_rate"], 3), *paid),
                ],
            )
        )
    intro = (
        "Exact, by enumeration: total variation between the laws of whole sequences, and expected forward passes. Gain "
        "(acceptance above 1 - TV(p, q)), bias (total variation from p) and excess (bias - gain, at least 0 for any "
        "rule) are of one judged token, drafted by a second model, on average over the target's prefixes. VACUOUS: the "
        "rule claims nothing, or allows nearly every law, so that there is nothing to prove."
    )
    columns = ("rule", "value#", "decoder", "toy", "settings", "claim", "verdict", "exact TV#", "passes#")
    return Table("relaxed", "Relaxed rules", intro, (*columns, "acceptance#", "gain#", "bias#", "excess#"), tuple(rows))
