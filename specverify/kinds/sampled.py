"""Statistics of sequences that are drawn on toys, whose laws are known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

import toymodels
from specverify.batteries import counts
from specverify.cell import BETA, DELTA, Cell
from specverify.evidence.copies import halves
from specverify.evidence.discrete import sequence_counts
from specverify.evidence.sequences import target_law
from specverify.kinds.kind import CellKind, Setting, alphas_of, build, judged, seed_of, timed_sample
from specverify.report.shape_cells import Cell as Result
from specverify.seeds import BLOCK
from specverify.verdict import Verdict


def checks(cell: Cell) -> tuple[str, ...]:
    """All of the list."""
    return counts.NAMES


def carry_out(cell: Cell, setting: Setting, result: Result) -> Verdict:
    """Draw, count and test."""
    model = toymodels.toy(cell.model)
    decoder = build(cell, model)
    target = target_law(model).numpy()
    run = timed_sample(cell, setting, decoder, model, result)
    blocks = [sequence_counts(part, model.vocab) for part in run.tokens.split(BLOCK)]
    sampled = counts.Counted(
        total=np.sum(blocks, axis=0),
        looks=list(_looks(run.tokens, model.vocab)),
        calls=np.stack([block for block in blocks if block.sum() == BLOCK]),
        runs=halves(run.tokens),
    )
    generator = np.random.default_rng(seed_of(cell, setting, 1))
    evidence = counts.carry_out(target, model.vocab, sampled, alphas_of(cell, counts.NAMES, setting), BETA, generator)
    bets = next(item for item in evidence if item.check == "e-process")
    result["figures"]["e_process"] = {
        "n": bets.data["n"],
        "log10_e": [value / math.log(10) for value in bets.data["log_e"]],
        "threshold": -math.log10(bets.alpha),
    }
    asked = {check: DELTA[check] for check in ("joint law (g)", "total variation", "e-process")}
    return judged(cell, decoder.claim, evidence, run, result, asked)


def _looks(tokens: torch.Tensor, vocab: int) -> Iterator[np.ndarray]:
    """Counts of 64 sequences, then of a fifth more than so far at each look: a wrong sampler is soon seen to be."""
    seen, size = 0, 64
    while seen < len(tokens):
        yield sequence_counts(tokens[seen : seen + size], vocab)
        seen, size = seen + size, max(64, (seen + size) // 5)


KIND = CellKind(carry_out, checks, speaks_of="{}")
