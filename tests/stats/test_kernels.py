"""Whole judgements of kernels, which take minutes: all of the corpus, controls over many seeds, every convention.

Each judgement runs at the judgement's alpha = 1e-6, and all together raise a false alarm with probability
below 3e-4.
"""

import textwrap

import pytest
from kernels import IN_EVERY_CONVENTION, draws_its_own

from specverify.defects import rounds
from specverify.subjects import round as module
from specverify.subjects.round import judge_round, transformers
from specverify.verdict import Kind

CONTROLS = [name for name in rounds.names() if not rounds.get(name).lossy]
LOSSY = [name for name in rounds.names() if rounds.get(name).lossy]
SEEDS = 20
DELTA = 0.2
"""Some 3,000 rows of each law; false alarms are as rare at any n."""


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", CONTROLS)
def test_control_is_never_flagged(name, seed):
    judgement = judge_round(rounds.get(name).kernel, seed=seed, delta=DELTA, checks=("standard",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason


def test_the_token_rule_survives_draft_laws_of_nan():
    judgement = judge_round(rounds.get("token-rule").kernel, delta=DELTA, checks=("standard", "nan-rows"))
    assert judgement.verdict.kind is Kind.CONSISTENT
    assert "emits possible tokens where the draft law is NaN" in judgement.notes


@pytest.mark.parametrize("name", [name for name in CONTROLS if rounds.get(name).kernel.with_coins])
def test_control_is_exact_over_all_coins(name):
    judgement = judge_round(rounds.get(name).kernel, checks=("forced-coins",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert len(judgement.exact) == 50
    assert max(row["tv"] for row in judgement.exact) < 2e-5


@pytest.mark.parametrize("name", LOSSY)
def test_defect_is_refuted_by_the_check_that_it_names(name):
    defect = rounds.get(name)
    judgement = judge_round(defect.kernel, checks=(defect.caught_by,))
    assert judgement.verdict.kind is Kind.REFUTED, judgement.verdict.reason


@pytest.mark.parametrize("name", ["zero-coin-inclusive", "residual-smoothing-leak"])
def test_what_needs_forced_coins_is_not_seen_by_sampling(name):
    judgement = judge_round(rounds.get(name).kernel, delta=DELTA, checks=("standard",))
    assert judgement.verdict.kind is Kind.CONSISTENT, "then the check that it names would be needless"


@pytest.mark.parametrize("subject", IN_EVERY_CONVENTION.values(), ids=IN_EVERY_CONVENTION)
def test_correct_kernels_pass_in_every_convention(subject):
    judgement = judge_round(subject, delta=DELTA, checks=("standard",))
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason


def test_the_verification_function_of_the_installed_transformers_is_lossless_as_far_as_can_be_seen():
    utils = pytest.importorskip("transformers.generation.utils", reason="transformers is an extra")
    few = {"contexts": ("dense", "sparse target", "sharp"), "delta": DELTA, "checks": ("laws",)}
    judgement = judge_round(transformers(utils._speculative_sampling), **few)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason


def test_the_documented_example_is_consistent():
    code = textwrap.dedent(module.__doc__.split("conventions.py`):\n")[1].split("The testbed supplies")[0])
    names = {}
    exec(code.replace("judge_round(kernel).verdict", f"verdict := judge_round(kernel, delta={DELTA}).verdict"), names)
    assert names["verdict"].kind is Kind.CONSISTENT, names["verdict"].reason


def test_the_token_rule_can_be_claimed_beyond_losslessness():
    checks = ("standard",)
    assert judge_round(draws_its_own, rule="token", delta=DELTA, checks=checks).verdict.kind is Kind.CONSISTENT
    wrong = rounds.get("one-hot-rule-with-any-draft").kernel
    assert judge_round(wrong, rule="token", delta=DELTA, checks=checks).verdict.kind is Kind.REFUTED
