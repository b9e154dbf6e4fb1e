"""Sequences that are drawn on a real image model, tested and timed."""

from __future__ import annotations

import numpy as np
import torch

from realmodels import images
from realmodels.images import ImageModel
from realmodels.models import open_model
from specverify import sensitivity
from specverify.batteries import traces
from specverify.cell import BETA, DELTA_REAL, Cell
from specverify.decoders import Branch, Run, sample
from specverify.evidence.copies import halves
from specverify.evidence.tokens import traced
from specverify.kinds.kind import CellKind, Setting, alphas_of, build, judged, of_real_model, seed_of, timed_sample
from specverify.report.shape_cells import Accepted, Images
from specverify.report.shape_cells import Cell as Result
from specverify.rules.relaxation import NOTHING
from specverify.seeds import BLOCK
from specverify.verdict import Kind, Verdict

IMAGES = 30
"""Images that a record keeps of each run on a real model; a third of them in colours, which take thrice the room."""


def checks(cell: Cell) -> tuple[str, ...]:
    """All that a trace can be tested by; none of what is timed alone."""
    return () if cell.timed_alone else traces.SAMPLED


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Draw, test the trace, keep some images."""
    model = open_model(cell.model, guidance=cell.guidance or 1.0, device=setting.device)
    decoder = build(cell, model)
    if cell.timed_alone:
        sample(decoder, model, 1, seed_of(cell, setting, 1))  # what the first image costs more is not the decoder's
        timed_sample(cell, setting, decoder, model, result)
        result["claim"] = str(NOTHING)
        return Verdict(Kind.VACUOUS, "timed alone, one image at a time; tested in larger batches")
    run = timed_sample(cell, setting, decoder, model, result)
    generator = np.random.default_rng(seed_of(cell, setting, 1))
    trace = traces.Traced(traced(model, run.tokens, cell.batch or BLOCK, generator), runs=halves(run.tokens))
    evidence = traces.carry_out(trace, alphas_of(cell, checks(cell), setting), BETA)
    result["figures"]["pit"] = {"counts": evidence[0].data["histogram"]}
    result["figures"]["images"] = _images(model, run.tokens[:IMAGES])
    if cell.window is not None:
        result["figures"]["accepted"] = _accepted(model, run)
    verdict = judged(cell, decoder.claim, evidence, run, result, DELTA_REAL[setting.tier])
    if verdict.kind is Kind.CONSISTENT and cell.window is not None and cell.model == sensitivity.MODEL:
        blind = sensitivity.unseen(len(run.tokens), max(e.alpha for e in evidence), BETA)
        return Verdict(verdict.kind, f"{verdict.reason}; {blind}" if blind else verdict.reason)
    return verdict


def _images(model: ImageModel, tokens: torch.Tensor) -> Images:
    pixels, (height, width) = images.levels(model, tokens), model.size
    n = len(pixels) * height * width // pixels.shape[1]
    return {
        "height": height,
        "width": width,
        "levels": model.description.levels,
        "labels": images.labels(model.conditions, n).tolist(),
        "tokens": pixels[:n].tolist(),
    }


def _accepted(model: ImageModel, run: Run) -> Accepted:
    share = (run.branch == Branch.ACCEPTED).double().mean(0).tolist()
    height = model.description.grid[0]
    height = height if len(share) % height == 0 else 1  # tokens behind the image that belong to no row
    return {"height": height, "width": len(share) // height, "share": share}


def _not_covered() -> list[str]:
    return [
        "on real models the target law is what the model's own parallel forward pass gives, in float32; how far that "
        "is from a pass of one token at a time is tested apart (to 1e-5)",
        "position by position and pairwise checks only watch: their own delta, in their rows, is larger",
    ]


KIND = CellKind(carry_out, checks, on_device=of_real_model, speaks_of="{}", not_covered=_not_covered)
