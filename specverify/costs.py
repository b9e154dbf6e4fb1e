"""What a run cost: forward passes, drafts and seconds, as a record keeps them."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Num
from torch import Tensor

from specverify import lockstep
from specverify.decoders import Branch, Run
from specverify.report.shape_cells import LockStep
from specverify.report.shape_cells import Run as RunRow


def of_run(run: Run, length: int, seconds: float, seed: int) -> RunRow:
    """The figures of one run.

    Args:
        run: sequences and their passes.
        length: tokens of a sequence, which is also the passes of plain decoding.
        seconds: what all of it took.
        seed: of the bootstrap for passes in lock-step.

    Returns:
        means and rates, with normal 95% intervals over sequences; `step_compression` is length over mean passes.
    """
    passes, tokens = run.passes.double(), len(run.tokens) * length
    return {
        "n": len(run.tokens),
        "tokens": tokens,
        "passes_mean": float(passes.mean()),
        "passes_interval": interval(passes, torch.ones_like(passes)),
        "acceptance_rate": finite(run.acceptance_rate),
        "acceptance_interval": interval(run.accepted.double(), run.verified.double()) if run.verified.any() else None,
        "branches": {b.name.lower(): int(run.branches[:, b].sum()) for b in Branch if b is not Branch.NONE},
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "step_compression": length / float(passes.mean()),
        "draft_passes_mean": float(run.draft_passes.double().mean()),
        "lock_step": cast("list[LockStep]", lockstep.summary(run.passes.cpu().numpy(), length, seed)),
    }


def interval(part: Num[Tensor, " rows"], whole: Num[Tensor, " rows"]) -> list[float]:
    """Normal 95% interval of sum(part) / sum(whole), over independent rows."""
    ratio = part.sum() / whole.sum()
    error = (part - ratio * whole).std() * math.sqrt(len(part)) / whole.sum() if len(part) > 1 else torch.tensor(0.0)
    return [float(ratio - 1.96 * error), float(ratio + 1.96 * error)]


def finite(value: float) -> float | None:
    """None for what JSON cannot hold."""
    return value if math.isfinite(value) else None
