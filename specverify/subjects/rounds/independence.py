"""Are the rows of a batch, and the calls with one generator, independent of each other?

Each row may have the right law, and still be a copy of another: of a stream that rows share, or that starts again at
every call. Batches of rows that are given the same drafts show the copies, and how often each outcome comes in a batch
varies too much or too little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from specverify import tree
from specverify.batteries import calls
from specverify.evidence.result import Evidence
from specverify.seeds import derived_seed
from specverify.subjects.rounds.contexts import build
from specverify.subjects.rounds.contract import sample_round
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round

NAMES = calls.of("independence")
CALLS, ROWS, CANDIDATES, REPEATS = 64, 512, 32, 128
"""Sizes at which each check is sure to see its share of copied rows."""
FEWEST = 64
"""Rows of a call of a slow kernel."""
CALIBRATION = 8
"""Calls that choose the cells of the dispersion."""


@torch.no_grad()
def check(
    kernel: Kernel,
    gamma: int,
    seed: int,
    generator: torch.Generator,
    alphas: dict[str, float],
    beta: float,
    rows: int = ROWS,
) -> list[Evidence]:
    """The three checks: do rows repeat those of the call before, their neighbours, or any others of their batch?

    Args:
        alphas: the false-alarm rate of each of `NAMES`.
        rows: of each call; with fewer than `ROWS`, less is seen.
    """
    between, within, spread = NAMES
    given, collision = _varied(kernel, gamma, seed, generator, rows)
    blocks = np.stack([_blocks(kernel.verify(given, generator)) for _ in range(CALLS + CALIBRATION)])
    outcome = np.unique(blocks.reshape(-1, blocks.shape[-1]), axis=0, return_inverse=True)[1].reshape(len(blocks), rows)
    counts = np.stack([np.bincount(call, minlength=int(outcome.max()) + 1) for call in outcome])
    law = (counts[CALLS:].sum(0) + 0.5) / (counts[CALLS:].sum() + 0.5 * counts.shape[1])
    flat = outcome[:CALLS].reshape(-1, 1)
    told: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
        between: ((collision,), (outcome[0:CALLS:2].reshape(-1, 1), outcome[1:CALLS:2].reshape(-1, 1))),
        within: ((collision,), (flat[0::2], flat[1::2])),
    }
    # With next to no randomness there is nothing to be counted; the laws will have something to say of such a kernel.
    if law.max() < 1 - 20 / rows:
        told[spread] = ((law, rows), (counts[:CALLS],))
    return [
        calls.carry_out(name, calls.CHECKS[name].make(*known), *data, alpha=alphas[name], beta=beta)
        for name, (known, data) in told.items()
    ]


def affordable(pace: float, seconds: float) -> int | None:
    """How many rows a call may have for all calls to fit, at so many seconds a row; None if not even `FEWEST` fit."""
    fitting = (
        rows for rows in (ROWS, FEWEST) if pace * rows * (CALLS + CALIBRATION + REPEATS * CANDIDATES / ROWS) <= seconds
    )
    return next(fitting, None)


def _varied(kernel: Kernel, gamma: int, seed: int, generator: torch.Generator, rows: int) -> tuple[Round, float]:
    """A round of equal rows, and an estimate of how likely two come out equal: the least of several such rounds."""
    contexts = build(("dense",), 8, 2, key="independence")
    candidates = sample_round(kernel, contexts, gamma, derived_seed(seed, 4), rows=CANDIDATES)
    repeats = REPEATS * rows // ROWS
    index = torch.arange(CANDIDATES).repeat_interleave(repeats)
    blocks = _blocks(kernel.verify(tree.rows(candidates, index), generator)).reshape(CANDIDATES, repeats, -1)
    shares = [np.unique(each, axis=0, return_counts=True)[1] / repeats for each in blocks]
    collision, row = min((float((share**2).sum()), number) for number, share in enumerate(shares))
    return tree.rows(candidates, torch.full((rows,), row)), min(collision, 0.999)


def _blocks(outcome: Outcome) -> Int[np.ndarray, "rows width"]:
    return torch.cat([outcome.tokens, outcome.accepted[:, None]], 1).numpy()
