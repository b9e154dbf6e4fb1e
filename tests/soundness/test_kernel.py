"""Verification kernels that were CONSISTENT although wrong: in some batches, at some rows, at some coins."""

import pytest
from soundness.judging import validate


@pytest.mark.parametrize("name", ["right", "inverts", "made_for_four"])
def test_right_kernels_are_consistent_and_say_what_was_played(name, tmp_path):
    found = validate(f"kernel.py:{name}", tmp_path, "--level", "round")
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert "batches of 1 to 40" in found["verdict"]["reason"]
    assert found["not_covered"]
    refused = any("takes no 16 drafts: it raised ValueError" in note for note in found["notes"])
    assert refused == (name == "made_for_four") == ("windows of 8 and 16" not in found["verdict"]["reason"])


@pytest.mark.parametrize("name", ["pairs", "large", "odd", "last", "level"])
def test_slips_of_some_batches_or_rows_are_refuted(name, tmp_path):
    found = validate(f"kernel.py:{name}", tmp_path, "--level", "round")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    if name == "odd":  # every other row: seen between rows before it is between laws
        assert found["location"]["check"] == "pairs of rows"
        assert "or those of some places are drawn from another law" in found["verdict"]["reason"]
    else:
        assert found["location"]["branch"] == "recovered"


@pytest.mark.parametrize("name", ["falls_to_zero", "falls_to_last"])
def test_what_comes_beyond_the_last_edge_is_refuted(name, tmp_path):
    found = validate(f"kernel.py:{name}", tmp_path, "--level", "round")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert "has probability 0 under the target law" in found["verdict"]["reason"]


def test_sums_in_half_precision_are_refuted(tmp_path):
    found = validate("kernel.py:half_sums", tmp_path, "--level", "round")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]


@pytest.mark.parametrize(
    ("name", "where"),
    [("third", "rows at place 2"), ("seventh", "rows at place 6"), ("fives", "batches of 5")],
)
def test_slips_of_one_inner_row_and_slight_ones_of_one_size_are_refuted_where_they_are(name, where, tmp_path):
    found = validate(f"kernel.py:{name}", tmp_path, "--level", "round", "--seconds", "120")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert where in found["verdict"]["reason"]


@pytest.mark.parametrize(("name", "position"), [("keeps_the_seventh", 6), ("keeps_the_twelfth", 11), ("by_fives", 5)])
def test_slips_of_far_drafts_are_refuted_behind_where_they_begin(name, position, tmp_path):
    found = validate(f"kernel.py:{name}", tmp_path, "--level", "round")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert found["location"]["position"] >= position
