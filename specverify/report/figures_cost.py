"""What decoding cost: forward passes and acceptance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from specverify.errors import number_of
from specverify.report import drawing
from specverify.report.drawing import FRAME, PANELS, Picture, Style, left_out, where
from specverify.report.shape_cells import Cell, Run, run_of
from specverify.report.tables import distinct, interval
from specverify.report.tables_cost import one_at_a_time

BATCH = 64
"""Rows in lock-step that are shown."""
_LETTER = 0.062
"""Inches of a letter of a small text, on average."""


def real_cost(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Forward passes and acceptance on real models, with intervals."""
    cells = [c for c in cells if c["kind"] == "real" and c["run"] is not None and c["settings"]["batch"] != 1]
    if not cells:
        return None
    cells = sorted(cells, key=lambda c: (c["model"], c["settings"]["guidance"] or 0))
    figure = drawing.canvas(0.27 * len(cells) + 0.9)
    left, right = drawing.panels(figure, 2, 2, sharey=True, gridspec_kw={"width_ratios": (1.5, 1)})
    worst = max(1.0, *(run_of(c)["passes_interval"][1] for c in cells))
    names, common = distinct(cells)
    names = [drawing.short(name, 50) for name in names]
    inches = 0.6 * (drawing.WIDTH - 0.4 - _LETTER * max(map(len, names)))
    whole = max(1.75 * worst, *(_room(run_of(c), inches) for c in cells))
    for y, c in enumerate(cells):
        run, style = run_of(c), known[c["decoder"]]
        _interval(left, y, float(run["passes_mean"]), run["passes_interval"], style, _passes(run))
        left.text(whole, y, _faster(run), va="center", ha="right", fontsize=8)
        if (rate := run["acceptance_rate"]) is None:
            right.text(0.01, y, "no drafts", va="center", fontsize=8, color=FRAME)
        else:
            _interval(
                right,
                y,
                float(rate),
                run["acceptance_interval"],
                style,
                f"{rate:.3f}{interval(run['acceptance_interval'], 3)}",
            )
    drawing.rows(left, names, "")
    left.set_xlim(0, whole)
    left.set_xticks([tick for tick in left.get_xticks() if tick <= 1.05 * worst])
    left.set_title("forward passes per sequence", loc="left")
    left.set_title("step compression / in lock-step, time", loc="right")
    right.set_xlim(0, 1.45)
    right.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    right.tick_params(left=False)
    right.set_title("acceptance rate", loc="left")
    for y in range(1, len(cells)):
        if (cells[y]["model"], cells[y]["settings"]["guidance"]) != (
            cells[y - 1]["model"],
            cells[y - 1]["settings"]["guidance"],
        ):
            for axis in (left, right):
                axis.axhline(y - 0.5, color="#CCCCCC", linewidth=0.8)
    best = max(cells, key=lambda c: run_of(c)["step_compression"])
    caption = (
        "Means with their 95% intervals in brackets. Step compression: forward passes of autoregressive decoding over "
        "the decoder's, where rows are replaced as they finish, and where 64 rows wait for the slowest of them; then "
        "the time of one sequence in its batch. A draft model's passes, which come on top, are in the table of decoded "
        f"sequences. All: {common}."
    )
    alt = (
        f"Forward passes and acceptance rates of {number_of(len(cells), 'cell')}; the highest step compression is "
        f"{run_of(best)['step_compression']:.3g}, by {best['decoder']} ({where(best)})."
    )
    return drawing.picture(figure, "real-cost", "Cost on real image models", caption, alt)


def _room(run: Run, inches: float) -> float:
    """The end of an axis of so many inches on which a run's two texts stand side by side behind its interval."""
    words = _LETTER * (len(_passes(run)) + len(_faster(run)) + 4)
    return float(run["passes_interval"][1] / max(0.1, 1 - words / inches))


def _passes(run: Run) -> str:
    return f"{run['passes_mean']:.4g}{interval(run['passes_interval'])}"


def _faster(run: Run) -> str:
    together = next((one for one in run.get("lock_step", []) if one["batch"] == BATCH), None)
    words = f"{run['step_compression']:.3g}x"
    words += "" if together is None else f" / {together['speedup']:.3g}x"
    return f"{words}, {1000 * run['seconds'] / run['n']:.2g} ms"


