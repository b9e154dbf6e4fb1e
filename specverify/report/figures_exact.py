"""What enumeration found: exact forward passes."""

from __future__ import annotations

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import Picture, Style, left_out
from specverify.report.shape_cells import Cell, exact_of
from specverify.report.tables import plain

TOYS = 12
"""Panels, each of one toy; the table has all."""


def exact_passes(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Expected forward passes against the window, one panel per toy."""
    cells = [c for c in cells if c["exact"] is not None and c["kind"] == "exact"]
    toys = list(dict.fromkeys(c["model"] for c in cells))
    if not toys:
        return None
    shown_toys = toys[:TOYS]
    figure = drawing.canvas(1.75 * -(-len(shown_toys) // 4) + 0.7)
    axes = drawing.panels(figure, len(shown_toys), 4)
    for axis, toy in zip(axes, shown_toys, strict=True):
        here = [c for c in cells if c["model"] == toy]
        for name in dict.fromkeys(c["decoder"] for c in here):
            style, found = known[name], [c for c in here if c["decoder"] == name]
            for c in found:
                if c["settings"]["window"] is None:
                    axis.axhline(exact_of(c)["passes"], color=style.colour, linewidth=1, linestyle="--")
            windows = sorted({w for c in found if (w := c["settings"]["window"]) is not None})
            passes = [[exact_of(c)["passes"] for c in found if c["settings"]["window"] == w] for w in windows]
            fewest, most = [min(group) for group in passes], [max(group) for group in passes]
            axis.fill_between(windows, fewest, most, color=style.colour, alpha=0.25, linewidth=0)
            axis.plot(windows, fewest, color=style.colour, marker=style.marker, linewidth=1, alpha=0.85, markersize=4)
        axis.set_title(drawing.short(plain(toy), 26))
        axis.set_ylim(0, 1.08 * max(1.0, *(exact_of(c)["passes"] for c in here)))
        axis.set_xlim(0.5, max([c["settings"]["window"] or 1 for c in here]) + 0.5)
        axis.set_xticks(sorted({c["settings"]["window"] for c in here if c["settings"]["window"]}))
    figure.supxlabel("window W", fontsize=9)
    figure.supylabel("expected forward passes", fontsize=9)
    shown = {name: s for name, s in known.items() if any(c["decoder"] == name for c in cells)}
    drawing.legend(figure, shown, lines=True)
    best = min(cells, key=lambda c: exact_of(c)["passes"])
    caption = (
        "Dashed: decoders without drafts, one forward pass per token. Lines: the fewest over initial drafts and draft "
        "models; shades reach up to the most." + left_out(len(toys), "toys", TOYS)
    )
    alt = (
        f"Expected forward passes against the window on {number_of(len(shown_toys), 'toy')}; the fewest are "
        f"{exact_of(best)['passes']:.3g}, by {best['decoder']} on {best['model']}."
    )
    return drawing.picture(figure, "exact-passes", "Exact expected forward passes", caption, alt)
