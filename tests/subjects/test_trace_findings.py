"""What a log may be wrong in while its tokens are right, and what a right one may look like: the order of its rows,
certainty that nobody checked, lists that were made after the draw, columns that contradict each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specverify.decoders import DraftModel, Speculative, sample
from specverify.decoders.protocol import Branch
from specverify.errors import InputError
from specverify.evidence import borrowed
from specverify.subjects.trace import judge_trace
from specverify.verdict import Kind
from toymodels import draft, toy

MODEL = toy("hash-16x24")
N = 3000
DELTA = 0.03


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    """Rows that are held against each other, of which these tests need no more."""
    monkeypatch.setattr(borrowed, "BUDGET", 1 << 18)


@pytest.fixture(scope="module")
def right():
    tokens = sample(Speculative(DraftModel(draft("perturbed", MODEL)), 4), MODEL, N, 1).tokens
    return {"tokens": tokens.numpy(), "logprobs": MODEL.laws(MODEL.start(N), tokens[:, :-1]).log().numpy()}


def own(log):
    return np.take_along_axis(log["logprobs"], log["tokens"][..., None], 2)[..., 0]


def sure(log, where):
    """The log with the emitted token certain at some places."""
    changed = np.where(where[..., None], -np.inf, log["logprobs"])
    np.put_along_axis(changed, log["tokens"][..., None], np.where(where, 0, own(log))[..., None], 2)
    return dict(log, logprobs=changed)


def reduced(log):
    p = np.exp(log["logprobs"].astype(np.float64))
    p /= p.sum(2, keepdims=True)
    surprisal = -np.log(p)
    entropy = (p * surprisal).sum(2)
    x = log["tokens"][..., None]
    mine = np.take_along_axis(p, x, 2)
    ahead = (p * ((p > mine) | ((p == mine) & (np.arange(p.shape[2]) < x)))).sum(2)
    return {
        "tokens": log["tokens"],
        "logprob": np.log(mine[..., 0]),
        "entropy": entropy,
        "variance": (p * (surprisal - entropy[..., None]) ** 2).sum(2),
        "pit_low": ahead,
        "pit_high": ahead + mine[..., 0],
    }


def by_name(found):
    return {item.check: item for item in found.evidence}


ORDERS = {
    "by likelihood": lambda log: np.argsort(own(log).sum(1)),
    "by first token": lambda log: np.argsort(log["tokens"][:, 0], kind="stable"),
    "as in a dictionary": lambda log: np.lexsort(log["tokens"].T[::-1]),
    "by surprise at the end": lambda log: np.argsort(own(log)[:, -2:].sum(1)),
}


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_a_right_log_in_any_order_is_right(right, name):
    order = ORDERS[name](right)
    found = judge_trace({key: value[order] for key, value in right.items()}, delta=DELTA)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    said = [note for note in found.notes if "the rows depend on their order, as sorted ones do" in note]
    assert len(said) == (name in ("as in a dictionary", "by first token")), "likelihood hardly shows in one transform"


@pytest.mark.parametrize("sort", ["lengths", "own likelihood per token"])
def test_rows_that_end_may_come_as_they_were_done(sort):
    model = toy("eos-3x6")
    tokens = sample(Speculative(DraftModel(draft("perturbed", model)), 3), model, 20_000, 3).tokens
    logprobs = model.laws(model.start(20_000), tokens[:, :-1]).log().numpy()
    ended = (tokens == 2).int()
    lengths = torch.where(ended.any(1), ended.argmax(1) + 1, model.length).numpy()
    log = {"tokens": tokens.numpy(), "logprobs": logprobs, "lengths": lengths}
    likely = np.where(np.arange(model.length) < lengths[:, None], own(log), 0).sum(1) / lengths
    order = np.argsort(lengths if sort == "lengths" else likely, kind="stable")
    found = judge_trace({key: value[order] for key, value in log.items()}, delta=DELTA)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason


def test_rows_that_share_their_randomness_with_the_row_before_are_no_sorted_log():
    # the same uniform number picks the token of both rows of a pair, by their own laws
    generator = np.random.default_rng(0)
    tokens = torch.zeros(N, MODEL.length, dtype=torch.int64)
    for t in range(MODEL.length):
        laws = MODEL.laws(MODEL.start(N), tokens[:, :t])[:, t].sort(dim=1, descending=True, stable=True)
        uniform = torch.from_numpy(np.repeat(generator.random(N // 2), 2))[:, None]
        place = (laws.values.double().cumsum(1) < uniform).sum(1, keepdim=True).clamp(max=MODEL.vocab - 1)
        tokens[:, t] = laws.indices.gather(1, place)[:, 0]
    log = {"tokens": tokens.numpy(), "logprobs": MODEL.laws(MODEL.start(N), tokens[:, :-1]).log().numpy()}
    found = judge_trace(log, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert "neighbouring rows" in found.location["refuting checks"]


def test_only_tokens_that_had_a_choice_are_counted(right):
    found = judge_trace(sure(right, np.arange(24)[None] % 8 + 0 * right["tokens"] > 0), delta=DELTA)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert by_name(found)["PIT uniformity"].n == N * 3
    assert "(72,000 tokens, of which 9,000 had a choice)" in found.verdict.reason
    assert any("63,000 tokens logged as certain" in line for line in found.not_covered)


def test_certainty_of_a_whole_position_or_branch_that_tells_tokens_apart_is_no_pass(right):
    late = judge_trace(sure(right, np.arange(24)[None] + 0 * right["tokens"] == 23), delta=DELTA)
    assert late.verdict.kind is Kind.INCONCLUSIVE
    assert "3,000 tokens of position 23 is logged as certain, and they differ" in late.verdict.reason
    kinds = np.array([Branch.ACCEPTED, Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS])
    branch = kinds[np.random.default_rng(0).choice(4, size=right["tokens"].shape, p=[0.5, 0.3, 0.15, 0.05])]
    assert judge_trace({**right, "branch": branch}, delta=DELTA).verdict.kind is Kind.CONSISTENT
    found = judge_trace({**sure(right, branch == Branch.BONUS), "branch": branch}, delta=DELTA)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert f"branch {int(Branch.BONUS)} (bonus) is logged as certain" in found.verdict.reason


def test_a_first_token_that_is_the_same_for_all_may_be_certain(right):
    padded = {
        "tokens": np.pad(right["tokens"], ((0, 0), (1, 0))),
        "logprobs": np.pad(right["logprobs"], ((0, 0), (1, 0), (0, 0)), constant_values=-np.inf),
    }
    padded["logprobs"][:, 0, 0] = 0
    assert judge_trace(padded, delta=DELTA).verdict.kind is Kind.CONSISTENT


def test_tokens_that_are_falsely_logged_as_almost_certain_are_refuted(right):
    falsely = np.random.default_rng(0).random(right["tokens"].shape) < 0.1
    law = np.full(right["logprobs"].shape, np.log(0.02 / 15))
    np.put_along_axis(law, right["tokens"][..., None], np.log(0.98), 2)
    found = judge_trace(dict(right, logprobs=np.where(falsely[..., None], law, right["logprobs"])), delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert "ranks" in found.location["refuting checks"]


def test_the_emitted_tokens_own_log_probability_alone_tests_nothing(right):
    log = {"tokens": right["tokens"], "top_ids": right["tokens"][..., None], "top_logprobs": own(right)[..., None]}
    found = judge_trace(log, delta=DELTA)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert found.verdict.reason.startswith("one place of top_ids is the emitted token everywhere")
    log["top_logprobs"] = log["top_logprobs"].copy()
    log["top_logprobs"][5, 7] = -np.inf
    found = judge_trace(log, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert found.verdict.reason.startswith("1 token of probability 0 in the log, first in row 5 at position 7")


def test_the_emitted_token_behind_the_most_probable_ones_is_told_from_a_law(right):
    """As engines list it: where it is not among the others."""
    ids = np.argsort(-right["logprobs"], 2, kind="stable")[..., :5]
    behind = np.where((ids == right["tokens"][..., None]).any(2), -1, right["tokens"])
    laws = np.take_along_axis(right["logprobs"], ids, 2)
    least = np.where(behind < 0, -np.inf, own(right))
    log = {
        "tokens": right["tokens"],
        "top_ids": np.concatenate([ids, behind[..., None]], 2),
        "top_logprobs": np.concatenate([laws, least[..., None]], 2),
    }
    found = judge_trace(log, delta=DELTA)
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert "or wherever it holds any, so that the lists were made after it was drawn" in found.verdict.reason
    alone = judge_trace({"tokens": right["tokens"], "top_ids": ids, "top_logprobs": laws}, delta=DELTA)
    assert alone.verdict.kind is not Kind.REFUTED


def test_lists_that_hold_the_emitted_token_by_construction_are_refuted(right):
    ids = np.argsort(-right["logprobs"], 2, kind="stable")[..., :12]
    log = {"tokens": right["tokens"], "top_ids": ids, "top_logprobs": np.take_along_axis(right["logprobs"], ids, 2)}
    assert judge_trace(log, delta=DELTA).verdict.kind is Kind.CONSISTENT
    held = (ids == right["tokens"][..., None]).any(2)
    ids = ids.copy()
    ids[..., -1] = np.where(held, ids[..., -1], right["tokens"])
    log = {"tokens": right["tokens"], "top_ids": ids, "top_logprobs": np.take_along_axis(right["logprobs"], ids, 2)}
    found = judge_trace(log, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert "every emitted token is listed" in by_name(found)["ranks"].detail


def test_a_log_probability_that_is_not_its_laws_is_a_finding_of_its_own(right):
    said = own(right).copy()
    assert judge_trace({**right, "logprob": said}, delta=DELTA).verdict.kind is Kind.CONSISTENT
    said[::50, 4] -= 0.1
    found = judge_trace({**right, "logprob": said}, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert found.verdict.reason.startswith(
        "reported log-probabilities: the log is wrong, whatever the tokens are: of 72,0"
    )
    assert [item.check for item in found.evidence if item.rejected] == ["reported log-probabilities"]
    assert found.location is None, "no place of the tokens is wrong"
    with pytest.raises(InputError, match=r"logprob has shape \(3000, 3\)"):
        judge_trace({**right, "logprob": said[:, :3]})


def test_laws_of_another_row_or_from_before_temperature_are_told_as_the_logs_own_fault(right):
    shifted = judge_trace(dict(right, logprobs=right["logprobs"][np.arange(N) // 4 * 4]), delta=DELTA)
    assert shifted.verdict.kind is Kind.REFUTED
    assert any("rows log exactly the laws of the row before them" in note for note in shifted.notes)
    flat = torch.from_numpy(right["logprobs"] * 0.7).log_softmax(2).numpy()
    raw = judge_trace(dict(right, logprobs=flat), delta=DELTA)
    assert raw.verdict.kind is Kind.REFUTED
    assert any("logged before temperature or cuts" in note for note in raw.notes)


@pytest.mark.parametrize("digits", [np.float64, np.float32, np.float16])
def test_reduced_logs_of_any_precision_contradict_themselves_only_where_they_are_wrong(right, digits):
    log = {name: x if name == "tokens" else x.astype(digits) for name, x in reduced(right).items()}
    assert judge_trace(log, delta=DELTA).verdict.kind is Kind.CONSISTENT
    few = np.random.default_rng(0).random(right["tokens"].shape) < 0.02
    with pytest.raises(InputError, match="entropy contradicts the rest of the log at"):
        judge_trace(dict(log, entropy=np.where(few, 0, log["entropy"]).astype(digits)))
    with pytest.raises(InputError, match="variance contradicts the rest of the log at"):
        judge_trace(dict(log, variance=np.where(few, 0, log["variance"]).astype(digits)))


def test_entropies_that_are_too_high_at_one_position_are_refuted(right):
    log = reduced(right)
    at = np.arange(24) == 11
    higher = {name: np.where(at, 1.1 * log[name], log[name]) for name in ("entropy", "variance")}
    found = judge_trace(log | higher, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert "most off: position 11" in found.verdict.reason


def test_a_leak_is_told_with_its_row_and_its_position_in_the_log(right):
    tokens, rows = right["tokens"].copy(), np.arange(40, N, 50)
    tokens[rows, 7] = right["logprobs"][rows, 7].argmin(1)
    logprobs = right["logprobs"].copy()
    logprobs[rows, 7, tokens[rows, 7]] = -40.0
    logprobs[rows, 7] -= np.log(np.exp(logprobs[rows, 7]).sum(1, keepdims=True))
    found = judge_trace({"tokens": tokens, "logprobs": logprobs}, delta=DELTA)
    assert found.verdict.kind is Kind.REFUTED
    assert f"; most at position 7: {len(rows)} of {N:,}" in by_name(found)["leaks"].detail
    first = f"is {tokens[40, 7]}, in row 40 at position 7"
    assert any(note.startswith("leaks: the first token") and note.endswith(first) for note in found.notes), found.notes


def test_branches_show_what_was_at_stake(right):
    tokens = right["tokens"]
    kinds = {"accepted": Branch.ACCEPTED, "recovered": Branch.RECOVERED, "sampled": Branch.SAMPLED}
    mixed = np.where(np.arange(24) % 3 == 0, Branch.RECOVERED, Branch.ACCEPTED) + 0 * tokens
    assert judge_trace({**right, "branch": mixed}, delta=0.03).verdict.kind is Kind.CONSISTENT
    only = judge_trace({**right, "branch": np.full_like(tokens, kinds["accepted"])}, delta=0.03)
    assert only.verdict.kind is Kind.VACUOUS
    assert "no draft token was rejected" in only.verdict.reason
    plain = judge_trace({**right, "branch": np.full_like(tokens, kinds["sampled"])}, delta=0.03)
    assert plain.verdict.kind is Kind.CONSISTENT
    assert any("`branch`" in note for note in judge_trace(right).not_covered)
    assert "whether `branch` says what was done: it is taken at its word" in plain.not_covered
