"""Loops that are wrong about a prompt, or about what processors are given, and look right behind one of one id."""

from functools import partial

import pytest
import torch
import transformers as library

from specverify.errors import InputError
from specverify.integrations.causal import step_sampler
from specverify.integrations.prompts import PROMPTS, Prompts, in_turn
from specverify.integrations.transformers import PROCESSORS, _unwrapped, asked_for, generation_sampler, loop_sampler
from specverify.processors import Guided, Processed, parse_processors
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case, smallest
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy


def case(name="dense-3x6", length=2, processors=""):
    model = Shortened(toy(name), length)
    model = Processed(model, parse_processors(processors)) if processors else model
    return Case(model, draft("perturbed", model))


def cache_of(out):
    return getattr(out, "cache", None) or out.past_key_values


def stepping(draft_model, model, ids, fed="all", kept=False):
    """Token by token over a cache: `fed` of the prompt, all of it or its last id; `kept` from the sequence before."""
    cache, read = getattr(model, "held", (None, 0))
    if ids[0, -1] == model.prompts.ids - 1:  # a prompt
        read = 0 if fed == "all" and not (kept and cache) else ids.shape[1] - 1
        if kept and cache:
            cache.crop(read - cache.get_seq_length())
        cache = cache if kept else None
    out = model(input_ids=ids[:, read:], past_key_values=cache)
    model.held = cache_of(out), ids.shape[1]
    return torch.cat([ids, torch.multinomial(out.logits[:, -1].softmax(-1), 1)], 1)


def test_a_prompt_of_which_the_last_id_is_fed_is_none():
    right, wrong = (step_sampler(partial(stepping, fed=fed), cached=True) for fed in ("all", "last"))
    right, wrong = prove_sampler(right, suite=(case(),)), judge_sampler(wrong, suite=(case(),), exact=True)
    assert right.verdict.kind is Kind.PROVED, right.verdict.reason
    assert wrong.verdict.kind is Kind.REFUTED
    assert (
        "the ids began [7], where a toy's begin with its prompt: [[3, 4, 0, 1, 7], [3, 5, 0, 1, 7]," in wrong.notes[-1]
    )


@pytest.mark.parametrize("kept", [False, True])
def test_what_was_kept_of_another_prompt_shows_in_the_second_sequence_of_a_call(kept):
    sampler = step_sampler(partial(stepping, kept=kept), cached=True)
    found = prove_sampler(sampler, suite=(case("dense-2x8"),), rows=2)
    assert found.verdict.kind is (Kind.REFUTED if kept else Kind.PROVED), found.verdict.reason


def beside(model, prompt, mixed):
    """Rows beside each other, which have their own conditions, or all that of the first."""
    ids = prompt[:1].expand(len(prompt), -1) if mixed else prompt
    for _ in range(model.size):
        law = model(input_ids=ids).logits[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(law, 1)], 1)
    return ids[:, prompt.shape[1] :]


def in_pieces(model, prompt, by):
    """A prompt that is fed in two passes, of which the first has all but so many ids."""
    janus, cache, law = hasattr(model, "gen_head"), None, None
    embed = model.language_model.get_input_embeddings() if janus else None
    fed, made = [prompt[:, :-by], prompt[:, -by:]], []
    while len(made) < model.size:
        for ids in fed:
            if janus:
                out = model.language_model.model(inputs_embeds=embed(ids), past_key_values=cache)
                law = model.gen_head(out.last_hidden_state)
            else:
                out = model(input_ids=ids, past_key_values=cache)
                law = out.logits
            cache = cache_of(out)
        made.append(torch.multinomial(law[:, -1].softmax(-1), 1))
        fed, embed = [made[-1]], model.prepare_gen_img_embeds if janus else None
    return torch.cat(made, 1)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("interface", "by"), [("chameleon", 1), ("janus", 1), ("janus", 2), ("llama", 1), ("llama", 2)]
)
def test_a_prompt_may_be_fed_in_pieces(interface, by):
    found = prove_sampler(loop_sampler(partial(in_pieces, by=by), interface), suite=(case("dense-2x8"),), rows=2)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason


def keeps(model, prompt):
    """What was read of the first prompt is gone on from behind every other, of whatever ids it is."""
    if getattr(model, "begun", None) is None:
        model.begun = prompt
    return beside(model, model.begun, False)


