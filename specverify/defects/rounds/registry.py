"""Known-wrong kernels and controls by name."""

from __future__ import annotations

import difflib

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
from specverify.errors import InputError

_DEFECTS = {
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
}


def names() -> tuple[str, ...]:
    """All of them: the defects by the part that is wrong, then the controls, which are not `lossy`."""
    return tuple(_DEFECTS)


def get(name: str) -> RoundDefect:
    """What is known of one.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    if name not in _DEFECTS:
        near = difflib.get_close_matches(name, _DEFECTS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_DEFECTS)}"
        raise InputError(f"unknown round defect {name!r}; {hint}")
    return _DEFECTS[name]
