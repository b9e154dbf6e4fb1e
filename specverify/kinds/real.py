"""Sequences that are drawn on a real image model, tested and timed."""

from __future__ import annotations

import numpy as np
import torch

from realmodels import images
from realmodels.images import LARGEST, ImageModel
from specverify import sensitivity
from specverify.batteries import traces
from specverify.cell import BETA, DELTA_REAL, Cell
from specverify.conformance import tolerance_of
from specverify.decoders import Branch, Decoder, Run, sample
from specverify.errors import ContractError
from specverify.evidence.as_judged import Apart, AsJudged
from specverify.evidence.copies import halves
from specverify.evidence.ids import Groups
from specverify.evidence.tokens import TokenStatistics, traced
from specverify.kinds import disagreement
from specverify.kinds.kind import (
    CellKind,
    Setting,
    alphas_of,
    build,
    judged,
    of_real_model,
    opened,
    real_of,
    seed_of,
    timed_sample,
    turns,
)
from specverify.opening import Real
from specverify.report.shape_cells import Accepted, Images
from specverify.report.shape_cells import Cell as Result
from specverify.rules.relaxation import NOTHING
from specverify.seeds import BLOCK
from specverify.verdict import Kind, Verdict

HALF = (torch.float16, torch.bfloat16)
"""Types of weights under which the laws of a window and of single tokens differ by more than the checks are to see."""
IMAGES = 30
"""Images that a record keeps of each run on a real model; a third of them in colours, which take thrice the room."""


