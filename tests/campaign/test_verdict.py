import dataclasses
import itertools

import pytest
import torch

import toymodels
from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.errors import InputError
from specverify.evidence.result import Evidence
from specverify.evidence.sequences import ExactLaw, target_law
from specverify.judge import Coverage, judge_evidence, judge_exact
from specverify.verdict import Kind, combine, lifted

REAL = Coverage(drafts=True, verified=10.0, accepted=6.0, recovered=4.0)
LAW = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


def exact(law):
    return ExactLaw(law, 1.0, 2.0, 1.0, 0.0, {"recovered": 1.0}, 1, 1)


def evidence(**changes):
    fields = {
        "check": "joint", "statistic": 1.0, "p_value": 0.5, "alpha": 1e-6, "beta": 1e-6, "delta": 0.01,
        "metric": "total variation", "n": 1000, "rejected": False, "basis": "exact", "power": "asymptotic",
    }  # fmt: skip
    return Evidence(**(fields | changes))


# The truth table of the module's docstring, one row for each first operand.
TABLE = {
    "PROVED-FOR-ALL": ["PROVED-FOR-ALL", "PROVED", "CONSISTENT", "PROVED-FOR-ALL", "INCONCLUSIVE", "ERROR", "REFUTED"],
    "PROVED": ["PROVED", "PROVED", "CONSISTENT", "PROVED", "INCONCLUSIVE", "ERROR", "REFUTED"],
    "CONSISTENT": ["CONSISTENT", "CONSISTENT", "CONSISTENT", "CONSISTENT", "INCONCLUSIVE", "ERROR", "REFUTED"],
    "VACUOUS": ["PROVED-FOR-ALL", "PROVED", "CONSISTENT", "VACUOUS", "INCONCLUSIVE", "ERROR", "REFUTED"],
    "INCONCLUSIVE": ["INCONCLUSIVE"] * 5 + ["ERROR", "REFUTED"],
    "ERROR": ["ERROR"] * 6 + ["REFUTED"],
    "REFUTED": ["REFUTED"] * 7,
}


@pytest.mark.parametrize("first", TABLE)
def test_combination_follows_the_truth_table(first):
    for second, expected in zip(TABLE, TABLE[first], strict=True):
        assert combine([Kind(first), Kind(second)]) is Kind(expected)
        assert combine([Kind(second), Kind(first)]) is Kind(expected)


def test_combination_is_associative_and_idempotent():
    for a, b, c in itertools.product(Kind, repeat=3):
        assert combine([combine([a, b]), c]) is combine([a, combine([b, c])]) is combine([a, b, c])
    assert all(combine([kind, kind]) is kind for kind in Kind)


def test_nothing_checked_is_not_a_pass():
    for nothing in (lambda: combine([]), lambda: lifted([], [])):
        with pytest.raises(InputError, match="nothing was checked"):
            nothing()


@pytest.mark.parametrize(("over", "every"), [*itertools.product(Kind, repeat=2)])
def test_every_law_lifts_what_passed_on_models_and_nothing_that_is_worse(over, every):
    found, passed = lifted([over], [every]), over in (Kind.PROVED, Kind.CONSISTENT)
    if passed and every is Kind.PROVED_FOR_ALL:
        assert found is Kind.PROVED_FOR_ALL
    else:
        assert found is combine([over, every])
    assert lifted([over], []) is over
    assert lifted([], [every]) is every


def test_exit_codes():
    assert {kind.value: kind.exit_code for kind in Kind} == {
        "PROVED-FOR-ALL": 0, "PROVED": 0, "CONSISTENT": 0, "REFUTED": 1, "INCONCLUSIVE": 2, "VACUOUS": 2, "ERROR": 3,
    }  # fmt: skip


def test_an_equal_law_proves_and_a_different_one_refutes():
    assert judge_exact(Lossless(), exact(LAW), LAW, 2, REAL).kind is Kind.PROVED
    off = LAW + torch.tensor([1e-11, 0, 0, -1e-11], dtype=torch.float64)
    verdict = judge_exact(Lossless(), exact(off), LAW, 2, REAL)
    assert verdict.kind is Kind.REFUTED
    assert "exact TV 1e-11" in verdict.reason


def test_a_law_of_nan_is_never_proved():
    assert judge_exact(Lossless(), exact(LAW * float("nan")), LAW, 2, REAL).kind is Kind.REFUTED


@pytest.mark.parametrize(
    ("part", "reason"),
    [("verified", "no draft token was verified"), ("accepted", "accepted"), ("recovered", "never drawn")],
)
def test_a_pass_in_which_nothing_was_at_stake_is_vacuous(part, reason):
    coverage = dataclasses.replace(REAL, **{part: 0.0})
    verdict = judge_exact(Lossless(), exact(LAW), LAW, 2, coverage)
    assert verdict.kind is Kind.VACUOUS
    assert reason in verdict.reason
    assert judge_evidence(Lossless(), [evidence()], coverage, {"joint": 0.02}).kind is Kind.VACUOUS
    # A refutation is no less one.
    assert judge_exact(Lossless(), exact(LAW.flip(0)), LAW, 2, coverage).kind is Kind.REFUTED


