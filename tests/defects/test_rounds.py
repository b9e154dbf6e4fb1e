"""Known-wrong kernels are refuted by the check that they name, and a control is not.

Some of them, one for each check: all of them, all controls and many seeds are in tests/stats/test_kernels.py.
"""

import time

import pytest

from specverify.defects import rounds
from specverify.errors import InputError
from specverify.subjects.round import judge_round
from specverify.verdict import Kind

SOME = {
    "standard": ("lenience", "recovered-from-target", "shared-stream-across-requests"),
    "forced-coins": ("zero-coin-inclusive", "inversion-falls-to-last-id"),
    "nan-rows": ("nan-draft-row-re-emits-rejected",),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", [name for names in SOME.values() for name in names])
def test_defect_is_refuted_by_the_check_that_it_names(name):
    defect, begun = rounds.get(name), time.process_time()
    judgement = judge_round(defect.kernel, checks=(defect.caught_by,))
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason
    assert judgement.verdict.reason
    assert time.process_time() - begun < 60


def test_there_are_some_for_each_check_that_is_named():
    defects = [rounds.get(name) for name in rounds.names()]
    assert set(SOME) == {defect.caught_by for defect in defects if defect.lossy}
    assert all(rounds.get(name).caught_by == check for check, names in SOME.items() for name in names)


def test_a_control_is_not_flagged_and_survives_draft_laws_of_nan():
    few = {"delta": 0.2, "contexts": ("near", "sparse target", "sharp", "greedy"), "checks": ("standard", "nan-rows")}
    judgement = judge_round(rounds.get("token-rule").kernel, **few)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert "emits possible tokens where the draft law is NaN" in judgement.notes


@pytest.mark.parametrize("name", rounds.names())
def test_what_is_known_of_each(name):
    defect = rounds.get(name)
    assert defect.id == name
    assert defect.level == "round"
    assert defect.source
    assert defect.conditions
    assert defect.mechanism.endswith(".")
    assert defect.mechanism.count(". ") == 0, "one sentence"
    assert defect.kernel.name == name
    assert (defect.caught_by == "none") == (not defect.lossy)


def test_unknown_names_bring_the_nearest_known_one():
    assert len(set(rounds.names())) == len(rounds.names()) >= 50
    with pytest.raises(InputError, match="unknown round defect 'lenient'; did you mean lenience"):
        rounds.get("lenient")
    with pytest.raises(InputError, match="unknown round defect 'zzzz'; known: accept-all-prefix-count, "):
        rounds.get("zzzz")