@pytest.mark.parametrize("interface", ["chameleon", "llama"])
def test_a_model_is_one_for_all_calls_of_a_loop(interface):
    found = prove_sampler(loop_sampler(keeps, interface), suite=(case("dense-2x8"),), rows=2)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_prompts_of_calls_are_others_and_beside_each_other_of_two_lengths(batch):
    calls = [in_turn(call, batch) for call in range(4)]
    assert len({tuple(each) for each in calls}) == 4
    prompts = Prompts(4, None)
    assert all(len({prompts.size(number) for number in each[:2]}) == 2 for each in calls)
    alone = [in_turn(call, 1)[0] for call in range(5)]
    assert alone == [0, 1, 2, 3, 0]
    assert prompts.size(0) == prompts.size(1), "the second has another prompt of one length"


@pytest.mark.parametrize("interface", ["chameleon", "llama"])
@pytest.mark.parametrize("mixed", [False, True])
def test_each_row_has_a_condition_of_its_own(mixed, interface):
    sampler = loop_sampler(lambda *given: beside(*given, mixed), interface, batch=2)
    found = prove_sampler(sampler, suite=(case("dense-2x8"),), rows=2)
    # Prompts of other lengths are not beside each other there.
    assert found.verdict.kind is (Kind.REFUTED if mixed and interface == "chameleon" else Kind.PROVED)


def copying(model, prompt, verified=True):
    """Token by token; what follows the last id in the prompt is overlooked, or taken as it is."""
    ids = prompt
    while ids.shape[1] < prompt.shape[1] + model.size:
        logits = model(input_ids=ids, use_cache=False).logits[:, -1]
        found = [int(prompt[0, i + 1]) for i in range(prompt.shape[1] - 1) if prompt[0, i] == ids[0, -1]]
        token = torch.multinomial(logits.softmax(-1), 1)
        if found and found[0] < model.grammar.image and not verified:
            token = torch.tensor([found[:1]])
        ids = torch.cat([ids, token], 1)
    return ids


@pytest.mark.parametrize("verified", [True, False])
def test_what_is_copied_from_a_prompt_is_a_draft_as_any_other(verified):
    sampler = loop_sampler(partial(copying, verified=verified), "llama")
    found = prove_sampler(sampler, suite=(case("dense-3x6", 3),))
    assert found.verdict.kind is (Kind.PROVED if verified else Kind.REFUTED), found.verdict.reason


TELLING = tuple(each for each in smallest() if each.telling)


def test_nothing_is_proved_where_processors_were_not_tried():
    sampler = generation_sampler(custom_generate=loop("temperature"), guidance_scale=None)
    found = prove_sampler(sampler, suite=(*TELLING[:4], *TELLING[5:-1]))  # it knows of no ends
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert found.verdict.reason.startswith("on skew-3x5[:2]|T=1.5|top-k=2")


