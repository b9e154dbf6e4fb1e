"""Black boxes that were passed, refuted or proved wrongly."""

from __future__ import annotations

import pytest

from tests.soundness.judging import validate

HOLDS = ("PROVED", "CONSISTENT")
"""What could be followed in the time depends on the machine, what samples see does not."""


@pytest.mark.parametrize("name", ["fresh", "right", "logs"])
def test_right_ones_hold_and_say_in_which_box(name, tmp_path):
    found = validate(f"sampler.py:{name}", tmp_path, "--level", "sampler")
    assert found["verdict"]["kind"] in HOLDS, found["verdict"]["reason"]
    assert "the law at any one of 24 positions off by " in found["verdict"]["reason"]
    assert any(note.startswith("tried: vocabularies of ") for note in found["notes"])
    assert found["not_covered"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ring_of_eleven", "positions i and i + 11 of a row"),
        ("rows_share", "sequences are not independent; copies of neighbours"),
        ("tidied", "every call returns its rows in ascending order of their tokens"),
        ("cold_when_alone", "calls of 1 row"),
        ("first_token_forgotten", "guided-"),
        ("logs_of_the_raw_model", "the log-probabilities that it reports are wrong, while its tokens are not rejected"),
        ("all_ties", "ties at the k-th probability"),
    ],
)
def test_wrong_ones_are_refuted_for_what_they_are(name, said, tmp_path):
    found = validate(f"sampler.py:{name}", tmp_path, "--level", "sampler")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]


def test_another_convention_of_ties_is_judged_by_its_own_suite(tmp_path):
    found = validate("sampler.py:all_ties", tmp_path, "--level", "sampler", "--suite", "processors-ties")
    assert found["verdict"]["kind"] in HOLDS, found["verdict"]["reason"]


@pytest.mark.parametrize(("name", "kinds"), [("right", HOLDS), ("first_token_forgotten", ("REFUTED",))])
def test_a_guided_target_can_be_asked_for(name, kinds, tmp_path):
    found = validate(f"sampler.py:{name}", tmp_path, "--level", "sampler", "--target", "guided-3x4", "--delta", "0.02")
    assert found["verdict"]["kind"] in kinds, found["verdict"]["reason"]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("by_numpy", "PROVED", "exact TV at most"),
        ("every_other_step_anew", "ERROR", "two generators were seeded alike"),
        ("one_generator", "PROVED", "exact TV at most"),
    ],
)
def test_proofs_rest_on_noise_that_is_followed_and_fresh(name, kind, said, tmp_path):
    found = validate(f"sampler.py:{name}", tmp_path, "--level", "sampler", "--exact")
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]
