"""The installed transformers' own `generate`, judged: exactly where it can be, by its samples too."""

from __future__ import annotations

import inspect
import logging
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
import transformers as library
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from specverify.errors import InputError
from specverify.evidence.sequences import target_law
from specverify.integrations.transformers import generation_sampler, pretrained
from specverify.processors import Guided, Processed, parse_processors
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case, small, tiny
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

ROUNDING = 1e-6
"""Total variation that float32, in which `generate` works, may leave."""


def case(name="dense-3x6", length=3, processors=""):
    model = Shortened(toy(name), length)
    model = Processed(model, parse_processors(processors)) if processors else model
    return Case(model, draft("perturbed", model))


def assisted(**options):
    return generation_sampler(assistant="assistant_model", **{"num_assistant_tokens": 2} | options)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "sampler",
    [
        generation_sampler(),
        generation_sampler(prompt_lookup_num_tokens=2, max_matching_ngram_size=1),
        pytest.param(assisted(), marks=pytest.mark.slow),
        assisted(
            num_assistant_tokens=20, num_assistant_tokens_schedule="heuristic", assistant_confidence_threshold=0.4
        ),
    ],
    ids=lambda sampler: sampler.__qualname__,
)
def test_generate_is_proved(sampler):
    suite = [one for one in tiny() if one.target.name.startswith(("dense-3x6", "eos", "sparse"))]
    found = prove_sampler(sampler, suite=suite)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert len(found.exact) == 3
    assert all(row["tv"] < ROUNDING for row in found.exact)
    verifies_by_ratio = "assistant" in sampler.__qualname__
    assert all((row["coins"] > 0.5) == verifies_by_ratio for row in found.exact)


def test_processors_are_honoured_on_the_assisted_path():
    found = prove_sampler(assisted(), suite=(case("skew-3x5", 3, "temperature=1.5,top_k=2"),))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.exact[0]["coins"] > 0.5


def guided(length=4):
    """A pair whose unconditional law depends on the whole history, as that of a cache does."""
    c, u = (Shortened(toy(name), length) for name in ("dense-3x6", "penalty-3x6"))
    model = Guided(c, u, 3.0)
    return Case(model, draft("perturbed", model))


@pytest.mark.slow
def test_guidance_is_handed_to_generate():
    found = prove_sampler(generation_sampler(), suite=(guided(),))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    without = prove_sampler(generation_sampler(guidance_scale=3.0), reference=generation_sampler(), suite=(guided(),))
    assert without.verdict.kind is Kind.PROVED, "the same scale as the target's is no contradiction"


@pytest.mark.slow
def test_rejected_candidates_in_the_cache_of_the_unconditional_branch_show_from_four_positions_on():
    """Releases up to 5.24 at least keep them there."""
    lookup = generation_sampler(prompt_lookup_num_tokens=2, max_matching_ngram_size=1)
    assert prove_sampler(lookup, suite=(guided(3),)).verdict.kind is Kind.PROVED
    found = prove_sampler(lookup, suite=(guided(4),))
    assert found.verdict.kind in (Kind.REFUTED, Kind.PROVED), found.verdict.reason
    if found.verdict.kind is Kind.REFUTED:
        assert found.exact[0]["tv"] > 0.1
        assert found.location["position"] == 2


def test_a_setting_that_contradicts_the_target_is_told_and_refutes_nobody():
    one = case("skew-3x5", 3, "temperature=1.5,top_k=2")
    with pytest.raises(InputError, match=r"has top_k=2, and generation_sampler was given top_k=0, .*; leave it out"):
        generation_sampler(top_k=0)(one.target, one.draft, 1, 0)
    assert generation_sampler(top_k=2)(one.target, one.draft, 1, 0).shape == (1, 3)


REFUSAL = "Passing `MinLengthLogitsProcessor` when using `assisted_generation is disabled"


def refuses_a_least_length():
    """Whether assisted generation in the installed release (those before 5.4) takes no `min_new_tokens`."""
    return REFUSAL in inspect.getsource(AssistedCandidateGenerator)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    "settings",
    [{"repetition_penalty": 1.7}, {"min_new_tokens": 2, "top_p": 0.9}, {"no_repeat_ngram_size": 2, "min_p": 0.1}],
    ids=str,
)
@pytest.mark.slow
def test_what_assisted_generation_gives_is_what_plain_generation_gives(settings):
    """The law of plain generation with the same settings is due; it is another than the toy's."""
    one = case("eos-3x6", 3)
    plain = generation_sampler(batch=1, **settings)
    assert prove_sampler(plain, suite=(one,)).verdict.kind is Kind.REFUTED
    for sampler in (assisted(**settings), generation_sampler(prompt_lookup_num_tokens=2, **settings)):
        found = prove_sampler(sampler, reference=plain, suite=(one,))
        if "assistant" in sampler.__qualname__ and "min_new_tokens" in settings and refuses_a_least_length():
            assert found.verdict.kind is Kind.ERROR
            assert REFUSAL in found.verdict.reason
        else:
            assert found.verdict.kind is Kind.PROVED, found.verdict.reason


