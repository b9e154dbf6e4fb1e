"""Rows of calls that depend on each other, in words: in which order they come, and where equal ones stand first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.evidence.sequences import sequence_index

FEWEST = 16
"""Rows of a call whose order could hardly be one by chance."""


def order(
    calls: Sequence[Int[Tensor, "rows length"]],
    vocab: int,
    eos: int | None,
    law: Float[np.ndarray, " sequences"] | None,
) -> str:
    """By what the rows of every call are sorted, in words; empty if by nothing that is known here.

    Args:
        calls: of as many rows each.
        vocab: number of tokens.
        eos: what ends a sequence, if anything does.
        law: of the sequences; None where they are too many.
    """
    if len(calls[0]) < FEWEST:
        return ""
    by = {"their tokens": [_lexicographic(call) for call in calls]}
    if eos is not None:
        by["their length"] = [(call == eos).long().cumsum(1).eq(0).sum(1).numpy() for call in calls]
    if law is not None:
        by["their probability"] = [law[sequence_index(call, vocab).numpy()] for call in calls]
    for what, values in by.items():
        steps = [np.diff(each) for each in values if len(np.unique(each)) > 1]
        if not steps:
            continue
        if all((each >= 0).all() for each in steps):
            return f"every call returns its rows in ascending order of {what}"
        if all((each <= 0).all() for each in steps):
            return f"every call returns its rows in descending order of {what}"
    return ""


def first_equal(calls: Sequence[Int[Tensor, "rows length"]]) -> str:
    """Where two calls, one after the other, have their first equal rows at one place, in words; empty if nowhere."""
    for number, (one, other) in enumerate(zip(calls[::2], calls[1::2], strict=True)):
        if bool((same := (one == other).all(1)).any()):
            return f"first in row {int(same.int().argmax())} of calls {2 * number} and {2 * number + 1}"
    return ""


def _lexicographic(call: Int[Tensor, "rows length"]) -> Int[np.ndarray, " rows"]:
    found: Int[np.ndarray, " rows"] = torch.unique(call, dim=0, return_inverse=True)[1].numpy()
    return found
