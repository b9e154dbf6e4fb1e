"""Pictures of a sweep: quality over speed, and sample images at matched seeds.

Here are those of a model of ids, one of each for every drafting, and what those of patches have in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import FRAME, Picture, Style
from specverify.tradeoff import figures_windows, spaces
from specverify.tradeoff.plan import AR, LOSSLESS, REAL
from specverify.tradeoff.shape import Row, Sweep, images_of
from specverify.tradeoff.shown import boldest, groups_of, series_of, swept
from specverify.tradeoff.tables import called, steps

PANELS = {
    "bias": "bias: total variation per token",
    "excess": "excess of bias over gain",
    "surprisal": "surprisal less entropy, nats per token",
    "pit": "Kolmogorov distance of transforms",
    "fd": "{fd} at n = {n:,}",
    "accuracy": "class accuracy",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
STYLES = {
    LOSSLESS: ("#000000", "P"),
    "gsd-static": ("#E69F00", "^"),
    "gsd-clusters": ("#8C6D1F", "v"),
    "gsd": ("#D55E00", "o"),
    "gsd-max": ("#CC3311", "s"),
    "gsd-gap": ("#CC79A7", "d"),
    "gsd-released": ("#882255", "X"),
    "lantern": ("#56B4E9", "o"),
    "lantern++": ("#0072B2", "s"),
    "scaling": ("#009E73", "o"),
    "amplify": ("#44AA99", "p"),
    "cool": ("#117733", "D"),
    "mixture": ("#999933", "s"),
    "typical": ("#AA4499", "*"),
}
READ = (
    "The Frechet distance is one of so many images: it is biased upwards, AR's as well, and only their difference says "
    "something of the laws; its bars show what as many images would give again. Speed-ups in passes are the target's "
    "alone, with rows replaced as they finish; in lock-step, in seconds and with the draft model's passes they stand "
    "in the table of speed."
)
_BAND, _REAL = "#D8D8DE", "#3B6EA5"
_ROUNDING = 1e-5
"""Least height of a panel: figures that differ by less are equal but for rounding."""
_ACROSS = 2
"""Images of each class side by side."""
_CLOSE = 0.1
"""Bias up to which the close-up shows settings: beyond it images are ruined, and the rest would be crowded."""


def figures(record: Sweep) -> list[Picture]:
    """Everything that can be drawn of a sweep."""
    found: list[Picture] = []
    drawn = any(row["images"] is not None for row in record["rows"])
    with drawing.drawing():
        groups = groups_of(record)
        for (guidance, kind), rows in groups.items():
            assert kind is not None
            rows = [row for row in rows if "bias" in row["metrics"]]  # of a large vocabulary some have no price
            if not rows:
                continue
            plain, here = baselines(record, guidance), swept(rows)
            found.append(_trade(record, guidance, kind, here, plain))
            close = [row for row in here if row["metrics"]["bias"]["value"] <= _CLOSE]
            if 1 < len(close) < len(here):
                found.append(_trade(record, guidance, kind, close, plain, close=True))
            if len(here) < len(rows):
                found.append(figures_windows.picture(record, guidance, kind, rows, STYLES))
        for (guidance, kind), rows in groups.items() if drawn else ():
            found.append(samples(record, guidance, kind, swept(rows), baselines(record, guidance)))
    return found


def baselines(record: Sweep, guidance: float) -> list[Row]:
    """The real images and the AR runs that settings of a guidance are compared with."""
    return [
        row
        for row in record["rows"]
        if row["error"] is None and (row["rule"] == REAL or (row["rule"] == AR and row["guidance"] == guidance))
    ]


def quality_over_speed(record: Sweep, rows: list[Row], plain: list[Row], style: dict[str, Style]) -> Figure:
    """A panel for every metric, over the speed-up in passes, a line for every series."""
    shown = [name for name in PANELS if any(name in row["metrics"] for row in rows)]
    distance = f"FD{on}" if (on := spaces.on(record)) else "Frechet distance"
    figure = drawing.canvas(2.35 * -(-len(shown) // 2) + 1.1)
    ends = [end for row in rows for end in row["metrics"]["speedup"]["interval"]]
    low, high = min(ends), max(ends)
    margin = 0.04 * (high - low) or 0.1
    for axis, name in zip(drawing.panels(figure, len(shown), 2), shown, strict=True):
        _band(axis, name, plain)
        for series, sweep in groupby((row for row in rows if name in row["metrics"]), key=series_of):
            _line(axis, name, list(sweep), style[series])
        axis.set_title(PANELS[name].format(fd=distance, n=rows[0]["n"]), loc="left")
        axis.set_xlabel("speed-up in forward passes, rows replaced")
        axis.set_xlim(low - margin, high + margin)
        bottom, top = axis.get_ylim()
        if top - bottom < _ROUNDING:  # nothing but that is to be seen
            axis.set_ylim((bottom + top - _ROUNDING) / 2, (bottom + top + _ROUNDING) / 2)
        axis.grid(True, color="#EEEEEE", linewidth=0.6)
        axis.set_axisbelow(True)
    marks: list[Artist] = [Patch(color=_BAND, label="AR, two runs")]
    if any(row["rule"] == REAL for row in plain):
        marks.append(Line2D([], [], color=_REAL, ls=":", label="real images"))
    legend(figure, style, marks)
    return figure


def legend(figure: Figure, style: dict[str, Style], more: Sequence[Artist]) -> None:
    """The series' names above a figure, and what else is drawn."""
    handles = [
        Line2D([], [], color=one.colour, marker=one.marker, linestyle="none", label=drawing.short(_mark(name)))
        for name, one in style.items()
    ]
    figure.legend(handles=[*handles, *more], loc="outside upper left", ncols=6, handletextpad=0.4)


