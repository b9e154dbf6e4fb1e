"""Decoders of vectors that are right where a draft model's laws differ alike from the target's."""

import pytest
from soundness.judging import validate


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("CENTRE", "gauss-2x6/other/w3"),
        ("WEIGHT", "mix-2x4/other/w3"),
        ("FIRST", "gauss-2x6/other/w3"),
        ("COMPONENT", "mix-2x4/other/w3"),
        ("BAND", "full-3x4/leaning/w2"),
        ("LATE", "calm-2x12/wider/w8"),
        ("FOURS", "equal-4x4/leaning/w2/float32"),
        ("LENGTH", "full-3x4/leaning/w2"),
        ("SIXTEEN", "rows 16 apart"),
    ],
)
def test_what_is_right_for_drafts_that_differ_alike_is_refuted_on_others(subject, said, tmp_path):
    """They were consistent: means and spreads were never altered together, nor weights, nor any coordinate more than
    another; correlated ones had two coordinates, windows ended beyond the length, and float32 one setting."""
    found = validate(f"geometry.py:{subject}", tmp_path, "--level", "decoder")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]


def test_the_right_twin_is_consistent(tmp_path):
    found = validate("geometry.py:right", tmp_path, "--level", "decoder")
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert "drafts disjoint, other" in found["verdict"]["reason"]
