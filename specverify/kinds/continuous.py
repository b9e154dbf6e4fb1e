"""Sequences of vectors that are drawn on toys, and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float

from specverify.batteries import vectors
from specverify.cell import BETA, DELTA_CONTINUOUS, Cell
from specverify.claims import Lossless
from specverify.continuous_density import overlap
from specverify.declared import Initial
from specverify.decoders import registry
from specverify.decoders.protocol import Decoder
from specverify.defects import continuous as defects
from specverify.draws import Sampled
from specverify.evidence import bounds
from specverify.evidence.result import Evidence
from specverify.evidence.rosenblatt import transforms
from specverify.kinds.density import not_covered
from specverify.kinds.kind import CellKind, Setting, alphas_of, judged, seed_of, timed_sample
from specverify.laws import ContinuousModel
from specverify.report.shape_cells import Cell as Result
from specverify.verdict import Verdict
from toymodels import continuous, continuous_drafts


def checks(cell: Cell) -> tuple[str, ...]:
    """The names of a continuous cell's checks."""
    model = continuous.toy(cell.model)
    names = vectors.names(model.length, model.dim)
    return (*names, "acceptance") if _overlap_is_known(cell) else names


def known_wrong(cell: Cell) -> bool:
    """Whether a decoder must be refuted where it is held to be lossless."""
    if cell.decoder in defects.names():
        return defects.get(cell.decoder).lossy
    return cell.decoder in ("cspd", "cspd-released")


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Sequences of vectors, tested; what claims nothing is held to be lossless all the same."""
    model, decoder = build(cell)
    run = timed_sample(cell, setting, decoder, model, result)
    seed = seed_of(cell, setting, 1)
    found = evidence(cell, model, decoder, run.tokens, alphas_of(cell, checks(cell), setting), seed, result)
    result["claim"] = str(Lossless())
    return judged(cell, Lossless(), found, run, result, DELTA_CONTINUOUS)


def build(cell: Cell) -> tuple[ContinuousModel, Decoder]:
    """The toy and the decoder, or the defect, of a cell of kind "continuous"."""
    model = continuous.toy(cell.model)
    settings = registry.Settings(
        window=cell.window or 1,
        draft_model=continuous_drafts.draft(cell.draft, model) if cell.draft else None,
        initial=cast("Initial | None", cell.initial),
    )
    if cell.decoder in defects.names():
        return model, defects.get(cell.decoder).build(settings)
    return model, registry.build(cell.decoder, settings)


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


KIND = CellKind(carry_out, checks, known_wrong, speaks_of="{} (continuous)", not_covered=not_covered)
