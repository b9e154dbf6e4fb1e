"""What tests the testers: the kill matrix, a picture for each level, and the calibration."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

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
_LINE, _PAGE = 0.155, 64
"""Inches of one line of the calibration, and most rows of one picture, but for a check that has more."""
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
    """Counted rates with their intervals beside the stated ones, on one logarithmic axis, by check."""
    groups: dict[str, list[Rates]] = {}
    for row in rows:
        groups.setdefault(row["check"], []).append(row)
    pages: list[list[Rates]] = []
    for found in groups.values():
        if not pages or len(pages[-1]) + len(found) > _PAGE:
            pages.append([])
        pages[-1] += found
    seen = [x for row in rows for x in (row["stated"], row["interval"][1], _rate(row)) if x > 0]
    limits = (min(seen, default=1) / 3, max(1.0, *seen, 1.0) * 1.4)
    return [_page(page, limits, place if len(pages) > 1 else 0) for place, page in enumerate(pages, 1)]


def _page(rows: list[Rates], limits: tuple[float, float], place: int) -> Picture:
    groups: dict[tuple[str, str], list[Rates]] = {}
    for row in rows:
        groups.setdefault((row["check"], row["what"]), []).append(row)
    figure = drawing.canvas(_LINE * (len(rows) + len(groups)) + 0.9)
    (axis,) = drawing.panels(figure, 1, 1)
    labels: list[str] = []
    for (check, what), found in groups.items():
        if labels:
            axis.axhline(len(labels) - 0.5, color="#DDDDDD", linewidth=0.7, zorder=0)
        labels.append(plain(f"{check}: {what}"))
        for row in found:
            _counted(axis, len(labels), row, limits[0])
            labels.append(drawing.short(plain(row["on"]), 80))
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(*limits)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_yticks(range(len(labels)), labels, fontsize=6.5)
    axis.tick_params(axis="y", length=0, pad=7)
    heads = {plain(f"{check}: {what}") for check, what in groups}
    for tick, words in zip(axis.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if words in heads else "normal")
    axis.set_xlabel("rate")
    failing = [row for row in rows if not row["holds"]]
    axis.plot([], [], "|", color="black", markersize=9, markeredgewidth=1.4, label="stated rate")
    axis.plot([], [], "o-", color=_HOLDS, markersize=3.6, label="counted rate, 99% interval")
    axis.plot([], [], "<", color=_HOLDS, markersize=3.6, label="none counted")
    if failing:
        axis.plot([], [], "o-", color=_FAILS, markersize=3.6, label="does not hold")
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.5)
    caption = (
        "Each row counts how often a check rejected a perfect sampler (false alarms) or let a wrong one pass (misses). "
        "The counted rate may not lie right of the black tick beyond chance. At the right: events of trials."
    )
    names = ", ".join(dict.fromkeys(plain(row["check"]) for row in failing))
    checks = list(dict.fromkeys(plain(row["check"]) for row in rows))
    alt = (
        f"Counted against stated error rates in {len(rows)} rows of {len(checks)} checks; {len(failing)} do not hold"
        f"{': ' + names if failing else ''}."
    )
    some = f", {checks[0]}" + (f" to {checks[-1]}" if len(checks) > 1 else "") if place else ""
    title = f"Calibration: counted and stated error rates{some}"
    return drawing.picture(figure, f"calibration-{place}" if place else "calibration", title, caption, alt)


def _counted(axis: Axes, y: int, row: Rates, least: float) -> None:
    """A row's interval, rate and stated rate, and at the right its counts."""
    colour, rate = _HOLDS if row["holds"] else _FAILS, _rate(row)
    ends = [max(end, least) for end in row["interval"]]
    axis.plot(ends, [y, y], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
    axis.plot(max(rate, least), y, "o" if rate else "<", color=colour, markersize=3.6, clip_on=False, zorder=3)
    axis.plot(row["stated"], y, "|", color="black", markersize=9, markeredgewidth=1.4, zorder=4)
    axis.annotate(
        f"{row['events']:,} of {row['trials']:,}" + ("" if row["holds"] else ": does not hold"),
        (1.01, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=6.5,
        color="black" if row["holds"] else _FAILS,
        fontweight="normal" if row["holds"] else "bold",
    )


def _rate(row: Rates) -> float:
    return row["events"] / row["trials"]
