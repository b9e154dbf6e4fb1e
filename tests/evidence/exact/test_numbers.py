"""Named numbers: what is certain of them, and what is assumed, worked by hand."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.assumed import discharged, implied
from specverify.evidence.exact.field import Field
from specverify.evidence.exact.numbers import ONE, UNDEFINED, ZERO, Assumption, Numbers, OutOfReach


@pytest.fixture
def algebra():
    return Algebra(Numbers(seed=4))


@pytest.fixture
def laws(algebra):
    return algebra.numbers.law([0.2, 0.5, 0.3]), algebra.numbers.law([0.4, 0.1, 0.5])


def total(algebra, names):
    found = ZERO
    for name in names:
        found = algebra.apply("add", found, name)
    return found


def test_a_law_sums_to_one_by_name(algebra, laws):
    assert total(algebra, laws[0]) == ONE


def test_the_field_has_a_large_random_prime():
    primes = {Field(seed).prime for seed in range(5)}
    assert len(primes) == 5
    assert all(2**126 < prime < 2**127 and pow(3, prime - 1, prime) == 1 for prime in primes)


def test_minima_are_free_but_for_what_holds_of_all_minima():
    field = Field(1)
    a, b, c = (field.uniform() for _ in range(3))
    found, _ = field.minimum(a, b, 1)
    assert field.minimum(b, a, 1)[0] == found
    assert field.minimum(a * c % field.prime, b * c % field.prime, 1)[0] == found * c % field.prime
    assert field.minimum((a + c) % field.prime, (b + c) % field.prime, 1)[0] == (found + c) % field.prime
    assert field.minimum(a, a, 1)[0] == a
    assert field.minimum(a, c, 1)[0] != found
    assert field.symbols == 2


def test_the_positive_part_of_a_multiple_is_the_multiple_of_the_positive_part():
    field = Field(1)
    a, b, c, three = (*(field.uniform() for _ in range(3)), 3)
    found, _ = field.minimum(a, b, 1)
    field.multiple(three, 2)
    for factor in (three, field.inverse(three)):
        for one, other in ((a, b), (b, a)):
            moved = [(factor * x + c) % field.prime for x in (one, other)]
            assert field.minimum(*moved, 1)[0] == (factor * found + c) % field.prime
    assert field.symbols == 1
    field.minimum(-a * 3 % field.prime, (5 * b) % field.prime, 1)
    field.minimum(5 * a % field.prime + c, 5 * b % field.prime + c, 1)  # 5 is no constant of the run
    assert field.symbols == 3


@pytest.mark.parametrize(("factor", "enough"), [(1.5, True), (1.0, True), (0.5, False)])
def test_where_laws_are_equal_more_than_the_ratio_is_kept_for_certain_and_less_is_not(algebra, laws, factor, enough):
    (p, *_), (q, *_) = laws
    more = algebra.apply("mul", algebra.numbers.constant(factor), p)
    keep = algebra.apply("minimum", algebra.apply("div", more, q), ONE)
    rejected = algebra.apply("sub", ONE, keep)
    equal = algebra.numbers.equal(algebra.numbers.residue[p], algebra.numbers.residue[q])
    assert (equal in algebra.numbers.zero_where[rejected]) == enough


def test_laws_are_equal_where_a_multiple_of_their_difference_is_zero(algebra, laws):
    numbers, prime = algebra.numbers, algebra.numbers.field.prime
    p, q = (numbers.residue[law[0]] for law in laws)
    numbers.constant(4.0)
    assert numbers.equal(p, q) == numbers.equal(q, p) == numbers.equal(4 * p % prime, 4 * q % prime)
    assert numbers.equal(p, q) != numbers.equal(5 * p % prime, 5 * q % prime)
    assert numbers.equal(p, q) != numbers.equal(p, 4 * q % prime)


def _over_a_sum(algebra, laws, above):
    """A part of a sum b, times `above` over b, which is chosen where b is not 0 and 0 elsewhere."""
    part, other, _ = laws[0]
    whole = algebra.apply("add", part, other)
    ratio = algebra.apply("div", above(whole), whole)
    chosen = algebra.chosen(ratio, ZERO, frozenset({Assumption(whole, pole=False)}))
    return algebra.numbers.assumed[algebra.apply("mul", part, chosen)], Assumption(whole, pole=False)


def test_a_part_of_a_divisor_outgrows_it_where_what_is_divided_is_zero_too(algebra, laws):
    def left(whole):
        return algebra.positive_part(algebra.apply("sub", whole, laws[1][0]))

    assumed, lost = _over_a_sum(algebra, laws, left)
    assert lost not in assumed


@pytest.mark.parametrize("what", ["a constant", "another law", "a part that is left", "no part"])
def test_it_does_not_where_that_may_be_anything(algebra, laws, what):
    above = {
        "a constant": lambda whole: algebra.numbers.constant(0.5),
        "another law": lambda whole: laws[1][0],
        "a part that is left": lambda whole: algebra.positive_part(algebra.apply("sub", laws[1][0], whole)),
        "no part": lambda whole: algebra.positive_part(algebra.apply("sub", whole, laws[1][0])),
    }[what]
    mine = (algebra.numbers.law([0.2, 0.5, 0.3]), laws[1])
    if what == "no part":
        whole = algebra.apply("add", *laws[0][:2])
        ratio = algebra.apply("div", above(whole), whole)
        lost = Assumption(whole, pole=False)
        chosen = algebra.chosen(ratio, ZERO, frozenset({lost}))
        assert lost in algebra.numbers.assumed[algebra.apply("mul", laws[1][1], chosen)]
    else:
        assumed, lost = _over_a_sum(algebra, mine, above)
        assert lost in assumed


def test_a_number_and_one_less_it_are_known_to_be_probabilities(algebra, laws):
    ratio = algebra.apply("div", laws[0][0], laws[1][0])
    keep = algebra.apply("minimum", ratio, ONE)
    for name in (keep, algebra.apply("sub", ONE, keep)):
        facts = algebra.numbers.facts(name)
        assert facts.nonnegative
        assert facts.at_most_1
    assert not algebra.numbers.facts(ratio).at_most_1


def test_a_part_over_its_sum_is_a_probability(algebra, laws):
    left = [algebra.positive_part(algebra.apply("sub", a, b)) for a, b in zip(*laws, strict=True)]
    share = algebra.apply("div", left[0], total(algebra, left))
    assert algebra.numbers.facts(share).at_most_1
    assert algebra.numbers.facts(algebra.apply("sub", ONE, share)).nonnegative


def test_dividing_assumes_that_the_divisor_is_not_zero(algebra, laws):
    name = algebra.apply("div", laws[0][0], laws[1][0])
    assert algebra.numbers.assumed[name] == {Assumption(laws[1][0], pole=True)}


def test_the_drawing_of_a_draft_discharges_dividing_by_its_chance(algebra, laws):
    ratio = algebra.apply("div", laws[0][0], laws[1][0])
    assumed = algebra.numbers.assumed[ratio]
    assert discharged(algebra.numbers, assumed, algebra.numbers.zero_where[laws[1][0]]) is None
    assert discharged(algebra.numbers, assumed, algebra.numbers.zero_where[laws[1][1]]) is not None


def test_a_rejection_discharges_the_residual_of_its_own_laws_only(algebra, laws):
    other = algebra.numbers.law([0.6, 0.1, 0.3])
    rejected = algebra.apply("sub", ONE, algebra.apply("minimum", algebra.apply("div", laws[0][0], laws[1][0]), ONE))
    for q, enough in ((laws[1], True), (other, False)):
        left = [algebra.positive_part(algebra.apply("sub", a, b)) for a, b in zip(laws[0], q, strict=True)]
        assumed = frozenset({Assumption(total(algebra, left), pole=False)})
        assert (discharged(algebra.numbers, assumed, algebra.numbers.zero_where[rejected]) is None) == enough


def test_a_partial_residual_may_be_zero_where_laws_differ(algebra, laws):
    rejected = algebra.apply("sub", ONE, algebra.apply("minimum", algebra.apply("div", laws[0][0], laws[1][0]), ONE))
    left = [algebra.positive_part(algebra.apply("sub", a, b)) for a, b in zip(*laws, strict=True)]
    assumed = frozenset({Assumption(total(algebra, left[:2]), pole=False)})
    assert discharged(algebra.numbers, assumed, algebra.numbers.zero_where[rejected]) is not None


def test_what_cancels_a_divisor_still_assumes_that_it_is_not_zero(algebra, laws):
    p, q = laws[0][0], laws[1][0]
    back = algebra.apply("div", algebra.apply("mul", p, q), q)
    assert algebra.numbers.residue[back] == algebra.numbers.residue[p]
    assert back != p
    assert ("is", algebra.numbers.residue[q], 0) not in algebra.numbers.zero_where[p]


def test_orders_of_laws_are_refused_and_signs_that_are_certain_are_not(algebra, laws):
    p, q = laws[0][0], laws[1][0]
    with pytest.raises(OutOfReach, match="order depends on the laws"):
        algebra.compare("gt", p, q)
    assert algebra.compare("ge", p, ZERO) == (True, frozenset())
    assert algebra.compare("gt", p, ZERO) == (True, frozenset({Assumption(p, pole=False)}))
    assert algebra.compare("le", p, ONE) == (True, frozenset())
    assert algebra.compare("eq", p, p) == (True, frozenset())
    assert algebra.compare("eq", p, q)[0] is False
    assert algebra.compare("eq", p, q)[1]


def test_minima_and_positive_parts_of_what_may_be_negative_are_refused(algebra, laws):
    gap = algebra.apply("sub", laws[0][0], laws[1][0])
    with pytest.raises(OutOfReach, match="one may be negative"):
        algebra.apply("minimum", gap, ONE)
    twice = algebra.apply("mul", gap, algebra.numbers.constant(2.0))
    with pytest.raises(OutOfReach, match="no difference"):
        algebra.positive_part(twice)


def test_division_by_zero_poisons_what_is_made_of_it(algebra, laws):
    assert algebra.apply("div", laws[0][0], ZERO) == UNDEFINED
    assert algebra.apply("mul", ZERO, UNDEFINED) == UNDEFINED
    assert (
        discharged(algebra.numbers, algebra.numbers.assumed[UNDEFINED], algebra.numbers.zero_where[laws[0][0]])
        is not None
    )


@pytest.mark.parametrize("value", [0.5, 1 / 3, 1e-10, 0.99, -2.0, 1e-300])
def test_short_fractions_are_constants(algebra, value):
    assert algebra.numbers.value[algebra.numbers.constant(value)] == value


@pytest.mark.parametrize("value", [0.123456789, math.pi, 0.1 + 0.2, math.inf])
def test_other_numbers_are_not(algebra, value):
    with pytest.raises(OutOfReach, match="constant"):
        algebra.numbers.constant(value)


def test_what_is_certain_holds_at_random_points():
    coins = random.Random(2)
    for seed in range(5):
        algebra = Algebra(Numbers(seed))
        numbers = algebra.numbers
        pool = [name for _ in range(3) for name in numbers.law(_law(coins))] + [ONE, numbers.constant(0.5)]
        for _ in range(400):
            operation = coins.choice(["add", "sub", "mul", "div", "minimum", "maximum"])
            one, other = coins.choice(pool), coins.choice(pool)
            try:
                pool.append(algebra.apply(operation, one, other))
            except OutOfReach:
                continue
        assert len(numbers) > 100
        numbers.check()


def _law(coins):
    weights = [coins.random() + 0.1 for _ in range(3)]
    return [weight / sum(weights) for weight in weights]


POINTS = {
    "equal laws": ([0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.4, 0.1, 0.5]),
    "zeros": ([0.0, 0.5, 0.5], [0.4, 0.0, 0.6], [0.4, 0.0, 0.6]),
    "certain": ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
    "halves": ([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("seed", range(6))
def test_conditions_are_enough_at_points_where_they_hold(point, seed):
    """Residues are those of any laws; values those of laws at which much is 0 or equal."""
    coins = random.Random(seed)
    algebra = Algebra(Numbers(seed))
    numbers = algebra.numbers
    laws = [numbers.law(values) for values in POINTS[point]]
    constants = [numbers.constant(value) for value in (0.5, 1.5, 2.0, 0.9, 0.1)]
    pool = [*(name for law in laws for name in law), ONE, *constants]
    pool += [algebra.apply("mul", constant, law[0]) for constant in constants for law in laws]
    pool += [algebra.apply("add", pool[-1], algebra.apply("mul", constants[3], laws[0][0]))]
    between = {
        (numbers.residue[a] - numbers.residue[b]) % numbers.field.prime: numbers.value[a] - numbers.value[b]
        for a, b in itertools.permutations(pool, 2)
    }
    for p, q in itertools.permutations(laws, 2):
        ratios = [algebra.apply("div", a, b) for a, b in zip(p, q, strict=True)]
        keep = [algebra.apply("minimum", ratio, ONE) for ratio in ratios]
        left = [algebra.positive_part(algebra.apply("sub", a, b)) for a, b in zip(p, q, strict=True)]
        mass = total(algebra, left)
        pool += [*keep, *(algebra.apply("sub", ONE, x) for x in keep), *left, mass]
        pool += [algebra.apply("div", x, mass) for x in left]
        softened = [algebra.apply("div", x, algebra.apply("add", mass, constants[4])) for x in left]
        pool += [*softened, total(algebra, softened)]
    for _ in range(300):
        operation = coins.choice(["add", "sub", "mul", "div", "minimum", "maximum"])
        try:
            pool.append(algebra.apply(operation, coins.choice(pool), coins.choice(pool)))
        except OutOfReach:
            continue
    value = between | dict(zip(numbers.residue, numbers.value, strict=True))
    checked = 0
    for name in range(len(numbers)):
        if name == UNDEFINED or any(numbers.value[x.number] == 0 for x in numbers.assumed[name]):
            continue
        if not math.isfinite(numbers.value[name]):
            continue
        facts = numbers.facts(name)
        assert numbers.value[name] >= -1e-9 or not facts.nonnegative, (name, facts, numbers.assumed[name])
        assert numbers.value[name] <= 1 + 1e-9 or not facts.at_most_1, (name, facts, numbers.assumed[name])
        for where, due in ((numbers.zero_where, 0.0), (numbers.one_where, 1.0)):
            if any(holds(condition, value) for condition in where[name]):
                checked += 1
                assert numbers.value[name] == pytest.approx(due, abs=1e-9), (where[name], name)
        if abs(numbers.value[name]) < 1e-12:
            for condition in implied(numbers, name):
                assert holds(condition, value) is not False, (condition, name)
    assert checked > 20


def holds(condition, value):
    """Whether a condition holds at the real point; None if that is not known."""
    kind, one, other = condition
    if kind == "always":
        return True
    found = value.get(one)  # of "equal", their difference
    if found is None or not math.isfinite(found):
        return None
    return abs(found - other) < 1e-9