def _mark(series: str) -> str:
    rule, comma, rest = series.partition(",")
    return called(rule) + comma + rest


def _trade(
    record: Sweep, guidance: float, kind: str, rows: list[Row], plain: list[Row], close: bool = False
) -> Picture:
    style = {rule: Style(*STYLES.get(rule, (FRAME, "d"))) for rule in dict.fromkeys(row["rule"] for row in rows)}
    figure = quality_over_speed(record, rows, plain, style)
    fastest = max(rows, key=lambda row: row["metrics"]["speedup"]["value"])
    caption = (
        "Each line is a rule, its parameter turned up along it; bars are 95% intervals. The band spans the intervals "
        "of two plain autoregressive runs of as many images: what lies in it is not told from noise. "
        f"{'The dotted line is as many real images. ' * any(row['rule'] == REAL for row in plain)}Bias and excess are "
        f"known from the laws of {steps(record)}, and have no noise floor. "
        f"{READ}"
    )
    if close:
        caption = f"As above, for the settings with a bias of at most {_CLOSE:g}."
    alt = (
        f"Quality over speed-up for {number_of(len(style), 'rule')} with {kind} drafting at guidance {guidance:g}; "
        f"the fastest setting, {fastest['id']}, has a speed-up of {fastest['metrics']['speedup']['value']:.3g} and a "
        f"bias of {fastest['metrics']['bias']['value']:.3g} per token."
    )
    title = f"Quality over speed{', close up' * close}: {kind} drafting, guidance {guidance:g}"
    title += f", window {rows[0]['window']}" if rows[0]["window"] is not None else ""
    name = f"tradeoff-{kind}-guidance-{guidance:g}{'-close' * close}"
    return drawing.picture(figure, name, title, caption, alt)


def _line(axis: Axes, name: str, sweep: list[Row], style: Style) -> None:
    x, y = (np.array([row["metrics"][metric]["value"] for row in sweep]) for metric in ("speedup", name))
    across, along = (_bars(sweep, metric) for metric in ("speedup", name))
    star = style.marker == "P"
    axis.errorbar(
        x, y, xerr=across, yerr=along, color=style.colour, marker=style.marker, linewidth=1.0, elinewidth=0.6,
        alpha=0.9, markersize=7 if star else 4.5, zorder=4 if star else 3,
    )  # fmt: skip


