"""What belongs to other rows or slots of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import tossed
from specverify.subjects.rounds.kernel import Round
from specverify.subjects.rounds.reference import Parts


def _unseeded(rows: int, gamma: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    seeded = torch.arange(rows) % 2 == 0
    coins, pick = torch.rand(rows, gamma, generator=generator), torch.rand(rows, generator=generator)
    return coins * seeded[:, None], pick * seeded


def _last_row(given: Round) -> Tensor:
    """The bonus law of a full row, at every slot."""
    return given.p[:, -1:].expand_as(given.p)


def _next_request(given: Round) -> Tensor:
    """The laws of the next row of the batch."""
    return given.p.roll(-1, 0)


DEFECTS = (
    made(
        "unseeded-rows-uninitialised-noise",
        "batching",
        "standard",
        "vllm-project/vllm PR #10863",
        "In a batch of seeded and unseeded rows the noise of the unseeded is never drawn, and stays 0.",
        "a batch of both kinds",
        tossed("unseeded-rows-uninitialised-noise", _unseeded),
    ),
    made(
        "bonus-from-last-slot",
        "batching",
        "standard",
        "mutation: as if every row had all its drafts",
        "The bonus token of a row with fewer drafts is drawn from the law of the last slot, which is padding.",
        "ragged rows",
        Parts(bonus=_last_row),
    ),
    made(
        "laws-of-next-row",
        "batching",
        "standard",
        "mutation: an index that is off by one",
        "A row is verified against the target laws of the next row.",
        "rows in different contexts",
        Parts(target=_next_request),
    ),
)
