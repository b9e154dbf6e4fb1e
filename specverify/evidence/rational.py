"""Probabilities as fractions, where they are some."""

from __future__ import annotations

from fractions import Fraction

LARGEST = 100_000
"""Largest denominator that is looked for: below it, a number that is no such fraction is hardly ever taken for one."""
ROUNDING = 1e-14
"""How far rounding may have carried a probability."""
READABLE = 10_000
"""Largest denominator that is printed."""


def as_fraction(value: float) -> Fraction | None:
    """The fraction that a float is, up to rounding; None if there is none with a denominator of at most `LARGEST`."""
    near = Fraction(value).limit_denominator(LARGEST)
    return near if abs(float(near) - value) <= ROUNDING else None


def numbers(*values: float) -> list[str]:
    """Probabilities in a text: fractions where they are some, else with as many digits as tell them all apart."""
    unlike = len({round(value, 14) for value in values})
    digits = next((n for n in range(4, 16) if len({f"{value:.{n}g}" for value in values}) >= unlike), 16)
    nearest = [as_fraction(value) for value in values]
    return [
        str(near) if near is not None and near.denominator < READABLE else f"{value:.{digits}g}"
        for near, value in zip(nearest, values, strict=True)
    ]
