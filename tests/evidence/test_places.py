"""Any two places of a sequence, and of one sequence and the next: told at the stated rates, and named."""

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence.places import MOST, RosenblattPlaces

ALPHA, BETA = 0.02, 0.1


@pytest.mark.parametrize(("length", "dim", "grid"), [(2, 1, 4), (5, 3, 4), (12, 2, 3)])
def test_independent_transforms_are_rejected_no_more_often_than_stated(length, dim, grid, seed):
    generator, check = np.random.default_rng(seed), RosenblattPlaces(grid)
    alarms = sum(check.check(generator.random((300, length, dim)), alpha=ALPHA, beta=BETA).rejected for _ in range(300))
    assert alarms <= 15  # 6 at most are expected; more than 15 come of these once in 1,000


@pytest.mark.parametrize("next_row", [False, True])
def test_what_is_due_to_be_seen_is_seen_as_often_as_stated(next_row, seed):
    """One pair of 30, or of 60, whose cells are off by `delta` together."""
    generator, check, n = np.random.default_rng(seed), RosenblattPlaces(length=3, dim=2), 2_000
    delta = check.smallest_detectable(n, alpha=ALPHA, beta=BETA)
    assert check.sample_size(delta, alpha=ALPHA, beta=BETA) <= n
    missed = 0
    for _ in range(100):
        uniforms = generator.random((n, 3, 2))
        # A copy in a share of rows is off by this share, less the cells that both have alike.
        rows = np.flatnonzero(generator.random(n - 1) < delta / (1 - 1 / 4)) + 1
        uniforms[rows, 2, 1] = uniforms[rows - next_row, 0, 0]
        found = check.check(uniforms, alpha=ALPHA, beta=BETA)
        assert found.delta == delta
        missed += not found.rejected
    assert missed <= 20  # 10 at most are expected; more than 20 come of these once in 1,000


@pytest.mark.parametrize(
    ("rows", "said"), [(0, "position 7, dimension 2"), (1, "position 7, dimension 2 of the next row")]
)
def test_the_two_places_are_named(rows, said, seed):
    uniforms = np.random.default_rng(seed).random((3_000, 9, 3))
    uniforms[rows:, 7, 2] = 1 - uniforms[: 3_000 - rows, 1, 0]
    found = RosenblattPlaces().check(uniforms, alpha=1e-6, beta=1e-3)
    assert found.rejected
    assert found.detail == f"of 1,053 pairs of places, most deviant: position 1, dimension 0, and {said}"
    assert found.coverage["pairs"] == RosenblattPlaces(length=9, dim=3).tests == 27 * 26 * 3 // 2


@pytest.mark.parametrize(("length", "dim"), [(300, 1), (40, 7), (9, 99)])
def test_of_long_sequences_every_token_is_held_against_its_neighbours(length, dim, seed):
    assert length * dim > MOST
    for place in (1, length // 2, length - 1):
        uniforms = np.random.default_rng(seed + place).random((500, length, dim))
        uniforms[:, place, 0] = uniforms[:, place - 1, dim - 1]
        found = RosenblattPlaces().check(uniforms, alpha=1e-6, beta=1e-3)
        assert found.rejected
        assert f"most deviant: position {place - 1}, " in f"{found.detail}, "


def test_what_cannot_be_looked_at_says_so():
    with pytest.raises(InputError, match="one place has no other"):
        RosenblattPlaces(length=1)
    with pytest.raises(InputError, match="grid is 1"):
        RosenblattPlaces(grid=1)
    few = RosenblattPlaces().check(np.random.default_rng(0).random((3, 2, 1)), alpha=1e-6, beta=1e-3)
    assert few.vacuous
    assert not few.rejected
