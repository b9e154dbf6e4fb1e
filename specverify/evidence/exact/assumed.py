"""Which assumptions are needed: those that a product keeps, and those that can fail only where a chance is 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specverify.evidence.exact.conditions import EVERYWHERE, Condition, Conditions, both, either
from specverify.evidence.exact.numbers import UNDEFINED, Assumption, Assumptions, Facts, Numbers


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
    return any(_fails_only(numbers, test, numbers.zero_where[gap]) for gap in gaps)


def of_ratio(numbers: Numbers, larger: int, smaller: int) -> Facts:
    """What is certain of a / b - c, or of c - a / b, of a quotient with b >= 0 and a constant: as of a - c b."""
    prime = numbers.field.prime
    for ratio, constant, sign in ((larger, smaller, 1), (smaller, larger, -1)):
        quotient, times = numbers.residue[ratio] or 0, numbers.residue[constant] or 0
        divisor, factor = numbers.over.get(ratio), numbers.exact(times)
        if divisor is None or factor is None or not numbers.knows(divisor).nonnegative:
            continue
        if sign == quotient * divisor % prime == factor == 1 and numbers.knows(divisor).at_most_1:
            return Facts(nonnegative=True)
        return numbers.knows(sign * (quotient - times) * divisor)
    return Facts()


def ratio_is_1(numbers: Numbers, ratio: int) -> Conditions:
    """Where min(a / b, 1) is 1: where a = b; and where x = b, if a = c x, c >= 1 a constant, or a = x + r, r >= 0."""
    divisor, residue = numbers.over.get(ratio), numbers.residue[ratio]
    if divisor is None or residue is None:
        return numbers.one_where[ratio]
    above = residue * divisor % numbers.field.prime
    found = {numbers.equal(x, divisor) for constant, x in numbers.times.get(above, ()) if constant >= 1}
    if (name := numbers.find(above, frozenset())) is not None:
        entries = (numbers.residue[x] for parts in numbers.parts[name] for x in parts)
        found |= {numbers.equal(x, divisor) for x in entries if x is not None}
    return either(numbers.one_where[ratio], frozenset(found))


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


def everywhere_zero(numbers: Numbers, parts: Iterable[int]) -> Conditions:
    """Where all of some numbers are 0."""
    found = EVERYWHERE
    for part in parts:
        found = both(found, numbers.zero_where[part])
    return found


def of_a_law(numbers: Numbers, name: int) -> list[tuple[int, int]]:
    """Of a sum of min(p(x), ...) over all tokens x: the p(x) of a law, and these minima; empty if it is no such sum."""
    for parts in numbers.parts[name]:
        for law in numbers.laws:
            left, found = list(parts), list[tuple[int, int]]()
            for entry in law if len(law) == len(parts) else ():
                for part in left:
                    if any(
                        numbers.residue[entry] in pair for pair in numbers.least.get(numbers.residue[part] or 0, ())
                    ):
                        left.remove(part)
                        found.append((entry, part))
                        break
            if found and not left:
                return found
    return []


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


def undetermined(numbers: Numbers, name: int, assumption: Assumption) -> bool:
    """Whether a number is 0 / 0 where an assumption fails: a quotient, of which both are 0 there."""
    above = _divided(numbers, name)
    if above is None or numbers.residue[assumption.number] != numbers.over[name]:
        return False
    return _fails_only(numbers, assumption, numbers.zero_where[above])


def _fails_only(numbers: Numbers, assumption: Assumption, zero: Conditions) -> bool:
    """Whether an assumption fails only where these conditions hold."""
    if zero is EVERYWHERE or numbers.facts(assumption.number).positive:
        return True
    return bool(implied(numbers, assumption.number) & zero)


def implied(numbers: Numbers, name: int) -> Conditions:
    """What holds wherever a number is 0."""
    if (known := numbers.implied.get(name)) is not None:
        return known
    residue = numbers.residue[name]
    if residue is None or residue == 0:
        return frozenset()
    prime = numbers.field.prime
    found: set[Condition] = {("is", residue, 0), ("is", (1 - residue) % prime, 1), ("is", (1 + residue) % prime, 1)}
    numbers.implied[name] = frozenset(found)  # also for a number that is a part of a part of itself
    if (same := numbers.find(residue, frozenset())) is not None and same != name:  # which is defined wherever that is
        found |= implied(numbers, same)
    for parts in numbers.parts[name]:  # nonnegative, and so 0 with their sum
        for part in parts:
            found |= implied(numbers, part)
        found |= _equalities(numbers, parts)
        divided = [each for part in parts if (each := _divided(numbers, part)) is not None]
        if len(divided) == len(parts) and len({numbers.over[part] for part in parts}) == 1:
            found |= _equalities(numbers, divided)
    if (above := _divided(numbers, name)) is not None:
        found |= implied(numbers, above)
    for constant, rest in numbers.times.get(residue, ()):
        whole = numbers.find(rest, numbers.assumed[name])
        if constant and whole is not None:
            found |= implied(numbers, whole)
    numbers.implied[name] = frozenset(found | numbers.by_order(residue))
    return numbers.implied[name]


def _divided(numbers: Numbers, name: int) -> int | None:
    """Of a quotient, what was divided: it is 0 wherever the quotient is, which is defined where both are."""
    divisor, residue = numbers.over.get(name), numbers.residue[name]
    if divisor is None or residue is None:
        return None
    others = frozenset(x for x in numbers.assumed[name] if numbers.residue[x.number] != divisor)
    above = residue * divisor % numbers.field.prime
    found = numbers.find(above, others)
    return numbers.find(above, frozenset()) if found is None else found  # which is defined wherever that is


def _equalities(numbers: Numbers, parts: Iterable[int]) -> set[Condition]:
    """Where a sum of (a - b)+ and others, c, is 0, a <= b; so a = b if the b - a add up to some c or 0.

    What is an (a - b)+ itself may be such a c.
    """
    prime, found = numbers.field.prime, set[Condition]()
    chosen = list(parts)
    pairs = [part for part in chosen if part in numbers.rest]
    gaps = [b - a for a, b in (min(numbers.rest[part]) for part in pairs)]
    left = [residue for part in chosen if part not in numbers.rest and (residue := numbers.residue[part]) is not None]
    for apart in (None, *range(len(pairs))):
        own = [] if apart is None else [numbers.residue[pairs[apart]] or 0]
        gap = sum(each for place, each in enumerate(gaps) if place != apart) % prime
        if gap in {0, sum(left) % prime, *left, *own}:
            found |= {
                numbers.equal(a, b) for place, part in enumerate(pairs) if place != apart for a, b in numbers.rest[part]
            }
    return found
