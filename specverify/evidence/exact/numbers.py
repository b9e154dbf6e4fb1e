"""Named numbers: what a decoder computes from unknown laws, each as a residue and as what is certain of it.

A number is a rational function of the laws' entries and of the symbols that stand for minima. It is named by its
residue at the run's random point, and by its *assumptions*: other numbers that must not be 0, since it was divided by
them, or chosen because a test found them positive. Equal names are equal functions, but for the error that
`error_bits` bounds. What is certain of a number (that it is at least 0, at most 1, positive, or 0 wherever some other
thing holds) follows from how it was made, for all laws, zeros among their entries included, and with any symbols m
in 0 <= m <= min(1, r) in place of the minima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from specverify.evidence.exact.conditions import EVERYWHERE, Condition, Conditions, either
from specverify.evidence.exact.field import Field

ZERO, ONE, UNDEFINED = 0, 1, 2
"""The first names: 0, 1, and what a division by 0 gives."""
_NONE: Conditions = frozenset()
ROUNDING = 1e-9
_DIGITS, _DENOMINATOR = 6, 1000
_WAYS = 4
"""Sums that are remembered of each number that is one."""


class OutOfReach(BaseException):
    """A proof for every law cannot follow what the decoder does. No Exception, so that `except Exception` lets it by.

    It says nothing against the decoder.
    """


class NeedsOrder(OutOfReach):
    """It can be followed where it is decided which of two numbers is the larger."""


class Unsettled(OutOfReach):
    """It may be followed once more signs of numbers are known; any other refusal holds in whatever run."""


@dataclass(slots=True)
class Facts:
    """What is certain of a rational function, wherever it is defined.

    Attributes:
        nonnegative, at_most_1, positive: its sign and size; positive means that it is nowhere 0.
        below: functions of which it is a minimum, by residue.
    """

    nonnegative: bool = False
    at_most_1: bool = False
    positive: bool = False
    below: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Assumption:
    """That a number is not 0.

    Attributes:
        number: its name.
        pole: whether nothing is known of what stands there where it is 0; else that is a finite number.
        safe: whether it is positive; so of a number that was chosen, and of nothing that is computed with it.
    """

    number: int
    pole: bool
    safe: bool = False


Assumptions = frozenset[Assumption]
_CLEAN: Assumptions = frozenset()


_UNKNOWN = Facts()


class Numbers:
    """All numbers of one run.

    Args:
        seed: of the field and the point.

    Attributes:
        residue, value, size, assumed, zero_where, one_where, parts: lists over names. `value` is the number at a
            second, real point, which every tensor is held against. `size` bounds the degrees of numerator and
            denominator and the bits of their coefficients' sum. `parts`: nonnegative numbers that it is the sum of, in
            several ways.
        difference: names a, b of which a number is a - b, both nonnegative; all that turned up.
        rest: of (a - b)+, the residues of a and b; all that turned up.
        least: by residue, the residues of which a number is the smaller; all that turned up.
        rounded: residues of smaller ones that came of arithmetic, so that their floats are neither of the two.
        over: of a quotient, or a multiple of one, the residue that it was divided by.
        times: by residue, the constants and the residues of which a number is the product; all that turned up.
        laws: the names of the entries of each.
        factors: by residue, the names of which a number is the product; all that turned up.
        entry: what an entry of a law is called, by residue.
        implied: what holds wherever a number is 0, as far as `assumed.implied` was asked.
        by_order: what holds wherever a function is 0, by what was decided of the laws' order.
        by_product: whether a function is seen to be at least 0, as it is a product of sums of entries.
    """

    def __init__(self, seed: int) -> None:
        self.field = Field(seed)
        self.residue: list[int | None] = []
        self.value: list[float] = []
        self.size: list[int] = []
        self.assumed: list[Assumptions] = []
        self.zero_where: list[Conditions] = []
        self.one_where: list[Conditions] = []
        self.parts: list[tuple[tuple[int, ...], ...]] = []
        self.difference: dict[int, list[tuple[int, int]]] = {}
        self.rest: dict[int, set[tuple[int, int]]] = {}
        self.least: dict[int, set[tuple[int, int]]] = {}
        self.rounded: set[int] = set()
        self.over: dict[int, int] = {}
        self.times: dict[int, set[tuple[float, int]]] = {}
        self.laws: list[list[int]] = []
        self.factors: dict[int, set[tuple[int, int]]] = {}
        self._facts: dict[int | None, Facts] = {}
        self._names: dict[tuple[int | None, Assumptions], int] = {}
        self._constants: dict[float, int] = {}
        self._value_of: dict[int, float] = {}
        self._exact: dict[int, Fraction] = {0: Fraction(0), 1: Fraction(1)}
        self.implied: dict[int, Conditions] = {}
        self._differences: set[int] = set()
        self.entry: dict[int | None, str] = {}
        self.by_order: Callable[[int], Conditions] = lambda residue: _NONE
        self.by_product: Callable[[int], bool] = lambda residue: False
        self.name(0, 0.0, 0, zero=EVERYWHERE)
        self.name(1, 1.0, 0, one=EVERYWHERE)
        self._facts[0] = Facts(nonnegative=True, at_most_1=True)
        self._facts[1] = Facts(True, True, True)
        lost = self.name(None, math.nan, 0)
        self.assumed[lost] = frozenset({Assumption(UNDEFINED, True)})

    def __len__(self) -> int:
        return len(self.residue)

    def name(
        self,
        residue: int | None,
        value: float,
        size: int,
        assumed: Assumptions = _CLEAN,
        *,
        zero: Conditions = _NONE,
        one: Conditions = _NONE,
        parts: tuple[tuple[int, ...], ...] = (),
    ) -> int:
        """The name of a number, new or known; what is newly certain of it is added."""
        known = self._names.get((residue, assumed))
        if known is None:
            known = self._names[residue, assumed] = len(self.residue)
            self.residue.append(residue)
            self.value.append(value)
            self.size.append(size)
            self.assumed.append(assumed)
            self.zero_where.append(_NONE)
            self.one_where.append(_NONE)
            self.parts.append(())
            self._facts.setdefault(residue, Facts())
            if residue == 0:
                zero = EVERYWHERE
            elif residue == 1:
                one = EVERYWHERE
            elif residue is not None:
                zero, one = zero | {("is", residue, 0)}, one | {("is", residue, 1)}
        for each in parts[:_WAYS]:
            if each not in self.parts[known] and len(self.parts[known]) < _WAYS:
                self.parts[known] += (each,)
                self.implied.pop(known, None)
        self.zero_where[known] = either(self.zero_where[known], zero)
        self.one_where[known] = either(self.one_where[known], one)
        return known

    def facts(self, name: int) -> Facts:
        """What is certain of a number."""
        return self._facts[self.residue[name]]

    def knows(self, residue: int) -> Facts:
        """What is certain of the function with a residue; nothing if it has not turned up."""
        self.field.asked += 1
        if not self._facts.get(residue % self.field.prime, _UNKNOWN).nonnegative and self.by_product(residue):
            self.is_nonnegative(residue)
        return self._facts.get(residue % self.field.prime, Facts())

    def is_nonnegative(self, residue: int) -> None:
        """Note that a function is at least 0, whether it has turned up or not."""
        self._facts.setdefault(residue % self.field.prime, Facts()).nonnegative = True

    def law(self, values: Sequence[float], absent: Sequence[int] = ()) -> list[int]:
        """A new law, free but for its sum, with entries that may be 0: their names.

        Args:
            values: the law at the real point.
            absent: places of entries that are 0 in all laws of the run.
        """
        there = [place for place in range(len(values)) if place not in absent]
        residues = [self.field.uniform() for _ in there[1:]]
        residues.append((1 - sum(residues)) % self.field.prime)
        names = [ZERO] * len(values)
        for place, residue in zip(there, residues, strict=True):
            names[place] = ONE if len(there) == 1 else self.name(residue, values[place], len(values))
        self.laws.append(names)
        for name in names:
            facts = self.facts(name)
            facts.nonnegative = facts.at_most_1 = True
        return names

    def constant(self, value: float) -> int:
        """A constant of the decoder's own, as the fraction or short decimal that it is.

        Raises:
            OutOfReach: it is neither, and so may come from a law by a way that was not seen.
        """
        value = float(value)
        if (known := self._constants.get(value)) is not None:
            return known
        if not math.isfinite(value):
            if math.isnan(value):
                return UNDEFINED
            raise OutOfReach(f"it computes with the constant {value}")
        near = Fraction(value).limit_denominator(_DENOMINATOR)
        if float(near) != value:
            near = Fraction(f"{value:.{_DIGITS}g}")
            if float(near) != value:
                raise OutOfReach(
                    f"it computes with the number {value!r}, which is no short fraction: it is a constant of its own "
                    "that no proof can take for exact, or comes from a law by a way that was not seen"
                )
        bits = near.numerator.bit_length() + near.denominator.bit_length()
        name = self.name(self.field.fraction(near), value, bits)
        facts = self.facts(name)
        facts.nonnegative, facts.at_most_1, facts.positive = value >= 0, value <= 1, value > 0
        if value > 0:
            self.field.multiple(self.field.fraction(near), bits)
        self._constants[value], self._value_of[name] = name, value
        self._exact[self.field.fraction(near)] = near
        return name

    def constant_of(self, name: int) -> float | None:
        """The constant that a number is; None if it is none that turned up."""
        return self._value_of.get(name)

    def exact(self, residue: int) -> Fraction | None:
        """The constant that a function is, by residue; None if it is none that turned up."""
        return self._exact.get(residue)

    def taken(self, *names: int) -> Assumptions:
        """What is assumed of numbers that something is computed from."""
        return frozenset(Assumption(x.number, x.pole) for name in names for x in self.assumed[name])

    def find(self, residue: int, assumed: Assumptions) -> int | None:
        """The name of a number, if it has turned up under just these assumptions."""
        return self._names.get((residue, assumed))

    def assuming(self, name: int, assumed: Assumptions) -> int:
        """The same number with other assumptions."""
        if assumed == self.assumed[name] or name == UNDEFINED:
            return name
        before, now = ({x.number for x in each} for each in (self.assumed[name], assumed))
        kept = before <= now  # else what is certain may rest on what is assumed no more
        other = self.name(
            self.residue[name],
            self.value[name],
            self.size[name],
            assumed,
            zero=self.zero_where[name] if kept else _NONE,
            one=self.one_where[name] if kept else _NONE,
            parts=self.parts[name] if kept else (),
        )
        if kept and name in self.over:
            self.over.setdefault(other, self.over[name])
        if kept and name in self.difference:
            self.difference.setdefault(other, self.difference[name])
        return other

    def equal(self, one: int, other: int) -> Condition:
        """That two functions, by residue, are equal somewhere; perhaps as both are 0.

        Where they are, so are all whose difference is a multiple of theirs by a constant.
        """
        gap = one - other
        self.field.asked += 2 * len(self.field.multiples)
        for multiple in self.field.multiples:
            for turned in (gap * multiple % self.field.prime, -gap * multiple % self.field.prime):
                if turned in self._differences:
                    return ("equal", turned, 0)
        self._differences.add(gap % self.field.prime)
        return ("equal", gap % self.field.prime, 0)

    def ends(self, name: int, more: int, less: int) -> None:
        """Say that a number is (a - b)+, of a by name and b by residue: at most a, and 0 where the two are equal."""
        zero, pair = self.zero_where[more], (self.residue[more] or 0, less)
        if less:
            zero = either(zero, frozenset({self.equal(*pair)}))
            self.rest.setdefault(name, set()).add(pair)
        self.zero_where[name] = either(self.zero_where[name], zero)

    def note_rounded(self, names: list[int]) -> None:
        """Note those that are minima, and came of arithmetic."""
        self.rounded.update(a for name in names if (a := self.residue[name]) in self.least and a is not None)

    def rounded_beside(self, one: int, other: int) -> bool:
        """Whether one of two numbers is the smaller of the other and a third, and came of arithmetic."""
        a, b = self.residue[one], self.residue[other]
        pairs = ((x, y) for x, y in ((a, b), (b, a)) if x is not None and x in self.rounded)
        return any(y in pair for x, y in pairs for pair in self.least[x])

    def rest_of_least(self, name: int, more: int, least: int) -> None:
        """Say that a number is a less another; if that is the smaller of a and some c, it is (a - c)+."""
        mine = self.residue[more]
        if self.residue[name]:
            for c in {x for pair in self.least.get(least, ()) if mine in pair for x in pair if x != mine}:
                self.ends(name, more, c)

    def divided(self, name: int, divisor: int) -> None:
        """Note by what a number was divided: it is 1 where what was divided equals that, which is assumed not to be 0.

        Only while it is assumed: a product may have lost the assumption.
        """
        residue = self.residue[name]
        assumed = self.knows(divisor).positive or any(self.residue[x.number] == divisor for x in self.assumed[name])
        if assumed and residue is not None and residue > 1:
            self.over.setdefault(name, divisor)
            equal = frozenset({self.equal(residue * divisor % self.field.prime, divisor)})
            self.one_where[name] = either(self.one_where[name], equal)

    def check(self) -> None:
        """Raise AssertionError if what is certain of a number is not so at the real point.

        Numbers with one residue are one function, and have one value.
        """
        values: dict[int | None, float] = {}
        for name, value in enumerate(self.value):
            facts = self.facts(name)
            if math.isnan(value):
                continue
            first = values.setdefault(self.residue[name], value)
            assert abs(first - value) <= ROUNDING * max(1.0, abs(value)), (first, value)
            low, high = (0.0 if facts.nonnegative else -math.inf), (1.0 if facts.at_most_1 else math.inf)
            assert low - ROUNDING <= value <= high + ROUNDING, (value, facts)
