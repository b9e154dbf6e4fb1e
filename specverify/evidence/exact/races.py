"""Races of two tokens under unknown laws: how much of what is left of a race's noise gives each of them the win.

A race is one number u, uniform on [0, 1], and under the law (p, 1 - p) token 0 wins where u < p. Who was told a winner
knows an interval in which u lies, and another law divides that. Its length and its parts are functions of the laws by
sums and minima alone, so that free symbols may stand for these as they do elsewhere (docs/proofs.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import ONE, UNDEFINED, ZERO


@dataclass(frozen=True)
class Look:
    """That a race was asked for its winner.

    Attributes:
        before: the number of what was known of it.
        winner: the token.
        parts: names of how long the parts were of the interval left then in which token 0 wins, and token 1.
    """

    before: int
    winner: int
    parts: tuple[int, int]


class Races:
    """What may be known of a race in a run, by number: 0 that nothing is, else a last look and what was known before.

    Args:
        algebra: of the run.
    """

    def __init__(self, algebra: Algebra) -> None:
        self.algebra = algebra
        self._looks: list[Look | None] = [None]
        self._numbers: dict[Look, int] = {}
        self._parts: dict[tuple[int, tuple[int, int]], tuple[int, int]] = {}

    def length(self, known: int) -> int:
        """The name of the length of the interval that is left."""
        look = self._looks[known]
        return ONE if look is None else look.parts[look.winner]

    def parts(self, known: int, law: tuple[int, int]) -> tuple[int, int]:
        """Names of the lengths of both parts into which a law divides what is left; they add up to its length.

        What a law gave to the winner of a look before can lie on one side of that look's own cut only: of its own part
        no more than is left, and of the other the rest.
        """
        look = self._looks[known]
        if look is None:
            return law
        if (found := self._parts.get((known, law))) is None:
            before, apply = self.parts(look.before, law), self.algebra.apply
            (mine, theirs), (left, lost) = ((x[look.winner], x[1 - look.winner]) for x in (before, look.parts))
            mine = apply("minimum", mine, left)
            other = apply("sub", left, mine)
            numbers = self.algebra.numbers
            if numbers.residue[other] and (cut := numbers.residue[lost]) is not None:
                numbers.ends(other, theirs, cut)  # as (left - mine)+ is (theirs - lost)+, too
            found = self._parts[known, law] = (other, mine) if look.winner else (mine, other)
        return found

    def ends(self, known: int, law: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where u lies between a and b: min(b, p), min(a, p), min(1 - a, 1 - p) and min(1 - b, 1 - p), by name."""
        look, apply = self._looks[known], self.algebra.apply
        if look is None:
            return law[0], ZERO, law[1], ZERO
        high, low, above, beyond = self.ends(look.before, law)
        zero, one = self.parts(known, law)
        if look.winner == 0:
            return apply("add", low, zero), low, above, apply("sub", above, one)
        return high, apply("sub", high, zero), apply("add", beyond, one), beyond

    def first(self, known: Sequence[int], law: tuple[int, int]) -> int:
        """The name of the chance that token 0 comes first in any of several races, times the lengths that are left.

        As in `enumerated_races.chance_of_zero`: with c = min(b, p) and so on, one race brings nothing before t with
        the chance sum +- c exp(-t p / c), and a product of such sums is integrated term by term: to its factors times
        what the rates p / c of token 0 are of all. Rates are multiplied by all c, and a c of 0 makes a term 0.
        """
        apply, found = self.algebra.apply, ZERO
        if len(known) == 1:
            return self.parts(known[0], law)[0]
        every = [zip(self.ends(each, law), ("add", "sub", "add", "sub"), (0, 0, 1, 1), strict=True) for each in known]
        for terms in itertools.product(*every):
            if any(self.algebra.numbers.residue[end] == 0 for end, _, _ in terms):
                continue
            whole, rates = ONE, [ZERO, ZERO]
            for place, (end, _, token) in enumerate(terms):
                whole, rate = apply("mul", whole, end), law[token]
                for other, (factor, _, _) in enumerate(terms):
                    rate = rate if other == place else apply("mul", rate, factor)
                rates[token] = apply("add", rates[token], rate)
            if rates[1] != ZERO:
                whole = self._over(apply("mul", whole, rates[0]), apply("add", *rates))
            sign = sum(how == "sub" for _, how, _ in terms) % 2
            found = apply("sub" if sign else "add", found, whole if rates[0] != ZERO else ZERO)
        return found

    def _over(self, one: int, other: int) -> int:
        """A factor times a part of a sum, over that sum: 0 where the sum is 0, as the factor is 0 there too."""
        numbers = self.algebra.numbers
        a, b = numbers.residue[one], numbers.residue[other]
        if a is None or b is None:
            return UNDEFINED
        return numbers.name(
            a * numbers.field.inverse(b) % numbers.field.prime,
            numbers.value[one] / numbers.value[other] if numbers.value[other] else 0.0,
            numbers.size[one] + numbers.size[other],
            numbers.taken(one, other),
            zero=numbers.zero_where[one],
        )

    def after(self, known: int, winner: int, parts: tuple[int, int]) -> int:
        """The number of what is known after a look. One that was certain tells nothing."""
        residue = self.algebra.numbers.residue
        if residue[parts[1 - winner]] == 0:
            return known
        look = Look(known, winner, parts)
        if (number := self._numbers.get(look)) is None:
            number = self._numbers[look] = len(self._looks)
            self._looks.append(look)
        return number
