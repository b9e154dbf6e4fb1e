"""Loops that call a model's trunk and its head by themselves, as those of draft heads and of early exits do."""

import importlib

import pytest
import torch

from specverify.integrations.attention import HIDES
from specverify.integrations.causal import step_sampler
from specverify.integrations.pretrained import pretrained
from specverify.integrations.transformers import generation_sampler, loop_sampler
from specverify.subjects.sampler import NONE_KEPT, judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy


def suite(length):
    model = Shortened(toy("dense-3x6"), length)
    return (Case(model, draft("perturbed", model)),)


def asked(model, **given):
    """(hidden states, logits) behind a prompt and two ids, one call later."""
    ids = torch.tensor([[*model.prompts.of(0), 0, 2]])
    hidden = model.model(ids, **given).last_hidden_state
    return hidden, model(ids, **given).logits


@pytest.mark.parametrize(
    "given", [{}, {"position_ids": torch.arange(2, 9)[None]}, {"attention_mask": torch.ones(1, 1, 7, 7).tril().bool()}]
)
def test_a_model_is_its_head_behind_its_trunk(given):
    model = pretrained(toy("dense-3x6"))
    hidden, logits = asked(model, **given)
    assert hidden.shape == (1, 7, model.config.hidden_size)
    assert torch.equal(model.lm_head(hidden), logits)
    assert torch.equal(torch.nn.functional.linear(hidden, model.lm_head.weight)[..., :3], logits[..., :3])
    assert bool((logits[..., 3:] < -9e3).all())
    assert [*model.lm_head.state_dict()] == ["weight"]
    assert not torch.equal(hidden, logits[..., :3])
    assert model.get_output_embeddings() is model.lm_head
    assert model.base_model is model.model


def test_embeddings_are_rows_of_a_table_and_nothing_else_is_read():
    model = pretrained(toy("dense-3x6"))
    ids = torch.tensor([[*model.prompts.of(0), 1]])
    rows = model.get_input_embeddings().weight[ids]
    assert torch.equal(model.model(inputs_embeds=rows).last_hidden_state, model.model(ids).last_hidden_state)
    with pytest.raises(ValueError, match="no rows of get_input_embeddings"):
        model(inputs_embeds=rows + 0.01)


def test_the_first_layer_has_a_law_of_its_own_on_what_is_possible():
    model = pretrained(toy("sparse-3x5"))
    ids = torch.tensor([[*model.prompts.of(0), 0]])
    out = model(ids, output_hidden_states=True)
    embeddings, first, last = out.hidden_states
    assert torch.equal(embeddings, model.get_input_embeddings()(ids))
    assert torch.equal(model.lm_head(last), out.logits)
    early, law = (model.lm_head(model.model.norm(each))[0, -1].softmax(-1) for each in (first, last))
    assert torch.equal(early > 0, law > 0)
    assert not bool((law[:3] > 0).all())
    assert float((early - law).abs().sum()) > 0.05
    assert model(ids).hidden_states is None
    assert float(last.abs().max()) <= 20  # as those of networks, for heads that read them
    assert float(pretrained(toy("dense-3x6")).model(ids).last_hidden_state.abs().max()) < 5
    assert (model.model.dtype, model.model.device) == (last.dtype, last.device)
    model.config.output_hidden_states = True
    assert len(model(ids).hidden_states) == 3
    assert model(ids, output_hidden_states=False).hidden_states is None


def test_who_exits_early_leaves_the_second_layer_as_it_was():
    model = pretrained(toy("dense-3x6"))
    ids = torch.tensor([[*model.prompts.of(0), 0, 2]])
    cache = model.empty_cache()
    first = model(ids, output_hidden_states=True).hidden_states[1]
    model.config.num_hidden_layers = 1
    early = [model.model(part, past_key_values=cache).last_hidden_state for part in (ids[:, :6], ids[:, 6:])]
    hidden = torch.ones(1, 1, 7, 7).tril().log().clamp(min=2 * HIDES)
    masked = model.model(ids, attention_mask=hidden).last_hidden_state
    assert torch.equal(torch.cat(early, 1), first)
    assert torch.equal(masked, first)
    assert [layer.get_seq_length() for layer in cache.layers[:2]] in ([7], [7, 0])


