"""Sequences of vectors that are drawn on toys, and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float

from specverify.batteries import vectors
from specverify.cell import BETA, DELTA_CONTINUOUS, Asked, Cell
from specverify.claims import Lossless
from specverify.continuous_density import overlap
from specverify.decoders import registry
from specverify.decoders.jacobi import Initial
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

BESIDE = (
    ("sd", "gauss-1x6", "shifted"),
    ("sd-reflection", "gauss-1x6", "shifted"),
    ("ar", "full-2x4", None),
    ("sd", "mix-2x4", "narrower"),
    ("sd-reflection", "full-2x4", "shifted"),
    ("sd", "full-8x4", "wider"),
    ("sd-steps", "chain-8x3", "shifted"),
    ("jacobi-noise", "gauss-8x4", None),
    ("sd-reflection", "gauss-16x4", "shifted"),
    ("jacobi-maximal", "gauss-16x4", None),
    # Only where a law's covariance does not depend on the tokens before can Jacobi decoding reflect its drafts.
    ("jacobi-reflection", "equal-1x6", None),
    ("jacobi-reflection", "equal-4x4", None),
    ("jacobi-reflection", "equal-16x4", None),
)
"""Decoders of continuous tokens that are checked on more toys than the smallest in the quick tier."""


def cells(asked: Asked) -> list[Cell]:
    """Every decoder of continuous tokens on a toy of one dimension, and some on more; all on all for a release.

    The known-wrong ones come first, where they show, and their control.
    """
    values = 1_000_000 if asked.full else 360_000
    toys = {"heads": ("chain",), "gaussian": ("gauss", "full", "equal")}
    chosen: list[tuple[str, str, str | None]] = []
    for name in registry.names("vectors"):
        entry = registry.entry(name)
        families = toys.get(entry.vectors or "any", ("gauss", "full", "mix", "chain", "equal"))
        models = [model for model in continuous.names() if model.split("-")[0] in families]
        drafts: tuple[str | None, ...] = ("wider", "narrower", "shifted") if asked.full else ("wider",)
        if not entry.needs_draft_model:
            drafts = (None,)
        elif name.startswith("cspd"):
            # As published it is exact where drafts are shifted, and in 16 dimensions where they are narrower: Sigma is
            # then next to 0, no draft is kept, and when all proposals have failed the target's last step is drawn.
            drafts, models = drafts[:2], [model for model in models if "16x" not in model]
        chosen += [(name, model, draft) for model in (models if asked.full else models[:1]) for draft in drafts]
    chosen += [] if asked.full else BESIDE
    known: list[tuple[str, str, int | None, str | None]] = [
        (name, *defects.get(name).smallest) for name in defects.names()
    ]
    known += [(name, model, None if name == "ar" else 3, draft) for name, model, draft in chosen]
    wrong = {"cspd", "cspd-released"} | {defect.id for defect in defects.DEFECTS}
    found = []
    for name, model, window, draft in known:
        dim, length = (int(part) for part in model.split("-")[1].split("x"))
        n = -(-values // (dim * length)) // (10 if name in wrong else 1)
        found.append(Cell("continuous", name, model, window, draft=draft, n=n))
    return found


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


KIND = CellKind(90, cells, carry_out, checks, known_wrong, speaks_of="{} (continuous)", not_covered=not_covered)
