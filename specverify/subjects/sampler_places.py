"""Which row of which calls a group of rows is wrong at: what was seen there against what is due."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from torch import Tensor

from specverify.evidence.discrete import sequence_counts
from specverify.evidence.sequential import EProcess
from specverify.subjects.places import Prefixed
from specverify.subjects.sampler_location import locate

STANDS_OUT = 2.0
"""How many times the evidence of all other rows a row must have to be named, at least one nat more."""


@dataclass(frozen=True)
class Call:
    """One call on a toy.

    Attributes:
        toy: its name.
        size: rows of the call.
        rows: which of them are kept, by their index.
        tokens: of those.
    """

    toy: str
    size: int
    rows: tuple[int, ...]
    tokens: Int[Tensor, "rows length"]


Counts = Int[np.ndarray, " sequences"]


def place(
    calls: Iterable[Call],
    which: Callable[[int, int], str | None],
    group: str,
    laws: Mapping[str, EProcess],
    vocabularies: Mapping[str, int],
    *,
    alpha: float,
    beta: float,
) -> Prefixed | None:
    """Where the rows of a group leave their law, on the toy that says most.

    Args:
        calls: of all groups.
        which: what the row of such an index, of a call of such a size, is called; None if it is not in the group.
        group: its name.
        laws: of sequences, by toy.
        vocabularies: tokens of each toy.
        alpha, beta: see `sampler_location.locate`.

    Returns:
        the row and the calls in words as `where`, the toy, and what `sampler_location.locate` says; None if no toy
        whose sequences are counted says anything.
    """
    counts: dict[str, dict[str, Counts]] = defaultdict(dict)
    sizes: dict[str, set[int]] = defaultdict(set)
    for call in calls:
        for index, tokens in zip(call.rows, call.tokens, strict=True):
            if call.toy in laws and (name := which(index, call.size)) is not None:
                seen = sequence_counts(tokens[None], vocabularies[call.toy])
                counts[call.toy][name] = counts[call.toy].get(name, 0) + seen
                sizes[call.toy].add(call.size)
    if not counts:
        return None
    toy = max(counts, key=lambda name: laws[name].log_e(_sum(counts[name].values())))
    if laws[toy].log_e(_sum(counts[toy].values())) <= 0:
        return None
    row, seen = _narrowed(counts[toy], laws[toy])
    several = group if group.startswith("calls") else "calls of any size"
    of = f"calls of {min(sizes[toy])} rows" if len(sizes[toy]) == 1 and max(sizes[toy]) > 1 else several
    found = locate(np.asarray(laws[toy].law), seen, vocabularies[toy], alpha=alpha, beta=beta)
    return {"check": group, "where": f"{row} of {of}", "toy": toy, **found}


def _narrowed(counts: Mapping[str, Counts], law: EProcess) -> tuple[str, Counts]:
    """The row that stands out of the others and its counts; or all rows."""
    total = _sum(counts.values())
    name = max(counts, key=lambda row: law.log_e(counts[row]))
    others = law.log_e(total - counts[name]) if len(counts) > 1 else 0.0
    if len(counts) == 1 or law.log_e(counts[name]) > STANDS_OUT * max(others, 0.0) + 1:
        return name, counts[name]
    return "any row", total


def _sum(counts: Iterable[Counts]) -> Counts:
    total: Counts = np.sum(list(counts), axis=0)
    return total