def heads(model, prompt, many=2, drops=False, keeps=True):
    """Drafts from heads on the hidden state of the last id, verified by trunk and head."""
    cache = importlib.import_module("transformers").DynamicCache()
    fed, ids = prompt, prompt
    drafts, q = prompt[:, :0], None
    while ids.shape[1] < prompt.shape[1] + model.size:
        out = model.model(torch.cat([fed, drafts], 1), past_key_values=cache, output_hidden_states=True)
        p = model.lm_head(out.last_hidden_state)[0, fed.shape[1] - 1 :].softmax(-1)
        kept = 0
        for token in drafts[0].tolist():
            if torch.rand(1).item() >= p[kept, token] / q[token]:
                break
            kept += 1
        law = p[kept]
        if kept < drafts.shape[1] and keeps:
            law = (law - q).clamp(min=0)
        if kept < drafts.shape[1]:
            for layer in cache.layers:
                size = layer.keys.shape[2] - (drafts.shape[1] - kept) + drops
                layer.keys, layer.values = layer.keys[:, :, :size], layer.values[:, :, :size]
        ids = torch.cat([ids, drafts[:, :kept], torch.multinomial(law / law.sum(), 1)[None]], 1)
        fed = ids[:, -1:]
        q = model.lm_head(out.hidden_states[1])[0, -1].softmax(-1)
        drafts = torch.multinomial(q, many, replacement=True)[None]
    return ids


def full(model, prompt):
    """Where a draft is rejected, the whole law is drawn from, and not the residual."""
    return heads(model, prompt, 1, keeps=False)


def stale(model, prompt):
    """One rejected draft stays in the cache."""
    return heads(model, prompt, 1, drops=True)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("interface", ["llama", "chameleon"])
def test_draft_heads_are_proved(interface):
    found = prove_sampler(loop_sampler(heads, interface), suite=suite(2))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason


@pytest.mark.parametrize("wrong", [full, stale])
def test_draft_heads_that_are_wrong_are_refuted(wrong):
    found = prove_sampler(loop_sampler(wrong, "llama"), suite=suite(3))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def test_an_early_exit_of_generate_is_proved():
    found = prove_sampler(generation_sampler(assistant_early_exit=1, num_assistant_tokens=2), suite=suite(2))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason


def always_rejected(model, ids):
    """Drafts that the target forbids, so that none is kept."""
    q = torch.zeros(model.vocab_size)
    for _ in range(model.size):
        p = model(ids).logits[0, -1].softmax(-1)
        q[-1] = 1.0
        kept = torch.rand(1).item() < p[-1] / q[-1]
        law = q if kept else (p - q).clamp(min=0)
        ids = torch.cat([ids, torch.multinomial(law / law.sum(), 1)[None]], 1)
    return ids


def test_that_no_draft_was_kept_is_the_first_thing_that_is_not_covered():
    asked = {"suite": suite(2), "exact": True, "seconds": 4.0}
    vacuous = judge_sampler(loop_sampler(always_rejected, "llama"), **asked)
    assert vacuous.verdict.kind is Kind.PROVED, vacuous.verdict.reason
    assert vacuous.not_covered[0] == NONE_KEPT
    for sampler in (generation_sampler(assistant_early_exit=1), step_sampler(one_more)):
        found = judge_sampler(sampler, **asked)
        assert found.verdict.kind is Kind.PROVED, found.verdict.reason
        assert NONE_KEPT not in found.not_covered


def one_more(_, model, ids):
    """Guesses that the last id comes again."""
    laws = model(torch.cat([ids, ids[:, -1:]], 1)).logits[0, -2:].softmax(-1)
    made = torch.multinomial(laws[0], 1)[None]
    if torch.equal(made, ids[:, -1:]):
        made = torch.cat([made, torch.multinomial(laws[1], 1)[None]], 1)
    return torch.cat([ids, made], 1)
