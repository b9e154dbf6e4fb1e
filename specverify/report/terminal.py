"""A record's summary for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from specverify.report import attention, judgements, tables, testers
from specverify.report.listing import listing
from specverify.report.shape import Record

SHOWN = 10
"""Most things to look at that are listed."""
CONTINUOUS = " (continuous)"
_COLOURS = {"PROVED": "green", "CONSISTENT": "green", "REFUTED": "bold red", "ERROR": "bold red"}


def summary(record: Record) -> Group:
    """The overall verdict, the verdicts per decoder, and the cells that did not pass."""
    overall, verdict = record["verdict"], tables.verdicts(record)
    parts: list[RenderableType] = []
    for heading, suffix in (("decoder", ""), ("of continuous tokens", CONTINUOUS)):
        shown: list[tuple[str | Text, ...]] = [
            (cells[0].removesuffix(suffix), cells[1], _kind(cells[2]), cells[4])
            for cells in (row.cells for row in verdict.rows)
            if cells[0].endswith(CONTINUOUS) == bool(suffix)
        ]
        if shown:
            parts += [listing(shown, (heading, "claim", "verdict", "why")), Text()]
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
        parts.append(Text(judged))
    parts.append(Text.assemble("verdict: ", _kind(overall["kind"]), f", exit code {overall['exit_code']}"))
    parts.append(Text(f"    {tables.plain(overall['reason'])}"))
    if record["status"] == "partial":
        parts.append(Text("This record is partial; running the same command again continues.", style="yellow"))
    return Group(*parts)


def _kind(kind: str) -> Text:
    return Text(kind, style=_COLOURS.get(kind, "yellow"))
