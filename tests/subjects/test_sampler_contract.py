"""Samplers that are none, that keep state, or that are asked what cannot be judged, are told so."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from specverify.claims import ClusterLossless, Relaxed
from specverify.errors import InputError
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_batches import SIZES
from specverify.subjects.sampler_suite import Case, standard
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from tests.subjects.test_sampler import case, right, verdict
from toymodels import draft, toy


@pytest.fixture(autouse=True)
def _few_small_calls(monkeypatch):
    """Calls of few rows are judged apart, in test_sampler_batches; hundreds of them take too long."""
    monkeypatch.setattr("specverify.subjects.sampler_series.SIZES", dict.fromkeys(SIZES, 1))


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (lambda tokens: tuple(tokens), "returned tuple; return a tensor or an array"),
        (lambda tokens: [row[: 1 + row[0]] for row in tokens.tolist()], "returned a list of rows of different lengths"),
        (lambda tokens: tokens[:, 1:], r"returned shape \(\d+, 3\); \d+ sequences of 4 tokens were asked for"),
        (lambda tokens: tokens[:-1], r"returned \d+ sequences; \d+ were asked for"),
        (lambda tokens: tokens.float(), "tokens of dtype torch.float32; tokens are integers"),
        (lambda tokens: tokens.float().masked_fill(tokens == 0, torch.nan), "torch.float32, with NaN"),
        (lambda tokens: tokens + 1, r"tokens 1\.\.3, outside 0\.\.2"),
        (lambda tokens: tokens - 1, r"tokens -1\.\.1, outside 0\.\.2"),
    ],
)
def test_what_is_no_set_of_sequences_is_an_error(outcome, message):
    found = verdict(lambda *call: outcome(right(*call)))
    assert found.verdict.kind is Kind.ERROR
    assert "on recurrent-3x6[:4]" in found.verdict.reason
    assert re.search(message, found.verdict.reason)


def test_an_exception_is_an_error_and_the_other_toys_are_judged():
    def brittle(target, draft, n, seed):
        if target.eos is not None:
            raise KeyError("no such state")
        return right(target, draft, n, seed)

    suite = (case("eos-3x6"), case("recurrent-3x6"))
    found = verdict(brittle, suite=suite)
    assert found.verdict.kind is Kind.ERROR
    assert found.verdict.reason == "on eos-3x6[:4] (perturbed draft): raised KeyError: 'no such state'"
    law = [item for item in found.evidence if item.check.startswith("recurrent-3x6[:4]") and "joint law" in item.check]
    assert law[0].n > 1000

    def wrong_too(target, draft, n, seed):
        tokens = brittle(target, draft, n, seed)
        return tokens.flip(1)

    assert verdict(wrong_too, suite=suite).verdict.kind is Kind.REFUTED


def test_lists_of_ids_will_do():
    assert verdict(lambda *call: right(*call).tolist()).verdict.kind is not Kind.ERROR


def test_arrays_of_any_integer_type_will_do_and_are_copied():
    buffer = np.zeros((4096, 4), dtype=np.int16)

    def reused(target, draft, n, seed):
        buffer[:n] = right(target, draft, n, seed).numpy()
        return buffer[:n]

    assert verdict(reused).verdict.kind is Kind.CONSISTENT


def test_a_seed_that_has_no_effect_is_refuted():
    found = verdict(lambda target, draft, n, seed: right(target, draft, n, 7))
    assert found.verdict.kind is Kind.REFUTED
    assert "calls with other seeds give the same sequences" in found.verdict.reason
    assert found.location is None


def test_a_greedy_target_has_one_sequence_whatever_the_seed():
    greedy = [one for one in standard() if "top-k=1" in one.target.name]
    assert verdict(right, suite=greedy).verdict.kind is Kind.CONSISTENT


def test_a_generator_of_its_own_is_an_error_unless_it_is_allowed():
    seeds = iter(range(10**6))

    def unseeded(target, draft, n, seed):
        return right(target, draft, n, next(seeds))

    found = verdict(unseeded)
    assert found.verdict.kind is Kind.ERROR
    assert "gives other sequences when it is called twice with the same seed" in found.verdict.reason
    assert "or say --no-reproducible (reproducible=False)" in found.verdict.reason
    assert verdict(unseeded, reproducible=False).verdict.kind is Kind.CONSISTENT


def test_the_same_seed_is_asked_again_on_a_toy_where_other_tokens_can_come():
    """The smallest toy of a suite may have one sequence alone, which says nothing of seeds."""
    seeds = iter(range(10**6))
    suite = [*(one for one in standard() if "top-k=1" in one.target.name), case("recurrent-3x6")]
    found = verdict(lambda target, draft, n, seed: right(target, draft, n, next(seeds)), suite=suite)
    assert found.verdict.kind is Kind.ERROR
    assert "gives other sequences when it is called twice with the same seed" in found.verdict.reason


def test_state_that_leaks_between_calls_is_an_error():
    calls = []

    def aging(target, draft, n, seed):
        calls.append(n)
        return right(target, draft, n, seed + (sum(calls) > 3500) * 10**6)

    found = verdict(aging)
    assert found.verdict.kind is Kind.ERROR
    assert "state leaks between calls" in found.verdict.reason


def test_drafts_left_over_from_the_last_call_are_refuted():
    """The first token of a row is that of the last call's row where p allows it: right once, wrong from then on."""
    left = {}

    def forgetful(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        old = left.get(target.name, tokens)
        left[target.name] = tokens.clone()
        keep = min(len(old), n)
        tokens[:keep, 1] = torch.where(tokens[:keep, 0] == 0, old[:keep, 1], tokens[:keep, 1])
        return tokens

    assert verdict(forgetful, reproducible=False).verdict.kind is Kind.REFUTED


@pytest.mark.parametrize("which", ["target", "draft"])
def test_a_model_that_is_changed_is_an_error(which):
    model = Case(toy("dense-2x8"), draft("perturbed", toy("dense-2x8")))

    def meddling(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        changed = (target if which == "target" else draft)._rows
        changed[5] = changed[6]
        return tokens

    found = verdict(meddling, suite=(model,), reproducible=False)
    assert found.verdict.kind in (Kind.ERROR, Kind.REFUTED)
    assert any("changed the model that it was given" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0; a false-alarm rate"),
        ({"delta": 2.0}, "delta is 2.0; a discrepancy in total variation is above 0 and at most 1"),
        ({"seconds": 0}, "seconds is 0; give the calls some time"),
        ({"suite": ()}, r"the suite holds \[\]; give at least one toy, and each once"),
        ({"suite": (case(), case())}, "give at least one toy, and each once"),
        ({"suite": "large"}, "unknown suite 'large'; known: standard, small, smallest, tiny, guided, processors"),
    ],
)
def test_what_cannot_be_judged_says_so(options, message):
    with pytest.raises(InputError, match=message):
        verdict(right, **options)


def test_claims_that_do_not_fit_the_suite_say_so():
    long = [one for one in standard() if one.target.name == "hash-16x24"]
    with pytest.raises(InputError, match="too many sequences to judge the claim relaxed"):
        verdict(right, Relaxed(0.1), suite=long)
    with pytest.raises(InputError, match="the claim has 2 clusters of 4 tokens, the toy 3 tokens"):
        verdict(right, ClusterLossless(((0, 1), (2, 3))))
    with pytest.raises(InputError, match="no toy has the clusters"):
        judge_sampler(right, ClusterLossless(((0, 2), (1, 3))))
    with pytest.raises(InputError, match="they must cover the same sequences"):
        Case(toy("dense-3x6"), toy("dense-2x8"))
    with pytest.raises(InputError, match="cannot cut 'dense-2x8' to 9 positions; it has 8"):
        Shortened(toy("dense-2x8"), 9)
