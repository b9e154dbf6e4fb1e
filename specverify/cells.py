"""Carrying out one cell of a plan: from names to evidence to a verdict, as a plain record.

Everything that a report says about a cell comes out of the dict that `carry_out` returns.
"""

from __future__ import annotations

import time

from specverify.cell import Cell
from specverify.claims import Lossless
from specverify.errors import SpecverifyError
from specverify.kinds import KINDS
from specverify.kinds.kind import Setting, real_of
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import Settings
from specverify.verdict import Kind, Verdict


def carry_out(cell: Cell, setting: Setting) -> Result:
    """Carry out a cell. An exception becomes an ERROR verdict: one broken cell loses nothing of the others."""
    start = time.perf_counter()
    result = _blank(cell, setting)
    try:
        verdict = KINDS[cell.kind].carry_out(cell, setting, result)
    except SpecverifyError as error:
        verdict = Verdict(Kind.ERROR, str(error))
    except Exception as error:  # a campaign goes on; the reason is in the record
        verdict = Verdict(Kind.ERROR, f"{type(error).__name__}: {error}")
    return _ended(result, verdict, time.perf_counter() - start)


def stopped(cell: Cell, reason: str, setting: Setting, seconds: float) -> Result:
    """What a record says of a cell that did not come to an end."""
    return _ended(_blank(cell, setting), Verdict(Kind.ERROR, reason), seconds)


def _ended(result: Result, verdict: Verdict, seconds: float) -> Result:
    return {**result, "verdict": {"kind": verdict.kind.value, "reason": verdict.reason}, "seconds": seconds}


def _blank(cell: Cell, setting: Setting) -> Result:
    """A result, before anything is known but what was asked for."""
    settings: Settings = {
        "window": cell.window,
        "initial": cell.initial,
        "draft": cell.draft,
        "guidance": cell.guidance,
        "batch": cell.batch,
    }
    if cell.kind == "relaxed" or cell.rule is not None:
        settings |= {"rule": cell.rule or "token", "value": cell.value}
    return {
        "id": cell.id,
        "kind": cell.kind,
        "decoder": cell.decoder,
        "claim": str(Lossless()),
        "model": cell.model,
        "settings": settings,
        "expected": Kind.REFUTED.value if KINDS[cell.kind].known_wrong(cell) else None,
        "reproduce": " ".join(_command(cell, setting)),
        "exact": None,
        "evidence": [],
        "run": None,
        "figures": {},
        "verdict": {"kind": Kind.ERROR.value, "reason": "not carried out"},
        "seconds": 0.0,
    }


def _command(cell: Cell, setting: Setting) -> list[str]:
    """What carries out a cell again."""
    real = [] if cell.guidance is None else real_of(cell, setting).words
    device = [] if setting.device == "cpu" else [f"--device {setting.device}"]
    return [f"specverify verify --tier {setting.tier} --seed {setting.seed} --only '{cell.id}'", *real, *device]


def on_device(cell: Cell) -> bool:
    """Whether a cell runs a real model, on the campaign's device; toys stay on the CPU."""
    return KINDS[cell.kind].on_device(cell)


def checks(cell: Cell) -> tuple[str, ...]:
    """The names of a cell's statistical checks, which the campaign's alpha is split over."""
    return KINDS[cell.kind].checks(cell)
