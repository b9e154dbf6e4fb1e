"""Beside the law of sequences: batches of few rows, reported log-probabilities, conventions, and what is said."""

from __future__ import annotations

import math

import pytest
import torch

from specverify.decoders import DraftModel, Speculative, sample
from specverify.errors import InputError
from specverify.processors import Guided, Processed, parse_processors, top_k_ties
from specverify.subjects import here
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_batches import SIZES
from specverify.subjects.sampler_suite import Case, guided, named, processors, small
from specverify.subjects.sampler_target import check, one_target
from specverify.subjects.shortened import Shortened, guided_still
from specverify.verdict import Kind
from tests.subjects.drawn import case, right
from toymodels import draft, toy
from toymodels.tables import tabulate


@pytest.fixture(autouse=True)
def _few_small_calls(monkeypatch):
    """Calls of few rows are judged apart, in test_sampler_batches; hundreds of them take too long."""
    monkeypatch.setattr("specverify.subjects.sampler_series.SIZES", dict.fromkeys(SIZES, 1))


def decoded(target, draft, n, seed):
    return sample(Speculative(DraftModel(draft), 3), target, n, seed).tokens


def verdict(sampler, suite, **asked):
    return judge_sampler(sampler, suite=suite, delta=0.1, **{"exact": False} | asked)


def test_the_box_is_stated():
    found = verdict(right, (case("eos-3x6", 3), one_target("guided-3x4")))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "a law of whole sequences off by" in found.verdict.reason
    (box,) = [note for note in found.notes if note.startswith("tried: ")]
    assert "vocabularies of 3 tokens, lengths of 3, 4, no processors, guidance of 2.5, laws in float64" in box
    assert "calls of 1, 2, 3, 8, 33" in box
    assert any("other processors and guidance" in note for note in found.not_covered)
    assert any("calls of other sizes" in note for note in found.not_covered)


def test_long_rows_are_named_with_their_own_metric():
    model = Shortened(toy("hash-16x24"), 8)
    found = verdict(decoded, (case("sparse-3x5", 3), Case(model, draft("perturbed", model))))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "(Kolmogorov distance) on hash-16x24[:8] (perturbed draft)" in found.verdict.reason
    assert "(total variation) on sparse-3x5[:3]" in found.verdict.reason
    assert any("dependence of three tokens or more" in note for note in found.not_covered)


def logs_of(target, tokens):
    laws = target.laws(target.start(len(tokens)), tokens[:, :-1])
    return laws.gather(2, tokens[..., None])[..., 0].log()


def reporting(change, of=lambda target, draft: target):
    def sampler(target, draft, n, seed):
        tokens = right(target, draft, n, seed)
        return tokens, change(logs_of(of(target, draft), tokens))

    return sampler


@pytest.mark.parametrize("change", [lambda x: x, lambda x: x.float(), lambda x: x.sum(1), lambda x: x.numpy()])
def test_right_log_probabilities_pass(change):
    found = verdict(reporting(change), (case(),))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    (logs,) = [item for item in found.evidence if "reported log-probabilities" in item.check]
    assert logs.n > 1000
    assert not logs.rejected


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (reporting(lambda x: x / math.log(2)), "they look like logarithms to base 2"),
        (reporting(lambda x: x, lambda target, draft: draft), "they look like the draft model's"),
        (reporting(lambda x: x.exp()), "they look like probabilities"),
        (reporting(lambda x: x + 0.01), "by up to 0.01"),
        (reporting(lambda x: x.masked_fill(x < -1, -math.inf)), "by up to inf"),
        (reporting(lambda x: x.sum(1) - 0.1), "at the whole sequence of"),
    ],
)
def test_wrong_log_probabilities_beside_right_tokens_are_a_finding_of_their_own(sampler, said):
    found = verdict(sampler, (case(),))
    assert found.verdict.kind is Kind.REFUTED
    assert "the log-probabilities that it reports are wrong, while its tokens are not rejected" in found.verdict.reason
    assert said in found.verdict.reason
    assert [item.check for item in found.evidence if item.rejected] == [
        "recurrent-3x6[:4] (perturbed draft): reported log-probabilities"
    ]


