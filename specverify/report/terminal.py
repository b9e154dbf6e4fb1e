"""A record's summary for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from specverify.report import attention, judgements, methods, tables, testers
from specverify.report.listing import listing
from specverify.report.shape import Record

SHOWN = 10
"""Most things to look at that are listed."""
_COLOURS = {
    "PROVED-FOR-ALL": "green",
    "PROVED": "green",
    "CONSISTENT": "green",
    methods.RELAXED: "",
    methods.BOUND: "",
    "REFUTED": "bold red",
    "ERROR": "bold red",
}


def summary(record: Record) -> Group:
    """The overall verdict, what is shown of each method, and the cells that did not pass."""
    overall = record["verdict"]
    parts: list[RenderableType] = []
    found_rows = [row.cells for row in methods.methods(record).rows]
    if found_rows:
        shown = [(cells[0], _kind(cells[2]), cells[3]) for cells in found_rows]
        parts += [listing(shown, ("method", "verdict", "what was shown")), Text()]
    if costs := [(cells[0], *cells[4:]) for cells in found_rows if cells[4] != tables.UNKNOWN]:
        headings = ("on the real model", "fewer passes", "draft passes", "faster, one", "batch")
        parts += [
            listing(costs, headings),
            Text(
                "faster, one image at a time and in a batch: than plain decoding, by the clock; below 1 is slower",
                style="dim",
            ),
            Text(),
        ]
    rows = attention.attention(record).rows
    if rows:
        parts.append(Text(f"{len(rows)} to look at:"))
        for row in rows[:SHOWN]:
            parts += [Text.assemble(_kind(row.cells[1]), " ", row.cells[0]), Text(f"    {row.cells[2]}", style="dim")]
        if len(rows) > SHOWN:
            parts.append(Text(f"... and {len(rows) - SHOWN} more in the report"))
        parts.append(Text())
    caught = [tables.caught(c) for c in record["cells"] if c["expected"] is not None]
    if caught:
        parts.append(Text(f"known-wrong decoders caught: {sum(caught)} of {len(caught)}"))
    if (seen := record.get("sensitivity")) is not None:
        known = sum(row["shown"] for row in seen["rows"])
        parts.append(
            Text(
                f"on the real model, {seen['images']:,} images a cell show {known} of {len(seen['rows'])} known-wrong "
                "decoders; which not: see the report"
            )
        )
    found = testers.testers(record)
    colour = "bold red" if found.fail else "green" if found.status == testers.HOLD else "yellow"
    parts.append(Text.assemble("testers ", (found.status, colour)))
    parts += [Padding(Text(tables.plain(line)), (0, 0, 0, 4), expand=False) for line in (*found.lines, *found.missing)]
    if judged := judgements.line(record):
        parts.append(Text(judged, style=_COLOURS.get(judgements.overall(record), "yellow")))
    of = ", of the campaign beside them" if judged else ""
    parts.append(Text.assemble("verdict: ", _kind(overall["kind"]), f", exit code {overall['exit_code']}{of}"))
    parts.append(Text(f"    {tables.plain(tables.reason(record))}"))
    if record["status"] == "partial":
        parts.append(Text("This record is partial; running the same command again continues.", style="yellow"))
    return Group(*parts)


def _kind(kind: str) -> Text:
    return Text(kind, style=_COLOURS.get(kind, "yellow"))
