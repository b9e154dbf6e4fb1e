"""Known-wrong kernels and controls by name."""

from __future__ import annotations

from specverify.catalogue import Catalogue
from specverify.defects.rounds import (
    acceptance,
    batching,
    controls,
    declared,
    drafts,
    numerical,
    randomness,
    residuals,
    targets,
)
from specverify.defects.rounds.defect import RoundDefect

_DEFECTS = Catalogue(
    "round defect",
    {
        defect.id: defect
        for group in (
            acceptance.DEFECTS,
            residuals.DEFECTS,
            drafts.DEFECTS,
            randomness.DEFECTS,
            targets.DEFECTS,
            numerical.DEFECTS,
            batching.DEFECTS,
            declared.DEFECTS,
            controls.CONTROLS,
        )
        for defect in group
    },
)


def names() -> tuple[str, ...]:
    """All of them: the defects by the part that is wrong, then the controls, which are not `lossy`."""
    return _DEFECTS.names()


def get(name: str) -> RoundDefect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _DEFECTS[name]
