"""What others' loops were once told wrongly: processors and guidance that were never at stake, rows one by one."""

import pytest
from soundness.judging import validate

EXACT = ("--level", "sampler", "--exact")


@pytest.mark.parametrize(
    ("subject", "kind", "said", "options"),
    [
        ("cut", "PROVED", "3 tokens by", ()),
        ("uncut", "REFUTED", "with 3 tokens", ()),
        ("never_cut", "INCONCLUSIVE", "top_k=2000 had nothing to cut", ()),
        ("row_by_row", "CONSISTENT", "outside the contract", ()),
        ("row_by_row_wrong", "REFUTED", "", ()),
        ("guided", "PROVED", "exact TV at most", EXACT),
        ("guided_in_probabilities", "REFUTED", "on guided-2x5[:", EXACT),
        ("guided_once_more", "REFUTED", "a guidance scale one more", EXACT),
        ("barely", "REFUTED", "sequences that it forbids come with probability", EXACT),
    ],
)
def test_each_gets_its_verdict(subject, kind, said, options, tmp_path):
    found = validate(f"loops.py:{subject}", tmp_path, *options)
    assert found["verdict"]["kind"] == kind, found["verdict"]["reason"]
    assert said in found["verdict"]["reason"]
