"""Round subjects: correct kernels in every convention pass, broken ones get a verdict with its reason."""

import copy
import json
import re
import textwrap
from types import SimpleNamespace

import pytest
import torch
from kernels import (
    IN_EVERY_CONVENTION,
    chain_speculative_sampling,
    draws_its_own,
    inverse,
    rectangle,
    rejection_sample,
    speculative_sampling,
)

from specverify.claims import Relaxed
from specverify.defects import rounds as defects
from specverify.errors import InputError
from specverify.model import row_mask
from specverify.rules.token import at, residual
from specverify.subjects import round as module
from specverify.subjects.round import coins, flashinfer, judge_round, plain, rectangular, transformers, vllm
from specverify.subjects.rounds.kernel import Fault, Outcome, Round, check
from specverify.subjects.rounds.reference import Parts, kernel
from specverify.verdict import Kind

FEW = {"delta": 0.2, "contexts": ("near", "sparse target", "sharp", "greedy"), "checks": ("laws", "independence")}
"""Some 3,000 rows of each of a few contexts: enough for gross defects. All contexts, and batches, are played in
tests/stats/test_kernels.py."""
LAWS = FEW | {"checks": ("laws",)}
"""The same without the thousands of calls of one row and two, where these are not at stake."""


def test_the_documented_example_is_a_complete_subject():
    code = textwrap.dedent(module.__doc__.split("conventions.py`):\n")[1].split("The testbed supplies")[0])
    assert len(code.strip().splitlines()) <= 20
    names = {}
    few = 'delta=0.2, contexts=("near", "sparse target", "greedy"), checks=("laws",)'
    exec(code.replace("print(judge_round(kernel).verdict)", f"verdict = judge_round(kernel, {few}).verdict"), names)
    assert names["verdict"].kind is Kind.CONSISTENT


@pytest.mark.thinned(6)
@pytest.mark.parametrize("subject", IN_EVERY_CONVENTION.values(), ids=IN_EVERY_CONVENTION)
def test_correct_kernels_pass_in_every_convention(subject):
    judgement = judge_round(subject, **FEW)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert judgement.level == "round"
    assert judgement.location is None
    assert any("exactly 0" in gap for gap in judgement.not_covered)
    assert sum(item.alpha for item in judgement.evidence) == pytest.approx(1e-6)
    json.dumps(judgement.to_json(), allow_nan=False)


@pytest.mark.slow
def test_the_convention_of_one_row_at_a_time():
    few = {"contexts": ("sparse target",), "delta": 0.2, "checks": ("laws",)}
    judgement = judge_round(transformers(speculative_sampling), **few)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert judgement.subject == "speculative_sampling"
    assert "whether rows and calls are independent, which was not asked for" in judgement.not_covered

    def always(ids, logits, length, new_logits):
        _, matches = speculative_sampling(ids, logits, length, new_logits, False)
        return torch.cat([ids[:, -length:], new_logits[:, length].softmax(-1).multinomial(1)], -1), matches * 0 + length

    assert judge_round(transformers(always), **few).verdict.kind is Kind.REFUTED


@pytest.mark.slow
def test_defects_show_in_every_convention():
    def greedy_forgotten(ids, numbers, most, ends, q, p, bonus, metadata):
        metadata = SimpleNamespace(**{**vars(metadata), "temperature": metadata.temperature * 0 - 1})
        return rejection_sample(ids, numbers, most, ends, q, p, bonus, metadata)

    def other_bonus(*arguments):
        return rejection_sample(*arguments, shift=1)

    def reused(q, ids, p, generator=None):
        u = torch.rand(*ids.shape, generator=generator)
        ids = ids.long()
        emitted = (u * at(q, ids) < at(p[:, :-1], ids)).int().cumprod(1).sum(1)
        each, slot = torch.arange(len(ids)), emitted.clamp(max=ids.shape[1] - 1)
        law = torch.where((emitted < ids.shape[1])[:, None], residual(p[each, slot], q[each, slot]), p[each, emitted])
        tokens = torch.cat([ids, torch.full_like(ids[:, :1], -1)], 1)
        tokens = tokens.where(torch.arange(tokens.shape[1]) < emitted[:, None], -1)
        return tokens.scatter(1, emitted[:, None], inverse(law, u[each, slot])[:, None]), emitted, emitted

    for subject, branch in (
        (vllm(greedy_forgotten), None),
        (vllm(other_bonus), "bonus"),
        (flashinfer(reused), "recovered"),
    ):
        judgement = judge_round(subject, **FEW)
        assert judgement.verdict.kind is Kind.REFUTED
        assert branch in (None, judgement.location["branch"])


