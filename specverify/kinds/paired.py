"""Token for token against plain decoding with the same noise."""

from __future__ import annotations

import numpy as np

import toymodels
from realmodels.images import ImageModel
from specverify.cell import Cell
from specverify.decoders import Autoregressive, Run
from specverify.errors import number_of
from specverify.evidence.tokens import traced
from specverify.kinds import disagreement
from specverify.kinds.kind import (
    CellKind,
    Setting,
    build,
    coverage,
    in_turn,
    of_real_model,
    opened,
    real_of,
    seed_of,
    timed_sample,
    turns,
)
from specverify.model import Model
from specverify.opening import Real
from specverify.report.shape_cells import Cell as Result
from specverify.seeds import BLOCK
from specverify.verdict import Kind, Verdict


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """The same noise, decoded by races one token at a time and by this decoder: the tokens must be the same.

    In float64, so that the rounding of two window shapes does not decide a race.
    """
    real = opened(cell, setting, "float64") if of_real_model(cell) else None
    model: Model = toymodels.toy(cell.model) if real is None else real
    alone = [] if real is None else turns(cell, real)
    run = timed_sample(cell, setting, build(cell, model), model, result, alone)
    one_by_one = [(Autoregressive(shared_noise=True), each) for each in ([one for _, one in alone] or [model])]
    plain = in_turn(cell, setting, one_by_one)
    together = len(run.tokens) if alone else cell.batch or BLOCK
    differing = (plain.tokens != run.tokens).any(1)
    if bool(differing.any()):
        if real is not None:
            _look(cell, setting, real, run, together)
        row = int(differing.nonzero()[0])
        place = int((plain.tokens[row] != run.tokens[row]).nonzero()[0])
        return Verdict(
            Kind.REFUTED,
            f"{int(differing.sum())} of {number_of(len(differing), 'sequence')} differ from plain decoding with the "
            f"same noise; the first at sequence {row}, position {place}: "
            f"{int(run.tokens[row, place])}, not {int(plain.tokens[row, place])}",
        )
    if gap := coverage(run, cell).gap():
        return Verdict(Kind.VACUOUS, gap)
    reason = (
        f"{number_of(len(differing), 'sequence')}, {number_of(run.tokens.numel(), 'token')}: each equals plain "
        "decoding's, in float64"
    )
    beyond = "" if real is None else disagreement.left_out(real, len(differing), together)
    return Verdict(Kind.CONSISTENT, f"{reason}; {beyond}" if beyond else reason)


def _look(cell: Cell, setting: Setting, model: ImageModel, run: Run, batch: int) -> None:
    """Raise ContractError if it is the model whose passes disagree, and not the decoder that is wrong."""
    if not real_of(cell, setting).ships:
        disagreement.seam(real_of(cell, setting), cell.guidance, model, cell.window)
    statistics = traced(model, run.tokens, batch, np.random.default_rng(seed_of(cell, setting, 1)))
    disagreement.look(model, run.tokens, statistics, batch)


def _not_covered(real: Real) -> list[str]:
    """Precisions in which it is not looked whether the same tokens come."""
    return [] if real.dtype == "float64" else [f"whether the same tokens come in {real.dtype}: that is run in float64"]


KIND = CellKind(carry_out, on_device=of_real_model, speaks_of="{}", not_covered=_not_covered)
