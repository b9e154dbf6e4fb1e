"""How a kernel is called: in batches of bounded size, of given sizes, and with laws of another dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from specverify.subjects.rounds.kernel import Kernel, Outcome, Round

MOST_ROWS = 4096
"""Rows of the largest batch: a table of rows by drafts of all rows, which some kernels make, has then 200 MiB."""
MOST_BYTES = 1 << 24
"""Bytes of a batch's largest tensor of laws (rows x slots x vocabulary, in float32), beyond a single row."""


def rows_per_call(vocab: int, slots: int) -> int:
    """Rows of the largest batch over such laws."""
    return max(1, min(MOST_ROWS, MOST_BYTES // (4 * vocab * slots)))


def in_batches(kernel: Kernel, sizes: Sequence[int], certain: Sequence[bool]) -> Kernel:
    """The kernel called with consecutive batches of these sizes; q is kept from those that are `certain`."""

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        parts, start = [], 0
        for size, bare in zip(sizes, certain, strict=True):
            part = _cut(given, start, start + size)
            parts.append(kernel.verify(replace(part, q=None) if bare else part, generator))
            start += size
        return joined(parts)

    return replace(kernel, verify=verify)


def bounded(kernel: Kernel, given: Round, coins: Tensor, pick: Tensor) -> Outcome:
    """What a kernel makes of a round with given coins, called with as many rows at a time as memory allows."""
    assert kernel.with_coins is not None
    most = rows_per_call(given.p.shape[2], given.p.shape[1])
    parts = []
    for start in range(0, len(given.lengths), most):
        part = slice(start, start + most)
        parts.append(kernel.with_coins(_cut(given, start, start + most), coins[part], pick[part]))
    return joined(parts)


def recast(kernel: Kernel, dtype: torch.dtype) -> Kernel:
    """The kernel given laws of another dtype."""

    def verify(given: Round, generator: torch.Generator) -> Outcome:
        q = None if given.q is None else given.q.to(dtype)
        return kernel.verify(replace(given, q=q, p=given.p.to(dtype), raw=given.raw.to(dtype)), generator)

    return replace(kernel, verify=verify)


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Outcomes of batches, one after the other."""
    if len(parts) == 1:
        return parts[0]
    passed = [part.passed for part in parts if part.passed is not None]
    return Outcome(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.accepted for part in parts]),
        torch.cat(passed) if passed else None,
    )


def _cut(given: Round, start: int, end: int) -> Round:
    rows = slice(start, end)
    return Round(
        draft=given.draft[rows],
        lengths=given.lengths[rows],
        q=None if given.q is None else given.q[rows],
        p=given.p[rows],
        raw=given.raw[rows],
        temperature=given.temperature[rows],
        top_k=given.top_k[rows],
    )
