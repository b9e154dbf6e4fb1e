"""Logs of engines that are wrong with some ids wherever these stand: transforms by probability do not see it."""

import re

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence import borrowed
from specverify.subjects import trace_file
from specverify.subjects.trace import judge_trace
from specverify.verdict import Kind

POSITION = "PIT by position"
VOCAB, ROWS, LENGTH = 256, 1_000, 24
TABLE = (torch.rand(61, VOCAB, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 4).numpy()
TABLE /= TABLE.sum(1, keepdims=True)
SLIPS = {
    "right": np.ones(VOCAB),
    "a tile": np.where(np.arange(VOCAB) // 32 == 5, 0, 1),
    "lanes": np.where(np.arange(VOCAB) % 4 == 1, 0.7, 1.1),
}


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    """Rows that are held against each other, of which these tests need no more."""
    monkeypatch.setattr(borrowed, "BUDGET", 1 << 16)


def log(slip):
    """Tokens of an engine that draws by laws which are changed so, and the laws themselves."""
    generator, tokens, laws = np.random.default_rng(7), np.zeros((ROWS, LENGTH), np.int64), []
    state = np.zeros(ROWS, np.int64)
    for place in range(LENGTH):
        laws.append(TABLE[state])
        edges = (laws[-1] * SLIPS[slip]).cumsum(1)
        tokens[:, place] = (edges <= generator.random((ROWS, 1)) * edges[:, -1:]).sum(1)
        state = (31 * state + 7 * tokens[:, place] + place) % 61
    return tokens, np.log(np.stack(laws, 1))


def full(tokens, laws):
    return {"tokens": tokens, "logprobs": laws}


def lists(tokens, laws):
    ids = np.argsort(-laws, -1)[..., :60]
    return {"tokens": tokens, "top_ids": ids, "top_logprobs": np.take_along_axis(laws, ids, -1)}


def reduced(tokens, laws):
    p = np.exp(laws)
    own = np.take_along_axis(p, tokens[..., None], 2)[..., 0]
    entropy = -(p * laws).sum(2)
    ahead = np.where(p > own[..., None], p, 0).sum(2)
    return {
        "tokens": tokens,
        "logprob": np.log(own),
        "entropy": entropy,
        "variance": (p * (-laws - entropy[..., None]) ** 2).sum(2),
        "pit_low": ahead,
        "pit_high": ahead + own,
        "below": np.where(np.arange(VOCAB) < tokens[..., None], p, 0).sum(2),
    }


FORMS = {"full": full, "lists": lists, "reduced": reduced}
SAID = {
    ("a tile", "full"): r"ids: ids 160 to 191: 0 came, 2,\d\d\d\.\d are due",
    ("a tile", "lists"): r"ids: ids 160 to 191: 0 came, 2,\d\d\d\.\d are due",
    ("a tile", "reduced"): r"PIT by id: largest deviation .* ids come too often",
    ("lanes", "full"): r"ids: ids 1, 5, 9, \.\.\.: 4,\d\d\d came",
    ("lanes", "lists"): r"ids: ids 1, 5, 9, \.\.\.: \d,\d\d\d came",
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slip", SLIPS)
def test_ids_that_come_too_seldom_are_named_where_the_log_can_tell(slip, form):
    found = judge_trace(FORMS[form](*log(slip)))
    if (slip, form) in SAID:
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
        assert re.search(SAID[slip, form], found.verdict.reason), found.verdict.reason
        assert found.location is None, "it is wrong at no position more than at others"
    else:
        assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    unseen = [note for note in found.not_covered if note.startswith("ids that come")]
    assert bool(unseen) == (form == "reduced"), "what the log cannot tell is said"


@pytest.mark.thinned(2)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_lists_are_read_twice_from_a_file_in_blocks(save, order, tmp_path, monkeypatch):
    arrays = {name: np.array(each[:300], order=order) for name, each in lists(*log("a tile")).items()}
    due = judge_trace(arrays)
    save(tmp_path / "log.npz", **arrays)
    monkeypatch.setattr(trace_file, "BLOCK", 60 * LENGTH * 7)  # seven rows at once
    found = judge_trace(tmp_path / "log.npz")
    assert found.verdict.reason == due.verdict.reason
    assert "ids 160 to 191: 0 came" in found.verdict.reason


def test_what_a_log_cannot_tell_of_ids_without_the_mass_below_is_said():
    arrays = reduced(*log("a tile"))
    del arrays["below"]
    found = judge_trace(arrays)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert (
        "ids that come too often or too rarely, and tokens that came before: it needs logprobs, or top_ids"
        in found.not_covered
    )


def test_one_position_alone_needs_more_and_that_is_said():
    found = judge_trace(full(*log("right")))
    by_name = {item.check: item for item in found.evidence}
    level = by_name["PIT by position"].delta
    assert (
        f"one position alone, where the transforms of its tokens are off by less than {level:.2g}" in found.not_covered
    )


def test_bonus_tokens_of_another_law_are_named():
    tokens, laws = log("right")
    branch = np.tile([2, 3, 4], (ROWS, LENGTH // 3))
    assert judge_trace({**full(tokens, laws), "branch": branch}).verdict.kind is Kind.CONSISTENT
    # of the bonus tokens a third are the most probable token; nothing that comes after depends on them
    greedy = (branch == 4) & (np.random.default_rng(0).random(branch.shape) < 0.3)
    greedy[:, :-1] = False
    found = judge_trace({**full(np.where(greedy, laws.argmax(2), tokens), laws), "branch": branch})
    assert found.verdict.kind is Kind.REFUTED
    by_name = {item.check: item for item in found.evidence}
    assert by_name["branches"].rejected
    assert "bonus tokens" in by_name["branches"].detail


def few(tokens, laws, k, other=None):
    """Lists of k tokens, of an engine that emits another one wherever its token is in no list."""
    ids = np.argsort(-laws, -1)[..., :k]
    listed = (ids == tokens[..., None]).any(-1)
    tokens = tokens if other is None else np.where(listed, tokens, other(ids))
    return {"tokens": tokens, "top_ids": ids, "top_logprobs": np.take_along_axis(laws, ids, -1)}


def first_unlisted(ids):
    """The smallest id that is in no list."""
    return (np.sort(ids, -1) == np.arange(ids.shape[-1])).cumprod(-1).sum(-1)


def test_an_id_that_comes_wherever_the_token_is_in_no_list_is_seen():
    tokens, laws = log("right")
    right, wrong = judge_trace(few(tokens, laws, 60)), judge_trace(few(tokens, laws, 60, first_unlisted))
    assert right.verdict.kind is Kind.CONSISTENT, right.verdict.reason
    (share,) = [note for note in right.not_covered if note.startswith("which ids came where they were in no list")]
    unlisted = int((right_places := few(tokens, laws, 60)["top_ids"] != tokens[..., None]).all(-1).sum())
    assert f"{unlisted / right_places[..., 0].size:.1%} of the tokens" in share
    assert f"; {unlisted:,} were in no list, as one outcome)" in right.verdict.reason
    assert wrong.verdict.kind is Kind.REFUTED, wrong.verdict.reason
    assert re.search(r"ids: id 0 where it is in no list: \d,\d\d\d came, [\d.]+ are due at most", wrong.verdict.reason)


def test_lists_that_hold_few_of_the_tokens_say_too_little():
    found = judge_trace(few(*log("right"), 5))
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert found.verdict.reason.startswith("most tokens were in no list, and not tested: list more (24,000 tokens")


def test_what_goes_from_the_lists_to_the_rest_at_one_position_is_seen():
    tokens, laws = log("right")
    generator = np.random.default_rng(5)
    flat = np.exp(0.5 * laws[:, 5])
    edges = flat.cumsum(1)
    tokens[:, 5] = (edges <= generator.random((ROWS, 1)) * edges[:, -1:]).sum(1)
    found = judge_trace(few(tokens, laws, 40))
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["position"] == 5, "the laws behind it are the log's own, and are right"


def test_lists_may_be_filled_up_and_rows_padded_with_anything():
    arrays = few(*log("right"), 60)
    lengths = np.random.default_rng(3).integers(1, LENGTH + 1, ROWS)
    behind = np.arange(LENGTH) >= lengths[:, None]
    plain = judge_trace({**arrays, "lengths": lengths})
    for filler in (-1, 0):
        ids = np.concatenate([arrays["top_ids"], np.full((ROWS, LENGTH, 2), filler)], 2)
        logprobs = np.concatenate([arrays["top_logprobs"], np.full((ROWS, LENGTH, 2), -np.inf)], 2)
        ids[behind], logprobs[behind] = -100, np.nan
        padded = {"tokens": np.where(behind, -1, arrays["tokens"]), "top_ids": ids, "top_logprobs": logprobs}
        found = judge_trace({**padded, "lengths": lengths})
        assert found.verdict.reason == plain.verdict.reason
    twice = {**arrays, "top_ids": np.where(np.arange(60) == 3, arrays["top_ids"][..., :1], arrays["top_ids"])}
    with pytest.raises(InputError, match="list each once, and fill up what is shorter with ids of -1"):
        judge_trace(twice)


def test_kinds_of_tokens_that_are_few_say_from_what_they_are_seen():
    tokens, laws = log("right")
    branch = np.tile([2, 3, 4], (ROWS, LENGTH // 3))
    found = judge_trace({**full(tokens, laws), "branch": branch})
    (line,) = [note for note in found.not_covered if note.startswith("tokens of one kind alone")]
    assert re.search(
        r"off by less than 0\.\d+ nats \(8,000 bonus tokens\), 0\.\d+ nats \(8,000 drafts at slot 0\)", line
    )
    assert "slot 2" not in line


def test_a_vocabulary_of_one_token_has_no_groups():
    found = judge_trace({"tokens": np.zeros((30, 4), np.int64), "logprobs": np.zeros((30, 4, 1))})
    assert found.verdict.kind is not Kind.REFUTED
    assert "ids" not in {item.check for item in found.evidence}


@pytest.mark.parametrize("counts_the_end", [True, False])
def test_an_end_that_lengths_leave_out_is_told(counts_the_end):
    tokens, laws = log("right")
    ends = np.isin(tokens, range(40, 48))  # each of eight ids ends a row
    lengths = np.where(ends.any(1), ends.argmax(1) + counts_the_end, LENGTH)
    found = judge_trace({**full(tokens, laws), "lengths": lengths})
    told = [note for note in found.notes if note.startswith("an id that ends rows looks so, too, where `lengths`")]
    assert found.verdict.kind is (Kind.CONSISTENT if counts_the_end else Kind.REFUTED), found.verdict.reason
    assert bool(told) != counts_the_end
