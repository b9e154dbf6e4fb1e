"""Two logs whose laws are nearly one at every position by itself, and apart in what places of a row have together."""

import re

import numpy as np
import pytest

from specverify.evidence.learned import View, check, third
from specverify.subjects.two_logs import compare_logs
from specverify.subjects.two_logs_views import distances
from specverify.verdict import Kind


def moves(vocab, likely=8, seed=5):
    """A chain whose tokens come equally often: behind each, a few others are likely."""
    law = np.full(vocab, 0.05 / vocab)
    law[:likely] += 0.95 * np.random.default_rng(seed).dirichlet(np.ones(likely))
    turns = np.random.default_rng(seed + 1).permutation(vocab)
    return np.stack([np.roll(law, turn) for turn in turns])


def walk(table, n, length, seed, back=1, first=4):
    """Rows of tokens that depend on the one `back` places before; `table` is of each place, from `first` on."""
    generator = np.random.default_rng(seed)
    plain = moves(len(table[0]) if isinstance(table, list) else len(table))
    vocab = len(plain)
    tokens, logprob = np.zeros((n, length), dtype=np.int64), np.zeros((n, length))
    tokens[:, :back] = generator.integers(vocab, size=(n, back))
    logprob[:, :back] = -np.log(vocab)
    for place in range(back, length):
        here = plain if place < first else table[place] if isinstance(table, list) else table
        before = tokens[:, place - back]
        edges = here.cumsum(1)[before]
        tokens[:, place] = (edges <= generator.random((n, 1)) * edges[:, -1:]).sum(1).clip(max=vocab - 1)
        logprob[:, place] = np.log(here[before, tokens[:, place]])
    return {"tokens": tokens, "logprob": logprob}


def bare(found, **more):
    return {"tokens": found["tokens"], **more}


def misled(vocab, share):
    """The chain with the laws behind some tokens exchanged."""
    table, some = moves(vocab), np.arange(int(vocab * share))
    table[some] = table[np.roll(some, 1)]
    return table


@pytest.mark.parametrize(("vocab", "n", "share"), [(256, 300, 0.5), (64, 400, 0.12)])
def test_wrong_laws_behind_some_tokens_are_told_by_neighbours_wherever(vocab, n, share, seed):
    one = walk(moves(vocab), n, 128, seed)
    found = compare_logs(one, walk(misled(vocab, share), n, 128, seed + 1))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert {"neighbours", "threes"} <= {item.check for item in found.evidence if item.rejected}
    right = compare_logs(one, walk(moves(vocab), n, 128, seed + 2))
    assert right.verdict.kind is Kind.CONSISTENT, right.verdict.reason


def test_a_wrong_law_behind_one_token_is_told_with_that_token(seed):
    table = moves(64)
    table[17] = np.roll(table[17], 20)
    found = compare_logs(bare(walk(moves(64), 800, 96, seed)), bare(walk(table, 800, 96, seed + 1)))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "neighbours: behind token 17: of two neighbours that came more often" in found.verdict.reason


def test_the_token_above_is_told_at_its_distance(seed):
    one, right = (walk(moves(64), 300, 144, seed + number, back=12) for number in (0, 2))
    other = walk(misled(64, 1.0), 300, 144, seed + 1, back=12, first=13)
    assert 12 in distances(np.stack([one["tokens"], other["tokens"]]))
    found = compare_logs(bare(one), bare(other))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    told = {item.check: item.detail for item in found.evidence if item.rejected}
    assert re.match(r"of two tokens (12|24|36|48) places apart", told["distances"])
    assert not [item.check for item in compare_logs(one, right).evidence if item.rejected]


def test_answers_to_another_prompt_are_told_from_few_rows_of_each(seed):
    prompt = np.repeat(np.arange(60), 5)
    laws = np.random.default_rng(3).dirichlet(np.full(32, 0.5), size=60)

    def answered(start, shift, wrong):
        generator = np.random.default_rng(start)
        of = np.where(prompt < wrong, (prompt + shift) % 60, prompt)
        return {"tokens": np.stack([generator.choice(32, 64, p=laws[each]) for each in of]), "prompt": prompt}

    plain = answered(seed, 0, 0)
    right = compare_logs(plain, answered(seed + 1, 0, 60))
    assert "(the same behind each prompt)" in right.verdict.reason
    assert right.verdict.kind is Kind.CONSISTENT
    found = compare_logs(plain, answered(seed + 2, 1, 60))
    assert found.verdict.kind is Kind.REFUTED
    assert "frequencies by prompt: of tokens behind a prompt" in found.verdict.reason
    few = compare_logs(plain, answered(seed + 3, 30, 25))
    assert few.verdict.kind is Kind.REFUTED, few.verdict.reason


def test_prompts_of_one_row_are_said_not_to_be_told_apart(seed):
    generator = np.random.default_rng(seed)
    logs = [{"tokens": generator.integers(8, size=(2_000, 6)), "prompt": np.arange(2_000)} for _ in range(2)]
    found = compare_logs(*logs)
    assert found.verdict.kind is Kind.CONSISTENT
    assert "(prompts were not told apart: too few rows of each)" in found.verdict.reason


