"""Toys behind the interfaces of image models: loops run on them as they are, and are judged exactly."""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from specverify.errors import InputError
from specverify.integrations.transformers import chameleon, janus, loop_sampler
from specverify.processors import Guided
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

FOLDER = Path(__file__).parents[1] / "subjects" / "examples"


@pytest.fixture(scope="module")
def loops():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("example_loops", FOLDER / "loops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    return module


def suite(length, scale=None):
    both = toy("guided-2x5")
    model = Shortened(both.conditional, length)
    if scale is not None:
        model = Guided(model, Shortened(both.unconditional, length), scale)
    return (Case(model, draft("perturbed", model)),)


@pytest.mark.parametrize(
    ("length", "width", "scale"), [pytest.param(4, 2, None, marks=pytest.mark.slow), (2, None, 3.0)]
)
def test_a_jacobi_loop_is_proved_with_rows_and_with_guidance(loops, length, width, scale):
    found = prove_sampler(loop_sampler(loops.jacobi, width=width), suite=suite(length, scale))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.exact[0]["coins"] > 0.1


def test_a_cache_that_keeps_what_was_rejected_is_refuted(loops):
    found = prove_sampler(loop_sampler(loops.forgets_to_roll_back), suite=suite(3))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def test_a_loop_of_januss_is_proved_and_its_guidance_seen(loops):
    (case,) = suite(3, 3.0)
    found = prove_sampler(loop_sampler(loops.janus, "janus"), suite=(case,))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    wrong = prove_sampler(loop_sampler(loops.misguided, "janus"), suite=(case,))
    assert wrong.verdict.kind is Kind.REFUTED, wrong.verdict.reason


def rows(model, ids, fed=None):
    """One id after the other; at the end of a row it is written down, and something else is fed."""
    cache, out = None, model(input_ids=ids)
    while ids.shape[1] < 2 + model.size:
        cache = getattr(out, "cache", None) or out.past_key_values
        token = torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        ids = torch.cat([ids, token], 1)
        ends = bool((token == model.grammar.row_end).all()) and fed is not None
        token = {"last": ids[:, -2:-1], "begin": ids[:, 1:2]}[fed] if ends else token
        out = model(input_ids=token, past_key_values=cache)
    return ids


@pytest.mark.thinned(3)
@pytest.mark.parametrize("fed", [None, "last", "begin"])
def test_what_is_fed_at_the_end_of_a_row_counts(fed):
    found = prove_sampler(loop_sampler(partial(rows, fed=fed), width=2), suite=suite(4))
    assert found.verdict.kind is (Kind.PROVED if fed is None else Kind.REFUTED), found.verdict.reason


def test_behind_ids_that_are_no_image_logits_say_nothing():
    model = chameleon(pair()[0], width=2)
    g = model.grammar
    ids = torch.tensor([[g.condition, g.begin, g.first + 2, g.first], [g.condition, g.begin, g.row_end, g.first]])
    right, wrong = model(input_ids=ids).logits[:, 2, g.first : g.row_end]
    assert torch.equal(wrong, wrong[:1].expand_as(wrong))
    assert not torch.equal(right, right[:1].expand_as(right))
    assert model(input_ids=ids).logits[:, 3].argmax(-1).tolist() == [g.row_end] * 2


def test_a_batch_of_samples_has_a_row_for_each(loops):
    (case,) = suite(4)
    sampler = loop_sampler(loops.janus, "janus", batch=3)
    tokens = sampler(case.target, case.draft, 7, 0)
    assert tokens.shape == (7, 4)
    assert torch.equal(tokens, sampler(case.target, case.draft, 7, 0))


def pair():
    return Shortened(toy("dense-3x6"), 4), Shortened(toy("penalty-3x6"), 4)


@pytest.mark.parametrize("rank", [2, 4, "additive"])
def test_a_hidden_condition_and_the_id_of_none_are_the_same(rank):
    model = chameleon(*pair(), width=2)
    g = model.grammar
    ids = torch.tensor([[g.condition, g.begin, g.first, g.first + 2, g.row_end, g.first + 1]])
    mask = torch.ones(2, 6)
    mask[1, 0] = 0
    if rank != 2:
        mask = mask[:, None].expand(2, 6, 6).tril()
    if rank == 4:
        mask = mask[:, None].bool()
    if rank == "additive":
        mask = torch.where(mask == 0, -1e9, 0.0)[:, None]
    shown, hidden = model(input_ids=ids.repeat(2, 1), attention_mask=mask).logits
    assert not torch.equal(shown, hidden)
    without = ids.clone()
    without[0, 0] = g.unconditional
    torch.testing.assert_close(model(input_ids=without).logits[0], hidden)


def embeddings(model, ids):
    text, images = model.language_model.get_input_embeddings(), model.prepare_gen_img_embeds
    return torch.cat([text(ids[:, :3]), images(ids[:, 3:])], 1)


def test_a_mask_may_hide_januss_condition():
    model = janus(*pair())
    ids = torch.tensor([[model.bos, model.grammar.condition, model.grammar.begin, 0, 2]])
    none = ids.clone()
    none[0, 1] = model.pad
    hides = {"attention_mask": torch.tensor([[1, 0, 1, 1, 1]])}
    close = hides | {"position_ids": torch.tensor([[0, 0, 1, 2, 3]])}
    read = [
        model.language_model.model(inputs_embeds=embeddings(model, one), **asked).last_hidden_state[:, 2:]
        for one, asked in ((none, {}), (ids, close), (ids, {}), (ids, hides))
    ]
    pad, hidden, shown, gap = read
    torch.testing.assert_close(pad, hidden)
    assert not torch.equal(pad, shown)
    assert torch.equal(gap, gap[:1, :1, :1].expand_as(gap)), "positions that are not given leave a gap"


def test_logits_are_the_laws_of_image_ids_and_rows_end_where_they_must():
    model = chameleon(*pair(), width=2, first=10)
    g, p = model.grammar, pair()[0]
    tokens = torch.tensor([[0, 2, 1, 2]])
    ids = torch.tensor([[g.condition, g.begin, 10, 12, g.row_end, 11, 12]])
    laws = model(input_ids=ids).logits[0, 1:].softmax(-1)
    due = p.laws(p.start(1), tokens[:, :3])[0]
    torch.testing.assert_close(laws[[0, 1, 3, 4]][:, 10:13], due)
    assert laws[[2, 5]].argmax(-1).tolist() == [g.row_end] * 2
    assert g.size == 6


def test_a_cache_is_cropped_by_assignment_as_by_crop():
    model, rows = chameleon(pair()[0]), []
    g = model.grammar
    ids = torch.tensor([[g.condition, g.begin, g.first, g.first + 1, g.first + 2]])
    for by_hand in (True, False):
        out = model(input_ids=ids)
        cache = getattr(out, "cache", None) or out.past_key_values
        if by_hand:
            for held in (cache.key_cache, cache.value_cache):
                assert len(held) == 2
                for layer in range(2):
                    held[layer] = held[layer][..., :-2, :]
        else:
            cache.crop(-2)
        rows.append(model(input_ids=ids[:, 2:3] + 1, past_key_values=cache).logits)
    fresh = torch.cat([ids[:, :3], ids[:, 2:3] + 1], 1)
    torch.testing.assert_close(rows[0], model(input_ids=fresh).logits[:, -1:])
    assert torch.equal(*rows)


def test_behind_prompts_that_begin_no_image_nothing_is_known():
    model, other = chameleon(pair()[0]), janus(pair()[0])
    logits = model(input_ids=torch.tensor([[model.grammar.first, model.grammar.begin]])).logits
    tokens = logits[..., model.grammar.first : model.grammar.row_end]
    assert torch.equal(tokens, tokens[:1, :1, :1].expand_as(tokens))
    assert (
        "the ids began [4, 8], where a toy's begin with a condition, 9 to 13, the last of which is none, and 8,"
        in (model.remarks[0])
    )
    read = {"text": other.language_model.get_input_embeddings(), "an image": other.prepare_gen_img_embeds}
    for ids in ([0, 1, 2], [10, 1, 5], [10, 5, 2]):
        hidden = other.language_model.model(inputs_embeds=read["text"](torch.tensor([ids]))).last_hidden_state[0, -1]
        assert torch.equal(hidden, hidden[:1].expand_as(hidden))
    assert "the ids began [0, 1, 2], where a toy's begin with 10" in other.remarks[0]
    prompt = read["text"](torch.tensor([[10, 5, 4]]))
    behind = {}
    for kind, table in read.items():
        whole = torch.cat([prompt, table(torch.tensor([[2]]))], 1)
        behind[kind] = other.gen_head(other.language_model.model(inputs_embeds=whole).last_hidden_state)[0, -1]
    assert torch.equal(behind["text"], behind["text"][:1].expand(3)), "images have embeddings of their own"
    due = pair()[0].laws(pair()[0].start(1), torch.tensor([[2]]))[0, 1]
    torch.testing.assert_close(behind["an image"].softmax(-1), due)
    with pytest.raises(InputError, match="rows of 0 tokens"):
        chameleon(pair()[0], width=0)


RETURNED = {
    "nothing": (lambda model, ids: None, "returned None"),
    "too few": (lambda model, ids: ids, "2 ids; an image of this model has 3"),
    "the condition": (lambda model, ids: ids[:, :1].expand(-1, 3), "image ids are 4..5, and 6 ends each row of 2"),
}


@pytest.mark.parametrize("what", RETURNED)
def test_what_a_loop_returns_is_read_with_care(what):
    loop, says = RETURNED[what]
    (case,) = suite(2)
    with pytest.raises(InputError, match=says):
        loop_sampler(loop, width=2)(case.target, case.draft, 1, 0)
    with pytest.raises(InputError, match="interface 'llava'"):
        loop_sampler(loop, "llava")
