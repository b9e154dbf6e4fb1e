"""Every known-wrong kernel is refuted by the check that it names, and no control ever is."""

import time

import pytest

from specverify.defects import rounds
from specverify.errors import InputError
from specverify.subjects.round import judge_round
from specverify.verdict import Kind

LOSSY = [name for name in rounds.names() if rounds.get(name).lossy]
CONTROLS = [name for name in rounds.names() if not rounds.get(name).lossy]
SEEDS = 2
EXACT = ("token-rule", "block-verification")
"""Controls that are integrated over here; the others, and more seeds, are in tests/stats/test_kernels.py."""
LATE = ("residual-rewarped", "without-replacement-q-not-renormalised", "batch-of-one-path", "first-row-of-batch")
"""Defects that take many rows: they are tried there, with all others."""


@pytest.mark.parametrize("name", [name for name in LOSSY if name not in LATE])
def test_defect_is_refuted_by_the_check_that_it_names(name):
    defect, begun = rounds.get(name), time.process_time()
    judgement = judge_round(defect.kernel, checks=(defect.caught_by,))
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason
    assert judgement.verdict.reason
    assert time.process_time() - begun < 60


@pytest.mark.parametrize("name", CONTROLS)
def test_control_is_never_flagged(name):
    # At delta = 0.3 each of the 38 laws takes some 1,500 rows.
    for seed in range(SEEDS):
        checks = ("laws", "independence")
        judgement = judge_round(rounds.get(name).kernel, seed=seed, delta=0.3, checks=checks)
        assert judgement.verdict.kind is Kind.CONSISTENT, (seed, judgement.verdict.reason)


@pytest.mark.parametrize("name", EXACT)
def test_control_is_exact_over_all_coins(name):
    judgement = judge_round(rounds.get(name).kernel, checks=("forced-coins",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert len(judgement.exact) == 50
    assert max(row["tv"] for row in judgement.exact) < 2e-5


def test_the_token_rule_survives_draft_laws_of_nan():
    judgement = judge_round(rounds.get("token-rule").kernel, delta=0.3, checks=("standard", "nan-rows"))
    assert judgement.verdict.kind is Kind.CONSISTENT
    assert "emits possible tokens where the draft law is NaN" in judgement.notes


@pytest.mark.parametrize("name", ["zero-coin-inclusive", "residual-smoothing-leak"])
def test_what_needs_forced_coins_is_not_seen_by_sampling(name):
    judgement = judge_round(rounds.get(name).kernel, delta=0.3, checks=("standard",))
    assert judgement.verdict.kind is Kind.CONSISTENT, "then the check that it names would be needless"


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
