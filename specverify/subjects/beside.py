"""Whether a decoder's rows do in batches what they do alone, on a model that is larger than any that is enumerated."""

from __future__ import annotations

from collections.abc import Sequence

from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.errors import DependentRowsError, InputError
from specverify.evidence.bare import affordable, difference
from specverify.evidence.cases import Case
from specverify.evidence.company import SIZES, company
from specverify.evidence.search import guarded
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from toymodels.wide import large

VOCAB, LENGTH = 4, 24
"""Of the model: few tokens, so that rows come into one state; many positions, so that lengths are far apart."""
SECONDS = 4.0
"""Of the processor, after which no batch is begun."""
SURE = 2.0
"""Seconds of the processor for sequences with the guard, and as many for those without."""


def beside(factory: Factory, mode: Mode, seed: int) -> str:
    """Why not all batches were looked at; empty if they were.

    Raises:
        DependentRowsError: a row does otherwise among others than alone.
    """
    target, draft = large("company", VOCAB, LENGTH), large("company-draft", VOCAB, LENGTH)
    settings = Settings(mode.windows[-1] or 1, mode.initials[0] or "repeat-left", draft if mode.drafts else None)
    try:
        seen = company(guarded(factory.build, settings), target, seed, Deadline(SECONDS))
    except InputError as error:
        return f"it says {error}"
    if seen.apart:
        raise DependentRowsError(seen.apart, (seen.row, seen.largest))
    return "" if seen.largest == SIZES[-1] else f"time ran out after batches of {seen.largest}"


def row_apart(factory: Factory, modes: Sequence[Mode], seed: int) -> tuple[int, int]:
    """A row that does otherwise among others than alone, and how many there are; of 0 if none is seen to."""
    for mode in modes:
        try:
            beside(factory, mode, seed)
        except DependentRowsError as error:
            return error.at or (0, 0)
        except Exception:
            continue  # in company it cannot be run at all, which says nothing of one row
    return 0, 0


def without_guard(factory: Factory, case: Case, seed: int, most: int, deadline: Deadline) -> tuple[str, int]:
    """What the decoder does otherwise where it runs as it is, on real draws; and how many sequences were looked at.

    Args:
        factory: of the decoder.
        case: the setting.
        seed: of the draws.
        most: sequences; fewer where they would take more than a part of the time until the deadline, or than `SURE`.
    """
    target = case.target()
    settings = case.settings(target)
    guard, bare = guarded(factory.build, settings), factory.build(settings)
    n = affordable(guard, target, seed=seed, n=most, seconds=min(SURE, deadline.left / 8))
    return difference(bare, guard, target, seed=seed, n=n), n
