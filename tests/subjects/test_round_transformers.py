"""The verification function of the installed transformers, as it is."""

import functools

import pytest

from specverify.subjects.round import judge_round, transformers
from specverify.verdict import Kind

utils = pytest.importorskip("transformers.generation.utils", reason="transformers is an extra")
FEW = {"contexts": ("sparse target",), "delta": 0.2, "checks": ("laws",)}


def test_it_is_lossless_as_far_as_can_be_seen():
    judgement = judge_round(transformers(utils._speculative_sampling), **FEW)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert judgement.subject == "_speculative_sampling"


def test_its_relaxed_mode_is_not():
    if "assistant_ensemble_weight" not in utils._speculative_sampling.__code__.co_varnames:
        pytest.skip("this release has no relaxed mode")
    relaxed = functools.partial(utils._speculative_sampling, assistant_ensemble_weight=0.9)
    judgement = judge_round(transformers(relaxed), **FEW)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.location["branch"] == "accepted"