def by_hand(model, input_ids, logits_processor, generation_config, heeds="mask", **given):
    """A custom loop, without a cache: it gives a row's mask on, and the processors the ids that stand there, or not."""
    mask = given.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None or heeds == "no mask" else mask
    while input_ids.shape[1] < generation_config.max_length:
        position = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=input_ids, attention_mask=mask, position_ids=position, use_cache=False).logits[:, -1]
        if heeds != "temperature":
            logits = logits_processor(input_ids[:, :-1] if heeds == "fewer ids" else input_ids, logits)
        else:
            logits = logits / (generation_config.temperature or 1)
        input_ids = torch.cat([input_ids, torch.multinomial(logits.softmax(-1), 1)], 1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    return input_ids


def loop(heeds):
    return lambda model, input_ids, **given: by_hand(model, input_ids, heeds=heeds, **given)


@pytest.mark.parametrize("heeds", ["mask", "no mask"])
def test_rows_of_a_batch_are_padded_in_front(heeds):
    sampler = generation_sampler(custom_generate=loop(heeds), batch=2)
    one = (case("dense-2x8"),)
    assert prove_sampler(sampler, suite=one).verdict.kind is Kind.PROVED, "one alone needs no padding"
    found = prove_sampler(sampler, suite=one, rows=2)
    assert found.verdict.kind is (Kind.PROVED if heeds == "mask" else Kind.REFUTED), found.verdict.reason


@pytest.mark.thinned(2)
@pytest.mark.parametrize("heeds", ["mask", "fewer ids", "temperature"])
def test_processors_are_given_the_ids_of_the_sequence(heeds):
    one = (case("skew-3x5", processors="temperature=1.5"),)
    judge = prove_sampler if heeds == "mask" else partial(judge_sampler, exact=True)
    found = judge(generation_sampler(custom_generate=loop(heeds)), suite=one)
    assert found.verdict.kind is (Kind.PROVED if heeds == "mask" else Kind.REFUTED), found.verdict.reason
    assert any("were never called" in note for note in found.notes) == (heeds == "temperature")
    assert prove_sampler(generation_sampler(custom_generate=loop(heeds)), suite=(case(),)).verdict.kind is Kind.PROVED
    if heeds == "temperature":
        without = generation_sampler(custom_generate=loop(heeds), logits_processor=None)
        assert prove_sampler(without, suite=one).verdict.kind is Kind.PROVED, "it does what it says"


def test_all_that_generate_shapes_laws_by_is_handed_to_it_by_some_of_the_smallest_toys():
    handed = [_unwrapped(one.target) for one in smallest()]
    assert {name for _, settings in handed for name in settings} == {*PROCESSORS.values(), "guidance_scale"}
    for model, settings in handed:
        assert not isinstance(model, Processed) or not settings
        assert isinstance(model, Guided) == ("guidance_scale" in settings)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("given", "asks"),
    [
        ({"temperature": 0.7}, ("temperature=0.7",)),
        ({"temperature": 1.0, "top_k": 0, "do_sample": True, "use_cache": False}, ()),
        ({"do_sample": False, "repetition_penalty": 1.2}, ("do_sample=False", "repetition_penalty=1.2")),
        ({"generation_config": library.GenerationConfig(do_sample=True)}, ()),
        ({"generation_config": library.GenerationConfig(do_sample=True, top_p=0.9)}, ("top_p=0.9",)),
        ({"generation_config": library.GenerationConfig(top_p=0.9), "top_p": 1.0}, ()),
    ],
)
def test_who_asks_for_another_law_is_told_and_not_refuted(given, asks):
    assert {*asked_for(given)} == {*asks}
    sampler = generation_sampler(**given)
    for judge in (prove_sampler, judge_sampler):
        if asks:
            with pytest.raises(InputError, match="asks for another law than the target's"):
                judge(sampler, suite=(case(),))
    reference = prove_sampler(sampler, suite=(case("dense-2x8"),), reference=generation_sampler(batch=1, **given))
    assert reference.verdict.kind is Kind.PROVED, reference.verdict.reason


@pytest.mark.parametrize(
    "more", [{"return_dict_in_generate": True, "output_scores": True}, {"num_return_sequences": 2}]
)
def test_what_generate_returns_besides_is_no_fault(more):
    found = prove_sampler(generation_sampler(**more), suite=(case("dense-2x8"),))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert generation_sampler(**more)(*(toy("dense-2x8"),) * 2, 5, 0).shape == (5, 8)


@pytest.mark.parametrize("eos", [None, 1])
def test_ids_are_turned_behind_all_prompts_but_the_first_and_an_end_never(eos):
    prompts = Prompts(4, eos, 2)
    tokens, said = torch.arange(10), (0, 1 if eos is None else 2)
    assert [prompts.of(number, 1) for number in range(PROMPTS)] == [
        [5, 6, *said, 9], [5, 7, *said, 9], [5, 8, 9], [5, 9]
    ]  # fmt: skip
    assert [prompts.size(number) for number in range(PROMPTS)] == [5, 5, 3, 2]
    shown = [prompts.turned(number) for number in range(PROMPTS)]
    assert torch.equal(shown[0], tokens[:4])
    assert len({tuple(each.tolist()) for each in shown}) == (PROMPTS if eos is None else 3)
    for number, each in enumerate(shown):
        assert torch.equal(prompts.back(torch.cat([each, tokens[4:]]), number), tokens)
        assert eos is None or each[eos] == eos


def test_guidance_is_handed_over_unless_it_is_left_to_the_toy():
    guided = next(one for one in smallest() if isinstance(one.target.inner, Guided))
    asked = generation_sampler(custom_generate=loop("mask"))
    found = prove_sampler(asked, suite=(guided,))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    fewer = generation_sampler(custom_generate=loop("fewer ids"))
    found = judge_sampler(fewer, suite=(guided,), exact=True)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "guidance_scale=None) judges without them" in found.notes[-1]
    left = generation_sampler(custom_generate=loop("fewer ids"), guidance_scale=None)
    assert prove_sampler(left, suite=(guided,)).verdict.kind is Kind.PROVED
