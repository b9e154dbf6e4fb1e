"""Which decoders are tried to be proved for every law of which sizes, and which known-wrong ones must not be."""

from __future__ import annotations

from specverify import declared
from specverify.cell import Asked, Cell, settings
from specverify.declared import Initial

SIZES = {
    "quick": {
        "none": ("3x4", "3x3-end"),
        "one": ("3x4x3", "3x3x2-end"),
        "several": ("2x3x2", "3x3x1", "2x3x1-end"),
        "races": ("2x4x3", "2x3x2-end"),
        "orders": ("3x2x2", "2x3x2", "3x2x2-end"),
    },
    "full": {
        "none": ("4x5", "5x3"),
        "one": ("4x4x2", "3x5x2", "2x6x4"),
        "several": ("3x3x2",),
        "races": ("2x5x3",),
        "orders": ("4x2x2",),
    },
}
"""By the chains of drafts that a decoder verifies, or as these are drawn by races; the full tier's are beside those of
the quick one. Who draws by races has two tokens in all of them."""
IN_ORDERS = ("sjd-tree", "sjd-reuse")
"""What they do hangs on which probability is the larger, or is 0, so that each case is run by itself: siblings that
differ have no law where one token is certain, and what is reused hangs on two laws."""
FROM, FROM_IN_ORDERS = "2x4x2", "3x2x2"
"""Where Jacobi decoders begin with other drafts."""
WRONG = {
    "stale-scores-after-coupling": "3x3x2",
    "recovered-from-target": "3x3x2",
    "bonus-from-draft": "3x3x2",
    "block-on-coupled-drafts": "3x3x2",
    "race-not-shifted": "2x3x2",
    "one-race-for-a-step": "2x3x2",
}
"""Known-wrong decoders that must be seen to differ in these sizes, so that no proof is empty."""
RULES: dict[str, tuple[tuple[str, str, str, tuple[float | None, ...]], ...]] = {
    "quick": (
        ("sd", "4x1x1", "mixture", (0.1,)),
        ("sd", "4x1x1", "scaling", (1.5,)),
        ("sd", "4x1x1", "amplify", (3.0,)),
        ("sd", "4x1x1", "cool", (1.1,)),
        ("sd", "2x1x1", "lantern", (0.1,)),
        ("sd", "3x1x1", "lantern", (0.1,)),
        ("sd", "2x1x1", "lantern++", (5.0,)),
        ("sd", "3x1x1", "lantern++", (5.0,)),
        ("sd", "3x2x2", "gsd-clusters", (None,)),
        ("sjd", "3x3x2", "gsd-clusters", (None,)),
        ("scd-mc", "3x3x2", "gsd-clusters", (None,)),
    ),
    "full": (
        ("sd", "4x1x1", "mixture", (0.05, 0.2, 0.4)),
        ("sd", "4x1x1", "scaling", (1.1, 1.25, 2.0, 4.0)),
        ("sd", "4x1x1", "cool", (1.5, 2.0, 4.0)),
        ("sd", "3x1x1", "lantern", (0.01, 0.05, 0.2, 0.4)),
        ("sd", "3x1x1", "lantern++", (10.0, 20.0)),
        ("sjd", "4x2x2", "gsd-clusters", (None,)),
        ("scd-mc", "4x2x2", "gsd-clusters", (None,)),
    ),
}
"""Relaxed rules that keep to something exactly, with values of their parameters."""


def cells(asked: Asked) -> list[Cell]:
    """Decoders and sizes.

    Of a decoder's initial drafts the first are tried in all sizes, and the others in one, which of those that are run
    in orders take 40 seconds each and are the full tier's.
    """
    tiers = ("quick", "full") if asked.full else ("quick",)
    found = []
    for name in declared.decoders_of("ids", relaxed=False):
        entry = declared.decoder(name)
        chains = "none" if not entry.drafts else "several" if entry.chains > 1 else "races" if entry.races else "one"
        chains = "orders" if name in IN_ORDERS else chains
        mine = [sizes for tier in tiers for sizes in SIZES[tier][chains]]
        found += [_cell(name, sizes) for sizes in dict.fromkeys(f"2{x[1:]}" if entry.races else x for x in mine)]
        initials = [initial for initial, _ in settings(name, True) if initial]
        if name not in IN_ORDERS:
            found += [_cell(name, FROM, initial) for initial in initials[1:]]
        elif asked.full:
            found += [_cell(name, FROM_IN_ORDERS, initial) for initial in initials[1:]]
    found += [_cell(name, sizes) for name, sizes in WRONG.items()]
    for tier in tiers:
        for name, sizes, rule, values in RULES[tier]:
            found += [_cell(name, sizes, None, rule, value) for value in values]
    return found


def _cell(
    name: str, sizes: str, initial: Initial | None = None, rule: str | None = None, value: float | None = None
) -> Cell:
    """Of a decoder, or of a known-wrong one, with sizes as `Box.sizes` has them."""
    _, _, *window = sizes.partition("-")[0].split("x")
    return Cell("proof", name, sizes, int(window[0]) if window else None, initial, rule=rule, value=value)
