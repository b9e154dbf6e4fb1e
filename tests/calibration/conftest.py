from dataclasses import replace

import pytest

from specverify import pool
from specverify.calibration import (
    book,
)  # fmt: skip
from tests.calibration.trials import alarms, misses


@pytest.fixture
def few(monkeypatch):
    """A calibration of three trials, one of them of p-values."""
    trials = (alarms(trials=50), misses(trials=50), replace(alarms(trials=60), what="uniform p-values"))
    monkeypatch.setattr(book, "all_trials", lambda quick=False: trials)
    return trials


@pytest.fixture
def here(monkeypatch):
    """Work in this process, which monkeypatches reach."""
    monkeypatch.setattr(pool, "share_out", lambda one, units, jobs, console, **_: (one(unit) for unit in units))
