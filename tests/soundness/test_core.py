"""What exact evidence rests on: noise that is an identity, draws that cannot be caught, figures that were counted, a
context that was read."""

import pytest
from soundness.judging import validate

PROVED = ("patient", "catches_all", "warms_and_says_so", "read_again", "marks", "plain_marks")
ERROR = {
    "race_by_hand": "noise is opaque",
    "ratios": "is no probability: accept_run takes min(1, p / q)",
    "warms": "Info.passes says 1, but the model was called 2 times",
    "calls_it_accepted": "ACCEPTED, but the model was shown another draft there",
    "unread": "a cache holds nothing of them",
}


@pytest.mark.parametrize("subject", PROVED)
def test_right_ones_are_proved(subject, tmp_path):
    found = validate(f"core.py:{subject}", tmp_path / "out")
    assert found["verdict"]["kind"].startswith("PROVED"), found["verdict"]["reason"]


def test_races_over_three_tokens_are_sampled_and_said_to_be(tmp_path):
    found = validate("core.py:fresh_race", tmp_path / "out")
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert found["verdict"]["reason"].startswith("proved for every law of the target, zeros included: 2 tokens by")
    assert "Races over more than two tokens were sampled: samples agree" in found["verdict"]["reason"]
    assert any("it draws by races" in line for line in found["not_covered"])


@pytest.mark.parametrize(("subject", "reason"), ERROR.items())
def test_breaches_are_errors_that_name_what_is_wrong(subject, reason, tmp_path):
    found = validate(f"core.py:{subject}", tmp_path / "out")
    assert found["verdict"]["kind"] == "ERROR", found["verdict"]
    assert reason in found["verdict"]["reason"]


def test_a_race_kept_past_its_token_is_refuted(tmp_path):
    found = validate("core.py:kept_race", tmp_path / "out")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert max(row["tv"] for row in found["exact"]) > 0.01


def test_what_goes_wrong_behind_all_enumerations_shows_in_samples(tmp_path):
    found = validate("core.py:tiring", tmp_path / "out")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert "64 positions: PIT uniformity" in found["verdict"]["reason"]
    assert "where its draws are enumerated it is right" in found["verdict"]["reason"].replace("\n", " ")
