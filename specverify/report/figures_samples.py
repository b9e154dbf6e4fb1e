"""Decoded images side by side: autoregressive decoding beside every other decoder, label by label."""

from __future__ import annotations

import numpy as np

from specverify.report import drawing
from specverify.report.drawing import Picture
from specverify.report.shape_cells import Cell, Images
from specverify.report.tables import plain, settings

_COLUMNS = 10
_DEEP = 4


def samples(cells: list[Cell]) -> list[Picture]:
    """One figure for each model and guidance: a panel per decoder, a column per label.

    Panels show the same number of images of each label, the first ones that were drawn; nothing is picked.
    """
    groups: dict[tuple[str, float | None], list[Cell]] = {}
    for cell in cells:
        if "images" in cell["figures"] and cell["kind"] != "defect":
            groups.setdefault((cell["model"], cell["settings"]["guidance"]), []).append(cell)
    return [p for number, (key, group) in enumerate(groups.items(), 1) if (p := _grid(number, *key, group)) is not None]


def _grid(number: int, model: str, guidance: float | None, cells: list[Cell]) -> Picture | None:
    cells = sorted(cells, key=lambda c: c["decoder"] != "ar")
    found = [_by_label(c["figures"]["images"]) for c in cells]
    labels = sorted(set.intersection(*(set(images) for images in found)))[:_COLUMNS]
    if not labels:
        return None
    deep = min(_DEEP, min(len(images[label]) for images in found for label in labels))
    shape = cells[0]["figures"]["images"]
    across = min(2, len(cells))
    rows = -(-len(cells) // across)
    width = (drawing.WIDTH - 0.4) / across
    figure = drawing.canvas(rows * (width * deep * shape["height"] / (len(labels) * shape["width"]) + 0.5) + 0.1)
    for axis, cell, images in zip(drawing.panels(figure, len(cells), across), cells, found, strict=True):
        levels = cell["figures"]["images"]["levels"]
        high, wide = cell["figures"]["images"]["height"], cell["figures"]["images"]["width"]
        sheet = np.zeros((deep * (high + 1) - 1, len(labels) * (wide + 1) - 1, 4), np.uint8)
        for column, label in enumerate(labels):
            for row in range(deep):
                image = drawing.image(images[label][row], high, wide, levels)
                sheet[row * (high + 1) :, column * (wide + 1) :][:high, :wide] = image
        axis.imshow(sheet, interpolation="nearest")
        centres = [column * (wide + 1) + (wide - 1) / 2 for column in range(len(labels))]
        axis.set_xticks(centres, [str(label) for label in labels])
        axis.set_yticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        words = ", ".join(
            part for part in settings(cell).split(", ") if not part.startswith(("guidance", "batch", "–"))
        )
        axis.set_title(
            drawing.short(plain(f"{cell['decoder']} ({words})" if words else cell["decoder"]), 54), loc="left"
        )
    where = plain(model) + (f", guidance {guidance:g}" if guidance is not None else "")
    caption = (
        f"The first {deep} images of each label that each decoder drew on {where}. Under a lossless decoder they have "
        "the law of the autoregressive ones; they are other samples of it, not the same images."
    )
    names = ", ".join(dict.fromkeys(plain(c["decoder"]) for c in cells))
    alt = f"Sample images on {where}, {deep} for each of the labels {labels[0]} to {labels[-1]}, from {names}."
    return drawing.picture(figure, f"samples-{number}", f"Samples: {where}", caption, alt)


def _by_label(images: Images) -> dict[int, list[list[int]]]:
    found: dict[int, list[list[int]]] = {}
    for label, tokens in zip(images["labels"], images["tokens"], strict=True):
        found.setdefault(label, []).append(tokens)
    return found
