"""Which decoders are tried to be proved for every law, in boxes of which sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from specverify import defects
from specverify.decoders import registry
from specverify.decoders.jacobi import Initial
from specverify.evidence.exact.proof import Box

SIZES = {
    "quick": {"none": ("3x4", "3x3-end"), "one": ("3x4x3", "3x3x2-end"), "several": ("2x3x2", "3x3x1", "2x3x1-end")},
    "full": {"none": ("4x5", "5x3"), "one": ("4x4x2", "3x5x2", "2x6x4"), "several": ("3x3x2",)},
}
"""By the chains of drafts that a decoder verifies; the full tier's are beside those of the quick one."""
FROM = "2x4x2"
"""Where Jacobi decoders begin with other drafts."""
WRONG = ("stale-scores-after-coupling", "recovered-from-target", "bonus-from-draft", "block-on-coupled-drafts")
"""Known-wrong decoders that must be seen to differ, so that no proof is empty."""
WRONG_SIZES = "3x3x2"


RULES: dict[str, tuple[tuple[str, str, str, tuple[float | None, ...]], ...]] = {
    "quick": (
        ("sd", "4x1x1", "mixture", (0.1,)),
        ("sd", "4x1x1", "scaling", (1.5,)),
        ("sd", "4x1x1", "amplify", (3.0,)),
        ("sd", "4x1x1", "cool", (1.1,)),
        ("sd", "3x2x2", "gsd-clusters", (None,)),
        ("sjd", "3x3x2", "gsd-clusters", (None,)),
        ("scd-mc", "3x3x2", "gsd-clusters", (None,)),
    ),
    "full": (
        ("sd", "4x1x1", "mixture", (0.05, 0.2, 0.4)),
        ("sd", "4x1x1", "scaling", (1.1, 1.25, 2.0, 4.0)),
        ("sd", "4x1x1", "cool", (1.5, 2.0, 4.0)),
        ("sjd", "4x2x2", "gsd-clusters", (None,)),
        ("scd-mc", "4x2x2", "gsd-clusters", (None,)),
    ),
}
"""Relaxed rules that keep to something exactly, with values of their parameters."""


def planned(full: bool, initials: Callable[[str], Sequence[Initial]]) -> Iterator[tuple[str, Box]]:
    """Decoders and boxes; those that draw by races are out of reach.

    Args:
        full: for a release.
        initials: a decoder's initial drafts, of which the first are tried in all boxes, and the others in one.
    """
    for name in registry.names("ids"):
        entry = registry.entry(name)
        if entry.races:
            continue
        chains = "none" if not entry.drafts else "one" if entry.chains == 1 else "several"
        for tier in ("quick", "full") if full else ("quick",):
            yield from ((name, box(name, sizes)) for sizes in SIZES[tier][chains])
        yield from ((name, box(name, FROM, initial)) for initial in initials(name)[1:])
    yield from ((name, box(name, WRONG_SIZES)) for name in WRONG)
    for tier in ("quick", "full") if full else ("quick",):
        for name, sizes, rule, values in RULES[tier]:
            yield from ((name, replace(box(name, sizes), rule=rule, value=value)) for value in values)


def box(name: str, sizes: str, initial: Initial | None = None) -> Box:
    """The box of a decoder, or of a known-wrong one, with sizes as `Box.sizes` has them."""
    numbers, _, end = sizes.partition("-")
    vocab, length, *window = map(int, numbers.split("x"))
    if name in defects.names():
        drafts = defects.get(name).smallest.draft is not None
    else:
        drafts = registry.entry(name).needs_draft_model
    return Box(vocab, length, window[0] if window else None, vocab - 1 if end else None, drafts, initial)
