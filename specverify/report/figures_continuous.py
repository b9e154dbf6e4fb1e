"""Output densities over continuous tokens beside the target's."""

from __future__ import annotations

from matplotlib.lines import Line2D

from specverify.report import drawing
from specverify.report.drawing import DEFECT, PANELS, Picture, left_out
from specverify.report.shape_cells import Cell
from specverify.report.tables import number, plain

_SHOWN = {"last-step": "last-step, an exact rule", "cspd": "CSpD as published", "cspd-released": "CSpD as released"}


def densities(cells: list[Cell]) -> Picture | None:
    """A row for each pair of laws, a panel for each rule: target, draft, and the density of what comes out."""
    drawn = {(c["decoder"], c["model"], c["settings"]["draft"]): c for c in cells if "density" in c["figures"]}
    pairs = dict.fromkeys(key[1:] for key in drawn if key[0] in _SHOWN)
    rows = [pair for pair in pairs if sum((rule, *pair) in drawn for rule in _SHOWN) > 1]
    if not rows:
        return None
    # Pairs with all three first: there the rules can be compared.
    rows.sort(key=lambda pair: -sum((rule, *pair) in drawn for rule in _SHOWN))
    few = rows[: PANELS // len(_SHOWN)]
    figure = drawing.canvas(2.1 * len(few) + 0.6)
    grid = figure.subplots(len(few), len(_SHOWN), squeeze=False, sharex="row", sharey="row")
    told = []
    for axes, pair in zip(grid, few, strict=True):
        for axis, rule in zip(axes, _SHOWN, strict=True):
            if (rule, *pair) not in drawn:
                axis.set_axis_off()
                continue
            found = drawn[rule, *pair]["figures"]["density"]
            axis.fill_between(found["x"], found["p"], color="#DDDDDD", linewidth=0)
            colour = DEFECT if found["tv"] > found["error"] + 1e-6 else "#0072B2"
            axis.plot(found["x"], found["out"], color=colour, linewidth=1.5)
            axis.plot(found["x"], found["q"], color="black", linewidth=1, linestyle=":")
            tv = number(found["tv"], 2)
            told.append(f"{plain(rule)} on {plain(pair[0])} {plain(pair[1])} {tv}")
            axis.set_title(f"{_SHOWN[rule]}: TV {tv}\n{plain(pair[0])}, draft {plain(pair[1])}", loc="left")
            axis.set_ylim(bottom=0)
            axis.set_yticks([])
    for axis in grid[-1]:
        axis.set_xlabel("token")
    handles = [
        Line2D([], [], color="#DDDDDD", linewidth=6, label="target"),
        Line2D([], [], color="black", linestyle=":", label="draft"),
        Line2D([], [], color="#0072B2", label="output, exact"),
        Line2D([], [], color=DEFECT, label="output, biased"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    caption = (
        "The grey area is the target's density, the line the output's: where they part, the rule is biased; where the "
        "line lies on the dots, nearly every draft is kept. Mass that a cap puts on the zero vector is not drawn."
        + left_out(len(rows), "pairs")
    )
    alt = f"Densities of one token; total variation from the target: {'; '.join(told)}."
    return drawing.picture(figure, "densities", "What comes out, over continuous tokens", caption, alt)
