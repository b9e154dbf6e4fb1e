"""What a reader has to look at, of a record's cells and of its testers."""

from __future__ import annotations

from specverify.report import tables_testers
from specverify.report.shape import Record
from specverify.report.tables import Table, caught, cell_row, why

_KINDS = ("REFUTED", "ERROR", "INCONCLUSIVE")


def attention(record: Record) -> Table:
    """Cells that speak against their claim or say nothing, and what the testers missed, flagged or misstated."""
    rows = [
        cell_row(c, [c["id"], c["verdict"]["kind"], why(c)])
        for c in record["cells"]
        if (not caught(c) if c["expected"] is not None else c["verdict"]["kind"] in _KINDS)
    ]
    rows += tables_testers.attention(record)
    intro = (
        "Every cell that is refuted, inconclusive or failed; every defect that was not caught, control that was "
        "flagged, and error rate that does not hold."
    )
    return Table("attention", "What to look at", intro, ("cell", "verdict", "why"), tuple(rows))
