"""Decoders of vectors that once were consistent: noise used twice, a few equal values, small batches, false figures."""

import pytest
from soundness.judging import validate

OPTIONS = ("--level", "continuous")
"""As some of them take ids, too, over which they would be proved."""


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("RING4", "positions 4 apart"),
        ("RING9", "positions 9 apart"),
        ("MIRRORED", "rows"),
        ("DIAGONAL", " of the next row"),
        ("SHARED", "dimensions 1 apart"),
        ("CLAMPED", "atoms: the most frequent of"),
        ("ZERO", "is 0, "),
        ("AGAIN", "repeats"),
        ("impatient", "first drafts kept"),
        ("one_row", "in batches of 1"),
        ("ROW2", "in rows at place 2: tokens are 0.8"),
        ("ROW6", "in rows at place 6: tokens are 0.8"),
        ("STEPS", "atoms: the most frequent of"),
    ],
)
def test_a_slip_between_tokens_or_in_a_few_of_them_is_refuted(subject, said, tmp_path):
    found = validate(f"normals.py:{subject}", tmp_path, *OPTIONS)
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]


def test_noise_that_comes_again_is_seen_by_its_own_check_where_rows_tell_it_first(tmp_path):
    found = validate("normals.py:DIAGONAL", tmp_path, *OPTIONS)
    (again,) = (item for item in found["evidence"] if item["check"].endswith(": noise that comes again"))
    assert again["rejected"]


@pytest.mark.parametrize("subject", ["normals.py:FRESH", "normals.py:ROUNDED", "normals.py:honest"])
def test_right_twins_are_consistent_in_the_box_that_is_told(subject, tmp_path):
    found = validate(subject, tmp_path, *OPTIONS)
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    reason = found["verdict"]["reason"]
    assert all(
        part in reason
        for part in ("dimensions 1, 2, 3, 4", "12, 40", "batches of 1, 2, 3, 4, 5, 8, 9, 16, 33", "float32")
    )
    assert "a Kolmogorov distance of 0.01 of the transforms" in reason
    assert "total variation of whole sequences" in found["not_covered"][-1]


@pytest.mark.parametrize(
    ("subject", "kind", "said"),
    [
        ("two_passes", "ERROR", "`passes` says"),
        ("never_keeps", "VACUOUS", "no draft token was accepted"),
    ],
)
def test_a_figure_that_is_false_or_empty_is_no_pass(subject, kind, said, tmp_path):
    found = validate(f"normals.py:{subject}", tmp_path, *OPTIONS)
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]
