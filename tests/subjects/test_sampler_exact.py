"""Programs that draw with torch, in every possible world: their exact law, and what cannot be followed."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from specverify import defects
from specverify.claims import ClusterLossless, Relaxed
from specverify.decoders.registry import Settings
from specverify.errors import BudgetError, ContractError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_law import Law
from specverify.subjects.sampler_suite import Case
from specverify.subjects.sampler_worlds import worlds
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy


def law(program, budget=1000):
    found = {}
    for outcome, world in worlds(program, budget=budget):
        found[outcome] = found.get(outcome, 0.0) + world.probability
    assert sum(found.values()) == pytest.approx(1)
    return found


def test_every_token_of_a_law_is_handed_out():
    def program():
        return tuple(torch.multinomial(torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 2.0]]), 1).flatten().tolist())

    assert law(program) == {(0, 2): 0.25, (1, 2): 0.75}


def test_a_number_is_cut_by_every_comparison():
    def program():
        u = torch.rand(())
        return bool(u < 0.5), bool(u <= 0.2), bool(u < 0.7), bool(u >= 0.5), bool(torch.gt(u, 2.0))

    assert law(program) == {
        (True, True, True, False, False): pytest.approx(0.2),
        (True, False, True, False, False): pytest.approx(0.3),
        (False, False, True, True, False): pytest.approx(0.2),
        (False, False, False, True, False): pytest.approx(0.3),
    }


def test_numbers_like_others_are_independent():
    def program():
        return tuple((torch.rand_like(torch.zeros(3)) < torch.tensor([0.5, 0.0, 1.0])).tolist())

    assert law(program) == {(True, False, True): 0.5, (False, False, True): 0.5}


def test_a_loop_that_may_go_on_for_ever_is_followed_as_far_as_it_counts():
    def program():
        tries = 1
        while random.Random(tries).random() > 0.75:
            tries += 1
        return tries

    found = {outcome: world.probability for outcome, world in worlds(program, budget=100, missing=1e-7)}
    assert found == {tries: pytest.approx(0.75 * 0.25 ** (tries - 1)) for tries in range(1, 13)}
    with pytest.raises(BudgetError, match="more than 10 worlds"):
        list(worlds(program, budget=10))


def test_later_draws_may_depend_on_earlier_ones():
    def program():
        first = int(torch.multinomial(torch.tensor([0.5, 0.5]), 1))
        return (first, int(torch.multinomial(torch.tensor([0.1, 0.9]), 1))) if first else (0, None)

    assert law(program) == {(0, None): 0.5, (1, 0): pytest.approx(0.05), (1, 1): pytest.approx(0.45)}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda: torch.rand(2).sum(), r"uses a uniform number in torch's sum; .* \(test_sampler_exact.py:\d+\)"),
        (lambda: torch.rand(2) < torch.rand(2), "only comparisons of it with what is known"),
        (lambda: torch.randn(2), r"draws with torch's randn, .* \(test_sampler_exact.py:\d+\)"),
        (lambda: torch.randint(2**40, (1,)), "more than 4,096 values"),
        (
            lambda: torch.nn.Linear(1, 1),
            r"draws weights with torch\.nn\.init\.uniform_, which cannot be followed; make",
        ),
        (
            lambda: torch.nn.functional.dropout(torch.ones(3)),
            "draws from torch's generator in a way that cannot be enumerated",
        ),
    ],
)
def test_what_cannot_be_followed_says_so(program, message):
    with pytest.raises(ContractError, match=message):
        list(worlds(program, budget=10))


def test_a_time_that_is_up_where_a_world_is_run_again_is_no_other_source_of_noise():
    def up():
        raise BudgetError("the time was up")

    def program():
        return tuple(torch.multinomial(torch.ones(2), 2, replacement=True).tolist())

    with pytest.raises(BudgetError, match="the time was up"):
        list(worlds(program, budget=10, others=[up]))


def test_too_many_worlds_are_not_begun():
    with pytest.raises(BudgetError, match="more than 10 worlds; use a smaller toy"):
        list(worlds(lambda: torch.multinomial(torch.ones(20), 1), budget=10))


def textbook(target, draft, n, seed, *, keep=lambda p, q: p / q, replace=lambda p, q: (p - q).clamp(min=0), window=2):
    """Speculative decoding as people write it: one sequence, plain torch, no cache."""

    def one():
        tokens = torch.zeros(1, 0, dtype=torch.int64)
        while tokens.shape[1] < target.length:
            drafted = tokens
            drafts = min(window, target.length - tokens.shape[1])
            for _ in range(drafts):
                q = draft.laws(draft.start(1), drafted)[0, -1]
                drafted = torch.cat([drafted, torch.multinomial(q, 1)[None]], 1)
            p = target.laws(target.start(1), drafted)[0, tokens.shape[1] :]
            q = draft.laws(draft.start(1), drafted)[0, tokens.shape[1] :]
            for k in range(drafts):
                x = drafted[0, tokens.shape[1]]
                if torch.rand(()) < keep(p[k, x], q[k, x]):
                    tokens = torch.cat([tokens, x.reshape(1, 1)], 1)
                    continue
                recovered = torch.multinomial(replace(p[k], q[k]), 1)
                tokens = torch.cat([tokens, recovered[None]], 1)
                break
            else:
                if tokens.shape[1] < target.length:
                    tokens = torch.cat([tokens, torch.multinomial(p[drafts], 1)[None]], 1)
        return tokens

    return torch.cat([one() for _ in range(n)])


def case(name="dense-3x6", length=2):
    model = Shortened(toy(name), length)
    return Case(model, draft("perturbed", model))


def test_a_textbook_decoder_is_proved():
    found = prove_sampler(textbook, suite=(case(), case("recurrent-3x6"), case("dense-2x8", 3)))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert "3 toys" in found.verdict.reason
    assert judge_sampler(textbook, suite=(case(),), exact=True).exact == found.exact[:1]
    for row in found.exact:
        assert row["tv"] < 1e-12
        assert row["coins"] > 0.5
        assert row["worlds"] > row["sequences"]


def test_a_wrong_one_is_refuted_at_the_distance_that_the_decoder_has():
    """The same flaw as a decoder, enumerated over Draws."""
    one = case(length=3)

    def inverted(target, draft, n, seed):
        return textbook(target, draft, n, seed, keep=lambda p, q: q / p, window=1)

    decoder = defects.get("inverted-ratio").build(Settings(1, draft_model=one.draft))
    exact = enumerate_decoder(decoder, one.target)
    found = prove_sampler(inverted, suite=(one,))
    assert found.verdict.kind is Kind.REFUTED
    assert found.exact[0]["tv"] > 0.05
    assert found.exact[0]["tv"] == pytest.approx(exact.tv(target_law(one.target)), abs=1e-12)
    assert found.location["position"] == 0
    assert found.location["certain"]
    assert "first at position 0" in found.verdict.reason


def test_a_wrong_residual_is_found_where_there_are_three_tokens():
    def from_target(target, draft, n, seed):
        return textbook(target, draft, n, seed, replace=lambda p, q: p)

    found = prove_sampler(from_target, suite=(case(),))
    assert found.verdict.kind is Kind.REFUTED
    assert found.exact[0]["tv"] > 0.01


def test_a_relaxed_claim_is_proved_up_to_its_bound():
    def lenient(target, draft, n, seed):
        return textbook(target, draft, n, seed, keep=lambda p, q: 1.5 * p / q)

    exact = prove_sampler(lenient, suite=(case(),)).exact[0]["tv"]
    assert 0.001 < exact < 0.5
    assert prove_sampler(lenient, Relaxed(exact * 1.01), suite=(case(),)).verdict.kind is Kind.PROVED
    assert prove_sampler(lenient, Relaxed(exact * 0.99), suite=(case(),)).verdict.kind is Kind.REFUTED


def test_a_claim_about_clusters_is_proved_of_clusters():
    one = case("synonyms-4x5", 2)
    partition = ((0, 1), (2, 3))

    def swapped(target, draft, n, seed):
        return textbook(target, draft, n, seed) ^ 1

    assert prove_sampler(swapped, ClusterLossless(partition), suite=(one,)).verdict.kind is Kind.PROVED
    assert prove_sampler(swapped, suite=(one,)).verdict.kind is Kind.REFUTED


def test_a_sampler_is_held_to_another_where_one_is_given():
    def cold(target, draft, n, seed):
        return textbook(_Cold(target), _Cold(draft), n, seed)

    def plain(target, draft, n, seed):
        return textbook(_Cold(target), draft, n, seed, window=0)

    assert prove_sampler(cold, suite=(case(),)).verdict.kind is Kind.REFUTED
    found = prove_sampler(cold, reference=plain, suite=(case(),))
    assert found.verdict.kind is Kind.PROVED
    assert "plain" in found.verdict.reason


class _Cold:
    def __init__(self, inner):
        self.inner, self.length, self.vocab = inner, inner.length, inner.vocab

    def start(self, batch):
        return self.inner.start(batch)

    def laws(self, context, tokens):
        return (self.inner.laws(context, tokens).log() * 2).softmax(-1)


@pytest.mark.slow
def test_what_is_not_finished_takes_nothing_from_what_is():
    """27 worlds on two positions, many more on three."""
    suite = (case(), case(length=3), case("sparse-3x5"))
    found = prove_sampler(textbook, suite=suite, budget=100)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert "on 2 of 3 toys (largest 3x2, " in found.verdict.reason
    assert "not reached: dense-3x6[:3] (perturbed draft)" in found.verdict.reason
    assert "toys that were not followed to the end: dense-3x6[:3]" in found.not_covered[0]
    assert any("more than 100 worlds" in note for note in found.notes)
    two = prove_sampler(textbook, suite=(case("dense-2x8", 2), case(length=3)), budget=100)
    assert two.verdict.kind is Kind.INCONCLUSIVE
    assert "Two tokens hide" in two.verdict.reason


def test_worlds_that_were_followed_may_refute_before_all_are():
    """Token 0 always: the first world has more than all that is due to its sequence."""

    def constant(target, draft, n, seed):
        torch.multinomial(torch.ones(50), 1)
        return torch.zeros(n, target.length, dtype=torch.int64)

    found = prove_sampler(constant, suite=(case(),), budget=45)
    assert found.verdict.kind is Kind.REFUTED
    assert "TV at least " in found.verdict.reason
    due = float(target_law(case().target)[0])
    assert found.exact[0]["tv"] == pytest.approx(0.9 - due)
    full = prove_sampler(constant, suite=(case(),))
    assert full.exact[0]["tv"] == pytest.approx(1 - due)


def test_a_defect_is_refuted_at_the_first_toy_that_shows_it():
    found = prove_sampler(functools.partial(textbook, keep=lambda p, q: q / p))
    assert found.verdict.kind is Kind.REFUTED
    assert "on brief-3x8[:3]" in found.verdict.reason
    assert len(found.exact) == 1


def test_what_goes_wrong_is_an_error_or_leaves_no_verdict():
    def gumbel(target, draft, n, seed):
        return torch.randn(n, target.length, target.vocab).argmax(-1)

    found = prove_sampler(gumbel, suite=(case(),))
    assert found.verdict.kind is Kind.ERROR
    assert "draws with torch's randn" in found.verdict.reason
    assert prove_sampler(textbook, suite=(case(),), budget=5).verdict.kind is Kind.INCONCLUSIVE
    late = prove_sampler(textbook, suite=(case(),), seconds=0)
    assert late.verdict.kind is Kind.INCONCLUSIVE
    assert "the time was up" in late.verdict.reason
    huge = prove_sampler(textbook, suite=(Case(toy("hash-16x24"), toy("hash-16x24")),))
    assert "too many sequences to write their law down" in huge.verdict.reason
    broken = prove_sampler(lambda target, draft, n, seed: torch.zeros(n, 1, dtype=torch.int64), suite=(case(),))
    assert broken.verdict.kind is Kind.ERROR
    assert "returned shape (1, 1)" in broken.verdict.reason


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.1, r"after 10 of some 100 worlds; this toy alone takes 20 seconds or more \(--seconds 40\)"),
        (1e-9, r"takes [\d,]{10,} seconds or more \(fewer draws a token, or a smaller window, would help\)"),
    ],
)
def test_more_time_is_advised_where_a_day_is_enough(share, said):
    law = Law(np.zeros(4), worlds=10, stopped="late", share=share, late=2.0)
    assert re.search(said, law.missing(2.0, 2.0))
    assert replace(law, late=0.0).missing(2.0, 2.0) == "late"