def edited(change):
    """The correct kernel, its results or arguments changed."""

    def kernel(draft, q, p, lengths, generator):
        return change(draws_its_own, draft, q, p, lengths, generator)

    return kernel


def hidden(function, *arguments):
    return draws_its_own(*arguments[:-1], torch.Generator().manual_seed(7))


def unseeded(function, *arguments):
    torch.rand(())
    return draws_its_own(*arguments[:-1], torch.default_generator)


def left_behind(function, *arguments):
    state = arguments[-1].get_state()
    result = draws_its_own(*arguments)
    arguments[-1].set_state(state)
    return result


def overwriting(function, draft, q, p, lengths, generator):
    result = draws_its_own(draft, q, p, lengths, generator)
    p.zero_()
    return result


def raising(function, *arguments):
    raise ValueError("no such kernel")


BROKEN = {
    "raises": (raising, Kind.ERROR, r"it raised ValueError: no such kernel \(given tensors of shape \(256, 3\)"),
    "returns one tensor": (lambda f, *a: f(*a)[0], Kind.ERROR, r"it returned Tensor; expected \(accepted, token\)"),
    "returns three": (lambda f, *a: (*f(*a), 0), Kind.ERROR, r"it returned 3 values; expected \(accepted, token\)"),
    "wrong shape": (lambda f, *a: (f(*a)[0], f(*a)[1][:, None]), Kind.ERROR, r"tokens came back with shape \(256, 1\)"),
    "too few rows": (lambda f, *a: tuple(x[1:] for x in f(*a)), Kind.ERROR, r"shape \(255,\); expected \(256,\)"),
    "floats": (lambda f, *a: (f(*a)[0] * 1.0, f(*a)[1]), Kind.ERROR, r"counts came back as torch.float32 tensor"),
    "lists": (lambda f, *a: tuple(x.tolist() for x in f(*a)), Kind.ERROR, r"counts came back as list; return a tensor"),
    "beyond the vocabulary": (lambda f, *a: (f(*a)[0], f(*a)[1] + 4), Kind.REFUTED, r"outside the vocabulary of 4"),
    "too many accepted": (lambda f, *a: (f(*a)[0] + 4, f(*a)[1]), Kind.REFUTED, r"drafts in a row that has"),
    "negative count": (lambda f, *a: (f(*a)[0] - 9, f(*a)[1]), Kind.REFUTED, r"it accepted -\d drafts"),
    "emits nothing": (lambda f, *a: (f(*a)[0] * 0, f(*a)[1] * 0 - 1), Kind.REFUTED, r"it emitted no token at all"),
    "changes p": (overwriting, Kind.REFUTED, r"it changed the tensor of shape \(256, 4, 4\) that it was given"),
    "own seed": (hidden, Kind.REFUTED, r"two different generator states gave the same outcome"),
    "global generator": (unseeded, Kind.REFUTED, r"the same generator state gave two different outcomes"),
    "state put back": (left_behind, Kind.REFUTED, r"two calls in a row gave the same outcome"),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernels_get_a_verdict_with_its_reason(name):
    change, kind, reason = BROKEN[name]
    judgement = judge_round(edited(change))
    assert judgement.verdict.kind is kind
    assert re.search(reason, judgement.verdict.reason), judgement.verdict.reason
    assert judgement.seconds < 20


@pytest.mark.parametrize(
    ("adapter", "result", "reason"),
    [
        (vllm, lambda *a: torch.full((len(a[1]), a[2]), 0), r"output_token_ids came back with shape"),
        (vllm, lambda *a: torch.full((len(a[1]), a[2] + 1), -1), r"it emitted no token at all"),
        (flashinfer, lambda *a, generator: a[1], r"expected \(output_token_ids, accepted, emitted\)"),
        (transformers, lambda *a: (a[0], torch.tensor(9)), r"valid_tokens of 9 matches came back with shape"),
    ],
)
def test_broken_results_of_other_conventions(adapter, result, reason):
    judgement = judge_round(adapter(result), gamma=3)
    assert judgement.verdict.kind in (Kind.ERROR, Kind.REFUTED)
    assert re.search(reason, judgement.verdict.reason), judgement.verdict.reason


def copied(generator):
    return torch.Generator().set_state(generator.get_state())


@pytest.mark.parametrize("again", [copied, lambda own: torch.Generator().manual_seed(own.initial_seed())])
def test_a_request_whose_generator_stays_as_it_was_repeats_its_numbers(again):
    """In an engine it lives from step to step; each step by itself has the right law."""

    def stuck(*arguments):
        metadata = copy.copy(arguments[-1])
        metadata.generators = {row: again(own) for row, own in metadata.generators.items()}
        return rejection_sample(*arguments[:-1], metadata)

    judgement = judge_round(vllm(stuck, seeded_rows=True), **FEW)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.verdict.reason.startswith("the generator of row 0 is after the call as it was before")


def test_a_flashinfer_kernel_that_miscounts_what_it_emits():
    def miscounting(q, ids, p, generator=None):
        tokens, accepted, emitted = chain_speculative_sampling(q, ids, p, generator=generator)
        return tokens, accepted, (emitted + 1) % (ids.shape[1] + 1)

    judgement = judge_round(flashinfer(miscounting))
    assert judgement.verdict.kind is Kind.REFUTED
    assert "accepted drafts" in judgement.verdict.reason


def test_a_pass_without_rejections_is_vacuous():
    judgement = judge_round(draws_its_own, **LAWS | {"contexts": ("equal",)})
    assert judgement.verdict.kind is Kind.VACUOUS
    assert "no draft token was rejected" in judgement.verdict.reason


def test_a_pass_without_bonus_tokens_says_so():
    dropped = judge_round(defects.get("bonus-dropped-on-full-accept").kernel, gamma=2, **LAWS)
    assert dropped.verdict.kind is Kind.CONSISTENT
    silent = Parts(bonus=lambda given: given.p)
    assert not any("bonus" in gap for gap in judge_round(kernel("whole", silent), gamma=2, **LAWS).not_covered)


def test_too_little_time_is_inconclusive():
    judgement = judge_round(draws_its_own, delta=0.001, seconds=1.0, checks=("standard",))
    assert judgement.verdict.kind is Kind.INCONCLUSIVE
    says = r"sees 0\.\d+ \(.*\), not the 0\.\d+|is too small to see any discrepancy|not carried out|out of time before"
    assert re.search(says, judgement.verdict.reason)
    assert judgement.seconds < 30


@pytest.mark.parametrize("gamma", [1, 2, 5, 9])
def test_any_number_of_drafts(gamma):
    few = {"contexts": ("near", "sparse target", "greedy"), "delta": 0.2, "checks": ("laws",)}
    assert judge_round(draws_its_own, gamma=gamma, **few).verdict.kind is Kind.CONSISTENT

    def unverified(draft, q, p, lengths, generator):
        return lengths, p[torch.arange(len(p)), lengths].multinomial(1, generator=generator)[:, 0]

    assert judge_round(unverified, gamma=gamma, **few).verdict.kind is Kind.REFUTED


@pytest.mark.parametrize(
    ("tokens", "accepted", "reason"),
    [
        ([0, -1, 2, -1], 1, r"it emitted \[0, -1, 2, -1\]: there is a gap before the last token"),
        ([0, 1, 2, 3], 1, r"it emitted \[0, 1, 2, 3\] and counts 1 accepted drafts; one token may follow those"),
        ([1, 1, -1, -1], 1, r"it counts 1 drafts of \[0, 1, 2\] as accepted, but emitted \[1, 1, -1, -1\]"),
        ([-2, -1, -1, -1], 0, r"it emitted \[-2, -1, -1, -1\], outside the vocabulary of 4"),
    ],
)
def test_impossible_outcomes_are_faults(tokens, accepted, reason):
    laws = torch.full((1, 4, 4), 0.25)
    given = Round(
        draft=torch.tensor([[0, 1, 2]]),
        lengths=torch.tensor([3]),
        q=laws[:, :3],
        p=laws,
        raw=laws,
        temperature=torch.ones(1),
        top_k=torch.tensor([4]),
    )
    with pytest.raises(Fault, match=reason) as caught:
        check(Outcome(torch.tensor([tokens]), torch.tensor([accepted])), given)
    assert caught.value.verdict.kind is Kind.REFUTED
    assert caught.value.certificate["tokens"] == tokens


@pytest.mark.slow
def test_the_same_seed_gives_the_same_judgement():
    defect = defects.get("lenience").kernel
    one, two = (judge_round(defect, **FEW).to_json() for _ in range(2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.parametrize(
    ("parts", "branch", "direction"),
    [
        (Parts(keep=lambda scene: at(scene.p, scene.draft) * (scene.draft > 0)), "accepted", "too rarely"),
        (Parts(recover=lambda scene: scene.p), "recovered", None),
        (Parts(bonus=lambda given: given.p * (1 + 4 * (given.p < 0.2))), "bonus", "too often"),
    ],
)
def test_where_a_kernel_goes_wrong_is_said(parts, branch, direction):
    judgement = judge_round(kernel("wrong", parts), contexts=("dense",), delta=0.1, checks=("laws",))
    location = judgement.location
    assert location["branch"] == branch
    assert direction in (None, location["direction"])
    assert location["split"][branch] == max(location["split"].values())
    assert f"the {branch} token {location['token']} comes {location['direction']}" in judgement.verdict.reason


def test_a_certificate_can_be_replayed():
    judgement = judge_round(defects.get("zero-coin-inclusive").kernel)
    found = judgement.certificate
    assert 0.0 in found["coins"]
    p, q = torch.tensor([found["p"]]), torch.tensor([found["q"]])
    draft, lengths = torch.tensor([found["draft"]]), torch.tensor([found["length"]])
    ratio = at(p[:, :-1], draft) / at(q, draft)
    passes = (torch.tensor([found["coins"]]) <= ratio) & row_mask(lengths, draft.shape[1])
    assert int(passes.cumprod(1).sum()) == found["accepted"]
    slot = judgement.location["position"]
    assert found["p"][slot][found["tokens"][slot]] == 0


@pytest.mark.slow
def test_a_rule_can_be_claimed_beyond_losslessness():
    assert judge_round(draws_its_own, rule="token", **FEW).verdict.kind is Kind.CONSISTENT
    judgement = judge_round(defects.get("one-hot-rule-with-any-draft").kernel, rule="token", **FEW)
    assert judgement.verdict.kind is Kind.REFUTED
    assert judgement.location["check"].startswith("token rule, one round: ")
    assert judgement.location["branch"] in ("accepted", "recovered")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0}, "gamma is 0; it is the number of slots for drafts, from 1 to 9"),
        ({"gamma": True}, "gamma is True; it is the number"),
        ({"claim": Relaxed(0.1)}, r"not for the claim relaxed\(tv<=0.1\); judge it within a decoder"),
        ({"delta": 0.0}, "delta is 0.0; a discrepancy in total variation is above 0"),
        ({"alpha": 2.0}, "alpha is 2.0; a false-alarm rate lies strictly between 0 and 1"),
        ({"seconds": 0}, "seconds is 0; a judgement takes some time"),
        ({"checks": ("all",)}, r"unknown checks \['all'\]; choose from standard, laws, independence, batches, forced"),
        ({"contexts": ()}, "no contexts; choose from dense, near"),
        ({"rule": "typical"}, "rule is 'typical'; it is 'token' or None"),
        ({"checks": ("forced-coins",)}, r"draws_its_own draws its own coins, so they cannot be forced; .* coins\(\)"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        judge_round(draws_its_own, **arguments)


@pytest.mark.parametrize("subject", [lambda draft: draft, print, Kind])
def test_what_is_no_round_subject_is_refused(subject):
    with pytest.raises(InputError, match=r"is no round subject: a function takes \(draft, q, p, generator\)"):
        judge_round(subject)


def test_wrappers_may_be_named_by_hand():
    assert rectangular(rectangle).fewest == 1
    assert coins(lambda draft, q, p, lengths, coin, pick: None).with_coins is not None
    assert judge_round(plain(raising), name="mine").subject == "mine"
