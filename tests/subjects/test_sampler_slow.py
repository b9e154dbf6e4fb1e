"""Samplers that give a few sequences a second: what is proved of them, and what is said where the time is too short."""

from __future__ import annotations

import re
import time

import pytest
import torch

from specverify import defects
from specverify.decoders import DraftModel, Speculative, sample
from specverify.decoders.registry import Settings
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import smallest
from specverify.verdict import Kind

FIRST = smallest()[0]


def slow(pause, build=lambda draft: Speculative(DraftModel(draft), window=1)):
    """A sampler that goes row by row, and computes so long for each."""
    calls = []

    def sampler(target, draft, n, seed):
        rows = []
        for row in range(n):
            end = time.process_time() + pause
            while time.process_time() < end:
                pass
            calls.append(target.name)
            rows.append(sample(build(draft), target, 1, seed * 100_003 + row).tokens)
        return torch.cat(rows)

    return sampler, calls


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_first_toy_leads_to_every_branch_in_few_worlds(window):
    exact = enumerate_decoder(Speculative(DraftModel(FIRST.draft), window=window), FIRST.target)
    assert exact.tv(target_law(FIRST.target)) < 1e-12
    assert exact.branches["accepted"] > 0.1
    assert exact.branches["recovered"] > 0.1
    assert window == 3 or exact.branches["bonus"] > 0.01  # of three positions
    p, q = (model.laws(model.start(1), torch.zeros(1, 0, dtype=torch.int64)) for model in (FIRST.target, FIRST.draft))
    assert int((p > q).sum()) == 2, "a residual of two tokens"


@pytest.mark.slow
def test_the_first_toy_takes_so_few_calls_that_five_a_second_are_enough():
    sampler, calls = slow(0.0, lambda draft: Speculative(DraftModel(draft), window=2))
    found = prove_sampler(sampler, suite=(FIRST,))
    assert found.verdict.kind is Kind.PROVED
    assert len(calls) < 240


@pytest.mark.slow
@pytest.mark.slow
def test_one_finished_toy_is_no_proof_where_others_are_not_finished():
    sampler, _ = slow(0.0, lambda draft: Speculative(DraftModel(draft), window=2))
    found = prove_sampler(sampler, suite=(FIRST, smallest()[2]), budget=200)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert found.verdict.reason.startswith("nothing wrong on 1 of 2 toys (largest 3x3, 129 worlds)")
    assert "One toy shows too little of what may be wrong. On dense-3x6[:2]" in found.verdict.reason
    more = prove_sampler(sampler, suite=(FIRST, smallest()[1], smallest()[2]), budget=200)
    assert more.verdict.kind is Kind.PROVED
    assert "on 2 of 3 toys" in more.verdict.reason


@pytest.mark.parametrize(
    "name",
    ["residual-by-list-position", "stale-target-prob-when-absent", "tree-younger-from-residual", "inverted-ratio",
     "stale-scores-after-coupling", "rejected-draft-kv-retained", "stale-residual-as-bonus"],
)  # fmt: skip
def test_what_other_toys_of_three_tokens_show_is_seen_on_the_first(name):
    decoder = defects.get(name).build(Settings(2, draft_model=FIRST.draft))
    assert enumerate_decoder(decoder, FIRST.target).tv(target_law(FIRST.target)) > 1e-4


@pytest.mark.slow
def test_a_slow_sampler_is_followed_before_it_is_sampled():
    sampler, calls = slow(0.01)
    suite = (FIRST, next(case for case in smallest() if case.name.startswith("skew-3x5[:2]")))
    found = judge_sampler(sampler, seconds=40.0, suite=suite)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.exact[0]["model"] == FIRST.name
    assert calls.index(FIRST.target.name) < 200, "the small calls on one toy, and no more, come before what is followed"
    assert "not reached: " in found.verdict.reason
    assert re.search(r"Two rows in one call are right on 1 of 2 toys \(largest 3x2, \d+ worlds\)", found.verdict.reason)
    assert "More are too slow for samples" in found.verdict.reason


@pytest.mark.slow
def test_where_the_time_is_too_short_it_is_said_how_much_would_do():
    sampler, _ = slow(0.02)
    start = time.process_time()
    found = judge_sampler(sampler, seconds=5.0, suite=(FIRST,))
    assert time.process_time() - start < 6.0
    assert found.verdict.kind is Kind.INCONCLUSIVE
    said = re.search(r"after (\d+) of some (\d+) worlds; .* \(--seconds (\d+)\)", found.verdict.reason)
    assert said, found.verdict.reason
    done, every, seconds = map(int, said.groups())
    worlds = prove_sampler(slow(0.0)[0], suite=(FIRST,)).exact[0]["worlds"]
    assert done < worlds
    assert worlds / 3 < every < 3 * worlds
    assert 5 < seconds < 300  # of which less than half are for one row of a call


def test_a_slow_sampler_whose_draws_cannot_be_followed_is_sampled():
    def unfollowed(target, draft, n, seed):
        end = time.process_time() + 0.02 * n
        while time.process_time() < end:
            pass
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(n, target.length, generator=generator) > 0).long()

    found = judge_sampler(unfollowed, seconds=4.0)
    assert found.verdict.kind is Kind.REFUTED
