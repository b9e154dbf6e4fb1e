"""Are the rows of a batch, and the calls with one generator, independent of each other?

Each row may have the right law, and still be a copy of another: of a stream that rows share, or that starts again at
every call. Batches of rows that are given the same drafts show the copies, and how often each outcome comes in a batch
varies too much or too little. Rows that have each other's coins are alike, or unlike, where they stand near each other,
half a call apart, or, of a call whose rows fill no block, at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

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
SMALL, PLAYED = (2, 5, 13, 33, 100), 4096
"""Rows of the calls that are small or fill no block, and how many rows are played in calls of each size."""
NEAR = 8
"""The largest distance at which all pairs of rows are looked at."""


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
    """Do rows repeat those of the call before, their neighbours, or others of their batch; do they depend on them?

    Args:
        alphas: the false-alarm rate of each of `NAMES`.
        rows: of each call; with fewer than `ROWS`, less is seen.
    """
    between, within, near, small, spread = NAMES
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
    found = [
        calls.carry_out(name, calls.CHECKS[name].make(*known), *data, alpha=alphas[name], beta=beta)
        for name, (known, data) in told.items()
    ]
    rng = np.random.default_rng(derived_seed(seed, 8))
    apart = (*range(1, NEAR + 1), rows // 2, rows - 1, rows, rows + 1)
    found.append(_pairs(near, [(blocks[:CALLS].reshape(-1, blocks.shape[-1]), apart)], rng, alphas[near], beta))
    return [*found, _pairs(small, list(_small(kernel, given, generator, rows)), rng, alphas[small], beta)]


def _small(
    kernel: Kernel, given: Round, generator: torch.Generator, rows: int
) -> Iterator[tuple[Int[np.ndarray, "played width"], tuple[int, ...]]]:
    """What comes of small calls, for each size of them; and the distances at which rows of it are held together."""
    for size in SMALL:
        part = tree.rows(given, torch.zeros(size, dtype=torch.int64))
        played = [_blocks(kernel.verify(part, generator)) for _ in range(-(-PLAYED * rows // (ROWS * size)))]
        apart = sorted({*range(1, min(NEAR, size - 1) + 1), size // 2, size})
        yield np.concatenate(played), tuple(apart)


def _pairs(
    name: str,
    played: Sequence[tuple[Int[np.ndarray, "played width"], tuple[int, ...]]],
    rng: np.random.Generator,
    alpha: float,
    beta: float,
) -> Evidence:
    """Whether rows depend on each other, in calls of whichever size shows it most.

    Outcomes are made into uniform numbers twice: in the order of their tokens, and of how many drafts they keep. How
    often each comes is taken from the rows themselves, so that those numbers are uniform whatever the kernel's law.
    """
    found: list[Evidence] = []
    for blocks, apart in played:
        transforms = [_uniform(blocks, rng), _uniform(np.roll(blocks, 1, axis=1), rng)]
        check = calls.CHECKS[name].make(apart, 1, len(transforms))
        found.append(check.check(transforms, alpha=alpha / len(played), beta=beta, name=name))
    worst = min(found, key=lambda item: (not item.rejected, 1.0 if item.p_value is None else item.p_value))
    p_value = None if worst.p_value is None else min(1.0, worst.p_value * len(played))
    delta, n = max(item.delta for item in found), min(item.n for item in found)
    return replace(worst, p_value=p_value, alpha=alpha, delta=delta, n=n)


def _uniform(blocks: Int[np.ndarray, "played width"], rng: np.random.Generator) -> Float[np.ndarray, "played one"]:
    """Outcomes as uniform numbers that keep their order, from one coin each."""
    _, index, counts = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
    above = counts.cumsum()[index.reshape(-1)]
    of = counts[index.reshape(-1)]
    return ((above - of * rng.random(len(blocks))) / len(blocks))[:, None]


def planned() -> dict[str, int]:
    """What each check counts, of a kernel that is fast enough for all of it."""
    small = min((-(-PLAYED // size) - 1) * size for size in SMALL)
    copies = CALLS * ROWS // 2
    return dict(zip(NAMES, (copies, copies, CALLS * ROWS - ROWS - 1, small, CALLS), strict=True))


def affordable(pace: float, seconds: float, *, single: bool = False) -> int | None:
    """How many rows a call may have for all calls to fit, at so many seconds a row; None if not even `FEWEST` fit.

    Rows of a kernel that takes a `single` one are calls of their own: unless it is fast, few of them have to do.
    """
    fitting = (
        rows
        for rows, share in ((ROWS, 0.2 if single else 1.0), (ROWS // 4, 1.0), (FEWEST, 1.0))
        if pace * rows * (CALLS + CALIBRATION + (REPEATS * CANDIDATES + PLAYED * len(SMALL)) / ROWS) <= share * seconds
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
