"""What tests of judgements share."""

from __future__ import annotations

import pytest

from specverify.evidence import company
from specverify.subjects import beside
from specverify.subjects.sampler_batches import SIZES


@pytest.fixture
def clock(monkeypatch):
    """A processor whose time is told, and few of the small calls, which are judged apart."""
    now = {"now": 0.0}
    monkeypatch.setattr("time.process_time", lambda: now["now"])
    monkeypatch.setattr("specverify.deadline._ASK", 0.0)  # it goes faster than the one on the wall
    monkeypatch.setattr("specverify.subjects.sampler_series.SIZES", dict.fromkeys(SIZES, 1))
    return now


@pytest.fixture
def seldom_together(monkeypatch):
    """Few of the batches that a decoder's rows are looked at in, where a test asks nothing of them."""
    sizes = (2, 33)
    monkeypatch.setattr(company, "SIZES", sizes)
    monkeypatch.setattr(company, "ROWS", 6)
    monkeypatch.setattr(company, "TWINS", 2)
    monkeypatch.setattr(beside, "SIZES", sizes)
