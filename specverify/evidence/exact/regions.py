"""All orders that laws can have: a law inside of each, and a certificate for each that no law has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from specverify.evidence.exact.numbers import OutOfReach

CONSTANT = -1
"""In place of an entry: what a linear function has beside its entries."""
WIDE = 1e-7
"""Laws with less room than this are not looked for."""
_DENOMINATOR, _CORNERS, _LARGEST = 10_000, 3, 1000.0
_TRIED, _STEPS = 256, 4


class TooNarrow(OutOfReach):
    """Laws have some signs only if numbers are equal, or 0."""


@dataclass(frozen=True)
class Sign:
    """That a linear function of the laws is above 0.

    Attributes:
        form: the function, as pairs of entry and coefficient.
        closed: whether what was decided is the same where it is 0.
        open_too: whether what is decided where it is below 0 may be the same where it is 0.
        support: of a sum of entries, that some of them are there, or that none is; None of all other functions.
    """

    form: tuple[tuple[int, Fraction], ...]
    closed: bool
    open_too: bool
    support: Literal["some", "none"] | None = None

    @property
    def opposite(self) -> Sign:
        """That the function is below 0; of a sum of entries, that all of them are 0."""
        if self.support is not None:
            return replace(self, support="none")
        return Sign(tuple((entry, -factor) for entry, factor in self.form), self.open_too, self.closed)


def some(entries: Sequence[int]) -> Sign:
    """That not all of some entries are 0."""
    return Sign(tuple((entry, Fraction(1)) for entry in sorted(entries)), False, False, "some")


def absent(signs: Sequence[Sign]) -> list[int]:
    """The entries that are 0."""
    return [entry for sign in signs if sign.support == "none" for entry, _ in sign.form]


def inside(signs: Sequence[Sign], laws: Sequence[range], generator: np.random.Generator) -> list[float] | None:
    """Laws that have these signs, with room on all sides, and like no other.

    Args:
        signs: linear functions that are above 0.
        laws: the entries of each law.
        generator: of what is random about them.

    Returns:
        every entry; None if it is certain that no laws have these signs, not even with 0 where a sign is closed.

    Raises:
        TooNarrow: neither is found: laws have these signs only if some of the functions are 0.
    """
    count = laws[-1].stop
    there = np.ones(count, dtype=bool)
    there[absent(signs)] = False
    rows, constants = _matrix([sign for sign in signs if not _always_0(sign, laws, there)], count)
    sums, one = _sums(laws, count)
    # The largest room t: every entry at least t, and every function at least t times what its coefficients add up to.
    most = np.hstack([-rows, np.abs(rows).sum(1, keepdims=True)])
    floor = np.hstack([-np.eye(count), np.ones((count, 1))])[there]
    found = linprog(
        np.r_[np.zeros(count), -1.0],
        np.vstack([most, floor]),
        np.r_[constants, np.zeros(len(floor))],
        np.hstack([sums, np.zeros((len(laws), 1))]),
        one,
        bounds=[(0, int(each)) for each in there] + [(None, 1)],
    )
    best = np.asarray(found.x)
    never = any(not sign.closed and _always_0(sign, laws, there) for sign in signs if sign.support != "none")
    room = float(best[-1]) if found.status == 0 and not never else -1.0
    if room <= WIDE:
        if impossible(signs, laws):
            return None
        raise TooNarrow(
            "what it compares may come out in a way that only laws have of which some numbers are equal, and such laws "
            "are not followed"
        )
    corners: list[np.ndarray] = [best[:count]]
    for _ in range(_CORNERS):
        corner = linprog(
            generator.normal(size=count), -rows, constants - np.abs(rows).sum(1) * room / 4, sums, one,
            bounds=[(room / 4, 1) if each else (0, 0) for each in there],
        )  # fmt: skip
        corners.append(np.asarray(corner.x) if corner.status == 0 else best[:count])
    point = generator.dirichlet(np.ones(len(corners))) @ np.array(corners)
    for law in laws:  # off the corners, where more is equal than must be
        mine = np.arange(law.start, law.stop)[there[law.start : law.stop]]
        moved = generator.uniform(-1, 1, len(mine))
        point[mine] += (moved - moved.mean()) * room / 32
        point[mine] /= point[mine].sum()
    point[~there] = 0.0
    return [float(x) for x in point]


def vanishing(signs: Sequence[Sign], laws: Sequence[range]) -> int | None:
    """An entry that is 0 in all laws that have these signs, as far as can be told in floats; None if there is none."""
    count, split = laws[-1].stop, {entry for sign in signs if sign.support for entry, _ in sign.form}
    rows, constants = _matrix(signs, count)
    sums, one = _sums(laws, count)
    there = set(range(count)) - set(absent(signs))
    for entry in (entry for entry in range(count) if entry not in split):
        found = linprog(
            -np.eye(count)[entry], -rows, constants, sums, one, bounds=[(0, int(x in there)) for x in range(count)]
        )
        if found.status == 0 and np.asarray(found.x)[entry] <= WIDE:
            return entry
    return None


def impossible(signs: Sequence[Sign], laws: Sequence[range]) -> bool:
    """Whether no laws have these signs, by Motzkin's theorem of the alternative, in exact fractions.

    Nonnegative multiples of the functions, of the entries, and any of each law's sum less 1, that add up to a
    constant below 0; or to 0, with a part of a function that must not be 0 itself. Entries that are 0 count for
    nothing.
    """
    gone, count = set(absent(signs)), laws[-1].stop
    places = {entry: number for number, law in enumerate(laws) for entry in law if entry not in gone}
    rows, constants = _matrix(signs, count)
    signs = [sign for sign in signs if sign.support != "none"]
    sums, _ = _sums(laws, count)
    there = [entry for entry in range(count) if entry not in gone]
    # y for the signs and m for the laws: y rows + m sums <= 0, and y constants - m 1 <= 0; as large as can be.
    strict = np.array([0.0 if sign.closed else 1.0 for sign in signs])
    gain = np.r_[-strict + constants, -np.ones(len(laws))]
    found = linprog(
        gain,
        np.vstack([np.hstack([rows.T, sums.T])[there], np.r_[constants, -np.ones(len(laws))][None]]),
        np.zeros(len(there) + 1),
        bounds=[(0, 1)] * len(signs) + [(-_LARGEST, _LARGEST)] * len(laws),
    )
    if found.status != 0:
        return False
    numbers = [Fraction(float(x)).limit_denominator(_DENOMINATOR) for x in np.asarray(found.x)]
    own, free = [max(x, Fraction(0)) for x in numbers[: len(signs)]], numbers[len(signs) :]
    total = {entry: free[law] for entry, law in places.items()}
    constant = -sum(free, Fraction(0))
    for multiple, sign in zip(own, signs, strict=True):
        for entry, factor in sign.form:
            if entry == CONSTANT:
                constant += multiple * factor
            elif entry not in gone:
                total[entry] += multiple * factor
    if any(each > 0 for each in total.values()) or constant > 0:
        return False
    return constant < 0 or any(multiple > 0 and not sign.closed for multiple, sign in zip(own, signs, strict=True))


def examples(signs: Sequence[Sign], laws: Sequence[range], point: Sequence[float]) -> np.ndarray:
    """Laws that have these signs, one in each row, from a point that has them at random up to where one is 0.

    That saves most linear programs that would find no certificate.
    """
    generator, (rows, constants) = np.random.default_rng(0), _matrix(signs, laws[-1].stop)
    found = np.tile(point, (_TRIED, 1))
    for _ in range(_STEPS):
        other = np.hstack([generator.dirichlet(np.ones(len(law)), _TRIED) for law in laws])
        other[:, absent(signs)] = 0.0
        for law in laws:
            other[:, law.start : law.stop] /= other[:, law.start : law.stop].sum(1, keepdims=True)
        way = other - found
        room, slope = np.hstack([found @ rows.T + constants, found]), np.hstack([way @ rows.T, way])
        ends = np.where(slope < 0, room / np.where(slope < 0, -slope, 1.0), _LARGEST).min(1)
        found = found + (generator.random(_TRIED) * ends)[:, None] * way
    have_them: np.ndarray = (found @ rows.T + constants > 0).all(1)
    return np.asarray(found[have_them])


def _always_0(sign: Sign, laws: Sequence[range], there: np.ndarray) -> bool:
    """Whether a function is 0 for all laws with these entries, by their sums alone."""
    left, constant = dict(sign.form), Fraction(0)
    constant += left.pop(CONSTANT, Fraction(0))
    for law in laws:
        factors = {left.get(entry, Fraction(0)) for entry in law if there[entry]}
        if len(factors) > 1:
            return False
        constant += sum(factors)
    return constant == 0


def _matrix(signs: Sequence[Sign], count: int) -> tuple[np.ndarray, np.ndarray]:
    signs = [sign for sign in signs if sign.support != "none"]
    rows, constants = np.zeros((len(signs), count)), np.zeros(len(signs))
    for place, sign in enumerate(signs):
        for entry, factor in sign.form:
            if entry == CONSTANT:
                constants[place] = float(factor)
            else:
                rows[place, entry] = float(factor)
    return rows, constants


def _sums(laws: Sequence[range], count: int) -> tuple[np.ndarray, np.ndarray]:
    sums = np.zeros((len(laws), count))
    for place, law in enumerate(laws):
        sums[place, law.start : law.stop] = 1
    return sums, np.ones(len(laws))