def _bars(sweep: list[Row], metric: str) -> np.ndarray:
    """Lengths of error bars, [2, settings]; an interval of a clipped metric may end at its value."""
    found = [row["metrics"][metric] for row in sweep]
    ends = [(one["value"] - one["interval"][0], one["interval"][1] - one["value"]) for one in found]
    return np.array(ends).clip(0).T


def _band(axis: Axes, name: str, plain: list[Row]) -> None:
    runs = [row["metrics"][name] for row in plain if row["rule"] == AR and name in row["metrics"]]
    if runs:
        axis.axhspan(min(one["interval"][0] for one in runs), max(one["interval"][1] for one in runs), color=_BAND)
        for one in runs:
            axis.axhline(one["value"], color="#888888", linewidth=0.6)
    for row in plain:
        if row["rule"] == REAL and name in row["metrics"]:
            axis.axhline(row["metrics"][name]["value"], color=_REAL, linewidth=1.0, linestyle=":")


def samples(record: Sweep, guidance: float, kind: str | None, rows: list[Row], plain: list[Row]) -> Picture:
    """One line of images per rule or decoder, at the boldest end of its sweep."""
    # Real images may not ship with a model, only what was measured of them.
    shown = [row for row in (*plain, *boldest(rows)) if row["images"] is not None]
    size = len(images_of(shown[0])["tokens"][0])
    side = math.isqrt(size)
    side = side if side**2 == size else math.isqrt(size // 3)
    labels = sorted({label for row in shown for label in images_of(row)["labels"]})
    across = max(1, min(_ACROSS, len(images_of(shown[0])["labels"]) // len(labels)))
    step = side + 1
    sheet = np.zeros((len(shown) * step - 1, len(labels) * (across * step + 2) - 3, 4), np.uint8)
    for down, row in enumerate(shown):
        for column, label in enumerate(labels):
            own = [t for t, of in zip(images_of(row)["tokens"], images_of(row)["labels"], strict=True) if of == label]
            for place, tokens in enumerate(own[:across]):
                left = column * (across * step + 2) + place * step
                sheet[down * step :, left:][:side, :side] = drawing.image(tokens, side, side, record["levels"])
    figure = drawing.canvas(6.2 * sheet.shape[0] / sheet.shape[1] + 0.5)
    axis = figure.subplots()
    axis.imshow(sheet, interpolation="nearest")
    axis.set_yticks([down * step + side / 2 for down in range(len(shown))], [_name(row) for row in shown])
    axis.set_xticks(
        [c * (across * step + 2) + across * side / 2 for c in range(len(labels))], [str(label) for label in labels]
    )
    axis.tick_params(length=0)
    axis.xaxis.tick_top()
    axis.set_anchor("E")
    axis.spines[:].set_visible(False)
    caption = (
        "The first images of each class that every setting drew; nothing is picked. All decoders started from the same "
        "seed (the second AR run from another), and each is shown at the boldest end of its sweep, with its "
        "speed-up. A lossless decoder's images are other samples of AR's law, not AR's images."
    )
    which = "" if kind is None else f" with {kind} drafting"
    alt = f"Sample images of each class from {number_of(len(shown), 'setting')}{which} at guidance {guidance:g}."
    title = f"Samples: {'' if kind is None else f'{kind} drafting, '}guidance {guidance:g}"
    title += f", window {rows[0]['window']}" if kind is not None and rows[0]["window"] is not None else ""
    name = "-".join(["samples", *([kind] if kind else []), f"guidance-{guidance:g}"])
    return drawing.picture(figure, name, title, caption, alt)


def _name(row: Row) -> str:
    if row["rule"] == REAL:
        return "real"
    patches = row["drafting"] is None  # of ids, one window is shown
    value = f" window {row['window']}" if patches and row["window"] is not None else ""
    value += f" {row['parameter']} {row['value']:g}" if row["parameter"] else ""
    if row["rule"] == AR:
        value = " " + row["id"].rpartition("/")[2]
    return f"{row['rule']}{value}  {row['metrics']['speedup']['value']:.2f}x"
