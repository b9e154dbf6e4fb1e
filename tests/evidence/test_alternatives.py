"""Alternatives lie exactly where they say."""

import numpy as np
import pytest

from specverify.errors import InputError
from specverify.evidence.alternatives import KINDS, alternative
from specverify.evidence.distance import tv

LAW = np.array([0.4, 0.0, 0.25, 0.2, 0.1, 0.04, 0.01])


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("delta", [0.002, 0.03, 0.2])
def test_alternatives_are_laws_at_the_stated_distance(kind, delta):
    moved = alternative(LAW, delta, kind)
    assert (moved >= 0).all()
    assert moved.sum() == pytest.approx(1, abs=1e-12)
    assert tv(moved, LAW) == pytest.approx(delta, abs=1e-9)
    assert moved[1] == 0, "an outcome that the law forbids would be caught at once"


def test_kinds_differ():
    moved = [alternative(LAW, 0.03, kind) for kind in KINDS]
    assert all(tv(a, b) > 1e-3 for i, a in enumerate(moved) for b in moved[:i])


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="alternative 'odd' is not known"):
        alternative(LAW, 0.1, "odd")
    with pytest.raises(InputError, match=r"no 'pair' alternative lies at distance 0.9"):
        alternative(LAW, 0.9, "pair")
    with pytest.raises(InputError, match="delta is 0"):
        alternative(LAW, 0.0, "pair")
    for kind in KINDS:
        with pytest.raises(InputError, match="choose a smaller one"):
            alternative(np.array([1.0, 0.0]), 0.5, kind)
