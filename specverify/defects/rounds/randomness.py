"""Coins that were used before, or by others."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import tossed
from specverify.rules.token import at
from specverify.subjects.rounds.conventions import tossing
from specverify.subjects.rounds.kernel import Kernel, Outcome, Round, block
from specverify.subjects.rounds.reference import Parts, Scene, verify

ROWS_OF_A_BLOCK = 8
"""Rows that a block of threads takes; the last block of a batch may be given fewer."""


def _keyed(scene: Scene) -> Tensor:
    """Given the draft x, the number that chose it by inversion is uniform on x's part of q; it is the coin as well."""
    width = at(scene.q, scene.draft)
    return at(scene.q.cumsum(-1), scene.draft) - width + scene.coins * width


def _one_row(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.rand(1, gamma, generator=generator).expand(rows, -1), torch.rand(1, generator=generator).expand(rows)


def _opposite(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    coins = torch.rand(rows, gamma + 1, generator=generator)
    paired = rows // 2 * 2
    coins[1:paired:2] = 1 - coins[:paired:2] - 2**-24
    return coins[:, :gamma], coins[:, gamma]


def _one_tail(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    coins = torch.rand(rows, gamma + 1, generator=generator)
    coins[rows // ROWS_OF_A_BLOCK * ROWS_OF_A_BLOCK :] = coins[-1]
    return coins[:, :gamma], coins[:, gamma]


def _restarted(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    generator.manual_seed(42)
    return torch.rand(rows, gamma, generator=generator), torch.rand(rows, generator=generator)


def _two_ranks(given: Round, generator: torch.Generator) -> Outcome:
    """One rank counts the accepted drafts, another draws the token that follows, at its own count."""
    draw = tossing(lambda given, coins, pick: verify(Parts(), given, coins, pick))
    here, there = draw(given, generator), draw(given, generator)
    return block(here.accepted, at(there.tokens, there.accepted), given)


DEFECTS = (
    made(
        "accept-uniform-keyed-like-draft",
        "randomness reuse",
        "standard",
        "vllm-project/vllm PR #47386",
        "The uniform number that drew the draft is also the coin that accepts it.",
        "p differs from q",
        Parts(coins=_keyed),
    ),
    made(
        "accept-uniform-reused-in-residual",
        "randomness reuse",
        "standard",
        "flashinfer-ai/flashinfer PR #424; vllm-project/vllm-ascend PR #16370",
        "The coin that rejected a draft, which is known to be large, also picks the token from the residual.",
        "a residual over at least 2 tokens",
        Parts(pick=lambda scene, slot: at(scene.coins, slot)),
    ),
    made(
        "shared-stream-across-requests",
        "randomness reuse",
        "standard",
        "vllm-project/vllm issue #50440; NVIDIA/TensorRT-LLM issue #19487, PR #19505 and PR #17599",
        "All rows of a batch use the same coins: each row has the right law, and is a copy of the others.",
        "a batch of at least 2",
        tossed("shared-stream-across-requests", _one_row),
    ),
    made(
        "opposite-coins-in-pairs",
        "randomness reuse",
        "standard",
        "suspected: antithetic sampling, as Monte Carlo code reduces its variance",
        "Every second row has the opposite coins, 1 - u, of the row before it: each row has the right law.",
        "a batch of at least 2",
        tossed("opposite-coins-in-pairs", _opposite),
    ),
    made(
        "one-stream-in-the-last-block",
        "randomness reuse",
        "standard",
        "suspected: kernels that number their blocks' rows, and the masked rows of the last block alike",
        "The rows behind the last full block of 8 all use the coins of one: each has the right law.",
        "a batch whose size is no multiple of 8",
        tossed("one-stream-in-the-last-block", _one_tail),
    ),
    made(
        "reseed-per-call",
        "randomness reuse",
        "standard",
        "tyshiwo1/Accelerating-T2I-AR-with-SJD `_sample`",
        "Every call starts the generator again with the same seed.",
        "at least 2 calls",
        tossed("reseed-per-call", _restarted),
    ),
    made(
        "twin-generators-same-seed",
        "randomness reuse",
        "standard",
        "junhyukso/SCD cosmos model.py",
        "The stream that drew the drafts is drawn once more for coins and recovered tokens.",
        "p differs from q",
        Parts(coins=_keyed, pick=lambda scene, slot: at(_keyed(scene), slot)),
    ),
    made(
        "rank-divergent-coins",
        "randomness reuse",
        "standard",
        "local-inference-lab/vllm PR #98; vllm-project/vllm issue #17498",
        "Ranks toss their own coins: the drafts that one accepts are followed by the token of another.",
        "at least 2 ranks",
        Kernel("rank-divergent-coins", _two_ranks),
    ),
)
