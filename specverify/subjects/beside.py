"""Whether a decoder's rows do in batches what they do alone, on a model that is larger than any that is enumerated."""

from __future__ import annotations

from specverify.deadline import Deadline
from specverify.decoders.registry import Settings
from specverify.errors import DependentRowsError, InputError
from specverify.evidence.company import SIZES, company
from specverify.evidence.search import guarded
from specverify.subjects.factory import Factory
from specverify.subjects.modes import Mode
from toymodels.wide import large

VOCAB, LENGTH = 4, 24
"""Of the model: few tokens, so that rows come into one state; many positions, so that lengths are far apart."""
SECONDS = 4.0
"""Of the processor, after which no larger batch is begun."""


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
        raise DependentRowsError(seen.apart)
    return "" if seen.largest == SIZES[-1] else f"time ran out after batches of {seen.largest}"
