"""A picture of a sweep over several windows: what a longer one is worth in passes and seconds, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from specverify.report import drawing
from specverify.report.drawing import FRAME, Picture
from specverify.tradeoff.clock import pace
from specverify.tradeoff.shape import Row, Sweep, Timed
from specverify.tradeoff.shown import swept
from specverify.tradeoff.tables import called, value_of

_TIMES: dict[str, Timed] = {
    "speed-up in time, in a batch": "seconds_per_image",
    "speed-up in time, one image alone": "seconds_alone",
}
_PANELS = {"speed-up in forward passes": "speedup", "bias: total variation per token": "bias", **_TIMES}


def picture(
    record: Sweep, guidance: float, kind: str, rows: list[Row], styles: Mapping[str, tuple[str, str]]
) -> Picture:
    """A panel for passes, bias and seconds, over the windows, a line for every rule at one value of its parameter."""
    kept = {(row["rule"], row["value"]) for row in rows if row["window"] != swept(rows)[0]["window"]}
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["window"] or 0):
        if (row["rule"], row["value"]) in kept:
            lines.setdefault(_label(row), []).append(row)
    figure = drawing.canvas(5.8)
    windows = sorted({row["window"] or 0 for row in rows})
    for axis, title in zip(drawing.panels(figure, len(_PANELS), 2), _PANELS, strict=True):
        for label, own in lines.items():
            colour, marker = styles.get(own[0]["rule"], (FRAME, "d"))
            y = [_value(record, row, title) for row in own]
            axis.plot([row["window"] or 0 for row in own], y, color=colour, marker=marker, linewidth=1.0, label=label)
        if _PANELS[title] != "bias":
            axis.axhline(1, color="#888888", linewidth=0.6)
        axis.set_title(title, loc="left")
        axis.set_xlabel("window, drafts per forward pass")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(windows))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.grid(True, color="#EEEEEE", linewidth=0.6)
        axis.set_axisbelow(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, [drawing.short(label) for label in labels], loc="outside upper left", ncols=3)
    best = {_PANELS[title]: max(_known(record, rows, title), default=math.nan) for title in _PANELS}
    caption = (
        "Each line is a rule at one value of its parameter. A longer window takes fewer passes, each of them over more "
        "positions; in seconds that pays as long as a pass costs no more for them. The grey line is plain decoding."
    )
    alt = (
        f"Speed over windows of {', '.join(map(str, windows))} with {kind} drafting at guidance {guidance:g}; the best "
        f"is {best['speedup']:.3g} in passes, {best['seconds_per_image']:.2g} in time in a batch and "
        f"{best['seconds_alone']:.2g} alone."
    )
    title = f"What a window is worth: {kind} drafting, guidance {guidance:g}"
    return drawing.picture(figure, f"windows-{kind}-guidance-{guidance:g}", title, caption, alt)


def _label(row: Row) -> str:
    return called(row["rule"]) + (f", {row['parameter']} {row['value']:g}" if row["parameter"] else "")


def _known(record: Sweep, rows: list[Row], title: str) -> list[float]:
    return [value for row in rows if not math.isnan(value := _value(record, row, title))]


def _value(record: Sweep, row: Row, title: str) -> float:
    """Of a panel: a metric, or AR's time over the row's."""
    if title not in _TIMES:
        return value_of(row, _PANELS[title])
    found = pace(record, row, _TIMES[title])
    return math.nan if found is None else found.value
