"""The lists of checks: one name for each, whoever asks for it."""

import numpy as np
import pytest
import torch

import toymodels
from specverify import calibration, killmatrix, plan, planner, planner_calls
from specverify.batteries import calls, counts, traces
from specverify.cell import ALPHA, BETA, DELTA, DELTA_CONTINUOUS, DELTA_REAL
from specverify.cells import checks
from specverify.decoders import Autoregressive, sample
from specverify.defects import rounds
from specverify.evidence.discrete import sequence_counts
from specverify.evidence.ids import Groups
from specverify.evidence.sequences import target_law
from specverify.evidence.tokens import reduce, traced
from specverify.subjects.round import CHECKS, judge_round
from specverify.subjects.sampler_checks import Counts, Rows
from specverify.subjects.trace import judge_trace

N = 4096


@pytest.fixture(scope="module")
def tokens():
    return sample(Autoregressive(), toymodels.toy("recurrent-3x6"), N, seed=0).tokens


@pytest.fixture(scope="module")
def counted(tokens):
    found = [sequence_counts(part, 3) for part in tokens.split(N // 4)]
    return counts.Counted(np.sum(found, axis=0), found, np.stack(found), (tokens[: N // 2], tokens[N // 2 :]))


@pytest.fixture(scope="module")
def whole(tokens):
    model = toymodels.toy("recurrent-3x6")
    groups = Groups(tokens, 3)
    statistics = traced(model, tokens, 1000, np.random.default_rng(0), groups)
    rows = (tokens, -statistics.surprisal.sum(1))
    runs = (tokens[: N // 2], tokens[N // 2 :])
    return traces.Traced(statistics, rows, runs, groups=groups, logged=statistics, transforms=(statistics.pit.numpy(),))


def test_a_check_of_counts_has_the_name_of_its_evidence(counted):
    law = target_law(toymodels.toy("recurrent-3x6")).numpy()
    alphas = dict.fromkeys(counts.NAMES, 1e-6)
    found = counts.carry_out(law, 3, counted, alphas, 1e-6, np.random.default_rng(0))
    assert tuple(item.check for item in found) == counts.NAMES
    assert not any(item.rejected for item in found)


def test_what_a_sample_cannot_tell_is_left_out(counted):
    law = target_law(toymodels.toy("recurrent-3x6")).numpy()
    alphas = dict.fromkeys(counts.NAMES, 1e-6)
    bare = counts.Counted(counted.total, counted.looks)
    found = counts.carry_out(law, 3, bare, alphas, 1e-6, np.random.default_rng(0))
    assert {item.check for item in found} == set(counts.NAMES) - {"dispersion", "copies"}


def test_a_check_of_traces_has_the_name_of_its_evidence(whole):
    names = traces.names(whole)
    assert set(names) == set(traces.CHECKS) - {"ranks", "PIT by id", "branches"}
    found = traces.carry_out(whole, dict.fromkeys(names, 1e-6), 1e-6)
    assert tuple(item.check for item in found) == names
    assert not any(item.rejected for item in found)


def test_checks_without_a_share_of_alpha_are_not_carried_out(whole):
    (only,) = traces.carry_out(whole, {"surprisal": 1e-6}, 1e-6)
    assert only.check == "surprisal"


@pytest.mark.parametrize("kind", ["sampled", "real"])
def test_a_campaign_has_the_whole_list(kind):
    cell = next(cell for cell in plan.plan("quick") if cell.kind == kind and not cell.timed_alone)
    assert checks(cell) == (counts.NAMES if kind == "sampled" else traces.SAMPLED)
    asked = DELTA if kind == "sampled" else DELTA_REAL["quick"]
    assert set(asked) & set(checks(cell)), "a pass rests on some of them"


@pytest.mark.parametrize(("toy", "names"), [("recurrent-3x6", counts.NAMES), ("hash-16x24", traces.SAMPLED)])
def test_a_plan_has_the_whole_list(toy, names):
    found = planner.make_plan(0.1, 1e-3, 1e-3, toys=[toy])
    assert tuple(need.check for need in found.needs) == names
    assert all(need.sequences is None or need.sequences > 0 for need in found.needs)


def test_a_trace_is_judged_by_the_whole_list(tokens):
    model = toymodels.toy("recurrent-3x6")
    laws = model.laws(model.start(N), tokens[:, :-1])
    found = judge_trace({"tokens": tokens.numpy(), "logprobs": laws.log().numpy()}, delta=0.1)
    assert {item.check for item in found.evidence} == set(traces.CHECKS) - {"copies", "PIT by id", "branches"}


def test_a_trace_is_judged_by_what_it_says_of_branches_and_ids(tokens):
    laws = toymodels.toy("recurrent-3x6").laws(toymodels.toy("recurrent-3x6").start(N), tokens[:, :-1])
    statistics = reduce(laws, tokens, np.random.default_rng(0))
    kinds = torch.zeros_like(tokens).where(statistics.choice, -1)
    by_id = np.random.default_rng(1).random(tokens.shape)
    found = traces.Traced(statistics, kinds=kinds, transforms=(statistics.pit.numpy(), by_id))
    names = [name for name in traces.names(found) if name in traces.APART]
    assert names == ["PIT by id", "branches"]
    evidence = traces.carry_out(found, dict.fromkeys(names, 1e-6), 1e-6)
    assert [item.check for item in evidence] == names
    assert not any(item.rejected for item in evidence)


def test_black_boxes_are_judged_by_names_of_the_lists():
    assert set(Counts.checks) == set(counts.NAMES) - {"copies"}, "copies between calls are looked for apart"
    assert set(Rows.checks) <= set(traces.CHECKS)
    assert set(traces.SAMPLED) - set(Rows.checks) == {
        "PIT pairs, positions 1 apart", "PIT pairs, rows 1 apart", "copies"
    }  # fmt: skip


@pytest.fixture(scope="module")
def kernel():
    """The judgement of a right kernel, with all of `standard`."""
    return judge_round(rounds.get("token-rule").kernel, delta=0.5, seconds=20, checks=("standard",))


@pytest.mark.slow
def test_a_kernel_is_judged_by_the_whole_list_and_by_no_other_check(kernel):
    groups, judged = (*calls.STANDARD, "reports"), {item.check for item in kernel.evidence}
    streams = [check for check in judged if ": " in check]
    assert judged >= set(calls.names(calls.STANDARD, streams))
    assert set(calls.names(groups, streams)) - judged == {"accepted counts"}, "this convention reports none"
    assert {"one round: dense", "window of 16: slot 7"} & set(streams)


def test_the_box_of_a_kernel_is_stated(kernel):
    for words in (
        "2, 3, 4, 16, 64, 256, 1,024, 1,031",
        "0 to 3 drafts per row (windows of 8 and 16 beside)",
        "batches of 1 to 40",
        "bfloat16",
    ):
        assert words in kernel.verdict.reason
    assert any("batches above 4,096 rows" in gap for gap in kernel.not_covered)


def test_the_groups_of_calls_are_those_that_can_be_asked_for():
    assert set(calls.ASKED) == {*CHECKS} == {"standard", *calls.STANDARD, *calls.EXACT}
    assert killmatrix.CHECKERS["round"] == calls.CHECKERS
    assert sorted(name for group in (*calls.STANDARD, "reports") for name in calls.of(group)) == sorted(calls.CHECKS)


def test_what_has_to_be_seen_of_calls_follows_from_what_is_asked_for():
    deltas = {name: calls.CHECKS[name].delta(0.02) for name in calls.CHECKS}
    assert deltas["laws"] == 0.02
    assert deltas["batch sizes"] == deltas["kinds of batch"] == 0.2
    assert calls.CHECKS["batch sizes"].delta(0.1) == 0.5
    assert deltas["copies between calls"] == 0.3


def test_a_plan_for_kernels_has_the_whole_list():
    found = planner_calls.planned(0.1, 1e-3, 1e-3)
    assert {need.check.partition(":")[0] for need in found} == set(calls.CHECKS)
    assert all(need.n > 0 for need in found)
    alphas = {need.check: need.alpha * (need.laws if need.check.startswith("laws") else 1) for need in found[:-1]}
    assert sum(alphas.values()) == pytest.approx(1e-3)


def test_calibration_takes_its_checks_from_the_lists():
    assert set(calibration.counts.TOOLS) >= set(counts.NAMES) - {"dispersion", "copies"}
    assert set(calibration.traces.TOOLS) == set(traces.CHECKS) - set(calibration.traces.BESIDE)
    assert set(calibration.rounds.TOOLS) == {*calls.of("batches"), *calls.of("reports")}


def test_the_budget_of_a_campaign_is_what_the_documentation_says():
    assert ALPHA == BETA == 1e-6
    assert DELTA == {
        "joint law (g)": 0.02, "total variation": 0.05, "e-process": 0.02, "PIT uniformity": 0.02, "surprisal": 0.05
    }  # fmt: skip
    assert DELTA_CONTINUOUS == {"Rosenblatt uniformity": 0.01}
    assert DELTA_REAL["full"] == {"PIT uniformity": 0.006, "surprisal": 0.01}
