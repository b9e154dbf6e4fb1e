"""Known-wrong decoders of ids, which must be refuted: enumerated, or by the statistics of their model."""

from __future__ import annotations

import math

from specverify import defects
from specverify.cell import REAL_IMAGES, Asked, Cell
from specverify.kinds import exact, real, sampled
from specverify.kinds.kind import CellKind, Setting, of_real_model
from specverify.report.shape_cells import Cell as Result
from specverify.verdict import Verdict


def cells(asked: Asked) -> list[Cell]:
    """Every known-wrong decoder enumerated; some of them sampled, so that the statistics are seen to reject too."""
    wrong = [defects.get(name) for name in defects.names() if defects.get(name).lossy]
    found = [Cell("defect", defect.id, *defect.smallest) for defect in wrong]
    sampled = ("recovered-from-target", "stale-scores-after-coupling", "bonus-from-draft", "inverted-ratio")
    found += [Cell("defect", name, *defects.get(name).smallest, n=200_000) for name in sampled]
    shown = {"residual-rewarped": 1600} | ({"stale-scores-after-coupling": REAL_IMAGES["full"]} if asked.full else {})
    for name, n in shown.items():
        n = math.ceil(n * asked.share)
        found.append(Cell("defect", name, asked.real, 16, "repeat-left", guidance=1.0, n=n, batch=400))
    return found


def checks(cell: Cell) -> tuple[str, ...]:
    """Those of its model, where it is sampled."""
    return () if cell.n is None else _sampled(cell).checks(cell)


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """As a decoder is that claims to be right."""
    return (exact.KIND if cell.n is None else _sampled(cell)).carry_out(cell, setting, result)


def _sampled(cell: Cell) -> CellKind:
    return real.KIND if of_real_model(cell) else sampled.KIND


KIND = CellKind(80, cells, carry_out, checks, known_wrong=lambda cell: True, on_device=of_real_model)
