"""Arithmetic on named numbers: each rule gives the result's name, and says what is certain of it."""

from __future__ import annotations

import contextlib
import math
from typing import Literal

from specverify.evidence.exact.assumed import alike, everywhere_zero, of_a_law, of_product, of_ratio, ratio_is_1
from specverify.evidence.exact.assumed import others as others_of
from specverify.evidence.exact.conditions import Conditions, both, either
from specverify.evidence.exact.numbers import ONE, UNDEFINED, ZERO, Assumption, Assumptions, NeedsOrder, Numbers
from specverify.evidence.exact.orders import NoForm, Orders

Order = Literal["gt", "ge", "lt", "le", "eq", "ne"]
_NONE: Conditions = frozenset()


class Algebra:
    """The arithmetic of a run's numbers. Every method takes names and gives one; nothing is computed twice.

    Args:
        numbers: of the run.
        orders: decides what depends on the laws' order; None if that is refused.

    Attributes:
        done: what came of each operation so far.
    """

    def __init__(self, numbers: Numbers, orders: Orders | None = None) -> None:
        self.numbers, self.prime = numbers, numbers.field.prime
        self.orders = orders
        self.done: dict[tuple[str, int, int], int] = {}

    def apply(self, operation: str, one: int, other: int) -> int:
        """An operation of two names, by the name of its method."""
        key = (operation, one, other)
        if (known := self.done.get(key)) is None:
            known = self.done[key] = getattr(self, operation)(one, other)
        return known

    def add(self, one: int, other: int) -> int:
        """The sum; of nonnegative numbers it is 0 where all of them are."""
        if ZERO in (one, other):
            return max(one, other)  # ZERO is the first name
        if UNDEFINED in (one, other):
            return UNDEFINED
        numbers, a, b = self.numbers, self._residue(one), self._residue(other)
        mine, theirs = numbers.facts(one), numbers.facts(other)
        signed = mine.nonnegative and theirs.nonnegative
        name = numbers.name(
            (a + b) % self.prime,
            numbers.value[one] + numbers.value[other],
            numbers.size[one] + numbers.size[other] + 1,
            numbers.taken(one, other),
            zero=both(numbers.zero_where[one], numbers.zero_where[other]) if signed else _NONE,
            parts=((*self._parts(one), *self._parts(other)),) if signed else (),
        )
        facts = numbers.facts(name)
        facts.nonnegative |= signed
        facts.positive |= signed and (mine.positive or theirs.positive)
        facts.at_most_1 |= numbers.knows(1 - a - b).nonnegative
        if self.orders is not None:
            self.orders.sum((a + b) % self.prime, a, b, 1)
        return name

    def sub(self, one: int, other: int) -> int:
        """The difference; what is left of a sum without one of its parts, or of 1, has a sign."""
        if other == ZERO:
            return one
        if UNDEFINED in (one, other):
            return UNDEFINED
        numbers, a, b = self.numbers, self._residue(one), self._residue(other)
        mine, theirs = numbers.facts(one), numbers.facts(other)
        if whole := one == ONE:
            self._note_rests(other)
        name = numbers.name(
            (a - b) % self.prime,
            numbers.value[one] - numbers.value[other],
            numbers.size[one] + numbers.size[other] + 1,
            numbers.taken(one, other),
            zero=numbers.one_where[other] if whole else _NONE,
            one=numbers.zero_where[other] if whole else _NONE,
        )
        facts = numbers.facts(name)
        facts.nonnegative |= (whole and theirs.at_most_1) or a in theirs.below or bool(others_of(numbers, other, one))
        facts.nonnegative |= mine.nonnegative and any(
            numbers.residue[x] == a and numbers.facts(y).at_most_1
            for pair in numbers.factors.get(b, ())
            for x, y in (pair, pair[::-1])
        )
        facts.positive |= whole and any(0 <= c < 1 and numbers.knows(x).at_most_1 for c, x in numbers.times.get(b, ()))
        numbers.rest_of_least(name, one, b)
        if (x := numbers.exact(a)) is not None and (y := numbers.exact(b)) is not None:
            facts.nonnegative |= x >= y
            facts.positive |= x != y
        facts.at_most_1 |= mine.at_most_1 and theirs.nonnegative
        if mine.nonnegative and theirs.nonnegative:
            pairs = numbers.difference.setdefault(name, [])
            pairs += [(one, other)] if (one, other) not in pairs else []
        if self.orders is not None:
            self.orders.sum((a - b) % self.prime, a, b, -1)
        return name

    def mul(self, one: int, other: int) -> int:
        """The product."""
        if ONE in (one, other):
            return other if one == ONE else one
        if UNDEFINED in (one, other):
            return UNDEFINED
        numbers, a, b = self.numbers, self._residue(one), self._residue(other)
        mine, theirs = numbers.facts(one), numbers.facts(other)
        name = numbers.name(
            a * b % self.prime,
            numbers.value[one] * numbers.value[other],
            numbers.size[one] + numbers.size[other],
            of_product(numbers, one, other),
            zero=either(numbers.zero_where[one], numbers.zero_where[other]),
            one=both(numbers.one_where[one], numbers.one_where[other]),
        )
        facts = numbers.facts(name)
        facts.nonnegative |= mine.nonnegative and theirs.nonnegative
        facts.positive |= mine.positive and theirs.positive
        facts.at_most_1 |= all((mine.nonnegative, mine.at_most_1, theirs.nonnegative, theirs.at_most_1))
        numbers.factors.setdefault(a * b % self.prime, set()).add((one, other))
        for factor, rest in ((one, other), (other, one)):
            if factor in numbers.over:
                numbers.divided(name, numbers.over[factor])
            if (constant := numbers.constant_of(factor)) is not None:
                numbers.times.setdefault(a * b % self.prime, set()).add((constant, self._residue(rest)))
        if self.orders is not None:
            self.orders.product(a * b % self.prime, a, b)
        return name

    def div(self, one: int, other: int) -> int:
        """The quotient, assuming that the divisor is not 0 unless it is known to be positive."""
        if other == ONE:
            return one
        numbers = self.numbers
        if UNDEFINED in (one, other) or numbers.residue[other] == 0:
            return UNDEFINED
        a, b = self._residue(one), self._residue(other)
        mine, theirs = numbers.facts(one), numbers.facts(other)
        below = numbers.assumed[other]
        replaced = any(numbers.residue[x.number] == b and x.safe for x in below)
        assumed = numbers.taken(one) | {Assumption(x.number, x.pole or not x.safe) for x in below}
        if not theirs.positive and not replaced:
            assumed |= {Assumption(other, True)}
        left, others = self.apply("sub", other, one), others_of(numbers, one, other)
        name = numbers.name(
            a * numbers.field.inverse(b) % self.prime,
            numbers.value[one] / numbers.value[other] if numbers.value[other] else math.nan,
            numbers.size[one] + numbers.size[other],
            assumed,
            zero=numbers.zero_where[one],
            one=either(numbers.zero_where[left], everywhere_zero(numbers, others) if others else _NONE),
        )
        facts = numbers.facts(name)
        facts.nonnegative |= mine.nonnegative and theirs.nonnegative
        facts.positive |= mine.positive and theirs.positive
        facts.at_most_1 |= bool(others) or (theirs.nonnegative and numbers.knows(b - a).nonnegative)
        numbers.divided(name, b)
        if self.orders is not None:
            self.orders.quotient(a * numbers.field.inverse(b) % self.prime, a, b)
        return name

    def minimum(self, one: int, other: int) -> int:
        """The smaller of two nonnegative numbers: one of them where that is certain, else a symbol.

        Raises:
            OutOfReach: one of them may be negative.
        """
        if UNDEFINED in (one, other):
            return UNDEFINED
        numbers, a, b = self.numbers, self._residue(one), self._residue(other)
        if not (numbers.facts(one).nonnegative and numbers.facts(other).nonnegative):
            if self.orders is None:
                raise NeedsOrder("it takes the smaller of two numbers of which one may be negative")
            self._ordered(one, other)
        elif self.orders is not None and self.orders.eager:
            with contextlib.suppress(NoForm):
                self._ordered(one, other)
        assumed = numbers.taken(one, other)
        if self._exceeds(b, a, other, one):
            return numbers.assuming(one, assumed)
        if self._exceeds(a, b, one, other):
            return numbers.assuming(other, assumed)
        residue, size = self._symbol(one, other)
        name = numbers.name(
            residue,
            min(numbers.value[one], numbers.value[other]),
            size,
            assumed,
            zero=either(numbers.zero_where[one], numbers.zero_where[other]),
            one=ratio_is_1(numbers, one) if other == ONE else ratio_is_1(numbers, other) if one == ONE else _NONE,
        )
        facts = numbers.facts(name)
        facts.nonnegative = True
        facts.at_most_1 |= numbers.facts(one).at_most_1 or numbers.facts(other).at_most_1
        facts.below |= {a, b}
        numbers.least.setdefault(residue, set()).add((a, b))
        return name

    def maximum(self, one: int, other: int) -> int:
        """The larger of two nonnegative numbers: one, and by how much the other is larger."""
        if ZERO in (one, other):
            return self.positive_part(max(one, other))  # ZERO is the first name
        more, less = (self.positive_part(self.apply("sub", a, b)) for a, b in ((one, other), (other, one)))
        return self.apply("add", other, more) if less != UNDEFINED else UNDEFINED

    def positive_part(self, name: int) -> int:
        """(a - b)+ of a difference: a less the smaller of a and b.

        Raises:
            OutOfReach: it is no difference of two nonnegative numbers, and may be negative.
        """
        numbers = self.numbers
        if name == UNDEFINED or numbers.facts(name).nonnegative:
            return name
        if numbers.knows(-self._residue(name)).nonnegative:
            return numbers.assuming(ZERO, numbers.assumed[name])
        if name not in numbers.difference:
            if self.orders is None:
                raise NeedsOrder("it takes the positive part of a number that is no difference of two nonnegative ones")
            self._ordered(name, ZERO)
            return self.positive_part(name)
        a, b = numbers.difference[name][0]
        part = self.apply("sub", a, self.apply("minimum", a, b))
        if numbers.residue[part]:
            for more, less in numbers.difference[name]:
                numbers.ends(part, more, self._residue(less))
        return numbers.assuming(part, numbers.assumed[part] | numbers.assumed[name])  # which the pair need not have

    def absolute(self, name: int) -> int:
        """|a - b| of a difference: (a - b)+ and (b - a)+."""
        part, numbers = self.positive_part(name), self.numbers
        if part == name:
            return name
        if name not in numbers.difference:
            return self.apply("sub", self.apply("add", part, part), name)
        a, b = numbers.difference[name][0]
        found = self.apply("add", part, self.positive_part(self.apply("sub", b, a)))
        return numbers.assuming(found, numbers.assumed[found] | numbers.taken(name))

    def compare(self, order: Order, one: int, other: int, loose: bool = False) -> tuple[bool, Assumptions]:
        """How two numbers compare, and assuming what: for equality, or with a sign that is certain or decided.

        Args:
            order: what is asked.
            one, other: their names.
            loose: whether it does not matter how it comes out where they are equal.

        Raises:
            OutOfReach: the order of two numbers depends on the laws.
        """
        numbers = self.numbers
        if UNDEFINED in (one, other):
            return order == "ne", numbers.assumed[UNDEFINED]
        gap = self.apply("sub", one, other)
        taken = frozenset(Assumption(x.number, True) for x in numbers.assumed[gap])
        if numbers.residue[gap] == 0:
            return order in ("ge", "le", "eq"), taken
        self._note_divided(gap, one, other)
        apart = taken if numbers.facts(gap).positive else taken | {Assumption(gap, False)}
        if order in ("eq", "ne"):
            return order == "ne", apart
        if numbers.facts(gap).nonnegative:
            return order in ("gt", "ge"), taken if order in ("ge", "lt") else apart
        back = self.apply("sub", other, one)
        self._note_divided(back, other, one)
        if numbers.facts(back).nonnegative:
            apart = taken if numbers.facts(back).positive else taken | {Assumption(back, False)}
            return order in ("lt", "le"), taken if order in ("le", "gt") else apart
        if self.orders is None:
            raise NeedsOrder("it compares numbers whose order depends on the laws")
        more = numbers.value[gap] > 0
        closed = (order in ("ge", "le")) == ((order in ("gt", "ge")) == more)
        self.orders.decide(*((gap, one, other) if more else (back, other, one)), closed, loose or not closed)
        return self.compare(order, one, other)

    def chosen(self, name: int, instead: int, tests: Assumptions) -> int:
        """A number that was chosen by tests, `instead` of which another stands where one of them turns out otherwise.

        Args:
            name, instead: the numbers.
            tests: what must not be 0 for the tests to turn out so; `pole` where more than one decides.
        """
        if name == instead:
            return name
        numbers = self.numbers
        gaps = [self.apply("sub", *pair) for pair in ((instead, name), (name, instead))]
        if alike(numbers, gaps, tests):
            poles = frozenset(test for test in tests if test.pole)
            return numbers.assuming(name, numbers.taken(name, instead) | poles)
        finite = instead != UNDEFINED and not any(x.pole for x in numbers.assumed[instead])
        safe = finite and not numbers.assumed[instead] and numbers.facts(instead).positive
        kept = {x for x in numbers.taken(name) if Assumption(x.number, False) not in tests}
        decided = {Assumption(x.number, x.pole or not finite, safe and not x.pole) for x in tests}
        return numbers.assuming(name, frozenset(kept | decided))

    def _note_rests(self, least: int) -> None:
        """Compute 1 less a sum of min(p(x), ...) for all x of a law p, as the sum of what each leaves of p(x)."""
        total = ZERO
        for entry, part in of_a_law(self.numbers, least):
            total = self.apply("add", total, self.apply("sub", entry, part))

    def _ordered(self, one: int, other: int) -> None:
        """Decide which of two numbers is the larger, where it does not matter if they are equal."""
        larger = self.numbers.value[one] > self.numbers.value[other]
        self.compare("ge", *((one, other) if larger else (other, one)), loose=True)

    def _symbol(self, one: int, other: int) -> tuple[int, int]:
        """min(a / b, 1) is min(a, b) / b: what a was compared with may be compared again without the division."""
        a, b, field = self._residue(one), self._residue(other), self.numbers.field
        size = self.numbers.size[one] + self.numbers.size[other] + 1
        for ratio, unit in ((one, other), (other, one)):
            divisor = self.numbers.over.get(ratio) if unit == ONE else None
            if divisor is not None and self.numbers.knows(divisor).nonnegative:  # else it would be the larger
                residue = self._residue(ratio) * divisor % self.prime
                found, whole = field.minimum(residue, divisor, 2 * size)
                return found * field.inverse(divisor) % self.prime, whole + size
        return field.minimum(a, b, size)

    def _exceeds(self, more: int, less: int, larger: int, smaller: int) -> bool:
        """Whether one number is certain to be at least another."""
        theirs = self.numbers.facts(smaller)
        if more == less or more in theirs.below or (larger == ONE and theirs.at_most_1):
            return True
        return self.numbers.knows(more - less).nonnegative or of_ratio(self.numbers, larger, smaller).nonnegative

    def _note_divided(self, gap: int, larger: int, smaller: int) -> None:
        """Note what is certain of the difference of a quotient and a constant."""
        facts, known = self.numbers.facts(gap), of_ratio(self.numbers, larger, smaller)
        facts.nonnegative |= known.nonnegative
        facts.positive |= known.nonnegative and known.positive

    def _parts(self, name: int) -> tuple[int, ...]:
        return self.numbers.parts[name][0] if self.numbers.parts[name] else (name,)

    def _residue(self, name: int) -> int:
        residue = self.numbers.residue[name]
        assert residue is not None
        return residue
