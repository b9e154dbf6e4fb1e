"""Transforms of the tokens of a black box under its model's laws, and what they say of dependence between tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.evidence.ids import Groups
from specverify.evidence.lags import PitLags
from specverify.evidence.result import Evidence
from specverify.evidence.tokens import TokenStatistics, by_id, reduce
from specverify.model import Model

Rates = Mapping[str, float]
NEAR, FAR = 33, (48, 64, 96, 128)
"""Distances between the rows of a call at which noise may come again, or its opposite: all up to `NEAR`, as slots of an
engine are, these, and half a call."""
PAIRS: Mapping[str, float] = {"pairs of rows": 1.0, "first tokens of rows": 1.0, "pairs of calls": 1.0}
"""The checks of `pairs_of_rows`, with their weights."""


def statistics(
    model: Model, tokens: Int[Tensor, "rows length"], generator: np.random.Generator
) -> tuple[TokenStatistics, Float[np.ndarray, "rows length"], Groups]:
    """What `reduce` makes of the tokens, their transforms `by_id`, and what came of each group of ids.

    Positions behind an end of sequence do not count: their transforms are drawn.
    """
    with torch.no_grad():
        laws = model.laws(model.start(len(tokens)), tokens[:, :-1])
    counted = None
    if model.eos is not None:
        counted = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1] == model.eos], 1).cumsum(1) == 0
    found = reduce(laws, tokens, generator, counted=counted)
    p = laws.double().cpu()
    below = (p.cumsum(2) - p).gather(2, tokens[..., None])[..., 0]
    groups = Groups(tokens, model.vocab, counted)
    groups.add(p, slice(None), slice(None))
    return found, by_id(found, below, generator), groups


def pairs_of_rows(
    model: Model,
    calls: Sequence[Int[Tensor, "rows length"]],
    generator: np.random.Generator,
    rates: Rates,
    beta: float,
    later: Sequence[Int[Tensor, "rows length"]] = (),
) -> list[Evidence]:
    """Are tokens of rows near each other, and of calls behind each other, independent?

    Args:
        model: whose laws the tokens have.
        calls: of as many rows each.
        generator: of the transforms.
        rates: of `PAIRS`.
        beta: miss rate.
        later: calls of more rows, each of some number, of which rows are looked at instead, where these are few.
    """
    first, size = _transforms(model, calls, generator), len(calls[0])
    wide, most = (_transforms(model, later, generator), max(map(len, later))) if later else (first, size)
    whole = model.length
    apart = {
        "pairs of rows": (wide, _below(most, (*range(1, NEAR + 1), *FAR, most // 2, (most + 1) // 2)), whole),
        # What a request begins with, whoever was there before.
        "first tokens of rows": (wide, _below(most, range(1, NEAR + 1)), 1),
        "pairs of calls": (first, _below(len(first[0]), (size - 1, size, size + 1)), whole),
    }
    found = []
    for name, (transforms, rows, length) in apart.items():
        parts = [part[:, :length] for part in transforms]
        found += [PitLags(rows, length, 2).check(parts, alpha=rates[name], beta=beta, name=name)] if rows else []
    return found


def _transforms(
    model: Model, calls: Sequence[Int[Tensor, "rows length"]], generator: np.random.Generator
) -> list[Float[np.ndarray, "rows length"]]:
    trace, by_id, _ = statistics(model, torch.cat(list(calls)), generator)
    return [trace.pit.numpy(), by_id]


def _below(size: int, rows: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({row for row in rows if 0 < row < size}))
