"""What is known of a race, as names: the parts into which laws divide what is left of its noise."""

from __future__ import annotations

import pytest

from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.numbers import ONE, Numbers
from specverify.evidence.exact.races import Races


@pytest.fixture
def races():
    return Races(Algebra(Numbers(1)))


def test_what_is_left_of_a_race_is_divided_as_its_interval_is(races):
    numbers = races.algebra.numbers
    first, second, third = (numbers.law([x, 1 - x]) for x in (0.6, 0.3, 0.45))
    known, low, high = 0, 0.0, 1.0
    for law, cut, winner in ((first, 0.6, 0), (second, 0.3, 1), (third, 0.45, 1)):
        zero, one = races.parts(known, tuple(law))
        assert numbers.value[zero] == pytest.approx(cut - low)
        assert numbers.value[one] == pytest.approx(high - cut)
        assert numbers.residue[zero] + numbers.residue[one] - numbers.residue[races.length(known)] in (
            0,
            numbers.field.prime,
        )
        known = races.after(known, winner, (zero, one))
        low, high = (low, cut) if winner == 0 else (cut, high)
        assert numbers.value[races.length(known)] == pytest.approx(high - low)


def test_a_look_that_is_certain_tells_nothing(races):
    numbers = races.algebra.numbers
    law = tuple(numbers.law([0.6, 0.4]))
    assert races.length(0) == ONE
    for winner in (0, 1):
        known = races.after(0, winner, races.parts(0, law))
        parts = races.parts(known, law)
        assert numbers.residue[parts[1 - winner]] == 0
        assert races.after(known, winner, parts) == known


def test_all_that_can_be_known_of_a_race_has_the_law_that_is_asked_next(races):
    numbers = races.algebra.numbers
    laws = [tuple(numbers.law([x, 1 - x])) for x in (0.6, 0.3, 0.45, 0.7)]
    known = [0]
    for law in laws[:3]:
        known = [races.after(each, winner, races.parts(each, law)) for each in known for winner in (0, 1)]
    assert len({*known}) == 8
    total = sum(numbers.residue[races.parts(each, laws[3])[0]] for each in known)
    assert total % numbers.field.prime == numbers.residue[laws[3][0]]
