"""Decoders of vectors without a draft model that are right where no guess is kept, or where heads are all alike."""

import pytest
from soundness.judging import validate


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("STRATA", "two rows in batches of "),
        ("HANDED", "places: of "),
        ("SCHEDULE", "varied-1x4/w2"),
        ("MIRRORS", "varied-1x4/w2"),
        ("LINEAR", "forked-2x4/w2"),
        ("WIDE", "calm-8x4/w3"),
        ("MIRRORED", "rows mirrored in a batch"),
    ],
)
def test_what_is_wrong_without_a_draft_model_is_refuted_where_guesses_are_kept(subject, said, tmp_path):
    """They were consistent: in many dimensions no guess was kept, a head's noise was the same for all tokens and the
    head linear, rows of small batches were held against each other for equal noise alone, and two tokens at a distance
    by one coordinate."""
    found = validate(f"unaided.py:{subject}", tmp_path, "--level", "decoder")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]


def test_the_right_twin_is_consistent(tmp_path):
    found = validate("unaided.py:right", tmp_path, "--level", "decoder")
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert "dimensions 1, 2, 3, 4" in found["verdict"]["reason"]


def test_state_that_is_kept_for_single_images_alone_is_seen(tmp_path):
    found = validate("unaided.py:ALTERNATING", tmp_path, "--level", "decoder")
    assert found["verdict"]["kind"] == "ERROR", found["verdict"]["reason"]
    assert "the same seed gives other sequences the second time" in found["verdict"]["reason"]
