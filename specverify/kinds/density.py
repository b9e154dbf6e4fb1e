"""The output density of one continuous token, by quadrature: exact rules, and CSpD's criterion."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from specverify.cell import Cell
from specverify.claims import Claim, Lossless
from specverify.continuous_density import CSPD, EXACT, NODES, Pair, pair
from specverify.errors import InputError
from specverify.evidence import quadrature
from specverify.evidence.quadrature import Output
from specverify.judge import Coverage
from specverify.kinds.kind import CellKind, Setting
from specverify.opening import Real
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import Density
from specverify.rules.relaxation import NOTHING
from specverify.verdict import Kind, Verdict

TOLERANCE = 1e-6
"""Total variation from p that quadrature may leave to an exact rule."""
SHARED_COVARIANCE = ("shifted", "near", "disjoint", "identical")
"""Draft laws whose transitions share the target's covariances, so that CSpD's Sigma is 1."""
_POINTS = 121


def known_wrong(cell: Cell) -> bool:
    """Whether a rule must be refuted where it is held to be lossless."""
    return cell.decoder in CSPD and (cell.decoder != "cspd" or cell.draft not in SHARED_COVARIANCE)


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """How far one step's token is from p, and whether that is as claimed; CSpD, where wrong, is held to lossless."""
    rule = {**EXACT, **CSPD}[cell.decoder]
    claim: Claim = NOTHING if cell.decoder in CSPD and not known_wrong(cell) else Lossless()
    assert cell.draft is not None
    on = pair(cell.model, cell.draft)
    coarse = pair(cell.model, cell.draft, quadrature.ORDER // 2)
    found = rule(on, NODES)
    found = replace(found, error=abs(found.tv - rule(coarse, NODES * 3 // 4).tv))
    common = quadrature.overlap(on.on, on.log_p, on.log_q)
    result["claim"] = str(claim)
    drawn = {
        "tv": found.tv,
        "error": found.error,
        "accepted": min(1.0, found.accepted),
        "overlap": min(1.0, common),
        "atom": found.atom,
        **_curves(on, found),
    }
    result["figures"]["density"] = cast("Density", drawn)
    return judge_density(claim, found, common)


def judge_density(claim: Claim, found: Output, overlap: float) -> Verdict:
    """The verdict on one step whose output density is known up to `found.error`."""
    if not abs(found.mass - 1) <= TOLERANCE:
        raise InputError(f"the step's output has mass {found.mass:.8g}; its quadrature is too coarse")
    tv = f"exact TV {found.tv:.3g} from p (quadrature {found.error:.1g})"
    if claim == NOTHING:
        return Verdict(Kind.VACUOUS, f"the rule claims nothing; {tv}: Sigma is 1 for these laws")
    if found.tv - found.error > TOLERANCE:
        rates = f"keeps {found.accepted:.4g} of drafts, where p and q have {overlap:.4g} in common"
        return Verdict(Kind.REFUTED, f"{tv}, where lossless allows {TOLERANCE:g}; {rates}")
    if found.tv + found.error > TOLERANCE:
        return Verdict(Kind.INCONCLUSIVE, f"{tv} is too coarse for {TOLERANCE:g}")
    if gap := Coverage(True, 1.0, found.accepted, 1 - found.accepted).gap():
        return Verdict(Kind.VACUOUS, gap)
    return Verdict(Kind.PROVED, tv)


def _curves(pair: Pair, found: Output) -> dict[str, list[float]]:
    """Densities where they matter, for a picture."""
    x = found.x
    q = np.exp(pair.log_q(x))
    mass = np.cumsum((found.p + q) * found.line.weight) / 2
    low, high = x[np.searchsorted(mass, [5e-4, 1 - 5e-4])]
    grid = np.linspace(low, high, _POINTS)
    shown = {"x": grid} | {
        name: np.interp(grid, x, y) for name, y in (("p", found.p), ("q", q), ("out", np.maximum(found.out, 0)))
    }
    return {name: [float(f"{value:.5g}") for value in values] for name, values in shown.items()}


def not_covered(real: Real) -> list[str]:
    """Of all cells over continuous tokens."""
    return [
        f"over continuous tokens a proof is of one token in one dimension, to {TOLERANCE:g}, and of diffusion heads "
        "with two steps, since each further step is one more integral; of sequences, of more dimensions and of longer "
        "heads there are tests; all on toys, none on a real model of continuous tokens"
    ]


KIND = CellKind(carry_out, known_wrong=known_wrong, speaks_of="{} rule (continuous)", not_covered=not_covered)
