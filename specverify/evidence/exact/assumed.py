"""Which assumptions are needed: those that a product keeps, and those that can fail only where a chance is 0."""

from __future__ import annotations

from collections.abc import Sequence

from specverify.evidence.exact.numbers import EVERYWHERE, UNDEFINED, Assumption, Assumptions, Conditions, Numbers


def discharged(numbers: Numbers, assumed: Assumptions, zero: Conditions) -> Assumption | None:
    """The first assumption that may fail where a chance is not 0; None if there is none.

    Args:
        numbers: of the run.
        assumed: the assumptions.
        zero: where that chance is 0.
    """
    return next((assumption for assumption in assumed if not _fails_only(numbers, assumption, zero)), None)


def of_product(numbers: Numbers, one: int, other: int) -> Assumptions:
    """Assumptions of a product: a bounded factor's are none where the other is 0 whenever they fail.

    That the other is 0 there may rest on its own: so only one of them loses some.
    """
    mine, theirs = numbers.taken(one), numbers.taken(other)
    left = _kept(numbers, one, other)
    return left | theirs if left != mine else mine | _kept(numbers, other, one)


def alike(numbers: Numbers, gaps: Sequence[int], tests: Assumptions) -> bool:
    """Whether two numbers are equal wherever the test that chooses between them turns out otherwise.

    Args:
        numbers: of the run.
        gaps: their differences, of one less the other and the other less the one.
        tests: what must not be 0 for it to turn out so; only one of them lets it turn out otherwise.
    """
    deciding = [test for test in tests if not test.pole]
    if len(deciding) != 1 or UNDEFINED in gaps:
        return False
    (test,) = deciding
    if any(x.number == test.number for x in numbers.assumed[gaps[0]]):
        return False
    return any(numbers.implied(test.number) & numbers.zero_where[gap] for gap in gaps)


def others(numbers: Numbers, part: int, whole: int) -> tuple[int, ...]:
    """A sum's parts without some that add up to one of its parts, or to a sum of them; none if it has no such."""
    for parts in numbers.parts[whole]:
        for mine in (*numbers.parts[part], (part,)):
            left = list(parts)
            for each in mine:
                if each not in left:
                    break
                left.remove(each)
            else:
                return tuple(left)
    return ()


def _kept(numbers: Numbers, factor: int, other: int) -> Assumptions:
    assumed, facts = numbers.taken(factor), numbers.facts(factor)
    if not assumed or not facts.nonnegative:
        return assumed
    zero, theirs = numbers.zero_where[other], {x.number for x in numbers.assumed[other]}
    lost = {x for x in assumed if not x.pole and x.number not in theirs and _fails_only(numbers, x, zero)}
    if not facts.at_most_1:  # what else it assumes is needed then, and so only one can go
        lost = {x for x in lost if _outgrown(numbers, factor, other, x)} if len(lost) == 1 else set()
    return assumed - lost


def _outgrown(numbers: Numbers, factor: int, other: int, lost: Assumption) -> bool:
    """Whether a product is 0 where a divisor b is, although one factor, n / b, has no bound.

    The other factor is a part of b; so the product is at most n, which is 0 where b is, and assumes nothing of b.
    """
    divisor, ratio, below = lost.number, numbers.residue[factor], numbers.residue[lost.number]
    if ratio is None or below is None or not all(numbers.facts(x).nonnegative for x in (other, divisor)):
        return False
    if other != divisor and not others(numbers, other, divisor):
        return False
    left = frozenset(x for x in numbers.assumed[factor] if x.number != divisor)
    whole = numbers.find(ratio * below % numbers.field.prime, left)
    if whole is None or not numbers.facts(whole).nonnegative:
        return False
    return _fails_only(numbers, lost, numbers.zero_where[whole])


def _fails_only(numbers: Numbers, assumption: Assumption, zero: Conditions) -> bool:
    """Whether an assumption fails only where these conditions hold."""
    return zero is EVERYWHERE or bool(numbers.implied(assumption.number) & zero)
