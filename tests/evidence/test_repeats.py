"""Equal values: atoms and copies are found, and none where a law has a density, in either precision."""

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence.repeats import ROUNDING, Atoms, Repeats, repeated, within_rows

RATES = {"alpha": 1e-8, "beta": 1e-3}


def normal(n, dim, seed, dtype=torch.float64):
    return torch.randn(n, dim, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normal_numbers_of_either_precision_have_no_atoms(dtype, seed):
    """Of 200,000 numbers of float32 some thousand are equal by rounding."""
    values = normal(200_000, 1, seed, dtype)
    found = Atoms().check(values.flatten(), **RATES)
    assert found.p_value > 0.01
    assert (repeated(values).sum() > 0) == (dtype == torch.float32)


def test_an_atom_of_the_stated_mass_is_found(seed):
    check, n = Atoms(), 20_000
    delta = check.smallest_detectable(n, **RATES)
    assert 1e-4 < delta < 2e-3
    assert check.sample_size(delta, **RATES) == pytest.approx(n, rel=0.5)
    generator = np.random.default_rng(seed)
    for value in (0.0, 3.0):
        values = np.where(generator.random(n) < delta, value, generator.standard_normal(n))
        found = check.check(values, **RATES)
        assert found.rejected
        assert found.delta == delta
        assert f"values is {value:g}, " in found.detail


def test_the_bound_on_equal_values_holds_for_a_law_with_as_large_atoms_as_are_forgiven():
    """Uniform over as few values as `ROUNDING` allows: at 1% none of 200 samples is rejected."""
    generator, few = np.random.default_rng(0), round(1 / ROUNDING)
    found = [Atoms().check(generator.integers(few, size=5000).astype(float), alpha=0.01, beta=0.1) for _ in range(200)]
    assert sum(item.rejected for item in found) <= 6


def test_tokens_that_came_before_are_found_and_none_by_chance(seed):
    tokens = normal(200_000, 2, seed)
    check = Repeats(ROUNDING**2)
    assert not check.check(tokens, **RATES).rejected
    places = [7, *range(70, 78), 700]
    tokens[places] = 0.0
    tokens[1000] = tokens[999]
    tokens[5, 0] = tokens[6, 0]  # one coordinate alone is no repetition
    assert np.flatnonzero(repeated(tokens)).tolist() == [*places[1:], 1000]
    found = check.check(tokens, **RATES)
    assert found.rejected
    assert found.delta < 1e-3


def test_values_that_come_twice_in_a_row_are_told_in_their_order():
    rows = np.array([[1.0, 2.0, 1.0, 1.0], [2.0, 3.0, 4.0, 5.0], [0.0, -0.0, 7.0, 2.0]])
    again = within_rows(rows).reshape(rows.shape)
    assert again.tolist() == [[False, False, True, True], [False] * 4, [False, True, False, False]]


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(InputError, match="has a probability of up to 0"):
        Atoms(0.0)
    with pytest.raises(InputError, match="all may be equal; give fewer"):
        Repeats(0.01).check(np.zeros((200, 1)), **RATES)
