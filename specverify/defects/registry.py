"""Known-wrong decoders and controls by name."""

from __future__ import annotations

import difflib

from specverify.defects import acceptance, blocks, controls, drafts, histories, noise, residuals, targets, trees
from specverify.defects.defect import Defect
from specverify.errors import InputError

_DEFECTS = {
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
        controls.CONTROLS,
        trees.CONTROLS,
    )
    for defect in group
}


def names() -> tuple[str, ...]:
    """All of them: the defects by the part that is wrong, then the controls, which are not `lossy`."""
    return tuple(_DEFECTS)


def get(name: str) -> Defect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if name not in _DEFECTS:
        near = difflib.get_close_matches(name, _DEFECTS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_DEFECTS)}"
        raise InputError(f"unknown defect {name!r}; {hint}")
    return _DEFECTS[name]
