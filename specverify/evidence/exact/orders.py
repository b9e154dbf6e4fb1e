"""Orders: which of two numbers is the larger where that depends on the laws, decided as it is at the real point.

What was decided is written down, as signs of linear functions of the laws' entries. So a run holds for all laws with
the same signs, and `regions.py` goes through all that there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from specverify.evidence.exact import regions
from specverify.evidence.exact.conditions import Condition, Conditions
from specverify.evidence.exact.numbers import Numbers, Unsettled
from specverify.evidence.exact.regions import CONSTANT, Sign
from specverify.evidence.exact.supports import Supports

Form = Mapping[int, Fraction]
"""A linear function of the entries of all laws: the coefficient of each, by its number."""
APART = 1e-9
"""Numbers that are closer at the real point are not told apart."""


class NoForm(Unsettled):
    """What was to be decided is no linear function of the laws."""


class Orders:
    """What was decided in a run.

    Args:
        numbers: of the run.
        eager: whether minima are decided as well, where they are of linear functions, instead of being free symbols.
        given: signs that are known from the start, so that what is computed before they are asked for is the same as
            what is computed after.

    Attributes:
        signs: those, and others in the order in which they were asked for.
        found: whether a sign was found out that was not known, if only as one that follows from others.
        supports: which sums of entries, and which products of them, functions are.
    """

    def __init__(self, numbers: Numbers, eager: bool = False, given: Sequence[Sign] = ()) -> None:
        self.eager = eager
        self.numbers, self.prime = numbers, numbers.field.prime
        self.signs, self.found = list(given), False
        self.supports = Supports(numbers)
        self._equal: dict[Sign, Conditions] = {}
        self._laws: list[range] = []
        self._entries: list[int] = []
        self._point: list[float] = []
        self._examples: dict[tuple[int, int], np.ndarray] = {}
        numbers.by_order = self.implied
        numbers.by_product = lambda residue: self.supports.product(residue) is not None
        self._forms: dict[int, Form] = {0: {}, 1: {CONSTANT: Fraction(1)}}

    def law(self, names: list[int]) -> None:
        """Number the entries of a new law."""
        start = self._laws[-1].stop if self._laws else 0
        self._laws.append(range(start, start + len(names)))
        for entry, name in zip(self._laws[-1], names, strict=True):
            self._forms.setdefault(self._residue(name), {entry: Fraction(1)})  # but of one that is 0, or certain
            self._entries.append(self._residue(name))
            self._point.append(self.numbers.value[name])
        for sign in self.signs:
            if sign.support != "none" and max(entry for entry, _ in sign.form) in self._laws[-1]:
                self._know(sign)

    def sum(self, result: int, one: int, other: int, sign: int) -> None:
        """Note that a function is the sum of two, or their difference. All are residues."""
        a, b = self._form(one), self._form(other)
        if a is not None and b is not None and result not in self._forms:
            self._forms[result] = _plus(a, b, Fraction(sign))

    def product(self, result: int, one: int, other: int) -> None:
        """Note that a function is the product of two."""
        a, b = self._form(one), self._form(other)
        if a is None or b is None or result in self._forms:
            return
        for form, factor in ((a, b), (b, a)):
            if factor.keys() <= {CONSTANT}:
                constant = factor.get(CONSTANT, Fraction(0))
                self._forms[result] = {entry: constant * each for entry, each in form.items() if constant}
                return

    def quotient(self, result: int, one: int, other: int) -> None:
        """Note that a function is the quotient of two."""
        a, b = self._form(one), self._form(other)
        if a is not None and b is not None and b.keys() == {CONSTANT} and result not in self._forms:
            self._forms[result] = {entry: each / b[CONSTANT] for entry, each in a.items()}

    def decide(self, gap: int, more: int, less: int, closed: bool, open_too: bool) -> None:
        """Write down that one number is larger than another, as it is at the real point.

        What follows from earlier signs is no sign of its own: where the two are equal then is left to assumptions.

        Args:
            gap: the name of their difference.
            more, less: their names.
            closed, open_too: see Sign.

        Raises:
            NoForm: the difference is no linear function of the laws, nor has it the sign of one.
            OutOfReach: it is too close to 0.
        """
        if not self.numbers.value[gap] > APART:
            raise Unsettled("it compares numbers that are equal at the point looked at, and not everywhere")
        own = self._form(self._residue(gap))
        form = self._crossed(more, less, 1) if own is None else own
        form = self._crossed(less, more, -1) if form is None else form
        if form is None:
            raise NoForm("it compares numbers whose order depends on the laws, by no linear function of them")
        facts = self.numbers.facts(gap)
        facts.nonnegative = self.found = True
        sign = Sign(tuple(sorted(form.items())), closed, open_too)
        if regions.impossible([*self.signs, replace(sign.opposite, closed=False)], self._laws):
            facts.positive |= regions.impossible([*self.signs, replace(sign.opposite, closed=True)], self._laws)
            return
        facts.positive |= not closed
        self.signs.append(sign)
        pair = self._residue(more), self._residue(less)
        # Of a quotient it would be so only where it is one.
        equal = {self.numbers.equal(*pair), ("is", self._residue(gap), 0)} if own is not None else set()
        self._equal[sign] = frozenset(equal)

    def split(self, name: int) -> bool:
        """Go on with laws where a number is not 0, and write down that others are left; False if it is not seen which.

        It is seen of products of sums of one law's entries.
        """
        needed = self.supports.needed(name)
        if needed is None:
            return False
        for entries in needed:
            sign = regions.some([entry for x in entries for entry in self._forms[self._residue(x)]])
            if sign not in self.signs:
                self.signs.append(sign)
                self._know(sign)
        self.numbers.facts(name).positive = self.found = True
        return True

    def implied(self, residue: int) -> Conditions:
        """What was compared and is equal wherever a function is 0: all that is at most the function."""
        form, found = self._form(residue), set[Condition]()
        if form is None or form.keys() <= {CONSTANT}:
            return frozenset()
        for sign, equal in self._equal.items():
            more = tuple(sorted(_plus(dict(sign.form), form, Fraction(-1)).items()))
            if not more or (
                not self._met(more) and regions.impossible([*self.signs, Sign(more, False, True)], self._laws)
            ):
                found |= equal
        return frozenset(found)

    def _met(self, form: tuple[tuple[int, Fraction], ...]) -> bool:
        """Whether a function is above 0 at some laws at hand that have all signs."""
        state = len(self.signs), len(self._laws)
        if state not in self._examples:
            self._examples = {state: regions.examples(self.signs, self._laws, self._point)}
        laws = self._examples[state]
        value = sum(float(factor) * (1.0 if entry == CONSTANT else laws[:, entry]) for entry, factor in form)
        return bool(np.any(value > APART)) and len(laws) > 0

    def _know(self, sign: Sign) -> None:
        """Note what a sign says of its function."""
        residue = 0
        for entry, factor in sign.form:
            residue += self.numbers.field.fraction(factor) * (1 if entry == CONSTANT else self._entries[entry])
        residue %= self.prime
        if residue == 0:  # where some entries are 0, for all laws that are left
            return
        self.numbers.is_nonnegative(residue)
        self.numbers.knows(residue).positive |= not sign.closed
        if sign.support is not None:
            return
        self._equal[sign] = frozenset({self.numbers.equal(residue, 0), ("is", residue, 0)})

    def _crossed(self, ratio: int, constant: int, sign: int) -> Form | None:
        """a - c b of a quotient a / b and a constant c, or its opposite, which is noted to be at least 0.

        As b is at least 0, it has the sign of a / b - c.
        """
        divisor = self.numbers.over.get(ratio)
        factor = self.numbers.exact(self._residue(constant))
        if divisor is None or factor is None or not self.numbers.knows(divisor).nonnegative:
            return None
        a, b = self._form(self._residue(ratio) * divisor), self._form(divisor)
        if a is None or b is None:
            return None
        gap = self._residue(ratio) * divisor - self.numbers.field.fraction(factor) * divisor
        self.numbers.is_nonnegative(sign * gap)
        return {entry: sign * each for entry, each in _plus(a, b, -factor).items()}

    def _residue(self, name: int) -> int:
        residue = self.numbers.residue[name]
        assert residue is not None
        return residue

    def _form(self, residue: int) -> Form | None:
        found = self._forms.get(residue % self.prime)
        if found is None and (constant := self.numbers.exact(residue % self.prime)) is not None:
            found = self._forms[residue % self.prime] = {CONSTANT: constant} if constant else {}
        return found


def _plus(one: Form, other: Form, factor: Fraction) -> Form:
    found = dict(one)
    for entry, each in other.items():
        found[entry] = found.get(entry, Fraction(0)) + factor * each
    return {entry: each for entry, each in found.items() if each}
