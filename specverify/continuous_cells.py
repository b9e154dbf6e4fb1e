"""Cells over continuous tokens: the density of one step by quadrature, and whole sequences by tests of the sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float

from specverify.batteries import vectors
from specverify.claims import Claim, Lossless
from specverify.continuous_density import CSPD, EXACT, NODES, Pair, overlap, pair
from specverify.decoders import registry
from specverify.decoders.jacobi import Initial
from specverify.decoders.protocol import Decoder
from specverify.defects import continuous as continuous_defects
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.evidence import bounds, quadrature
from specverify.evidence.quadrature import Output
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import transforms
from specverify.laws import ContinuousModel
from specverify.plan import BETA, Cell
from specverify.report.shape_cells import Cell as Result
from specverify.report.shape_cells import Density
from specverify.rules.relaxation import NOTHING
from specverify.verdict import Coverage, Kind, Verdict
from toymodels import continuous, continuous_drafts

TOLERANCE = 1e-6
"""Total variation from p that quadrature may leave to an exact rule."""
SHARED_COVARIANCE = ("shifted", "near", "disjoint", "identical")
"""Draft laws whose transitions share the target's covariances, so that CSpD's Sigma is 1."""
_POINTS = 121


def known_wrong(cell: Cell) -> bool:
    """Whether a cell's decoder or rule must be refuted where it is held to be lossless."""
    if cell.kind == "density":
        return cell.decoder in CSPD and (cell.decoder != "cspd" or cell.draft not in SHARED_COVARIANCE)
    if cell.kind != "continuous":
        return False
    if cell.decoder in continuous_defects.names():
        return continuous_defects.get(cell.decoder).lossy
    return cell.decoder in ("cspd", "cspd-released")


def density(cell: Cell, result: Result) -> Verdict:
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


def build(cell: Cell) -> tuple[ContinuousModel, Decoder]:
    """The toy and the decoder, or the defect, of a cell of kind "continuous"."""
    model = continuous.toy(cell.model)
    settings = registry.Settings(
        window=cell.window or 1,
        draft_model=continuous_drafts.draft(cell.draft, model) if cell.draft else None,
        initial=cast("Initial | None", cell.initial),
    )
    if cell.decoder in continuous_defects.names():
        return model, continuous_defects.get(cell.decoder).build(settings)
    return model, registry.build(cell.decoder, settings)


def checks(cell: Cell) -> tuple[str, ...]:
    """The names of a continuous cell's checks."""
    model = continuous.toy(cell.model)
    names = vectors.names(model.length, model.dim)
    return (*names, "acceptance") if _overlap_is_known(cell) else names


def evidence(
    cell: Cell,
    model: ContinuousModel,
    decoder: Decoder,
    tokens: Float[torch.Tensor, "n length dim"],
    alphas: Mapping[str, float],
    seed: int,
    result: Result,
) -> list[Evidence]:
    """The checks of sampled sequences.

    Args:
        cell, model, decoder: what was sampled from.
        tokens: the sequences.
        alphas: by the names of `checks`.
        seed: for the first drafts, which are drawn apart.
        result: the overlap of the first token is written into it.
    """
    found = list(vectors.carry_out(tokens, transforms(model, tokens), alphas, BETA).values())
    if "acceptance" in alphas:
        assert cell.draft is not None
        common = overlap(model, cell.draft)
        result["figures"]["overlap"] = common
        # Whole trajectories, and steps of them, are kept at most as often as tokens can be.
        bound = bounds.acceptance if cell.decoder in ("sd", "sd-reflection") else bounds.at_most
        kept = _first_drafts_kept(decoder, model, len(tokens), seed)
        found.append(bound(common).check(kept, alpha=alphas["acceptance"], beta=BETA))
    return found


def _overlap_is_known(cell: Cell) -> bool:
    family, size = cell.model.split("-")
    alone = size.startswith("1x")
    return cell.decoder.startswith("sd") and (alone or (cell.draft == "shifted" and family != "mix"))


def _first_drafts_kept(decoder: Decoder, model: ContinuousModel, rows: int, seed: int) -> torch.Tensor:
    """Whether the first draft of each sequence was kept: independent, of one probability."""
    draws = Sampled(seed)
    _, info = decoder.step(decoder.init(model, rows, draws), model, draws)
    return info.accepted > 0