def test_an_ensemble_of_target_and_draft_is_refuted():
    """`assistant_ensemble_weight` is lossy by its own account."""
    lossy = assisted(assistant_ensemble_weight=0.7)
    exact = prove_sampler(lossy, suite=(case("dense-2x8", 3),))
    if not hasattr(library.GenerationConfig(), "assistant_ensemble_weight"):  # before 5.14
        assert exact.verdict.kind is Kind.ERROR
        assert "not used by the model: ['assistant_ensemble_weight']" in exact.verdict.reason
        pytest.skip(f"transformers {library.__version__} has no ensembles, and says so")
    assert exact.verdict.kind is Kind.REFUTED
    assert exact.exact[0]["tv"] > 0.05


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(library.GenerationConfig(), "assistant_ensemble_weight"), reason="before 5.14 there are no ensembles"
)
def test_an_ensemble_of_target_and_draft_is_refuted_by_its_samples():
    found = judge_sampler(assisted(assistant_ensemble_weight=0.7), suite=small()[:1], delta=0.25, exact=False)
    assert found.verdict.kind is Kind.REFUTED
    assert found.location["certain"]
    assert "assistant_ensemble_weight=0.7" in found.subject


@pytest.mark.slow
def test_samples_say_the_same_as_far_as_they_go():
    """A thousand sequences show a total variation of 0.25, and no less."""
    found = judge_sampler(assisted(), suite=small()[:1], delta=0.25, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "off by 0.25" in found.verdict.reason
    assert int(found.notes[0].split()[0].replace(",", "")) < 1500


@pytest.mark.slow
def test_plain_generation_is_fast_enough_for_small_distances():
    found = judge_sampler(generation_sampler(), suite=small()[:2], delta=0.02, exact=False)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason


def loop(crop):
    """A custom generation loop: two drafts from `draft_model`, verified in one pass over a shared cache."""

    def speculate(model, input_ids, logits_processor, stopping_criteria, generation_config, draft_model, **kwargs):
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        cache = library.DynamicCache() if cache is None else cache  # 5.0 and others leave it to the model
        while input_ids.shape[1] < generation_config.max_length:
            room = generation_config.max_length - input_ids.shape[1]
            drafted, laws = input_ids, []
            for _ in range(min(2, room)):
                laws.append(draft_model(drafted, use_cache=False).logits[0, -1].softmax(-1))
                drafted = torch.cat([drafted, torch.multinomial(laws[-1], 1)[None]], 1)
            unseen = drafted[:, cache.get_seq_length() :] if crop else drafted[:, input_ids.shape[1] - 1 :]
            p = model(unseen, cache=cache).logits[0].softmax(-1)[-len(laws) - 1 :]
            kept = 0
            for k, q in enumerate(laws):
                x = drafted[0, input_ids.shape[1] + k]
                if torch.rand(()) >= p[k, x] / q[x]:
                    break
                kept += 1
            tokens = drafted[:, : input_ids.shape[1] + kept]
            law = (p[kept] - laws[kept]).clamp(min=0) if kept < len(laws) else p[kept]
            if kept < len(laws) or kept < room:
                tokens = torch.cat([tokens, torch.multinomial(law, 1)[None]], 1)
            if crop:
                cache.crop(min(0, tokens.shape[1] - 1 - cache.get_seq_length()))
            input_ids = tokens
        return input_ids

    return speculate


@pytest.mark.slow
def test_a_custom_generation_loop_is_judged_with_its_cache():
    one = case("dense-2x8", 3)
    right = generation_sampler(assistant="draft_model", custom_generate=loop(crop=True), batch=1)
    found = prove_sampler(right, suite=(one,))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.exact[0]["coins"] > 0.5
    wrong = generation_sampler(assistant="draft_model", custom_generate=loop(crop=False), batch=1)
    found = prove_sampler(wrong, suite=(one,))
    assert found.verdict.kind is Kind.REFUTED, "rejected drafts stay in the cache"
    assert found.location["position"] >= 1, "the first token has no cache to be wrong in"
    assert "speculate" in right.__qualname__


def held(output):
    """The cache of an output, by the name that the installed release has for it."""
    return next(getattr(output, field.name) for field in fields(output) if field.name in ("cache", "past_key_values"))


@pytest.mark.parametrize("by", ["cache", "past_key_values"])
@pytest.mark.parametrize("name", ["dense-3x6", "sparse-3x5", "recurrent-3x6", "eos-3x6"])
def test_logits_follow_from_what_the_cache_holds(name, by):
    model = toy(name)
    engine = pretrained(model)
    tokens = torch.randint(model.vocab, (5, model.length - 1), generator=torch.Generator().manual_seed(0))
    prompt = engine.prompts.of(0)
    sequence = torch.cat([torch.tensor([prompt] * 5), tokens], 1)
    due = model.laws(model.start(5), tokens)
    whole = engine(sequence).logits[:, len(prompt) - 1 :]
    assert whole.shape == (5, model.length, engine.prompts.ids + (model.eos is None))  # and what pads
    torch.testing.assert_close(whole.softmax(-1)[..., : model.vocab], due)
    assert float(whole.logsumexp(-1).min()) > 0.4, "logits are known up to a number"
    assert bool(whole.isfinite().all()), "guidance takes differences of logits"
    assert bool((whole[..., model.vocab].exp() == 0).all())
    first = engine(sequence[:, : len(prompt) + 1])
    cache = held(first)
    engine(tokens[:, :2].flip(1), **{by: cache})
    cache.crop(-2)
    rest = engine(sequence[:, len(prompt) + 1 :], **{by: cache})
    assert torch.equal(torch.cat([first.logits[:, -2:], rest.logits], 1), whole)
    assert cache.get_seq_length() == model.length - 1 + len(prompt)
    assert held(rest) is cache


def test_what_a_toy_does_not_take_says_so():
    engine = pretrained(toy("dense-3x6"))
    begin = torch.full((1, 1), 3)
    with pytest.raises(ValueError, match="attention_mask is a tensor of 3 dimensions; a toy reads tensors of 2 or 4"):
        engine(begin, attention_mask=torch.ones(1, 1, 1))
    assert engine.remarks == []
    behind = engine(torch.zeros(1, 2, dtype=torch.int64)).logits[0, :, :3]
    assert torch.equal(behind, behind[:1, :1].expand(2, 3)), "nobody knows what comes"
    own = "[[3, 4, 0, 1, 7], [3, 5, 0, 1, 7], [3, 6, 7], [3, 7]]"
    assert engine.remarks[0].startswith(
        f"in some pass the ids began [0, 0], where a toy's begin with its prompt: {own}"
    )
    for number in range(4):
        prompt = engine.prompts.of(number)
        right, part, odd = (
            engine(torch.tensor([ids])).logits[0, -1, :3] for ids in (prompt, prompt[:-1], [*prompt, 3])
        )
        assert len(right.unique()) == 3
        assert torch.equal(part, part[:1].expand(3)), "nobody asks yet"
        assert torch.equal(odd, odd[:1].expand(3)), "it has its place nowhere else"


def test_a_call_is_a_function_of_its_seed_and_touches_no_other_generator():
    one = case("eos-3x6", 4)
    for sampler in (generation_sampler(batch=7), assisted()):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first, again, other = (sampler(one.target, one.draft, 20, seed) for seed in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.shape == (20, 4)
        ended = (first == 2).cumsum(1) > 0
        assert bool((first[:, 1:][ended[:, :-1]] == 2).all())


def test_nothing_is_said_on_the_way(caplog):
    one = case("eos-3x6", 4)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        assisted()(one.target, one.draft, 3, 0)
        generation_sampler()(one.target, one.draft, 3, 0)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_a_target_is_unwrapped_unless_its_tokens_tie():
    tied = Processed(toy("ties-3x5"), parse_processors("top_k=1"))
    rows = generation_sampler()(tied, tied, 300, 0)
    (only,) = rows.unique(dim=0).tolist()
    assert only == np.unravel_index(int(target_law(tied).argmax()), (3,) * 5) or len(only) == 5
    wrong_order = Processed(toy("skew-3x5"), parse_processors("top_k=2,temperature=0.5"))
    with pytest.raises(
        InputError, match="`generate` applies T, top-k, top-p, min-p, each at most once and in this order; not"
    ):
        generation_sampler()(wrong_order, wrong_order, 1, 0)


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"needs the package transformers; .* 'specverify\[transformers\]' .*halted"):
        generation_sampler()