def test_what_is_no_pair_of_tokens_and_logs_is_an_error():
    for logs, said in (
        (lambda x: x.tolist(), "second part is list"),
        (lambda x: x[:, 1:], "log-probabilities of shape"),
    ):
        found = verdict(reporting(logs), (case(),))
        assert found.verdict.kind is Kind.ERROR
        assert said.split("(")[0] in found.verdict.reason


def shown(change):
    """A sampler that is right for another target."""

    def sampler(target, draft, n, seed):
        return right(change(target), draft, n, seed)

    return sampler


def keeps_ties(target):
    if not isinstance(target, Processed):
        return target
    return one_of(target, [top_k_ties])


def one_of(target, functions):
    from specverify.processors import Processor

    steps = [Processor(step.label, functions[0], step.setting) for step in target.processors]
    return Processed(target.inner, steps)


def tied(processor):
    model = Processed(Shortened(toy("ties-3x5"), 3), parse_processors(f"{processor}=2"))
    return (Case(model, draft("perturbed", model)),)


@pytest.mark.parametrize("exact", [False, True])
def test_a_sampler_that_keeps_all_ties_is_told_the_word_and_has_a_suite(exact):
    if exact:

        def sampler(target, draft, n, seed):
            own = torch.Generator().manual_seed(seed)
            rows = torch.zeros(n, 0, dtype=torch.int64)
            shown_ = keeps_ties(target)
            for _ in range(target.length):
                law = shown_.laws(shown_.start(n), rows)[:, -1]
                rows = torch.cat([rows, torch.multinomial(law, 1, generator=own)], 1)
            return rows
    else:
        sampler = shown(keeps_ties)
    found = verdict(sampler, tied("top_k"), exact=exact)
    assert found.verdict.kind is Kind.REFUTED
    assert "ties at the k-th probability: this target keeps the lowest ids, yours looks like it keeps all of them" in (
        found.verdict.reason
    )
    own = verdict(sampler, tied("top_k_ties"), exact=exact)
    assert own.verdict.kind in (Kind.CONSISTENT, Kind.PROVED), own.verdict.reason


@pytest.mark.parametrize(
    ("sampler", "target", "said"),
    [
        (shown(lambda target: target.inner), "skew-3x5|top_k=2", "looks like the target without its processors"),
        (shown(lambda target: target.conditional), "guided-2x5", "the conditional law, without guidance"),
        (
            shown(lambda target: Guided(target.conditional, target.unconditional, 3.5)),
            "guided-2x5",
            "a guidance scale one more than the target's 2.5",
        ),
        (
            shown(lambda target: Processed(target, parse_processors("temperature=0.5"))),
            "skew-3x5",
            "looks like temperature 0.5, or like a guidance scale one more than the target's 1",
        ),
        (shown(lambda target: one_target("ties-3x5|top_k_high=2").target), "ties-3x5|top_k=2", "keeps the highest ids"),
    ],
)
def test_a_law_that_is_no_decoders_bug_is_named(sampler, target, said):
    found = verdict(sampler, (one_target(target),))
    assert found.verdict.kind is Kind.REFUTED
    assert said in found.verdict.reason


def test_a_law_like_no_other_is_not_named():
    def wrong(target, draft, n, seed):
        return right(target, draft, n, seed).flip(1)

    found = verdict(wrong, (one_target("skew-3x5|top_k=2"),))
    assert found.verdict.kind is Kind.REFUTED
    assert "looks like" not in found.verdict.reason


SHORT = (case("sparse-3x5", 3), case("guided-2x5", 4))