def latency(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """Passes and seconds of one image at a time, beside plain decoding."""
    pairs = list(one_at_a_time(cells))
    if not pairs:
        return None
    shown = [c for c, _ in pairs]
    figure = drawing.canvas(0.27 * len(shown) + 0.9)
    left, right = drawing.panels(figure, 2, 2, sharey=True)
    names, common = distinct(shown)
    measures: tuple[tuple[Axes, str, Callable[[Cell], float]], ...] = (
        (left, "forward passes per image", lambda c: float(run_of(c)["passes_mean"])),
        (right, "seconds per image", lambda c: float(run_of(c)["seconds"] / run_of(c)["n"])),
    )
    for axis, title, each in measures:
        worst = max(map(each, shown))
        for y, (c, plain) in enumerate(pairs):
            axis.barh(y, each(c), height=0.55, color=known[c["decoder"]].colour)
            times = "" if plain is None or plain is c else f", {each(plain) / each(c):.3g}x"
            axis.annotate(
                f"{each(c):.3g}{times}", (each(c), y), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        drawing.rows(axis, [drawing.short(name, 50) for name in names], title)
        axis.set_xlim(0, 1.35 * worst)
    right.tick_params(left=False)
    caption = (
        "One image at a time. Behind each bar, how many times fewer passes, or seconds, than plain decoding took in "
        f"the same run. All: {common}."
    )
    alt = f"Forward passes and seconds of one image at a time, for {number_of(len(shown), 'cell')}."
    return drawing.picture(figure, "latency", "What one image costs", caption, alt)


def passes_histograms(cells: list[Cell], known: dict[str, Style]) -> Picture | None:
    """How many forward passes sequences took, one panel per model and guidance."""
    cells = [c for c in cells if c["kind"] not in ("defect", "continuous") and c["settings"]["batch"] != 1]
    cells = [c for c in cells if sum(c["figures"].get("passes", {}).get("counts", [])) > 0]
    groups: dict[str, list[Cell]] = {}
    for c in cells:
        guidance = c["settings"]["guidance"]
        groups.setdefault(c["model"] + (f", guidance {guidance:g}" if guidance is not None else ""), []).append(c)
    if not groups:
        return None
    shown = list(groups.items())[:PANELS]
    figure = drawing.canvas(2.3 * -(-len(shown) // 2) + 0.6)
    for axis, (title, group) in zip(drawing.panels(figure, len(shown), 2), shown, strict=True):
        for c in group:
            values, counts = (np.asarray(c["figures"]["passes"][key]) for key in ("values", "counts"))
            order, style = values.argsort(), known[c["decoder"]]
            if np.count_nonzero(counts) == 1:
                axis.axvline(values[counts > 0][0], color=style.colour, linestyle="--", linewidth=1.2)
                continue
            few = style.marker if len(values) < 25 else ""
            axis.plot(
                values[order], counts[order] / counts.sum(), color=style.colour, marker=few, markersize=3, linewidth=1.2
            )
        axis.set_title(drawing.short(title, 50))
        axis.set_xlim(0, 1.05 * max(1, *(max(c["figures"]["passes"]["values"]) for c in group)))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("forward passes")
    figure.supylabel("share of sequences", fontsize=9)
    drawing.legend(
        figure, {name: s for name, s in known.items() if any(c["decoder"] == name for c in cells)}, lines=True
    )
    caption = "Dashed: always as many. Several lines of one colour differ in window or drafts." + left_out(
        len(groups), "models"
    )
    alt = (
        f"Distributions of the forward passes per sequence, for {number_of(len(cells), 'cell')} on "
        f"{number_of(len(groups), 'model')}."
    )
    return drawing.picture(figure, "passes", "How many forward passes a sequence takes", caption, alt)


def acceptance_maps(cells: list[Cell], _: dict[str, Style]) -> Picture | None:
    """Where in the image drafts are accepted, one panel per decoder and setting."""
    cells = [c for c in cells if "accepted" in c["figures"]]
    if not cells:
        return None
    shown = sorted(cells, key=lambda c: (c["model"], c["settings"]["guidance"] or 0))[:PANELS]
    names, common = distinct(shown)
    across = min(3, len(shown))
    figure = drawing.canvas(3.1 * -(-len(shown) // across) + 0.4)
    drawn = None
    axes = drawing.panels(figure, len(shown), across)
    for axis, name, c in zip(axes, names, shown, strict=True):
        plane = c["figures"]["accepted"]
        values = np.asarray(plane["share"]).reshape(plane["height"], plane["width"])
        drawn = axis.imshow(values, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
        axis.set_title(drawing.short(name, 40))
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(f"{values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}")
    assert drawn is not None
    figure.colorbar(drawn, ax=list(axes), label="share accepted", fraction=0.04)
    caption = (
        "Each field is a token of the image, in raster order from the upper left: the share of images whose token "
        f"there was an accepted draft; the others were drawn from the target or a residual. All: {common}."
        + left_out(len(cells), "cells")
    )
    shares = [share for c in shown for share in c["figures"]["accepted"]["share"]]
    ends = f"from {min(shares):.2f} to {max(shares):.2f}"
    alt = f"Maps of the share of accepted drafts, cell by cell ({len(shown)}), {ends}."
    return drawing.picture(figure, "accepted", "Where in the image drafts are accepted", caption, alt)


def _interval(axis: Axes, y: int, middle: float, ends: list[Any] | None, style: Style, words: str) -> None:
    if ends is not None:
        axis.plot(ends, [y, y], color=style.colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
    axis.plot(middle, y, style.marker, color=style.colour, markersize=3.5)
    axis.annotate(words, (ends[1] if ends else middle, y), (7, 0), textcoords="offset points", va="center", fontsize=8)