def checks(cell: Cell) -> tuple[str, ...]:
    """All that a trace can be tested by; none of what is timed alone."""
    return () if cell.timed_alone else traces.SAMPLED


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Draw, test the trace, keep some images."""
    model = opened(cell, setting)
    decoder = build(cell, model)
    if cell.timed_alone:
        sample(decoder, model, 1, seed_of(cell, setting, 1))  # what the first image costs more is not the decoder's
        run = timed_sample(cell, setting, decoder, model, result, turns(cell, model))
        result["claim"] = str(NOTHING)
        n, many = len(run.tokens), len(model.conditions)
        few = f"; these are of the first {n} of {many} conditions" if n < many else ""
        return Verdict(Kind.VACUOUS, f"timed alone, one image at a time; tested in larger batches{few}")
    half = model.precision in HALF
    own = not (half or real_of(cell, setting).ships)
    seam = disagreement.seam(real_of(cell, setting), cell.guidance, model, cell.window) if own else ""
    run = timed_sample(cell, setting, decoder, model, result)
    generator = np.random.default_rng(seed_of(cell, setting, 1))
    if half:
        run, statistics, groups, apart = _again(cell, setting, model, decoder, generator)
        result["figures"]["apart"] = {
            "mean": apart.mean,
            "largest": apart.largest,
            "laws": apart.laws,
            "sequences": apart.rows,
        }
        seam = _words(apart)
    else:
        groups = Groups(run.tokens, model.vocab)
        statistics = traced(model, run.tokens, cell.batch or BLOCK, generator, groups)
    trace = traces.Traced(statistics, runs=halves(run.tokens), groups=groups)
    evidence = traces.carry_out(trace, alphas_of(cell, checks(cell), setting), BETA)
    result["figures"]["pit"] = {"counts": evidence[0].data["histogram"]}
    if (shown := _images(model, run.tokens[:IMAGES], cell.batch or BLOCK)) is not None:
        result["figures"]["images"] = shown
    if cell.window is not None:
        result["figures"]["accepted"] = _accepted(model, run)
    verdict = judged(cell, decoder.claim, evidence, run, result, DELTA_REAL[setting.tier])
    if verdict.kind is Kind.REFUTED and own:
        disagreement.look(model, run.tokens, statistics, cell.batch or BLOCK)
    if verdict.kind is Kind.CONSISTENT and half and apart.mean > evidence[0].delta:
        return Verdict(
            Kind.INCONCLUSIVE,
            f"{seam}; that is more than the {evidence[0].delta:.3g} that {evidence[0].check} sees: hold the model "
            "against specverify.conformance in float32",
        )
    more = []
    if verdict.kind is Kind.CONSISTENT:
        more.append(disagreement.left_out(model, len(run.tokens), cell.batch or BLOCK))
        if cell.window is not None and cell.model == sensitivity.MODEL:
            more.append(sensitivity.unseen(len(run.tokens), max(e.alpha for e in evidence), BETA))
    elif verdict.kind is Kind.INCONCLUSIVE and setting.tier == "quick":
        more.append("--tier full draws more images")
    return Verdict(verdict.kind, "; ".join(filter(None, (verdict.reason, *more, seam))))


def _again(
    cell: Cell, setting: Setting, model: ImageModel, decoder: Decoder, generator: np.random.Generator
) -> tuple[Run, TokenStatistics, Groups, Apart]:
    """The same run once more, out of time: its tokens under the laws that judged them, and what these laws are worth.

    Raises:
        ContractError: if they are farther from those of single tokens than rounding carries them.
    """
    assert cell.n is not None
    noting = AsJudged(decoder, model, cell.n, generator)
    run = sample(noting, model, cell.n, seed_of(cell, setting), cell.batch or BLOCK)
    apart, most = noting.apart(run.tokens), tolerance_of(model)
    every = model.conditions
    alone = [
        noting.apart(run.tokens, model.like(conditions=[one]), every.index(one), len(every))
        for one in images.unlike(every[: min(noting.kept, len(every))], disagreement.CONDITIONS)
    ]
    if (worst := max(apart, *alone)).mean > most:
        raise ContractError(
            f"the laws that judged tokens differ from those of single tokens by {worst}; rounding to {model.precision} "
            f"carries them {most:g} on average at most: hold the model against specverify.conformance"
        )
    return run, noting.statistics(), noting.groups, apart


def _words(apart: Apart) -> str:
    return (
        f"tokens are held against the laws of the passes that judged them, which differ from those of single tokens by "
        f"{apart}: nothing finer than that is said of plain decoding"
    )


def _images(model: ImageModel, tokens: torch.Tensor, batch: int) -> Images | None:
    """Some images, large ones in little; None of codes that nothing here makes pixels of.

    Args:
        model: theirs.
        tokens: of the first images.
        batch: of those that were decoded together.
    """
    shrunk = min(1.0, LARGEST / max(model.size))
    height, width = (max(1, round(shrunk * side)) for side in model.size)
    if (pixels := images.thumbnails(model, tokens, (height, width))) is None:
        return None
    n = len(pixels) * height * width // pixels.shape[1]
    return {
        "height": height,
        "width": width,
        "levels": model.description.levels,
        "labels": images.labels(model.conditions, n, batch).tolist(),
        "tokens": pixels[:n].tolist(),
    }


def _accepted(model: ImageModel, run: Run) -> Accepted:
    share = (run.branch == Branch.ACCEPTED).double().mean(0).tolist()
    height = model.description.grid[0]
    height = height if len(share) % height == 0 else 1  # tokens behind the image that belong to no row
    return {"height": height, "width": len(share) // height, "share": share}


def _not_covered(real: Real) -> list[str]:
    apart = "tested apart (to 1e-5)" if real.ships else "measured at some positions, as its verdicts say"
    half = getattr(torch, real.dtype) in HALF
    gives = "the passes that judged its tokens give" if half else "the model's own parallel forward pass gives"
    notes = [
        f"on real models the target law is what {gives}, in {real.dtype}; how far that is from a pass of one token at "
        f"a time is {apart}",
        "position by position and pairwise checks only watch: their own delta, in their rows, is larger",
    ]
    if real.conditions is not None:
        notes.append(f"other classes or prompts of {real.label} than the {len(real.conditions)} that were given")
    if real.processors:
        notes.append(
            f"a token at a threshold of {real.processors}, which rounding may keep in one pass and cut in another"
        )
    if real.label != sensitivity.MODEL:
        notes.append(
            f"which slips would not show on so many images of {real.label}: that is known of {sensitivity.MODEL} alone"
        )
    return notes


KIND = CellKind(carry_out, checks, on_device=of_real_model, speaks_of="{}", not_covered=_not_covered)
