"""What a sweep says last in a terminal: the frontier near what was asked for, and what must be known to read it all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from specverify.report.listing import listing
from specverify.report.tables import UNKNOWN
from specverify.tradeoff import tables, tables_patches
from specverify.tradeoff.choose import Choice, loss
from specverify.tradeoff.clock import pace
from specverify.tradeoff.remarks import remarks
from specverify.tradeoff.shape import Row, Sweep, Timed

SHOWN = 5
"""Rows of the frontier for each guidance."""


def show(record: Sweep, choices: Sequence[Choice], console: Console) -> None:
    """Rows of the report's frontier, those nearest to what was asked for first, and the remarks."""
    patches = record["tokens"] == "patches"
    found = (tables_patches if patches else tables).best(record)
    if found:
        rows = _nearest(record, found, choices)
        kinds = {row["drafting"] for row in found}
        drafts = any("draft_passes" in row["metrics"] for row in rows)
        lines = [_line(record, row, patches, drafts, len(kinds) == 1) for row in rows]
        heading = f"FD at n = {record['setting']['n']:,}" if patches else "bias per token"
        headings = (
            "the frontier", "guidance", "passes", "lock-step 64", *["draft passes"] * drafts, "in a batch", "alone",
            heading, "FD above AR",
        )  # fmt: skip
        console.print()
        drop = ("lock-step 64", "draft passes", "in a batch", "alone", "FD above AR")
        console.print(listing(lines, headings, drop=drop))
        console.print(Text(_words(record, len(found) - len(rows), kinds, choices), style="dim"))
    for said in remarks(record, choices):
        console.print()
        console.print(Text(said))


def _nearest(record: Sweep, found: list[Row], choices: Sequence[Choice]) -> list[Row]:
    """Of each guidance those nearest to what was asked for, nearest first; the fastest if nothing can be answered."""
    if not choices:
        return found[:SHOWN]
    rows: list[Row] = []
    for choice in choices:
        own = [row for row in found if row["guidance"] == choice.guidance]
        rows += sorted(own, key=lambda row: abs(_asked_of(record, row, choice) - choice.asked))[:SHOWN]
    return rows


def _asked_of(record: Sweep, row: Row, choice: Choice) -> float:
    """What a question limits."""
    return tables.value_of(row, "speedup") if choice.by == "speed-up" else loss(record, row, choice.metric).value


def _line(record: Sweep, row: Row, patches: bool, drafts: bool, alike: bool) -> tuple[str, ...]:
    """The cells of a row; the drafting is left out of names where all have the same."""
    name = row["id"].partition("/")[2]
    name = name.removeprefix(f"{row['drafting']}/") if alike else name
    passes = tuple(_value(row, one) for one in ("speedup", "lockstep-64", *["draft_passes"] * drafts))
    loss_, above = tables.cells(row, ("fd" if patches else "bias",))[0], tables.distances(record, row)[1]
    times = (_pace(record, row, "seconds_per_image"), _pace(record, row, "seconds_alone"))
    return (name, f"{row['guidance']:g}", *passes, *times, loss_, above)


def _words(record: Sweep, more: int, kinds: set[str | None], choices: Sequence[Choice]) -> str:
    order = f"nearest to {choices[0].by} {choices[0].asked:g} first" if choices else "fewest passes first"
    kind = f"drafting {next(iter(kinds))}; " if len(kinds) == 1 and None not in kinds else ""
    rest = f"; {more} more in the report" if more else ""
    return (
        f"{kind}{order}{rest}. Passes: how many times fewer of the target's; in a batch, alone: AR's seconds over its, "
        f"below 1 slower than AR. Brackets: 95%, of a setting alone. {tables.barred(record)}"
    ).rstrip()


def _pace(record: Sweep, row: Row, what: Timed) -> str:
    found = pace(record, row, what)
    return UNKNOWN if found is None else f"{found.value:.3g}"


def _value(row: Row, name: str) -> str:
    return f"{row['metrics'][name]['value']:.3g}" if name in row["metrics"] else UNKNOWN
