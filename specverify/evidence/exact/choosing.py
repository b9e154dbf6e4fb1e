"""Choices by a comparison that is not decided, which come to one function whichever way it turns out.

`where(p > q, p - q, 0)` is (p - q)+, and `where(p >= q, 1, p / q)` is min(1, p / q): whoever writes so compares laws,
and need not be run for each order that they can have. Where the two compared are equal, so are both choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import ONE, UNDEFINED, Assumption, NeedsOrder
from specverify.evidence.exact.orders import APART


@dataclass(frozen=True)
class Undecided:
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

    def choice(self, algebra: Algebra, chosen: int, instead: int) -> int:
        """One function that is `chosen` where it comes out as at the real point, and `instead` elsewhere.

        All that the four numbers assume is assumed of it.

        Raises:
            NeedsOrder: they come to none that is known.
        """
        x, y = (self.one, self.other) if self.order in ("gt", "ge") else (self.other, self.one)
        larger, smaller = (chosen, instead) if self.outcome(algebra) else (instead, chosen)
        found = None if UNDEFINED in (x, y, larger, smaller) else _known(algebra, x, y, larger, smaller)
        if found is None:
            raise NeedsOrder("it compares numbers whose order depends on the laws")
        numbers = algebra.numbers
        assumed = {Assumption(each.number, True) for name in (x, y, larger, smaller) for each in numbers.assumed[name]}
        return numbers.assuming(found, numbers.assumed[found] | frozenset(assumed))


def _known(algebra: Algebra, x: int, y: int, larger: int, smaller: int) -> int | None:
    """`larger` where x > y and `smaller` where x < y; where x = y, both are the same in each of these."""
    numbers, prime = algebra.numbers, algebra.prime
    a, b, c, d = (numbers.residue[name] or 0 for name in (x, y, larger, smaller))  # only what is undefined has none
    if d == 0 and (c - a + b) % prime == 0:
        return algebra.positive_part(algebra.apply("sub", x, y))
    if c == 0 and (d - b + a) % prime == 0:
        return algebra.positive_part(algebra.apply("sub", y, x))
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
