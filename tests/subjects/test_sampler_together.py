"""By default a sampler is sampled in batches, and followed draw by draw for one row: one verdict of both."""

import re
from dataclasses import replace

import pytest
import torch

from specverify.claims import Lossless, Relaxed
from specverify.processors import Guided, Processed
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import BESIDE, prove_sampler
from specverify.subjects.sampler_suite import Case, chosen
from specverify.subjects.sampler_together import together
from specverify.subjects.sampler_verdict import Asked
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind, Verdict
from toymodels import draft, toy


def case(length=3):
    model = Shortened(toy("recurrent-3x6"), length)
    return Case(model, draft("perturbed", model))


def plain(change):
    """Plain decoding of laws that are changed: (law, number of rows) -> law."""

    def sampler(target, draft, n, seed):
        generator, context = torch.Generator().manual_seed(seed), target.start(n)
        tokens = []
        for _ in range(target.length):
            law = change(target.laws(context, torch.zeros(n, 0, dtype=torch.int64))[:, 0], n)
            tokens.append(torch.multinomial(law, 1, generator=generator))
            context = target.advance(context, tokens[-1], torch.ones(n, dtype=torch.int64))
        return torch.cat(tokens, 1)

    return sampler


def judged(sampler, **asked):
    return judge_sampler(sampler, **{"suite": (case(),), "delta": 0.1} | asked)


right = plain(lambda law, n: law)


def test_one_that_is_followed_to_the_end_is_proved_beside_its_samples():
    found = judged(right)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.verdict.reason.startswith("one row at a time, on 1 toy (largest 3x3, 27 worlds)")
    assert "Rows in batches are sampled: 1 toy, " in found.verdict.reason
    assert found.exact[0]["tv"] < 1e-12
    assert found.evidence
    assert BESIDE not in found.not_covered
    assert any("seeds far apart" in gap for gap in found.not_covered)


def test_either_way_can_be_asked_for_alone():
    sampled, followed = judged(right, exact=False), judged(right, exact=True)
    assert (sampled.verdict.kind, len(sampled.exact)) == (Kind.CONSISTENT, 0)
    assert (followed.verdict.kind, len(followed.evidence)) == (Kind.PROVED, 0)
    assert BESIDE not in followed.not_covered
    assert BESIDE in judged(right, exact=True, seconds=0.5).not_covered, "there is no time for two rows"


def test_rows_that_are_wrong_in_company_are_refuted_though_one_alone_is_right():
    lonely = plain(lambda law, n: law if n == 1 else law**1.5)
    assert prove_sampler(lonely, suite=(case(2),)).verdict.kind is Kind.PROVED
    for exact in (None, True):
        assert judged(lonely, exact=exact).verdict.kind is Kind.REFUTED
    found = judged(plain(lambda law, n: law), suite=(case(2),), exact=True)
    assert found.verdict.kind is Kind.PROVED
    assert "worlds: exact TV at most 0 from the target. Rows in one call are right on 1 toy (" in found.verdict.reason
    assert BESIDE not in found.not_covered
    assert "more rows in a call than two or three, and other calls" in found.not_covered


def test_a_defect_that_is_too_small_for_samples_is_refuted_by_its_exact_law():
    found = judged(plain(lambda law, n: law**1.01))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "exact TV 0.00" in found.verdict.reason
    assert found.verdict.reason.endswith("samples alone do not show it")
    assert found.location["prefix"] == []
    assert not any(item.rejected for item in found.evidence)


def test_rounding_to_16_bits_is_no_defect_unless_it_lets_come_what_is_forbidden():
    found = judged(plain(lambda law, n: law.bfloat16().double()))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "which may be the rounding of bfloat16 (0.047 there) or a defect of that size" in found.verdict.reason
    assert 1e-6 < found.exact[0]["tv"] < 0.047
    far = judged(plain(lambda law, n: law.bfloat16().double() + 0.07 * (law == law.amax(1, True))), delta=0.3)
    assert far.verdict.kind is Kind.REFUTED
    suite = (Case(model := Shortened(toy("sparse-3x5"), 3), draft("perturbed", model)),)
    leaking = judged(plain(lambda law, n: law.bfloat16().double() + 1e-8), suite=suite)
    assert leaking.verdict.kind is Kind.REFUTED
    assert "sequences that it forbids come" in leaking.verdict.reason


