"""Transforms of the tokens of a black box under its model's laws, and what they say of dependence between tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.evidence.lags import PitLags
from specverify.evidence.result import Evidence
from specverify.evidence.tokens import TokenStatistics, by_id, reduce
from specverify.model import Model

Rates = Mapping[str, float]
ROWS_APART = tuple(range(1, 9))
"""Distances between the rows of a call at which noise may come again, or its opposite; half a call is another."""
PAIRS: Mapping[str, float] = {"pairs of rows": 1.0, "pairs of calls": 1.0}
"""The checks of `pairs_of_rows`, with their weights."""


def statistics(
    model: Model, tokens: Int[Tensor, "rows length"], generator: np.random.Generator
) -> tuple[TokenStatistics, Float[np.ndarray, "rows length"]]:
    """What `reduce` makes of the tokens, and their transforms `by_id`.

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
    return found, by_id(found, below, generator)


def pairs_of_rows(
    model: Model, calls: Sequence[Int[Tensor, "rows length"]], generator: np.random.Generator, rates: Rates, beta: float
) -> list[Evidence]:
    """Are tokens of rows near each other, and of calls behind each other, independent?

    Args:
        model: whose laws the tokens have.
        calls: of as many rows each.
        generator: of the transforms.
        rates: of `PAIRS`.
        beta: miss rate.
    """
    size = len(calls[0])
    tokens = torch.cat(list(calls))
    trace, by_id = statistics(model, tokens, generator)
    transforms = [trace.pit.numpy(), by_id]
    apart = {
        "pairs of rows": tuple(sorted({row for row in (*ROWS_APART, size // 2, (size + 1) // 2) if 0 < row < size})),
        "pairs of calls": tuple(dict.fromkeys(row for row in (size - 1, size, size + 1) if 0 < row < len(tokens))),
    }
    return [
        PitLags(rows, model.length, 2).check(transforms, alpha=rates[name], beta=beta, name=name)
        for name, rows in apart.items()
        if rows
    ]
