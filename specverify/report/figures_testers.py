"""What tests the testers: the kill matrix, a picture for each level, and the calibration."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from specverify.report import drawing
from specverify.report.drawing import Picture
from specverify.report.shape_testers import KillMatrix, Rates, Trial
from specverify.report.tables import number, plain
from specverify.report.testers import sound

_WRONG = ("#D55E00", "not as it must be")
_STYLES = {
    # outcome, named: colour and what the legend says
    ("caught", True): ("#5FBF9F", "caught, as it must"),
    ("caught", False): ("#C4E6DA", "caught besides"),
    ("missed", False): ("#EEEEEE", "missed, as may be"),
    ("not flagged", False): ("#A9D3EC", "control, not flagged"),
    ("not applicable", False): ("white", "not applicable"),
}
_HEIGHT = 0.165
"""Inches of one row."""
_ROWS = 24
"""From how many rows on a level is drawn in two columns."""
_SHARE, _NARROWEST, _WIDEST = 0.56, 0.07, 0.22
"""Share of a column's width for names, unless checkers are so many that they need it; least and most for one."""
_TOP = 6.0
"""Largest share of a stated rate that the calibration shows."""
_HOLDS, _FAILS = "#0072B2", "#D55E00"


Group = dict[str, dict[str, Trial]]
"""Trials of a category, by subject and checker."""


def kill_matrix(matrix: KillMatrix) -> list[Picture]:
    """One picture for each level: a coloured field for each subject and checker, by category."""
    levels = dict.fromkeys(row["level"] for row in matrix["rows"])
    return [_level(level, [row for row in matrix["rows"] if row["level"] == level]) for level in levels]


def _level(level: str, rows: list[Trial]) -> Picture:
    checkers = list(dict.fromkeys(row["checker"] for row in rows))
    groups: dict[str, Group] = {}
    for row in sorted(rows, key=lambda row: not row["lossy"]):  # controls last
        category = row["category"] if row["lossy"] else "controls"
        groups.setdefault(category, {}).setdefault(row["defect"], {})[row["checker"]] = row
    columns = _columns(groups)
    height = max(sum(len(found) + 1 for _, found in column) for column in columns)
    figure = drawing.canvas(_HEIGHT * (height + 5) + 0.35)
    for axis, column in zip(drawing.panels(figure, len(columns), len(columns)), columns, strict=True):
        _matrix(axis, column, checkers, height)
    wrong = [row for row in rows if not sound(row)]
    kinds = dict.fromkeys((row["outcome"], row["named"]) for row in rows if sound(row))
    entries = [_STYLES[kind] for kind in _STYLES if kind in kinds] + ([_WRONG] if wrong else [])
    figure.legend(
        handles=[Patch(facecolor=colour, edgecolor="#999999", linewidth=0.5, label=words) for colour, words in entries],
        loc="outside upper left",
        ncols=len(entries),
        handlelength=1.2,
    )
    subjects = len({row["defect"] for row in rows})
    caption = (
        "Each row is a subject that is known to be wrong, or a control, each column a checker. In the fields: the "
        "largest exact total variation (TV), or the samples (n) of the check that rejected most strongly; one without "
        "figures was settled before, such as by a broken contract."
    )
    names = ", ".join(dict.fromkeys(plain(row["defect"]) for row in wrong))
    alt = (
        f"Kill matrix of {subjects} subjects of level {level} and {len(checkers)} checkers; "
        f"{len(wrong)} fields are not as they must be{': ' + names if wrong else ''}."
    )
    return drawing.picture(figure, f"kill-matrix-{level}", f"Kill matrix: {level}", caption, alt)


def _columns(groups: dict[str, Group]) -> list[list[tuple[str, Group]]]:
    """The categories, in two columns of about the same height where they are many."""
    items = list(groups.items())
    whole = sum(len(found) + 1 for _, found in items)
    if whole <= _ROWS or len(items) == 1:
        return [items]
    sizes = [sum(len(found) + 1 for _, found in items[:cut]) for cut in range(len(items) + 1)]
    cut = min(range(1, len(items)), key=lambda cut: max(sizes[cut], whole - sizes[cut]))
    return [items[:cut], items[cut:]]