def test_plain_decoding_needs_no_drafts():
    coverage = Coverage(drafts=False, verified=0.0, accepted=0.0, recovered=0.0)
    assert judge_exact(Lossless(), exact(LAW), LAW, 2, coverage).kind is Kind.PROVED


def test_a_relaxed_claim_holds_up_to_its_bound():
    off = LAW + torch.tensor([0.05, 0, 0, -0.05], dtype=torch.float64)
    assert judge_exact(Relaxed(0.05), exact(off), LAW, 2, REAL).kind is Kind.PROVED
    assert judge_exact(Relaxed(0.049), exact(off), LAW, 2, REAL).kind is Kind.REFUTED


def test_a_claim_that_allows_nearly_every_law_is_vacuous_unless_even_that_is_broken():
    allowed = judge_exact(Relaxed(0.995), exact(LAW), LAW, 2, REAL)
    assert allowed.kind is Kind.VACUOUS
    assert allowed.reason == "relaxed(tv<=0.995) allows nearly every law and says nothing; exact TV 0"
    assert judge_exact(Relaxed(0.989), exact(LAW), LAW, 2, REAL).kind is Kind.PROVED


def test_a_cluster_claim_looks_at_clusters_only():
    toy = toymodels.toy("synonyms-4x5")
    law, partition = target_law(toy), toy.clusters
    table = law.reshape([4] * 5)
    first, second = partition[0][0], partition[0][1]
    # Exchanging two members of one cluster at the last position keeps the law of the clusters, and only that.
    order = list(range(4))
    order[first], order[second] = second, first
    swapped = table[..., order].reshape(-1)
    assert judge_exact(ClusterLossless(partition), exact(swapped), law, 4, REAL).kind is Kind.PROVED
    assert judge_exact(Lossless(), exact(swapped), law, 4, REAL).kind is Kind.REFUTED
    other = next(token for token in range(4) if token not in partition[0])
    order = list(range(4))
    order[first], order[other] = other, first
    across = table[..., order].reshape(-1)
    assert judge_exact(ClusterLossless(partition), exact(across), law, 4, REAL).kind is Kind.REFUTED


def test_claims_check_themselves():
    with pytest.raises(InputError, match="no partition"):
        ClusterLossless(((0, 1), (1, 2)))
    with pytest.raises(InputError, match="between 0 and 1"):
        Relaxed(1.5)
    with pytest.raises(InputError, match="covers 3 tokens, but the vocabulary has 2"):
        judge_exact(ClusterLossless(((0,), (1, 2))), exact(LAW), LAW, 2, REAL)


def test_evidence_is_consistent_when_every_asked_check_sees_enough():
    verdict = judge_evidence(Lossless(), [evidence(), evidence(check="watch", delta=0.9)], REAL, {"joint": 0.02})
    assert verdict.kind is Kind.CONSISTENT
    assert "0.01" in verdict.reason
    assert "2 checks" in verdict.reason


def test_a_check_that_only_watches_can_still_refute():
    watch = evidence(check="watch", delta=0.9, rejected=True, p_value=1e-9, detail="too many")
    verdict = judge_evidence(Lossless(), [evidence(), watch], REAL, {"joint": 0.02})
    assert verdict.kind is Kind.REFUTED
    assert verdict.reason == "watch: too many"


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([evidence(delta=0.05)], "sees 0.05"),
        ([evidence(delta=float("nan"))], "asked for"),
        ([evidence(vacuous="nothing to see")], "nothing to see"),
        ([evidence(check="other")], "not carried out: joint"),
        ([], "not carried out: joint"),
    ],
)
def test_evidence_that_cannot_see_enough_is_inconclusive(items, reason):
    verdict = judge_evidence(Lossless(), items, REAL, {"joint": 0.02})
    assert verdict.kind is Kind.INCONCLUSIVE
    assert reason in verdict.reason


def test_statistics_cannot_judge_a_relaxed_claim():
    with pytest.raises(InputError, match="test losslessness"):
        judge_evidence(Relaxed(0.1), [evidence()], REAL, {"joint": 0.02})


def test_what_was_done_too_seldom_to_tell_is_said():
    assert REAL.slight() == [
        "what is done when drafts are kept: 6 of 10 drafts that were judged were",
        "what replaces rejected drafts: 4 of 10 drafts that were judged were",
    ]
    assert Coverage(True, 4000.0, 3981.0, 19.0).slight() == [
        "what replaces rejected drafts: 19 of 4,000 drafts that were judged were"
    ]
    assert Coverage(True, 4000.0, 3980.0, 20.0).slight() == []
    assert Coverage(False, 0.0, 0.0, 0.0).slight() == []
    vacuous = Coverage(True, 4000.0, 4000.0, 0.0)
    assert vacuous.gap()
    assert vacuous.slight() == []
