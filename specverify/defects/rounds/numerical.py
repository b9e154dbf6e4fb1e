"""Too few bits, and sums that are not complete."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round
from specverify.subjects.rounds.reference import Parts, inverse, verify


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


def _fall_through(law: Tensor, pick: Tensor, *, last: bool) -> Tensor:
    """Inversion against 1, whatever the sum of float32 comes to; beyond it, the last or the first id."""
    over = (law / law.sum(-1, keepdim=True)).cumsum(-1) > pick[:, None]
    return torch.where(over.any(-1), over.int().argmax(-1), law.shape[-1] - 1 if last else 0)


def _half_sums(law: Tensor, pick: Tensor) -> Tensor:
    edges = (law / law.sum(-1, keepdim=True)).cumsum(-1).half().float()
    return (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(-1)


def _own_sums(law: Tensor, pick: Tensor) -> Tensor:
    """Inversion by a running sum in the dtype of the law."""
    edges = law.cumsum(-1, dtype=law.dtype)
    return (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(-1)


def _without_tile(law: Tensor, pick: Tensor) -> Tensor:
    """Inversion that passes over the ids from 128 to 255, where there are at least 512."""
    return inverse(law * ((torch.arange(law.shape[-1]) // 128 != 1) | (law.shape[-1] < 512)), pick)


def _first_block(given: Round) -> Tensor:
    """The bonus laws without the ids from 2,048 on."""
    return given.p * (torch.arange(given.p.shape[-1]) < 2048)


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
    made(
        "inversion-falls-to-last-id",
        "numerical",
        "forced-coins",
        "sgl-project/sglang PR #22643",
        "Where the float32 sum of a law ends below the number drawn, the last id is emitted, possible or not.",
        "a sum that ends below 1, the last id forbidden, a pick near 1",
        Parts(choose=partial(_fall_through, last=True)),
    ),
    made(
        "inversion-falls-to-first-id",
        "numerical",
        "forced-coins",
        "variant of sgl-project/sglang PR #22643: the argmax of a mask that holds nothing is 0",
        "Where the float32 sum of a law ends below the number drawn, the first id is emitted, possible or not.",
        "a sum that ends below 1, the first id forbidden, a pick near 1",
        Parts(choose=partial(_fall_through, last=False)),
    ),
    made(
        "sums-in-half-precision",
        "numerical",
        "forced-coins",
        "mutation: the distribution function in float16",
        "Edges between tokens are rounded to float16, which moves them by up to 1/4096.",
        "none; the more tokens, the more it shows",
        Parts(choose=_half_sums),
    ),
    made(
        "running-sum-stands-still",
        "numerical",
        "standard",
        "mutation: cumsum in the dtype of the laws",
        "The distribution function is summed in bfloat16, where small parts of a large sum are lost.",
        "laws in half precision with many small parts",
        Parts(choose=_own_sums),
    ),
    made(
        "tile-never-chosen",
        "numerical",
        "standard",
        "mutation: a loop over tiles that is one short in the middle",
        "One tile of 128 ids is passed over when a token is drawn.",
        "a vocabulary of several tiles, and mass on all of them",
        Parts(choose=_without_tile),
    ),
    made(
        "bonus-from-the-first-block",
        "bonus token",
        "standard",
        "mutation: a bonus token drawn by one block of threads",
        "A bonus token is one of the first 2,048 ids, whatever p says of the others.",
        "a vocabulary of more than 2,048 tokens, all drafts kept",
        Parts(bonus=_first_block),
    ),
)
