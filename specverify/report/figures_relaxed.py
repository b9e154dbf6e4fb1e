"""What relaxed rules buy and pay, exactly: forward passes against distance from the target law."""

from __future__ import annotations

from itertools import groupby

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import FRAME, Picture, Style
from specverify.report.shape_cells import Cell, exact_of
from specverify.report.tables import plain, settings

# Rules of one family share a hue. Okabe and Ito's colours, as elsewhere.
_STYLES = {
    "gsd": Style("#0072B2", "o"),
    "gsd-max": Style("#56B4E9", "s"),
    "gsd-gap": Style("#0072B2", "P"),
    "gsd-static": Style("#004466", "v"),
    "gsd-clusters": Style("#004466", "^"),
    "gsd-released": Style("#0072B2", "x"),
    "lantern": Style("#D55E00", "o"),
    "lantern++": Style("#E69F00", "s"),
    "scaling": Style("#009E73", "o"),
    "amplify": Style("#009E73", "P"),
    "cool": Style("#66C2A5", "s"),
    "mixture": Style("#CC79A7", "D"),
    "typical": Style("#882255", "X"),
    "entropy": Style("#999933", "h"),
    "threshold": Style("#6A3D9A", "p"),
}
_OTHER = Style("#777777", "h")


def frontier(cells: list[Cell]) -> Picture | None:
    """A panel for each toy and way to draft that the token rule was priced in, a curve for each rule over its sweep."""
    cells = [c for c in cells if c["kind"] == "relaxed" and c["exact"] is not None]
    beside = {(c["model"], _way(c)) for c in cells if c["settings"]["rule"] == "token"}
    apart = list(dict.fromkeys(plain(c["decoder"]) for c in cells if (c["model"], _way(c)) not in beside))
    cells = [c for c in cells if (c["model"], _way(c)) in beside]
    if not cells:
        return None
    models = list(dict.fromkeys(c["model"] for c in cells))
    ways = list(dict.fromkeys(_way(c) for c in cells))[: drawing.PANELS // len(models)]
    figure = drawing.canvas(2.5 * len(ways) + 0.8)
    grid = figure.subplots(len(ways), len(models), squeeze=False, sharex="col")
    shown: dict[str, Style] = {}
    for axes, way in zip(grid, ways, strict=True):
        for axis, model in zip(axes, models, strict=True):
            here = [c for c in cells if c["model"] == model and _way(c) == way]
            for rule, group in groupby(here, lambda c: c["settings"]["rule"]):
                points = [(exact_of(c)["tv"], exact_of(c)["passes"]) for c in group]
                if rule == "token":
                    axis.axhline(points[0][1], color=FRAME, linewidth=0.8, linestyle="--")
                    axis.plot(*points[0], "*", color="#222222", markersize=9, zorder=5)
                    continue
                style = shown.setdefault(plain(rule), _STYLES.get(rule, _OTHER))
                axis.plot(*zip(*points, strict=True), marker=style.marker, color=style.colour, linewidth=1, alpha=0.85)
            axis.set_title(f"{way}\n{plain(model)}", loc="left")
            axis.set_xlim(left=-0.02)
    for axis in grid[-1]:
        axis.set_xlabel("exact TV of sequences")
    for axes in grid:
        axes[0].set_ylabel("forward passes")
    drawing.legend(figure, shown, lines=True)
    caption = (
        "Left and low is good. The star on the dashed line is the token rule, at distance 0 up to rounding. A curve "
        "follows one rule over its parameter; where it bends back, more relaxation buys nothing."
    ) + (f" The prices of {', '.join(apart)} stand in the table." if apart else "")
    alt = (
        f"Exact forward passes against exact total variation: {number_of(len(shown), 'relaxed rule')} on "
        f"{number_of(len(models), 'toy')}."
    )
    return drawing.picture(figure, "relaxed", "The exact price of speed", caption, alt)


def _way(cell: Cell) -> str:
    return plain(f"{cell['decoder']}, {settings(cell, ('window', 'draft'))}")
