"""Choices by a comparison that is not decided, which come to one function whichever way it turns out.

`where(p > q, p - q, 0)` is (p - q)+, and `where(p >= q, 1, p / q)` is min(1, p / q): whoever writes so compares laws,
and need not be run for each order that they can have. Where the two compared are equal, so are both choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import ONE, UNDEFINED, Assumption, Assumptions, NeedsOrder
from specverify.evidence.exact.orders import APART


@dataclass(frozen=True)
class Decided:
    """A test that is certain, but for what it assumes.

    Attributes:
        came: what comes out.
        assumed: as `Algebra.chosen` takes it.
    """

    came: bool
    assumed: Assumptions

    def outcome(self, algebra: Algebra) -> bool:
        """What comes out."""
        return self.came

    def choice(self, algebra: Algebra, holding: int, failing: int) -> int:
        """The number that it chooses."""
        name, instead = (holding, failing) if self.came else (failing, holding)
        return algebra.chosen(name, instead, self.assumed) if self.assumed else name

    def opposite(self) -> Decided:
        """The test that comes out otherwise."""
        return Decided(not self.came, self.assumed)


@dataclass(frozen=True)
class Comparison:
    """A comparison of two numbers whose order depends on the laws.

    Attributes:
        order: what is asked.
        one, other: their names.
    """

    order: Literal["gt", "ge", "lt", "le"]
    one: int
    other: int

    def outcome(self, algebra: Algebra) -> bool:
        """How it comes out at the real point."""
        gap = algebra.numbers.value[self.one] - algebra.numbers.value[self.other]
        if not abs(gap) > APART:
            raise NeedsOrder("it compares numbers that are equal at the point looked at, and not everywhere")
        return (gap > 0) == (self.order in ("gt", "ge"))

    def choice(self, algebra: Algebra, holding: int, failing: int) -> int:
        """One function that is `holding` where it holds, and `failing` elsewhere.

        All that the four numbers assume is assumed of it.

        Raises:
            NeedsOrder: they come to none that is known.
        """
        if holding == failing:
            return holding
        x, y = (self.one, self.other) if self.order in ("gt", "ge") else (self.other, self.one)
        found = None if UNDEFINED in (x, y, holding, failing) else _known(algebra, x, y, holding, failing)
        if found is None:
            raise NeedsOrder("it compares numbers whose order depends on the laws")
        numbers = algebra.numbers
        assumed = {Assumption(each.number, True) for name in (x, y, holding, failing) for each in numbers.assumed[name]}
        return numbers.assuming(found, numbers.assumed[found] | frozenset(assumed))

    def opposite(self) -> Comparison:
        """The test that comes out otherwise."""
        return Comparison(_OPPOSITE[self.order], self.one, self.other)


@dataclass(frozen=True)
class Joined:
    """What comes of two tests of which one at least is not decided: where(a and b, x, y) = where(a, where(b, x, y), y).

    Attributes:
        every: whether both must hold, or one is enough.
        first, second: the tests.
    """

    every: bool
    first: Test
    second: Test

    def outcome(self, algebra: Algebra) -> bool:
        """How it comes out at the real point."""
        both = self.first.outcome(algebra), self.second.outcome(algebra)
        return all(both) if self.every else any(both)

    def choice(self, algebra: Algebra, holding: int, failing: int) -> int:
        """One function that is `holding` where it holds, and `failing` elsewhere: see `Comparison.choice`."""
        inner = self.second.choice(algebra, holding, failing)
        return self.first.choice(algebra, *((inner, failing) if self.every else (holding, inner)))

    def opposite(self) -> Joined:
        """The test that comes out otherwise."""
        return Joined(not self.every, self.first.opposite(), self.second.opposite())


Undecided = Comparison | Joined
Test = Decided | Undecided
_OPPOSITE: Mapping[str, Literal["gt", "ge", "lt", "le"]] = {"gt": "le", "le": "gt", "ge": "lt", "lt": "ge"}


def joined(one: Test, other: Test, every: bool) -> Test:
    """Both tests, or one of them; whoever is decided is asked first, so that the other is asked of what it leaves."""
    for first, second in ((one, other), (other, one)):
        if isinstance(first, Decided) and not first.assumed:
            return second if first.came == every else first
    return Joined(every, one, other) if isinstance(one, Decided) else Joined(every, other, one)


def _known(algebra: Algebra, x: int, y: int, larger: int, smaller: int) -> int | None:
    """`larger` where x > y and `smaller` where x < y; where x = y, both are the same in each of these."""
    numbers, prime = algebra.numbers, algebra.prime
    a, b, c, d = (numbers.residue[name] or 0 for name in (x, y, larger, smaller))  # only what is undefined has none
    for more, less, here, there, gap in ((x, y, c, d, a - b), (y, x, d, c, b - a)):
        if there == 0:
            part = algebra.positive_part(algebra.apply("sub", more, less))
            if here in (gap % prime, numbers.residue[part]):
                return part
    if (c, d) == (a, b):
        return algebra.apply("maximum", x, y)
    if (c, d) == (b, a):
        return algebra.apply("minimum", x, y)
    # Of min(1, x / y) the divisor is not 0, as it assumes, and so above 0.
    if c == 1 and (d * b - a) % prime == 0 and numbers.facts(y).nonnegative and numbers.over.get(smaller) == b:
        return algebra.apply("minimum", smaller, ONE)
    if d == 1 and (c * a - b) % prime == 0 and numbers.facts(x).nonnegative and numbers.over.get(larger) == a:
        return algebra.apply("minimum", larger, ONE)
    return None
