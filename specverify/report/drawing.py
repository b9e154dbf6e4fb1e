"""What the figures share: pictures, one colour and marker per decoder, type sizes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from specverify.report.shape import Record
from specverify.report.shape_cells import Cell
from specverify.report.tables import number, plain, settings

WIDTH = 9.0
"""Inches; a report shows 96 pixels to the inch."""
_DENSITY = 1.5
"""Picture pixels per shown pixel."""
_COLOURS = 128
PANELS = 24
"""Most panels of one figure."""
DEFECT = "#882255"
FRAME = "#555555"

# Okabe and Ito's colours, which stay apart for colour-blind readers; markers tell them apart in grey.
_STYLES = {
    "ar": ("#222222", "o"),
    "ar-race": ("#888888", "o"),
    "sd": ("#E69F00", "s"),
    "sd-block": ("#B37400", "d"),
    "sd-multi": ("#F0C04D", "X"),
    "sd-list-gumbel": ("#8C6D1F", "<"),
    "sjd": ("#56B4E9", "^"),
    "sjd-block": ("#3A7CA5", ">"),
    "scd-mc": ("#009E73", "v"),
    "scd-gs": ("#0072B2", "D"),
    "sjd-race": ("#D55E00", "P"),
}
_SPARE = (
    ("#CC79A7", "X"),
    ("#6A3D9A", "H"),
    ("#44AA99", "p"),
    ("#999933", "h"),
    ("#AA4499", "*"),
    ("#117733", "8"),
)


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: file name, without ".png".
        title, caption: what it shows and how to read it.
        alt: what it shows, for those who cannot see it.
        png: the file that a page shows.
        svg: the same as lines and words, for print.
        width: how many pixels wide it is shown.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    svg: bytes
    width: int


@dataclass(frozen=True)
class Style:
    """A decoder's colour and marker."""

    colour: str
    marker: str


def styles(record: Record) -> dict[str, Style]:
    """One style per decoder of ids (defects apart), the same in every figure; known ones have it in every report."""
    others = ("defect", "density", "continuous", "proof")
    found = dict.fromkeys(c["decoder"] for c in record["cells"] if c["kind"] not in others)
    order = [name for name in _STYLES if name in found] + [name for name in found if name not in _STYLES]
    unknown = [name for name in order if name not in _STYLES]
    return {
        name: Style(*(_STYLES[name] if name in _STYLES else _SPARE[unknown.index(name) % len(_SPARE)]))
        for name in order
    }


@contextmanager
def drawing() -> Iterator[None]:
    """Type sizes and frames; names from a record are shown as they are, never as formulas."""
    chosen: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "font.family": "DejaVu Sans",
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FRAME,
        "xtick.color": FRAME,
        "ytick.color": FRAME,
        "xtick.labelcolor": "black",
        "ytick.labelcolor": "black",
        "axes.grid": False,
        "lines.markersize": 4.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "specverify",
    }
    with mpl.rc_context(chosen), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables beside the figure have it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def image(levels: Sequence[int], height: int, width: int, top: int) -> UInt8[np.ndarray, "height width 4"]:
    """Red, green, blue and opacity from 0 to 255, from levels of grey or of one colour behind the other."""
    planes = np.rint(255 * np.reshape(levels, (-1, height, width)) / (top - 1)).astype(np.uint8)
    colours = np.broadcast_to(planes, (3, height, width))
    return np.concatenate([np.moveaxis(colours, 0, -1), np.full((height, width, 1), 255, np.uint8)], -1)


def canvas(height: float) -> Figure:
    """An empty figure of the report's width."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def picture(figure: Figure, name: str, title: str, caption: str, alt: str) -> Picture:
    """Draw a figure; the same figure gives the same bytes."""
    file, vector = io.BytesIO(), io.BytesIO()
    figure.set_dpi(96 * _DENSITY)
    if (layout := figure.get_layout_engine()) is not None:  # found once, for both; saving would draw all to find it
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(file, format="png", dpi=96 * _DENSITY, facecolor="white", metadata={"Software": None})
    figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    small = io.BytesIO()
    with Image.open(file) as drawn:  # a third of the bytes; of all palettes, the one that keeps a lone mark's colour
        palette = drawn.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(small, "png", optimize=True)
    return Picture(name, title, caption, alt, small.getvalue(), vector.getvalue(), round(figure.get_figwidth() * 96))


def legend(figure: Figure, shown: dict[str, Style], lines: bool = False, extra: Sequence[Any] = ()) -> None:
    """The decoders' names above a figure."""
    handles = [
        Line2D([], [], color=s.colour, marker=s.marker, linestyle="-" if lines else "none", label=short(name))
        for name, s in shown.items()
    ]
    handles += extra
    if handles:
        rows = -(-len(handles) // 8)
        figure.legend(handles=handles, loc="outside upper left", ncols=-(-len(handles) // rows), handletextpad=0.4)


def panels(figure: Figure, count: int, columns: int, **share: Any) -> list[Axes]:
    """A grid of axes, without those that would stay empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, **share)
    flat: list[Axes] = list(grid.flat)
    for unused in flat[count:]:
        unused.remove()
    return flat[:count]


def short(text: str, limit: int = 34) -> str:
    """A name that fits beside an axis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def rows(axis: Axes, labels: list[str], title: str) -> None:
    """Names down the side of a figure, first on top, with hairlines between."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_title(title, loc="left")
    axis.tick_params(axis="y", length=0)
    for y in range(1, len(labels)):
        axis.axhline(y - 0.5, color="#EEEEEE", linewidth=0.6, zorder=0)


def where(cell: Cell) -> str:
    """A cell's model and settings."""
    words = settings(cell)
    return plain(cell["model"]) if len(words) < 2 else f"{plain(cell['model'])}, {words}"


def named(cells: Iterable[Cell]) -> str:
    """The end of a sentence: the cells' decoders."""
    names = list(dict.fromkeys(plain(c["decoder"]) for c in cells))
    more = f" and {number(len(names) - 8)} more" if len(names) > 8 else ""
    return f": {', '.join(names[:8])}{more}." if names else "."


def left_out(count: int, what: str, most: int = PANELS) -> str:
    """A note where a figure has no room for all."""
    return f" Shown are the first {most} of {count} {what}; the record has all." if count > most else ""
