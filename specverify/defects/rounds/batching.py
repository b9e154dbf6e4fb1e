"""What belongs to other rows or slots of the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specverify.defects.rounds.defect import made
from specverify.defects.rounds.parts import tossed
from specverify.rules.token import residual
from specverify.subjects.rounds.kernel import Round
from specverify.subjects.rounds.reference import Parts, Scene


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


def _without_residual(when: Callable[[Scene], Tensor]) -> Parts:
    """The token rule whose rejected drafts are replaced from p, in the rows that `when` names."""

    def recover(scene: Scene) -> Tensor:
        return torch.where(when(scene)[:, None, None], scene.p, residual(scene.p, scene.q))

    return Parts(recover=recover)


def _all(scene: Scene, is_so: bool) -> Tensor:
    return torch.full((len(scene.draft),), is_so)


def _place(scene: Scene) -> Tensor:
    return torch.arange(len(scene.draft))


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
    made(
        "batch-of-one-path",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "A batch of a single row takes a path of its own, which replaces rejected drafts from p.",
        "a batch of 1",
        _without_residual(lambda scene: _all(scene, len(scene.draft) == 1)),
    ),
    made(
        "small-batch-path",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "Batches that fit into one tile of 32 rows take a path that replaces rejected drafts from p.",
        "batches of at most 32",
        _without_residual(lambda scene: _all(scene, len(scene.draft) <= 32)),
    ),
    made(
        "first-row-of-batch",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "The first row of a batch of several is left with p where the residual should be.",
        "the first row",
        _without_residual(lambda scene: (_place(scene) == 0) & (len(scene.draft) > 1)),
    ),
    made(
        "last-row-of-batch",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "A loop over rows ends one too early: the last row is left with p where the residual should be.",
        "the last row",
        _without_residual(lambda scene: _place(scene) == len(scene.draft) - 1),
    ),
    made(
        "fourth-row-of-batch",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "The fourth row of a batch, where a unit of work ends, is left with p where the residual should be.",
        "the fourth row",
        _without_residual(lambda scene: _place(scene) == 3),
    ),
    made(
        "unpadded-batch-path",
        "batching",
        "standard",
        "mutation: a path for some batches or rows only",
        "Batches without padding take a path of their own, which replaces rejected drafts from p.",
        "every row has all its drafts",
        _without_residual(lambda scene: _all(scene, bool((scene.given.lengths == scene.draft.shape[1]).all()))),
    ),
)