def test_rows_that_are_left_out_are_counted_and_why_is_said(seed):
    generator = np.random.default_rng(seed)
    tokens = generator.integers(4, size=(2, 1_000, 6))
    prompts = [np.repeat(np.arange(10) + start, 100) for start in (0, 4)]
    logs = [{"tokens": rows, "prompt": prompt} for rows, prompt in zip(tokens, prompts, strict=True)]
    reason = compare_logs(*logs).verdict.reason
    assert (
        "n = 600 rows of each; 400 of A and 400 of B were not compared: 4 prompts, such as 0, are in A alone" in reason
    )
    assert "and 4 prompts, such as 10, are in B alone" in reason
    shorter = compare_logs({"tokens": tokens[0]}, {"tokens": tokens[1, :800]}).verdict.reason
    assert shorter.endswith("n = 800 rows of each; 200 of A were not compared: the other log has fewer")
    assert compare_logs(*({"tokens": rows} for rows in tokens)).verdict.reason.endswith("rows of each")


def ended(seed, late, n=600, vocab=64, length=160):
    """Rows of whole lines of eight; then the last id, which ends them, or comes a place late, or never."""
    generator = np.random.default_rng(seed)
    tokens, lengths = generator.integers(vocab, size=(n, length)), 8 * generator.integers(2, 19, size=n)
    if late is not None:
        lengths += 1 + late
        tokens[np.arange(n), lengths - 1] = vocab
    return {"tokens": tokens, "lengths": lengths}


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (None, "ends: rows of "),
        (1, "ends: rows of "),
        (0, ""),
    ],
)
def test_where_rows_end_is_told(late, says, seed):
    found = compare_logs(ended(seed, 0), ended(seed + 1, late))
    assert (found.verdict.kind is Kind.REFUTED) == bool(says), found.verdict.reason
    assert f"not the same: {says}" in found.verdict.reason or not says


def test_a_part_of_a_row_that_is_too_hot_and_one_that_is_too_cold_are_told(seed):
    def warmed(power):
        law = moves(64) ** power
        return law / law.sum(1, keepdims=True)

    # The mean surprisal of a whole row is as it should be; the logged law is the engine's own.
    entropy = [float(-(law * np.log(law)).sum(1)[0]) for law in map(warmed, (1.0, 0.8, 1.25))]
    hot = round(40 * (entropy[0] - entropy[2]) / (entropy[1] - entropy[2]))
    table = [warmed(0.8) if place < 24 + hot else warmed(1.25) for place in range(64)]
    one, other = walk(moves(64), 1_500, 64, seed, first=1), walk(table, 1_500, 64, seed + 1, first=24)
    found = compare_logs(one, other)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    by_name = {item.check: item for item in found.evidence}
    assert by_name["surprisal"].rejected
    assert "the mean surprisal of positions " in by_name["surprisal"].detail
    assert by_name["surprisal"].estimate < 0.02


def off(share, vocab, n, length, seed):
    """Two logs of laws in which each token is off by a share."""
    generator = np.random.default_rng(seed)
    side = share * generator.permutation(np.repeat([1, -1], vocab // 2))
    laws = ((1 + side) / vocab, (1 - side) / vocab)
    return np.stack([generator.choice(vocab, (n, length), p=law) for law in laws])


@pytest.mark.parametrize(("vocab", "n", "length"), [(4, 120, 8), (200, 150, 16), (4_000, 200, 32)])
def test_the_share_that_is_stated_is_seen_as_often_as_stated_and_nothing_else_is(vocab, n, length, seed):
    """At alpha = 0.01, beta = 0.1: 100 pairs of logs that are off by delta, and 300 of one law."""
    rates, falsely, missed = {"alpha": 0.01, "beta": 0.1}, 0, 0
    learning = third(np.zeros(n, dtype=int))
    assert learning.sum() == n // 3
    for number in range(300):
        tokens = off(0.0, vocab, n, length, seed + number)
        right = check("frequencies", [View(tokens, "tokens", [(tokens, "token {}")])], learning, 0.0, **rates)
        assert 0 < right.delta < 1
        falsely += right.rejected
        if number < 100:
            tokens = off(right.delta, vocab, n, length, seed + 1_000 + number)
            found = check("frequencies", [View(tokens, "tokens")], learning, 0.0, **rates)
            missed += not found.rejected
    assert falsely <= 9  # 3 at most are expected; more than 9 come of these once in 1,000
    assert missed <= 20  # 10 at most are expected; more than 20 come of these once in 1,000


def test_few_rows_learn_nothing_and_say_so():
    tokens = np.zeros((2, 2, 4), dtype=int)
    views = [View(tokens, "tokens", [(tokens, "token {}")])]
    found = check("frequencies", views, third(np.zeros(2, int)), 0.0, alpha=1e-6, beta=1e-6)
    assert found.vacuous == "2 rows are too few to learn from a third of them"
    assert not found.rejected
    assert third(np.array([7, 7, 9, 7, 9, 5])).tolist() == [True, False, True, False, False, False]


def test_outcomes_of_too_many_kinds_share_codes_and_are_told_all_the_same(seed):
    """Pairs of 65,536 ids are 2^32."""
    names = np.random.default_rng(1).choice(65_536, 64, replace=False)
    one, right, other = (walk(table, 300, 64, seed + number)["tokens"] for number, table in
                         enumerate((moves(64), moves(64), misled(64, 0.5))))  # fmt: skip
    assert compare_logs({"tokens": names[one]}, {"tokens": names[other]}).verdict.kind is Kind.REFUTED
    assert not [e.check for e in compare_logs({"tokens": names[one]}, {"tokens": names[right]}).evidence if e.rejected]
