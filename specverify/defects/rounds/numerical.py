"""Too few bits, and sums that are not complete."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round
from specverify.subjects.rounds.reference import Parts, verify


def _coarse_race(bits: int) -> Kernel:
    """Gumbel noise from uniforms of so many bits, for the token that follows."""

    def verify_round(given: Round, generator: torch.Generator) -> Outcome:
        coins = torch.rand(given.draft.shape, generator=generator)
        uniform = torch.rand(len(coins), given.p.shape[-1], generator=generator)
        steps = 2.0**bits
        race = -(((uniform * steps).floor() + 0.5) / steps).log()
        parts = Parts(choose=lambda law, pick: torch.where(law > 0, race / law, torch.inf).argmin(-1))
        return verify(parts, given, coins, coins[:, 0])

    return Kernel("uniform-24bit-tail-truncation", verify_round)


def _partial_sum(law: Tensor, pick: Tensor) -> Tensor:
    """Inversion against the sum over the first half of the vocabulary; it runs off the end where that is 0."""
    size = law.shape[-1]
    total = law[:, : (size + 1) // 2].sum(-1)
    token = (law.cumsum(-1)[:, :-1] <= (pick * total)[:, None]).sum(-1)
    return torch.where(total > 0, token, size - 1)


DEFECTS = (
    made(
        "uniform-24bit-tail-truncation",
        "numerical",
        "standard",
        "vllm-project/vllm PR #51367 and #37798; here with 6 bits",
        "Gumbel noise from a uniform of few bits is bounded, so that improbable tokens hardly ever win.",
        "few bits, or extreme laws",
        _coarse_race(6),
    ),
    made(
        "missing-sync-partial-residual-sum",
        "numerical",
        "standard",
        "flashinfer-ai/flashinfer PR #424",
        "Recovered and bonus laws are normalised by an incomplete sum: inversion never reaches the last tokens.",
        "mass on the second half of the vocabulary",
        Parts(choose=_partial_sum),
    ),
)
