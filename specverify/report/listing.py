"""A plain table for a terminal of any width: names are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from specverify.report import tables

GAP = 2
"""Between columns."""
WIDEST, NARROWEST = 24, 16
"""What a column takes at most before it is wrapped, but the first, which takes what its names need, and the last, which
takes what is left; and what the first is left with at least."""


@dataclass(frozen=True)
class Listing:
    """A table that fits itself to the terminal: less important columns go first, then names are folded.

    Attributes:
        rows: of cells.
        headings: of the columns; the first column holds names.
        drop: headings of columns that may go, the least important first.
    """

    rows: Sequence[Sequence[Text]]
    headings: tuple[str, ...]
    drop: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints."""
        yield self._table(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """How wide that is."""
        return Measurement.get(console, options, self._table(options.max_width))

    def _table(self, width: int) -> Table:
        shown = list(range(len(self.headings)))
        for heading in self.drop:
            if self._needed(shown) <= width:
                break
            shown = [number for number in shown if self.headings[number] != heading]
        left = width - self._needed(shown)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for number in shown:
            natural, wanted = self._natural(number), self._wanted(number)
            if number == shown[0]:
                wanted = max(min(natural, NARROWEST), wanted + min(0, left))
            elif number == shown[-1]:
                wanted = min(natural, wanted + max(0, left))
            table.add_column(self.headings[number], overflow="fold", width=wanted)
        for row in self.rows:
            table.add_row(*(row[number] for number in shown))
        return table

    def _needed(self, shown: Sequence[int]) -> int:
        return sum(map(self._wanted, shown)) + GAP * (len(shown) - 1)

    def _natural(self, number: int) -> int:
        """The width of a column's widest line."""
        lines = [self.headings[number], *(line for row in self.rows for line in row[number].plain.splitlines())]
        return max(map(len, lines))

    def _wanted(self, number: int) -> int:
        return self._natural(number) if number == 0 else min(self._natural(number), WIDEST)


def listing(rows: Sequence[Sequence[str | Text]], headings: tuple[str, ...], drop: tuple[str, ...] = ()) -> Listing:
    """The table of these cells."""
    cells = [[cell if isinstance(cell, Text) else Text(tables.plain(cell)) for cell in row] for row in rows]
    return Listing(cells, headings, drop)
