"""Pictures of a sweep of decoders on a model of patches: quality over speed, time over passes, and sample images."""

from __future__ import annotations

import math
from itertools import groupby

from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from specverify.report import drawing
from specverify.report.drawing import FRAME, Picture, Style
from specverify.tradeoff.clock import Pace, pace
from specverify.tradeoff.figures import READ, baselines, legend, quality_over_speed, samples
from specverify.tradeoff.shape import Row, Sweep, Timed
from specverify.tradeoff.shown import groups_of, series_of
from specverify.tradeoff.tables_patches import overlaps

_STYLES = {
    "sd": ("#E69F00", "s"),
    "sd, limit": ("#8C6D1F", "v"),
    "sd-path": ("#E69F00", "s"),
    "sd-steps": ("#009E73", "o"),
    "sd-last": ("#0072B2", "D"),
    "jacobi": ("#56B4E9", "^"),
    "jacobi-maximal": ("#009E73", "v"),
    "jacobi-path": ("#56B4E9", "^"),
    "jacobi-noise-path": ("#6A3D9A", "h"),
    "jacobi-steps": ("#44AA99", "p"),
    "jacobi-last": ("#3A7CA5", ">"),
    "cspd": ("#D55E00", "X"),
    "cspd, temperature": ("#CC79A7", "X"),
    "cspd, sigma-power": ("#882255", "*"),
    "cspd, prefill": ("#AA4499", "d"),
    "cspd-released": ("#222222", "P"),
    "cspd-released, prefill": ("#888888", "P"),
}
"""Of the series, whatever else is shown."""


def figures(record: Sweep) -> list[Picture]:
    """Everything that can be drawn of a sweep."""
    found: list[Picture] = []
    with drawing.drawing():
        for (guidance, _), rows in groups_of(record).items():
            plain = baselines(record, guidance)
            names = dict.fromkeys(series_of(row) for row in rows)
            style = {name: Style(*_STYLES.get(name, (FRAME, "d"))) for name in names}
            found.append(_trade(record, guidance, rows, plain, style))
            close = [row for row in rows if overlaps(row, plain, "fd")]
            if 1 < len(close) < len(rows):
                shown = {name: style[name] for name in dict.fromkeys(series_of(row) for row in close)}
                found.append(_trade(record, guidance, close, plain, shown, close=True))
            found.append(_times(record, guidance, rows, style))
            found.append(samples(record, guidance, None, rows, plain))
    return found


def _trade(
    record: Sweep,
    guidance: float,
    rows: list[Row],
    plain: list[Row],
    style: dict[str, Style],
    close: bool = False,
) -> Picture:
    figure = quality_over_speed(record, rows, plain, style)
    fastest = max(rows, key=lambda row: row["metrics"]["speedup"]["value"])
    caption = (
        "Each line is a decoder over its windows, or over what else it is set to at one window; bars are 95% "
        "intervals. The band spans the intervals of two plain autoregressive runs of as many images: what lies in it "
        "is not told from noise. The dotted line is as many images of the training set. Bias is shown where it was "
        f"measured; CSpD's is a bound. {READ}"
    )
    if close:
        caption = "As above, for the settings whose interval of the Frechet distance meets that of an AR run."
    which = "decoders, close up," if close else "decoders"
    alt = (
        f"Quality over speed-up of {which} at guidance {guidance:g}; the fastest setting, {fastest['id']}, has a "
        f"speed-up of {fastest['metrics']['speedup']['value']:.3g} in passes and a Frechet distance of "
        f"{fastest['metrics']['fd']['value']:.3g} at n = {fastest['n']:,}."
    )
    name = f"tradeoff-guidance-{guidance:g}{'-close' * close}"
    title = f"Quality over speed{', close up' * close}: guidance {guidance:g}"
    return drawing.picture(figure, name, title, caption, alt)


def _times(record: Sweep, guidance: float, rows: list[Row], style: dict[str, Style]) -> Picture:
    """What a speed-up in passes is worth in seconds."""
    figure, grey = drawing.canvas(3.9), "#888888"
    panels: dict[Timed, str] = {"seconds_per_image": "in a batch", "seconds_alone": "one image alone"}
    best: dict[str, float] = {}
    ends = [1.0, max(row["metrics"]["speedup"]["value"] for row in rows)]
    for axis, (what, title) in zip(drawing.panels(figure, 2, 2, sharex=True), panels.items(), strict=True):
        axis.plot(ends, ends, color=grey, linewidth=0.8, linestyle=":")
        axis.axhline(1, color=grey, linewidth=0.6)
        for series, sweep in groupby(rows, key=series_of):
            own = list(sweep)
            x, paces = [row["metrics"]["speedup"]["value"] for row in own], [pace(record, row, what) for row in own]
            gains = [math.nan if one is None else one.value for one in paces]
            axis.errorbar(
                x, gains, yerr=_bars(paces), color=style[series].colour, linewidth=1.0,
                marker=style[series].marker, elinewidth=0.6,
            )  # fmt: skip
            best[what] = max(best.get(what, 0.0), *gains)
        axis.set_title(f"speed-up in time, {title}", loc="left")
        axis.set_xlabel("speed-up in forward passes, rows replaced")
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.grid(True, color="#EEEEEE", linewidth=0.6)
        axis.set_axisbelow(True)
    legend(
        figure,
        style,
        [Line2D([], [], color=grey, linestyle=":", label="time as passes"), Line2D([], [], color=grey, label="AR")],
    )
    caption = (
        "AR's time over each setting's, of target and draft model together: processor time of a thread on a CPU, wall "
        "time on a GPU; bars are 95% intervals, from what runs of one decoder and window differ by. Below 1 a "
        "decoder takes longer than AR, however few its passes: every pass runs the head at all positions of the "
        "window, and drafts are made one by one."
    )
    alt = (
        f"Speed-up in time over speed-up in forward passes at guidance {guidance:g}; the best in a batch is "
        f"{best['seconds_per_image']:.2g}, for one image alone {best['seconds_alone']:.2g}."
    )
    title = f"What passes are worth in time: guidance {guidance:g}"
    return drawing.picture(figure, f"times-guidance-{guidance:g}", title, caption, alt)


def _bars(paces: list[Pace | None]) -> list[list[float]]:
    """Lengths of error bars, [2, settings]; none where there is no interval."""
    ends = [(0.0, 0.0, 0.0) if one is None else (one.value, *(one.within or (one.value, one.value))) for one in paces]
    return [[value - low for value, low, _ in ends], [high - value for value, _, high in ends]]