def _matrix(axis: Axes, groups: list[tuple[str, Group]], checkers: list[str], height: int) -> None:
    names = min(_SHARE, 1 - _NARROWEST * len(checkers))
    width = min((1 - names) / len(checkers), _WIDEST)
    y = 0
    for category, found in groups:
        axis.text(0, y + 0.55, category, va="center", fontsize=8, fontweight="bold")
        y += 1
        for name, by in found.items():
            axis.text(names - 0.012, y + 0.5, drawing.short(plain(name), 38), va="center", ha="right", fontsize=7)
            for place, checker in enumerate(checkers):
                if (row := by.get(checker)) is None:
                    continue
                colour = _STYLES[row["outcome"], row["named"]][0] if sound(row) else _WRONG[0]
                corner = (names + place * width, y + 0.04)
                axis.add_patch(
                    Rectangle(corner, width * 0.97, 0.92, facecolor=colour, edgecolor="#BBBBBB", linewidth=0.4)
                )
                axis.text(
                    *(corner[0] + width * 0.485, y + 0.52, _figure(row)),
                    va="center",
                    ha="center",
                    fontsize=6.3,
                    color="black" if sound(row) else "white",
                    fontweight="normal" if sound(row) else "bold",
                )
            y += 1
    for place, checker in enumerate(checkers):
        axis.text(names + (place + 0.485) * width, -0.2, plain(checker), ha="center", va="bottom", fontsize=7)
    axis.set_xlim(0, 1)
    axis.set_ylim(height, -1.2)
    axis.axis("off")


def _figure(row: Trial) -> str:
    if not sound(row):
        return row["outcome"]
    if row["outcome"] == "not applicable":
        return ""
    if row["tv"] is not None and row["tv"] > 1e-12:
        return f"TV {number(row['tv'], 2)}"
    return "" if row["n"] is None else f"n {number(row['n'])}"


def calibration(rows: list[Rates]) -> list[Picture]:
    """Every counted rate as a share of the stated one, with its interval, in order."""
    groups: dict[str, list[Rates]] = {}
    for row in sorted(rows, key=lambda row: (_rate(row) / row["stated"], row["interval"][1] / row["stated"])):
        groups.setdefault(row["what"], []).append(row)
    if not rows:
        return []
    names = sorted(groups, key=lambda what: -len(groups[what]))
    top = min(_TOP, 1.1 * max(row["interval"][1] / row["stated"] for row in rows))
    figure = drawing.canvas(3.4)
    widths = [max(len(groups[what]), len(rows) / 5) for what in names]
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True, gridspec_kw={"width_ratios": widths})[0]
    for axis, what in zip(axes, names, strict=True):
        _rates(axis, groups[what], top)
        axis.set_title(f"{plain(what)}: {len(groups[what])}", loc="left")
    axes[0].set_ylabel("counted / stated rate, 99% interval")
    axes[0].set_ylim(0, top)
    failing = [row for row in rows if not row["holds"]]
    figure.legend(handles=_legend(bool(failing)), loc="outside upper left", ncols=3, handletextpad=0.5)
    caption = (
        "Each mark counts how often a check rejected a perfect sampler (false alarms) or passed a wrong one (misses), "
        "as a share of the rate that it states. No interval may lie wholly above the line; many marks lie at nothing, "
        "since most stated rates are bounds. The table names each, with its events and trials."
    )
    wrong = ", ".join(dict.fromkeys(plain(row["check"]) for row in failing))
    checks = len({row["check"] for row in rows})
    alt = (
        f"Counted against stated error rates in {len(rows)} rows of {checks} checks; {len(failing)} do not hold"
        f"{': ' + wrong if failing else ''}."
    )
    return [drawing.picture(figure, "calibration", "Calibration: counted and stated error rates", caption, alt)]


def _legend(failing: bool) -> list[Line2D]:
    marks = [(_HOLDS, "counted rate")] + ([(_FAILS, "does not hold")] if failing else [])
    entries = [Line2D([], [], color=colour, marker="o", markersize=3, label=words) for colour, words in marks]
    return [*entries, Line2D([], [], color="black", linewidth=0.9, label="as stated")]


def _rates(axis: Axes, rows: list[Rates], top: float) -> None:
    """Shares of the stated rates, the smallest first; what does not hold is named."""
    axis.axhline(1, color="black", linewidth=0.9, zorder=1)
    for x, row in enumerate(rows):
        colour = _HOLDS if row["holds"] else _FAILS
        low, high, share = (end / row["stated"] for end in (*row["interval"], _rate(row)))
        axis.plot([x, x], [low, min(high, top)], color=colour, linewidth=1.2, alpha=0.4, zorder=2)
        axis.plot(x, min(share, top), "o", color=colour, markersize=2.6, zorder=3, clip_on=False)
        if not row["holds"]:
            words = drawing.short(plain(row["check"]), 24)
            at = (x, min(share, 0.97 * top))
            axis.annotate(
                words, at, (-2, 3), textcoords="offset points", ha="right", va="bottom", fontsize=8, color=_FAILS
            )
    axis.set_xlim(-1, len(rows))
    axis.set_xticks([])


def _rate(row: Rates) -> float:
    return row["events"] / row["trials"]
