"""Plans: which decoder is checked on which model, in which setting and how.

A plan is a list of cells, each small enough to be one unit of work. Its cells, their sizes and the alpha of each of
their checks are fixed before any data are seen. Which cells there are of a kind is in its file in `kinds`.
"""

from __future__ import annotations

import fnmatch

from realmodels import models
from specverify.catalogue import near, near_pattern
from specverify.cell import MORE, REAL, Asked, Cell
from specverify.errors import InputError
from specverify.kinds import KINDS


def plan(tier: str, only: str | None = None, real: str | None = None) -> tuple[Cell, ...]:
    """The cells of a tier, longest kinds first.

    Args:
        tier: "quick" for every change, "full" for a release.
        only: keep cells whose id matches this shell pattern.
        real: the real model, by a name that `open_model` takes; `REAL` if None.

    Raises:
        InputError: for an unknown tier or model, or a pattern that matches nothing.
    """
    if tier not in ("quick", "full"):
        raise InputError(f"unknown tier {tier!r}; choose quick or full")
    real = REAL if real is None else real
    asked = Asked(tier == "full", real, _share(real))
    kinds = sorted(KINDS.values(), key=lambda kind: kind.place)
    cells = tuple(cell for kind in kinds for cell in kind.cells(asked))
    if only is None:
        return cells
    kept = tuple(cell for cell in cells if fnmatch.fnmatchcase(cell.id, only))
    if not kept:
        hint = near_pattern(only, (cell.id for cell in cells), "`specverify list cells` names them")
        raise InputError(f"no cell of the {tier} tier matches {only!r}; {hint}")
    return kept


def _share(real: str) -> float:
    """Images of a real model for one of `REAL`."""
    if real == REAL:
        return 1.0
    known = models.names()
    if real not in known:
        raise InputError(f"unknown image model {real!r}; {near(real, known)}")
    return MORE * models.open_model(REAL).length / models.open_model(real).length
