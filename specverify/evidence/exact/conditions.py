"""Where a number is 0, or 1: conditions, of which each alone is enough."""

from __future__ import annotations

Condition = tuple[str, int, int]
"""By residues: ("is", x, c) that x is c, 0 or 1; ("equal", d, 0) that two functions of the difference d are equal."""
Conditions = frozenset[Condition]
"""Each of them alone is enough."""
EVERYWHERE: Conditions = frozenset({("always", 0, 0)})


def either(one: Conditions, other: Conditions) -> Conditions:
    """Conditions of which each is enough for at least one of two things."""
    if one is EVERYWHERE or other is EVERYWHERE:
        return EVERYWHERE
    return one | other if one and other else one or other


def both(one: Conditions, other: Conditions) -> Conditions:
    """Conditions of which each is enough for both of two things."""
    if one is EVERYWHERE:
        return other
    return one if other is EVERYWHERE else one & other
