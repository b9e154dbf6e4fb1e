"""Where nothing was asked for, a judgement that is short of time answers with the discrepancy that it came to see."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest

from specverify.claims import Lossless
from specverify.decoders import registry
from specverify.errors import InputError
from specverify.evidence.result import COARSEST, Evidence, aims
from specverify.judge import BLIND, Coverage, judge_evidence
from specverify.subjects.continuous import judge_continuous
from specverify.subjects.round import judge_round
from specverify.subjects.rounds.reference import Parts, kernel
from specverify.subjects.sampler import affordable, judge_sampler
from specverify.verdict import Kind
from tests.subjects.drawn import case, right

SUITE = (case("sparse-3x5", 3), case("eos-3x6", 3), case("recurrent-3x6", 4))


def costing(clock, seconds, draw=right):
    def sampler(target, draft, n, seed):
        clock["now"] += seconds * n
        return draw(target, draft, n, seed)

    return sampler


def reached(found):
    return max(float(value) for value in re.findall(r"off by ([\d.e-]+) \(total variation\)", found.verdict.reason))


def test_what_is_aimed_at_and_what_is_an_answer():
    assert aims(None, 0.02) == (0.02, COARSEST / 0.02)
    assert aims(0.3, 0.02) == (0.3, 1.0)
    with pytest.raises(InputError, match="delta is 2"):
        aims(2.0, 0.02)


@pytest.mark.parametrize(
    ("delta", "slack", "sees", "kind"),
    [
        (0.01, 1.0, 0.02, Kind.INCONCLUSIVE),
        (0.01, 10.0, 0.09, Kind.CONSISTENT),
        (0.01, 10.0, 0.11, Kind.INCONCLUSIVE),
        (0.2, 5.0, 0.4, Kind.CONSISTENT),
        (0.2, 5.0, BLIND + 0.01, Kind.INCONCLUSIVE),
        (0.6, 5.0, 0.6, Kind.CONSISTENT),
    ],
)
def test_no_answer_is_blinder_than_is_said(delta, slack, sees, kind):
    found = Evidence(
        check="law", statistic=1.0, p_value=0.5, alpha=1e-6, beta=1e-6, delta=sees, metric="total variation", n=1000,
        rejected=False, basis="exact", power="asymptotic",
    )  # fmt: skip
    verdict = judge_evidence(Lossless(), [found], Coverage(False, 0, 0, 0), {"law": delta}, slack)
    assert verdict.kind is kind, verdict.reason
    assert kind is Kind.CONSISTENT or f"sees {sees:.3g}" in verdict.reason


def test_a_slow_sampler_is_answered_with_what_was_seen(clock):
    found = judge_sampler(costing(clock, 5e-4), suite=SUITE, seconds=10, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert 0.01 < reached(found) <= COARSEST
    assert "3 toys" in found.verdict.reason
    assert re.search(r"for 0\.01 some \d+ seconds would do", found.verdict.reason)
    assert "delta=" not in found.reproduce
    clock["now"] = 0.0
    asked = judge_sampler(costing(clock, 5e-4), suite=SUITE, seconds=10, exact=False, delta=0.01)
    assert asked.verdict.kind is Kind.INCONCLUSIVE
    assert "or a delta above" in asked.verdict.reason
    assert "delta=0.01" in asked.reproduce


def test_a_slow_wrong_sampler_is_refuted(clock):
    def last_is_first(target, draft, n, seed):
        tokens = right(target, draft, n, seed).clone()
        tokens[: n // 2, -1] = tokens[: n // 2, 0]
        return tokens

    found = judge_sampler(costing(clock, 5e-4, last_is_first), suite=SUITE, seconds=10, exact=False)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def test_where_time_is_shorter_some_toys_are_left(clock):
    found = judge_sampler(costing(clock, 2e-3), suite=SUITE, seconds=15, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert re.match(r"[12] of 3 toys \(.*eos-3x6.*\), ", found.verdict.reason)
    assert 0.01 < reached(found) <= COARSEST
    assert any("recurrent-3x6" in gap for gap in found.not_covered)


def test_two_tokens_alone_are_no_answer(clock):
    suite = (case("dense-2x8", 2), case("sparse-3x5", 3))  # of which two can come after any prefix
    found = judge_sampler(costing(clock, 2e-3), suite=suite, seconds=7, exact=False)
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert "what is wrong with a residual is hidden" in found.verdict.reason


def test_which_toys_there_is_time_for():
    cheap, dear, done = (SimpleNamespace(takes=seconds, choices=2) for seconds in (10.0, 40.0, 0.0))
    every = [dear, cheap, done]
    assert affordable(every, 100.0, False) == [done, cheap, dear]
    assert affordable(every, 20.0, False) == [done, cheap]
    assert affordable(every, 0.0, False) == [done]
    assert affordable(every, 0.0, True) == [done, cheap, dear]
    dear.choices = 3
    assert affordable(every, 20.0, False) == [dear]
    assert affordable(every, 45.0, False) == [dear, done]


@pytest.mark.slow
def test_a_slow_kernel_is_answered_with_what_was_seen():
    whole = kernel("slow", Parts())

    def slow(given, generator):
        end = time.process_time() + 2e-5 * len(given.lengths)
        while time.process_time() < end:
            pass
        return whole.verify(given, generator)

    subject = kernel("slow", Parts())
    object.__setattr__(subject, "verify", slow)
    object.__setattr__(subject, "with_coins", None)
    asked = {"checks": ("laws",), "contexts": ("dense",), "seconds": 3}
    found = judge_round(subject, **asked)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "for all of them allow some" in found.verdict.reason
    assert judge_round(subject, **asked, delta=0.02).verdict.kind is Kind.INCONCLUSIVE


def test_a_decoder_of_vectors_that_is_short_of_time(monkeypatch):
    """Time is over after twelve looks at it, long before all batches were played."""
    looks = iter([False] * 12)
    monkeypatch.setattr("specverify.deadline.Deadline.over", property(lambda self: next(looks, True)))

    def make(settings):
        return registry.build("sd", settings)

    found = judge_continuous(make, toys=["gauss-2x6"])
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    seen = float(re.search(r"a Kolmogorov distance of ([\d.]+)", found.verdict.reason)[1])
    assert 0.01 < seen <= COARSEST
    assert "in more seconds 0.01 could have been seen" in found.verdict.reason
    assert "--delta" not in found.reproduce
