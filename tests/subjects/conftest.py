"""What tests of judgements share."""

from __future__ import annotations

import pytest

from specverify.subjects.sampler_batches import SIZES


@pytest.fixture
def clock(monkeypatch):
    """A processor whose time is told, and few of the small calls, which are judged apart."""
    now = {"now": 0.0}
    monkeypatch.setattr("time.process_time", lambda: now["now"])
    monkeypatch.setattr("specverify.subjects.sampler_series.SIZES", dict.fromkeys(SIZES, 1))
    return now