def test_one_that_cannot_be_followed_is_judged_by_its_samples_and_says_why():
    def by_hand(law, n):
        return torch.nn.functional.one_hot((law.log() + gumbel(law)).argmax(1), law.shape[1]).double()

    def gumbel(law):
        halves = torch.randn(2, *law.shape).square().sum(0) / 2  # exponential, in a way that is not followed
        return -halves.log()

    found = judged(plain(by_hand), reproducible=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert not any("exact law" in gap for gap in found.not_covered)

    def seeded(target, draft, n, seed):
        torch.manual_seed(seed)
        return plain(by_hand)(target, draft, n, seed)

    found = judged(seeded)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert any(
        gap.startswith("the exact law: its draws were not followed") and "randn" in gap for gap in found.not_covered
    )


def slow(change, clock):
    """The same, at 20 sequences a second of a clock that it puts forward."""
    fast = plain(change)

    def sampler(target, draft, n, seed):
        clock["now"] += 0.05 * n
        return fast(target, draft, n, seed)

    return sampler


def test_where_samples_are_too_slow_what_can_be_followed_comes_first(clock):
    found = judged(slow(lambda law, n: law, clock), seconds=300, delta=None)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert re.search(
        r"one row at a time, on 1 toy .* Two rows in one call are right on 1 toy .* Rows in batches are sampled: .* "
        r"of [\d,]+ sequences were drawn: for 0.01",
        found.verdict.reason,
    )
    assert clock["now"] < 310  # no call is begun when the time is up


def test_one_row_alone_is_no_proof_where_samples_say_too_little_of_others(clock):
    found = judged(slow(lambda law, n: law, clock), seconds=30, delta=None)
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert "one row at a time, on 1 toy (largest 3x3, 27 worlds)" in found.verdict.reason
    assert "Two rows in one call were not followed to an end" in found.verdict.reason
    assert "or ask for one row alone (--exact)" in found.verdict.reason
    assert clock["now"] < 31


def of_others(target, draft, n, seed, tokens):
    """The last row is off by a little: where it would begin with token 1, it does so half of the time."""
    generator = torch.Generator().manual_seed(seed + 1)
    change = (torch.rand(1, generator=generator) < 0.5) & (tokens[-1, 0] == 1) & torch.tensor(n > 1)
    tokens[-1, 0] = torch.where(change[0], 0, tokens[-1, 0])
    return tokens


def of_the_first(target, draft, n, seed, tokens):
    """The last row is the first one."""
    return torch.cat([tokens[:1], tokens[1:-1], tokens[:1]]) if n > 1 else tokens


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_others, "exact TV 0.[0-9]+ from the target; row 1 of 2 in a call: first at position 0"),
        (of_the_first, "each of 2 rows of a call has the law by itself, but they depend on each other"),
    ],
)
def test_what_only_two_rows_show_is_refuted_though_samples_are_few(change, says, clock):
    def sampler(target, draft, n, seed):
        clock["now"] += 0.05 * n
        return change(target, draft, n, seed, right(target, draft, n, seed))

    followed = prove_sampler(sampler, suite=(case(2),), seconds=300)
    assert followed.verdict.kind is Kind.PROVED, followed.verdict.reason
    two = prove_sampler(sampler, suite=(case(2),), rows=2, seconds=300)
    assert two.verdict.kind is Kind.REFUTED
    assert re.search(says, two.verdict.reason)
    sampled = replace(followed, verdict=Verdict(Kind.INCONCLUSIVE, "few"))
    asked = Asked("any", Lossless(), 0, None, 0.01, 10.0, 1e-6, 1e-6, 60.0, None, 0.5)
    found = together(sampled, True, followed, two, sampler, asked)
    assert found.verdict.kind is Kind.REFUTED
    assert "Rows in one call are wrong on recurrent-3x6" in found.verdict.reason


