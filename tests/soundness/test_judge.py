"""What a judgement of a decoder must see, and what it must not take for a defect."""

import pytest

from tests.soundness.judging import validate

WRONG = {
    "FiveInside": "recovered",
    "BehindTheNinth": "recovered",
    "ElevenTokens": "11 tokens",
    "InFloat32": "float32",
    "Tails": "recovered",
    "HalfAndWrong": "recovered",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_slip_that_shows_here_and_there_is_refuted_with_the_place(name, tmp_path):
    found = validate(f"judge.py:{name}", tmp_path)
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert WRONG[name] in found["verdict"]["reason"]
    assert "influence" not in found["verdict"]["reason"]


@pytest.mark.parametrize("name", ["HundredTokens", "Crowded", "Aside"])
def test_a_slip_that_no_enumeration_meets_is_refuted_by_samples_of_what_runs(name, tmp_path):
    found = validate(f"judge.py:{name}", tmp_path)
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]


def test_the_right_decoder_is_proved_in_a_box(tmp_path):
    found = validate("judge.py:Right", tmp_path)
    assert found["verdict"]["kind"].startswith("PROVED"), found["verdict"]["reason"]
    assert "Box: 2 tokens by 3" in found["verdict"]["reason"]
    assert any(line.startswith("larger models") for line in found["not_covered"])
    assert found["processor_seconds"] < 60


def test_rounding_in_float32_is_told_from_a_defect(tmp_path):
    found = validate("judge.py:Half", tmp_path)
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert found["verdict"]["reason"].startswith("up to the rounding of float32, and no farther off: the floor")
    assert found["exit_code"] == 0


def test_rows_that_depend_on_each_other_are_no_counterexample(tmp_path):
    found = validate("judge.py:Fewer", tmp_path)
    assert found["verdict"]["kind"] == "CONSISTENT", found["verdict"]["reason"]
    assert "Its rows depend on each other, which is outside the contract" in found["verdict"]["reason"]
    assert any(line.startswith("batches of other sizes") for line in found["not_covered"])


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("LastRow", "batches of 2"),
        ("Ninth", "12, row 9"),
        ("Fifths", "5, row 0"),
        ("Fortieth", "64, row 40"),
        ("Thousandth", "1,024, row 1000"),
    ],
)
def test_a_slip_of_one_row_of_a_batch_is_refuted_by_samples_of_that_row(name, rows, tmp_path):
    found = validate(f"judge.py:{name}", tmp_path)
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert rows in " ".join(found["verdict"]["reason"].split())
    assert "sampled as it is" in found["verdict"]["reason"]
    assert found["exit_code"] == 1


def test_a_setting_that_is_refused_is_not_judged_there(tmp_path):
    found = validate("judge.py:OnlyTwo", tmp_path)
    assert found["verdict"]["kind"].startswith("PROVED"), found["verdict"]["reason"]
    assert any("a window of 1 is not supported" in line for line in found["not_covered"])


def test_a_relaxed_claim_is_held_to_the_worst_case(tmp_path):
    found = validate("judge.py:Generous", tmp_path, "--claim", "relaxed:0.5")
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    empty = validate("judge.py:Generous", tmp_path, "--claim", "relaxed:0.99999998")
    assert empty["verdict"]["kind"] == "VACUOUS"
    assert "says nothing: the largest exact TV seen is" in empty["verdict"]["reason"]


def test_a_guided_pair_is_judged_with_the_decoders_own_caches(tmp_path):
    assert validate("judge.py:Guides", tmp_path)["verdict"]["kind"].startswith("PROVED")
    found = validate("judge.py:ForgetsTwo", tmp_path)
    assert found["verdict"]["kind"] == "REFUTED", found["verdict"]["reason"]
    assert "guided by" in found["notes"][0] or "guided" in found["notes"][0]