def test_a_slow_sampler_gets_small_calls_and_an_answer(monkeypatch):
    """A clock that says 40 ms for every sequence: no call may take a large part of the time."""
    clock = {"now": 0.0}
    monkeypatch.setattr("time.process_time", lambda: clock["now"])
    monkeypatch.setattr("specverify.deadline._ASK", 0.0)
    calls = []

    def slow(target, draft, n, seed):
        clock["now"] += 0.04 * n
        calls.append(n)
        return decoded(target, draft, n, seed)

    found = judge_sampler(slow, suite=SHORT, seconds=8, exact=False)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert calls[0] == 1
    assert max(calls) <= 9
    assert sum(calls) * 0.04 < 9
    assert "sequences were drawn: for" in found.verdict.reason


def test_suites_and_targets_have_names():
    assert all(isinstance(one.target, Guided) or "T=0.8" in one.target.name for one in guided())
    labels = ", ".join(one.target.name for one in processors())
    assert "T=1.3|top-k=4|top-p=0.9|min-p=0.1" in labels
    ties = named("small-ties")
    assert [one.target.name for one in ties] == [one.target.name.replace("top-k=2", "top-k=2+ties") for one in small()]
    assert any("top-k=2+high" in one.target.name for one in named("processors-high"))
    with pytest.raises(InputError, match="unknown suite 'smal'; did you mean small"):
        named("smal")
    two = one_target("dense-3x6|guidance=2,from=recurrent-3x6|temperature=0.8,top_k=2")
    assert isinstance(two.target.inner, Guided)
    assert (two.target.inner.scale, two.target.inner.unconditional.name) == (2.0, "recurrent-3x6")
    for wrong in (
        "dense-3x7",
        "dense-3x6|topk=2",
        "dense-3x6|guidance=2",
        "dense-3x6|guidance=x,from=recurrent-3x6",
        "dense-3x6|guidence=2,from=recurrent-3x6",
    ):
        with pytest.raises(InputError):
            one_target(wrong)
    with pytest.raises(InputError, match="not both"):
        judge_sampler(right, suite="small", target="guided-2x5")


def test_a_toy_is_judged_alone_by_the_name_that_a_verdict_gives_it():
    for suite, where in (("standard", 1), ("smallest", 4), ("processors-ties", 3)):
        each = named(suite)[where]
        assert one_target(each.target.name).target.name == each.target.name
        assert one_target(each.name).name == each.name
    found = judge_sampler(right, toy="close-3x2", exact=True, seconds=5)
    assert (found.verdict.kind, found.exact[0]["model"]) == (Kind.PROVED, "close-3x2 (own draft)")
    check({"toy": "late-3x10|guided"})
    with pytest.raises(InputError, match=r"unknown toy model 'close-3x3'"):
        check({"toy": "close-3x3"})


def test_options_of_samplers_are_checked_before_any_starts():
    assert here.prepared("mine", right, "sampler", None, {"target": "guided-2x5"}) == ("sampler", None)
    for asked, said in (
        ({"suite": "standart"}, "did you mean standard"),
        ({"target": "guided-2x6"}, "did you mean guided-2x5"),
        ({"suite": "small", "target": "guided-2x5"}, "not both"),
    ):
        with pytest.raises(InputError, match=said):
            here.prepared("mine", right, "sampler", None, asked)
    with pytest.raises(InputError, match="a round is judged without suite; leave it out"):
        here.prepared("mine", right, "round", None, {"suite": "small"})


def test_a_guided_toy_that_is_cut_short_can_be_handed_in_two_parts():
    """As a loop with guidance is: it must have something to mix."""
    short = [one.target for one in named("smallest") if one.target.name.startswith("guided-2x5[")]
    assert short
    for model in short:
        both = guided_still(model)
        assert isinstance(both, Guided)
        assert torch.equal(tabulate(both).table, tabulate(model).table)
    whole = one_target("guided-3x4").target
    assert guided_still(whole) is whole
