"""What tests the testers: the calibration. The kill matrix is a table."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import Picture
from specverify.report.shape_testers import Rates
from specverify.report.tables import plain

_TOP = 6.0
"""Largest share of a stated rate that the calibration shows."""
_HOLDS, _FAILS = "#0072B2", "#D55E00"


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
        f"Counted against stated error rates in {number_of(len(rows), 'row')} of {number_of(checks, 'check')}; "
        f"{len(failing)} do not hold{': ' + wrong if failing else ''}."
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
