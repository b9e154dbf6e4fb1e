"""Known-wrong decoders of ids, which must be refuted: enumerated, or by the statistics of their model."""

from __future__ import annotations

from specverify.cell import Cell
from specverify.kinds import exact, real, sampled
from specverify.kinds.kind import CellKind, Setting, of_real_model
from specverify.report.shape_cells import Cell as Result
from specverify.verdict import Verdict


def checks(cell: Cell) -> tuple[str, ...]:
    """Those of its model, where it is sampled."""
    return () if cell.n is None else _sampled(cell).checks(cell)


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """As a decoder is that claims to be right."""
    return (exact.KIND if cell.n is None else _sampled(cell)).carry_out(cell, setting, result)


def _sampled(cell: Cell) -> CellKind:
    return real.KIND if of_real_model(cell) else sampled.KIND


KIND = CellKind(carry_out, checks, known_wrong=lambda cell: True, on_device=of_real_model)
