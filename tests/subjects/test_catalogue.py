"""A sample of the catalogue through the judgement that `validate` gives; all of it is tested in `tests/soundness`."""

import pytest

from specverify import defects
from specverify.defects import continuous, rounds, samplers
from specverify.subjects.here import judge_here
from specverify.verdict import Kind


@pytest.mark.slow
def test_a_defect_of_vectors_is_refuted_without_a_hint():
    """One that leaves the law nearly right: of all tokens, a five hundredth are the zero vector."""
    judgement = judge_here(continuous.get("cspd-trial-cap-zero").build, "continuous", options={"delta": 0.05})
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason
    assert "atoms: the most frequent of" in judgement.verdict.reason


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("decoder", defects.names()[0]),
        ("round", rounds.names()[0]),
        ("sampler", samplers.names()[0]),
    ],
)
def test_a_defect_of_each_other_level_is_refuted_without_a_hint(level, name):
    subject = {
        "decoder": lambda: defects.get(name).build,
        "round": lambda: rounds.get(name).kernel,
        "sampler": lambda: samplers.get(name).sample,
    }[level]()
    judgement = judge_here(subject, level, name=name)
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason
