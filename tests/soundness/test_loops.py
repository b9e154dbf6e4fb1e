"""What others' loops were once told wrongly: processors and guidance that were never at stake, rows one by one."""

import pytest
from soundness.judging import validate


@pytest.mark.parametrize(
    ("subject", "kind", "said"),
    [
        ("cut", "PROVED", "3 tokens by"),
        ("uncut", "REFUTED", "with 3 tokens"),
        ("never_cut", "INCONCLUSIVE", "top_k=2000 had nothing to cut"),
        ("row_by_row", "CONSISTENT", "outside the contract"),
        ("row_by_row_wrong", "REFUTED", ""),
    ],
)
def test_decoders(subject, kind, said, tmp_path):
    found = validate(f"loops.py:{subject}", tmp_path)
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]


@pytest.mark.parametrize(
    ("subject", "kind", "said"),
    [
        ("guided", "PROVED", "exact TV at most"),
        ("guided_in_probabilities", "REFUTED", "on guided-2x5[:"),
        ("guided_once_more", "REFUTED", "a guidance scale one more"),
        ("barely", "REFUTED", "sequences that it forbids come with probability"),
    ],
)
def test_samplers_by_exact_laws(subject, kind, said, tmp_path):
    found = validate(f"loops.py:{subject}", tmp_path, "--level", "sampler", "--exact")
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]
