"""Which entries of laws must be there for a number not to be 0."""

from __future__ import annotations

from itertools import combinations

from specverify.evidence.exact.numbers import Numbers

_LARGEST = 8
"""Tokens of laws of which sums of entries are known again."""


def needed(numbers: Numbers, name: int) -> list[tuple[int, ...]] | None:
    """Of each of some sums of entries, their names: a number is not 0 where none of these sums is.

    Args:
        numbers: of the run.
        name: the number.

    Returns:
        None if none are found: it is made of other things than sums and products of entries, and of what is positive.
    """
    return _needed(numbers, _sums(numbers), name, frozenset())


def _needed(
    numbers: Numbers, sums: dict[int | None, tuple[int, ...]], name: int, asked: frozenset[int]
) -> list[tuple[int, ...]] | None:
    residue = numbers.residue[name]
    if residue is None or name in asked:
        return None
    if numbers.knows(residue).positive:
        return []
    for multiple in numbers.field.multiples:
        for signed in (multiple, -multiple):  # as p(x) - 1 is less the sum of all others
            if (entries := sums.get(residue * signed % numbers.field.prime)) is not None:
                return [entries]
    asked |= {name}
    for pair in numbers.factors.get(residue, ()):
        one, other = (_needed(numbers, sums, factor, asked) for factor in pair)
        if one is not None and other is not None:
            return [*one, *(each for each in other if each not in one)]
    for part in (part for parts in numbers.parts[name] for part in parts):  # of which one is enough
        if (found := _needed(numbers, sums, part, asked)) is not None:
            return found
    return None


def _sums(numbers: Numbers) -> dict[int | None, tuple[int, ...]]:
    """The sums of some of a law's entries, but not of all, by residue."""
    found: dict[int | None, tuple[int, ...]] = {}
    for law in numbers.laws:
        there = [name for name in law if numbers.residue[name]]
        for count in range(1, len(there) if len(there) <= _LARGEST else 0):
            for names in combinations(there, count):
                found[sum(numbers.residue[name] or 0 for name in names) % numbers.field.prime] = names
    return found
