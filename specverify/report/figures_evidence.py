"""What the statistical checks saw: e-processes and probability integral transforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from scipy import stats

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import DEFECT, FRAME, PANELS, Picture, Style, left_out, named
from specverify.report.shape_cells import Cell
from specverify.report.tables import distinct


def e_processes(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Evidence against the target law as samples come in."""
    cells = [c for c in cells if "e_process" in c["figures"]]
    groups = [
        (title, group)
        for title, group in (
            ("decoders", [c for c in cells if c["kind"] != "defect"]),
            ("known-wrong decoders", [c for c in cells if c["kind"] == "defect"]),
        )
        if group
    ]
    if not groups:
        return None
    figure = drawing.canvas(3.5)
    axes = drawing.panels(figure, len(groups), 2, sharey=True)
    thresholds = sorted({c["figures"]["e_process"]["threshold"] for c in cells})
    bend = max(1.0, *thresholds)
    extremes = [value for c in cells for value in _finite(c["figures"]["e_process"]["log10_e"], bend)]
    for axis, (title, group) in zip(axes, groups, strict=True):
        for c in group:
            path = c["figures"]["e_process"]
            style = known.get(c["decoder"]) if c["kind"] != "defect" else None
            axis.plot(
                path["n"],
                _finite(path["log10_e"], 100 * max(extremes)),
                color=style.colour if style else DEFECT,
                linewidth=1.2,
                alpha=0.8,
                marker=style.marker if style else "x",
                markevery=max(1, len(path["n"]) // 6),
            )
        for threshold in thresholds:
            axis.axhline(threshold, color=FRAME, linestyle="--", linewidth=1)
        sizes = [n for c in group for n in c["figures"]["e_process"]["n"] if n > 0]
        if sizes and max(sizes) > 50 * min(sizes):
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.6g}"))
        axis.set_title(title)
        axis.set_xlabel("samples")
        axis.set_yscale("symlog", linthresh=bend, linscale=1.5)
        axis.set_ylim(min(-0.3 * bend, 1.3 * min(extremes)), max(1.5 * bend, 2 * max(extremes)))
    far = [10**k for k in range(1, 7) if 10**k > 1.5 * bend]
    ticks = [*(-t for t in reversed(far)), -bend, 0, bend, *far]
    low, high = axes[0].get_ylim()
    axes[0].set_yticks(
        [t for t in ticks if low <= t <= high], [f"{t:.3g}" for t in ticks if low <= t <= high], minor=False
    )
    axes[0].yaxis.set_minor_locator(MaxNLocator(1))
    axes[0].set_ylabel("log10 of the e-value")
    shown = {name: s for name, s in known.items() if any(c["decoder"] == name for c in groups[0][1])}
    extra = [Line2D([], [], color=FRAME, linestyle="--", label="rejection threshold")]
    if len(groups) > 1 or groups[0][0] != "decoders":
        extra.append(Line2D([], [], color=DEFECT, marker="x", label="known-wrong"))
    drawing.legend(figure, shown, lines=True, extra=extra)
    crossed = [
        c
        for c in cells
        if max(_finite(c["figures"]["e_process"]["log10_e"], math.inf)) >= c["figures"]["e_process"]["threshold"]
    ]
    caption = (
        "Each line is one cell. An e-value is evidence against the target law that may be looked at after every "
        f"sample; above the dashed line the claim is rejected. The axis is linear up to {bend:.3g} and logarithmic "
        "beyond; a line that leaves the top saw an impossible outcome."
    )
    alt = f"{len(cells)} e-processes; {len(crossed)} cross the threshold" + named(crossed)
    return drawing.picture(figure, "e-processes", "Evidence as samples come in", caption, alt)


def pit_histograms(cells: list[Cell], alpha: float) -> Picture | None:
    """Probability integral transforms against the uniform law, with the band that all bins keep to."""
    cells = [c for c in cells if sum(c["figures"].get("pit", {}).get("counts", [])) > 0]
    shown = cells[:PANELS]
    if not shown:
        return None
    figure = drawing.canvas(1.75 * -(-len(shown) // 4) + 0.5)
    axes = drawing.panels(figure, len(shown), 4, sharex=True)
    outside = []
    names, common = distinct(shown)
    for axis, c, name in zip(axes, shown, names, strict=True):
        counts = np.asarray(c["figures"]["pit"]["counts"])
        bins, n = len(counts), int(counts.sum())
        share = min(max(alpha, 1e-300), 1.0) / (2 * bins)
        law = stats.binom(n, 1 / bins)
        low, high = law.ppf(share) * bins / n, law.isf(share) * bins / n
        ratio, edges = counts * bins / n, np.linspace(0, 1, bins + 1)
        axis.axhspan(low, high, color="#DDDDDD", linewidth=0)
        axis.axhline(1, color=FRAME, linewidth=0.8, linestyle=":")
        axis.stairs(ratio, edges, color="#0072B2", linewidth=1.3, baseline=None)
        bad = (ratio < low) | (ratio > high)
        axis.plot((edges[:-1] + edges[1:])[bad] / 2, ratio[bad], "X", color="#D55E00", markersize=4)
        outside += [c] if bad.any() else []
        reach = 1.35 * max(1 - low, high - 1, abs(ratio - 1).max())
        axis.set_ylim(max(0, 1 - reach), 1 + reach)
        axis.set_title(drawing.short(name), fontsize=8)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    figure.supylabel("count / uniform", fontsize=9)
    caption = (
        "A correct decoder gives a flat line, up to noise. Grey: the band that any bin of a correct decoder's "
        f"panel leaves with probability at most {alpha:.3g}. Crosses: bins outside. Scales differ between panels. "
        f"All: {common}." + left_out(len(cells), "histograms")
    )
    alt = (
        f"{number_of(len(shown), 'histogram')} of probability integral transforms; {len(outside)} leave the band"
        + named(outside)
    )
    return drawing.picture(figure, "pit", "Probability integral transforms", caption, alt)


def _finite(values: list[Any], far: float) -> list[float]:
    """Numbers as they are; an infinite one becomes `far`, or -`far`."""
    return [math.copysign(far, float(v["number"])) if isinstance(v, dict) else float(v) for v in values]