def test_each_row_of_a_relaxed_sampler_is_held_to_its_distance_and_to_independence():
    """Two rows together may be twice as far off, but neither of them alone, and they may not know of each other."""

    def found(change, tv):
        def sampler(target, draft, n, seed):
            return change(target, draft, n, seed, right(target, draft, n, seed))

        return prove_sampler(sampler, Relaxed(tv), suite=(case(2),), rows=2).verdict

    off = float(re.search("TV (0[.][0-9]+) from", found(of_others, 1e-3).reason)[1])
    assert found(of_others, 1.01 * off).kind is Kind.PROVED
    less = found(of_others, 0.7 * off)
    assert less.kind is Kind.REFUTED
    assert "row 1 of 2 in a call" in less.reason
    assert "depend on each other" in found(of_the_first, 0.9).reason
    assert found(lambda *call: call[-1], 1e-3).kind is Kind.PROVED


def test_one_that_is_slow_and_cannot_be_followed_is_sampled_until_the_end(clock):
    def odd(law, n):
        torch.randn(1, generator=torch.Generator().manual_seed(1))
        return law

    found = judged(slow(odd, clock), seconds=30, delta=None)
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert any(gap.startswith("the exact law: ") for gap in found.not_covered)
    assert clock["now"] > 29
    hot = judged(slow(lambda law, n: odd(law, n) ** 3, clock), seconds=30, delta=None)
    assert hot.verdict.kind is Kind.REFUTED, hot.verdict.reason


@pytest.mark.parametrize("exact", [True, False])
def test_calls_that_repeat_each_other_since_a_seed_is_cut_are_an_error(exact):
    def few_bits(target, draft, n, seed):
        return right(target, draft, n, seed % 65_536)

    long = toy("hash-16x24")
    suite = (case(2),) if exact else (Case(long, draft("perturbed", long)),)
    found = judged(few_bits, suite=suite, exact=exact)
    assert found.verdict.kind is Kind.ERROR, found.verdict.reason
    said = "noise is shared by calls" if exact else "it uses the lowest 16 bits of a seed; use all of it"
    assert said in found.verdict.reason


def test_processors_behind_guidance_are_among_the_toys():
    assert any(
        isinstance(one.target, Processed) and isinstance(one.target.inner, Guided)
        for one in chosen(None, Lossless(), "standard")
    )


@pytest.mark.parametrize("kind", [Kind.REFUTED, Kind.ERROR])
def test_no_proof_of_one_row_covers_what_samples_of_batches_said(kind):
    """Also where samples were too slow to answer, and the proof came first."""
    followed = judged(right, exact=True)
    sampled = replace(judged(right, exact=False), verdict=Verdict(kind, "rows of a batch are copies"))
    asked = Asked("right", Lossless(), 0, None, 0.01, 10.0, 1e-6, 1e-6, 60.0, None, 0.5)
    assert followed.verdict.kind is Kind.PROVED
    assert together(sampled, True, followed, None, right, asked) == sampled


def test_a_few_toys_that_were_sampled_are_not_all():
    """Nothing is proved by one of many toys, and rows one at a time: two in a call are followed then."""
    followed = judged(right, exact=True)
    sampled = replace(followed, verdict=Verdict(Kind.CONSISTENT, "1 of 16 toys"))
    asked = Asked("right", Lossless(), 0, None, 0.01, 10.0, 1e-6, 1e-6, 60.0, None, 0.5)
    two = prove_sampler(right, suite=(case(2),), rows=2)
    kinds = [together(sampled, *more, right, asked).verdict.kind for more in (
        (True, followed, None), (False, followed, None), (False, followed, two),
    )]  # fmt: skip
    assert kinds == [Kind.PROVED, Kind.CONSISTENT, Kind.PROVED]
