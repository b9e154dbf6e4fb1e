"""All orders that laws can have: a law inside of each, and a certificate for each that no law has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import linprog

from specverify.evidence.exact.numbers import OutOfReach

CONSTANT = -1
"""In place of an entry: what a linear function has beside its entries."""
WIDE = 1e-7
"""Laws with less room than this are not looked for."""
_DENOMINATOR, _CORNERS, _LARGEST = 10_000, 3, 1000.0


@dataclass(frozen=True)
class Sign:
    """That a linear function of the laws is above 0.

    Attributes:
        form: the function, as pairs of entry and coefficient.
        closed: whether what was decided is the same where it is 0.
        open_too: whether what is decided where it is below 0 may be the same where it is 0.
    """

    form: tuple[tuple[int, Fraction], ...]
    closed: bool
    open_too: bool

    @property
    def opposite(self) -> Sign:
        """That the function is below 0."""
        return Sign(tuple((entry, -factor) for entry, factor in self.form), self.open_too, self.closed)


def inside(signs: Sequence[Sign], laws: Sequence[range], generator: np.random.Generator) -> list[float] | None:
    """Laws that have these signs, with room on all sides, and like no other.

    Args:
        signs: linear functions that are above 0.
        laws: the entries of each law.
        generator: of what is random about them.

    Returns:
        every entry; None if it is certain that no laws have these signs, not even with 0 where a sign is closed.

    Raises:
        OutOfReach: neither is found: laws have these signs only if some of the functions are 0.
    """
    count = laws[-1].stop
    rows, constants = _matrix(signs, count)
    sums, one = _sums(laws, count)
    # The largest room t: every entry at least t, and every function at least t times what its coefficients add up to.
    most = np.hstack([-rows, np.abs(rows).sum(1, keepdims=True)])
    floor = np.hstack([-np.eye(count), np.ones((count, 1))])
    found = linprog(
        np.r_[np.zeros(count), -1.0],
        np.vstack([most, floor]),
        np.r_[constants, np.zeros(count)],
        np.hstack([sums, np.zeros((len(laws), 1))]),
        one,
        bounds=[(0, 1)] * count + [(None, 1)],
    )
    best = np.asarray(found.x)
    room = float(best[-1]) if found.status == 0 else -1.0
    if room <= WIDE:
        if impossible(signs, laws):
            return None
        raise OutOfReach(
            "what it compares may come out in a way that only laws have of which some numbers are equal, and such laws "
            "are not followed"
        )
    corners: list[np.ndarray] = [best[:count]]
    for _ in range(_CORNERS):
        corner = linprog(
            generator.normal(size=count), -rows, constants - np.abs(rows).sum(1) * room / 4, sums, one,
            bounds=[(room / 4, 1)] * count,
        )  # fmt: skip
        corners.append(np.asarray(corner.x) if corner.status == 0 else best[:count])
    point = generator.dirichlet(np.ones(len(corners))) @ np.array(corners)
    for law in laws:  # off the corners, where more is equal than must be
        moved = generator.uniform(-1, 1, len(law))
        point[law.start : law.stop] += (moved - moved.mean()) * room / 32
        point[law.start : law.stop] /= point[law.start : law.stop].sum()
    return [float(x) for x in point]


def impossible(signs: Sequence[Sign], laws: Sequence[range]) -> bool:
    """Whether no laws have these signs, by Motzkin's theorem of the alternative, in exact fractions.

    Nonnegative multiples of the functions, of the entries, and any of each law's sum less 1, that add up to a
    constant below 0; or to 0, with a part of a function that must not be 0 itself.
    """
    count, places = laws[-1].stop, {entry: number for number, law in enumerate(laws) for entry in law}
    rows, constants = _matrix(signs, count)
    sums, _ = _sums(laws, count)
    # y for the signs and m for the laws: y rows + m sums <= 0, and y constants - m 1 <= 0; as large as can be.
    strict = np.array([0.0 if sign.closed else 1.0 for sign in signs])
    gain = np.r_[-strict + constants, -np.ones(len(laws))]
    found = linprog(
        gain,
        np.vstack([np.hstack([rows.T, sums.T]), np.r_[constants, -np.ones(len(laws))][None]]),
        np.zeros(count + 1),
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
            else:
                total[entry] += multiple * factor
    if any(each > 0 for each in total.values()) or constant > 0:
        return False
    return constant < 0 or any(multiple > 0 and not sign.closed for multiple, sign in zip(own, signs, strict=True))


def _matrix(signs: Sequence[Sign], count: int) -> tuple[np.ndarray, np.ndarray]:
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
