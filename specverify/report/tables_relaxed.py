"""Tables of relaxed rules."""

from __future__ import annotations

import re

from specverify.claims import EMPTY
from specverify.report.shape import Record
from specverify.report.shape_cells import Cell, exact_of
from specverify.report.tables import UNKNOWN, Table, cell_row, number, settings


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
                    *(*_declared(c), c["verdict"]["kind"]),
                    *(number(e["tv"], 3), number(e["passes"]), number(e["acceptance_rate"], 3), *paid),
                ],
            )
        )
    intro = (
        "Exact, by enumeration: total variation between the laws of whole sequences, and expected forward passes. Gain "
        "(acceptance above 1 - TV(p, q)), bias (total variation from p) and excess (bias - gain, at least 0 for any "
        "rule) are of one judged token, drafted by a second model, on average over the target's prefixes. Slack: how "
        "far the exact distance stays below the declared bound; a bound of nearly 1 excludes nothing, and is said not "
        "to bind. VACUOUS: the rule claims nothing, or nothing that binds, so that there is nothing to prove."
    )
    columns = ("rule", "value#", "decoder", "toy", "settings", "claim", "slack#", "verdict", "exact TV#", "passes#")
    return Table("relaxed", "Relaxed rules", intro, (*columns, "acceptance#", "gain#", "bias#", "excess#"), tuple(rows))


def _declared(cell: Cell) -> tuple[str, str]:
    """What a cell's rule claims, and its slack if that is a bound."""
    found = re.fullmatch(r"relaxed\(tv<=([0-9.e+-]+)\)", cell["claim"])
    if found is None:
        return cell["claim"], UNKNOWN
    bound = float(found[1])
    words = f"nothing that binds: tv<={found[1]}" if EMPTY <= bound < 1 else cell["claim"]
    return words, number(max(0.0, bound - exact_of(cell)["tv"]), 3)
