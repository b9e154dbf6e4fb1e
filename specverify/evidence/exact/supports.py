"""Which entries of laws must be there for a number not to be 0."""

from __future__ import annotations

from itertools import combinations

from specverify.evidence.exact.numbers import Numbers

_LARGEST = 8
"""Tokens of laws of which sums of entries are known again."""


class Supports:
    """Sums of entries, and products of these, known again by their residues.

    Args:
        numbers: of the run.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.numbers, self.prime = numbers, numbers.field.prime
        self._sums: dict[int, tuple[int, ...]] = {}
        self._inverses: dict[int, tuple[int, ...]] = {}
        self._none: set[int] = set()
        self._seen = 0, 0

    def needed(self, name: int) -> list[tuple[int, ...]] | None:
        """Of each of some sums of entries, their names: a number is not 0 where none of these sums is.

        Returns:
            None if none are found: it is made of other things than sums and products of entries, and what is positive.
        """
        return self._needed(name, frozenset())

    def product(self, residue: int) -> list[tuple[int, ...]] | None:
        """The sums of entries of which a function is a positive multiple, or the product of two of them one."""
        self._see()
        if (residue := residue % self.prime) in self._none:
            return None
        several = len(self.numbers.field.multiples) + len(self._inverses)
        self.numbers.field.asked += several * (1 + len(self._sums) // len(self.numbers))
        for multiple in self.numbers.field.multiples:
            if (entries := self._sums.get(residue * multiple % self.prime)) is not None:
                return [entries]
        for inverse, entries in self._inverses.items():
            if (others := self._sums.get(residue * inverse % self.prime)) is not None:
                return [entries, others]
        self._none.add(residue)
        return None

    def _needed(self, name: int, asked: frozenset[int]) -> list[tuple[int, ...]] | None:
        residue = self.numbers.residue[name]
        if residue is None or name in asked:
            return None
        if self.numbers.knows(residue).positive:
            return []
        residue = residue * self.numbers.over.get(name, 1) % self.prime  # of a quotient, what was divided
        for signed in (residue, -residue):  # p(x) - 1 is less the sum of all others
            if (found := self.product(signed)) is not None:
                return found
        for pair in self.numbers.factors.get(residue, ()):
            one, other = (self._needed(factor, asked | {name}) for factor in pair)
            if one is not None and other is not None:
                return [*one, *(each for each in other if each not in one)]
        for part in (part for parts in self.numbers.parts[name] for part in parts):  # of which one is enough
            if (found := self._needed(part, asked | {name})) is not None:
                return found
        return None

    def _see(self) -> None:
        """Take up new laws: the sums of some of the entries, but not of all; what was none may be one with these."""
        now = len(self.numbers.laws), len(self.numbers.field.multiples)
        if now != self._seen:
            self._none.clear()
        for law in self.numbers.laws[self._seen[0] :]:
            there = [name for name in law if self.numbers.residue[name]]
            for count in range(1, len(there) if len(there) <= _LARGEST else 0):
                for names in combinations(there, count):
                    residue = sum(self.numbers.residue[name] or 0 for name in names) % self.prime
                    self._sums[residue] = self._inverses[self.numbers.field.inverse(residue)] = names
        self._seen = now
