"""Known-wrong decoders and controls by name."""

from __future__ import annotations

from specverify.catalogue import Catalogue
from specverify.defects import (
    acceptance,
    blocks,
    controls,
    drafts,
    histories,
    noise,
    residuals,
    sibling_trees,
    targets,
    trees,
)
from specverify.defects.defect import Defect

_DEFECTS = Catalogue(
    "defect",
    {
        defect.id: defect
        for group in (
            acceptance.DEFECTS,
            residuals.DEFECTS,
            drafts.DEFECTS,
            noise.DEFECTS,
            targets.DEFECTS,
            histories.DEFECTS,
            blocks.DEFECTS,
            trees.DEFECTS,
            sibling_trees.DEFECTS,
            controls.CONTROLS,
            trees.CONTROLS,
        )
        for defect in group
    },
)


def names() -> tuple[str, ...]:
    """All of them: the defects by the part that is wrong, then the controls, which are not `lossy`."""
    return _DEFECTS.names()


def get(name: str) -> Defect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _DEFECTS[name]
