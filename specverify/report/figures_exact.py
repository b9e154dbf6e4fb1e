"""What enumeration found: exact distances and exact forward passes."""

from __future__ import annotations

import math

from matplotlib.lines import Line2D

from specverify.report import drawing
from specverify.report.contradictions import TOLERANCE
from specverify.report.drawing import DEFECT, FRAME, PANELS, Picture, Style, left_out
from specverify.report.shape_cells import Cell, exact_of
from specverify.report.tables import plain


def exact_tv(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Exact total variation of decoders per toy, above that of defects, on one axis."""
    cells = [c for c in cells if c["exact"] is not None and c["kind"] in ("exact", "defect")]
    if not cells:
        return None
    right = [c for c in cells if c["kind"] != "defect"]
    wrong = [c for c in cells if c["kind"] == "defect"]
    toys = list(dict.fromkeys(c["model"] for c in right))
    names = list(dict.fromkeys((c["decoder"], c["model"]) for c in wrong))
    smallest = min((math.log10(exact_of(c)["tv"]) for c in cells if exact_of(c)["tv"] > 0), default=-17)
    low = min(-17, math.floor(smallest))

    def place(c: Cell) -> float:
        return math.log10(exact_of(c)["tv"]) if exact_of(c)["tv"] > 0 else low - 1.5

    shown = {name: s for name, s in known.items() if any(c["decoder"] == name for c in right)}
    groups = [(len(toys), max(0.34, 0.06 * len(shown))), (len(names), 0.2)]
    heights = [max(1, rows) * size + 0.5 for rows, size in groups if rows]
    figure = drawing.canvas(sum(heights) + 0.9)
    axes = drawing.panels(figure, len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    rest = list(axes)
    if toys:
        axis = rest.pop(0)
        for row, (name, style) in enumerate(shown.items()):
            mine = [c for c in right if c["decoder"] == name]
            y = [toys.index(c["model"]) + 0.72 * ((row + 0.5) / len(shown) - 0.5) for c in mine]
            axis.plot([place(c) for c in mine], y, style.marker, color=style.colour, alpha=0.75, markeredgewidth=0)
        drawing.rows(axis, [drawing.short(toy) for toy in toys], "decoders, by toy model")
    if names:
        axis = rest.pop(0)
        axis.plot(
            [place(c) for c in wrong], [names.index((c["decoder"], c["model"])) for c in wrong], "x", color=DEFECT
        )
        drawing.rows(axis, [drawing.short(f"{name} ({model})", 60) for name, model in names], "known-wrong decoders")
    for axis in axes:
        axis.axvline(math.log10(TOLERANCE), color=FRAME, linewidth=1, linestyle="--")
        axis.axvline(low - 0.5, color=FRAME, linewidth=0.8, linestyle=":")
    axes[0].annotate(
        f"rounding tolerance {TOLERANCE:g}",
        (math.log10(TOLERANCE), 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    ticks = [tick for tick in range(0, low - 1, -1) if tick % 3 == 0]
    axes[-1].set_xticks([low - 1.5, *ticks], ["exactly 0", *(f"1e{tick}" if tick else "1" for tick in ticks)])
    axes[-1].set_xlim(low - 2.7, 0.4)
    axes[-1].set_xlabel("exact total variation from the target law")
    extra = [Line2D([], [], color=DEFECT, marker="x", linestyle="none", label="known-wrong")] if wrong else []
    drawing.legend(figure, shown, extra=extra)
    alt = f"Exact total variation of {len(right)} cells of correct decoders"
    alt += f", at most {max(exact_of(c)['tv'] for c in right):.3g}" if right else ""
    alt += (
        f", and of {len(wrong)} known-wrong ones, at least {min(exact_of(c)['tv'] for c in wrong):.3g}" if wrong else ""
    )
    caption = (
        "Each mark is one setting (window, initial drafts or draft model). Left of the dotted line: exactly 0. "
        "Left of the dashed line: within rounding; a report draws none of the decoders there, since its tables have "
        "them."
    )
    return drawing.picture(figure, "exact-tv", "Exact distance from the target law", caption, f"{alt}.")


def beyond_rounding(cells: list[Cell]) -> list[Cell]:
    """Those that a figure of distances is for; of a thousand zeros the tables say that they are zero."""
    return [c for c in cells if c["kind"] == "defect" or (c["exact"] is not None and exact_of(c)["tv"] > TOLERANCE)]


def exact_passes(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Expected forward passes against the window, one panel per toy."""
    cells = [c for c in cells if c["exact"] is not None and c["kind"] == "exact"]
    toys = list(dict.fromkeys(c["model"] for c in cells))
    if not toys:
        return None
    shown_toys = toys[:PANELS]
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
        "models; shades reach up to the most." + left_out(len(toys), "toys")
    )
    alt = (
        f"Expected forward passes against the window on {len(shown_toys)} toys; the fewest are "
        f"{exact_of(best)['passes']:.3g}, by {best['decoder']} on {best['model']}."
    )
    return drawing.picture(figure, "exact-passes", "Exact expected forward passes", caption, alt)
