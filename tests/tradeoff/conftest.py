import pytest

from tests.tradeoff.by_hand import sweep


@pytest.fixture
def record():
    return sweep()
