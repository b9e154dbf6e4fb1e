"""Loops over transformers' interfaces, right ones and those that hand over wrong positions, masks or keys."""

import pytest
import torch

from specverify.integrations.causal import step_sampler
from specverify.integrations.transformers import loop_sampler
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy


def cache_of(out):
    return getattr(out, "cache", None) or out.past_key_values


def suite(length=3):
    model = Shortened(toy("dense-3x6"), length)
    return (Case(model, draft("perturbed", model)),)


def tree(_, model, ids, depth=None, ancestors=None):
    """Two drafts behind the last id and one behind each; what is drawn is followed while it is in the tree."""
    nodes = [0, 2, 1, 1]  # ids of the tree
    parent = [None, None, 0, 1]
    fed = torch.cat([ids, torch.tensor([nodes])], 1)
    n = ids.shape[1]
    mask = torch.ones(n + 4, n + 4, dtype=torch.bool).tril()
    for node, above in enumerate(parent):
        mask[n + node, n : n + node] = False
        if above is not None:
            mask[n + node, n + above] = ancestors is None
    place = torch.tensor([list(range(n)) + ([n, n, n + 1, n + 1] if depth is None else [n, n + 1, n + 2, n + 3])])
    laws = model(fed, attention_mask=mask[None, None], position_ids=place).logits.exp()
    made, at = [], n - 1
    while True:
        token = int(torch.multinomial(laws[0, at], 1))
        made.append(token)
        above = None if at == n - 1 else at - n
        below = [node for node in range(4) if parent[node] == above and nodes[node] == token]
        if not below:
            return torch.cat([ids, torch.tensor([made])], 1)
        at = n + below[0]


def flat(draft, model, ids):
    """The tree's positions are those of its slots."""
    return tree(draft, model, ids, depth=False)


def orphans(draft, model, ids):
    """Its mask hides the parents."""
    return tree(draft, model, ids, ancestors=False)


def test_a_tree_of_drafts_is_proved_and_its_wrong_mask_or_positions_refuted():
    assert prove_sampler(step_sampler(tree), suite=suite()).verdict.kind is Kind.PROVED
    for wrong in (flat, orphans):
        found = prove_sampler(step_sampler(wrong), suite=suite())
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def batched(model, prompt, begins=0, hides=True):
    """Guesses of the next id, in a cache from which nothing is cut: a mask hides what was rejected."""
    ids, mask, cache, past = prompt, torch.ones_like(prompt), None, 0
    fed, place = prompt, torch.arange(prompt.shape[1])[None]
    while ids.shape[1] < prompt.shape[1] + model.size:
        guess = (ids[:, -1:] + 1) % 2
        fed, place = torch.cat([fed, guess], 1), torch.cat([place, place[:, -1:] + 1], 1)
        mask = torch.cat([mask, torch.ones_like(fed[:, : fed.shape[1] - (mask.shape[1] - past)])], 1)
        out = model(input_ids=fed, attention_mask=mask, position_ids=place + begins * (past > 0), past_key_values=cache)
        cache, laws = cache_of(out), out.logits[:, -2:].exp()
        past = mask.shape[1]
        token = torch.multinomial(laws[:, 0], 1)
        ids = torch.cat([ids, token], 1)
        if torch.equal(token, guess):
            token = torch.multinomial(laws[:, 1], 1)
            ids = torch.cat([ids, token], 1)
        elif hides:
            mask[:, -1] = 0
        fed, place = token, torch.tensor([[ids.shape[1] - 1]])
    return ids


def late(model, prompt):
    """Its positions are one too many from the second pass on."""
    return batched(model, prompt, begins=1)


def seen(model, prompt):
    """What was rejected is seen."""
    return batched(model, prompt, hides=False)


def test_rejected_drafts_may_be_hidden_and_positions_count():
    found = prove_sampler(loop_sampler(batched, "llama"), suite=suite())
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    for wrong, why in (
        (late, "an id at position 6 saw ids at positions [0, 1, 2, 3, 4, 6], which is no"),
        (seen, "saw ids at pos"),
    ):
        found = judge_sampler(loop_sampler(wrong, "llama"), suite=suite(), exact=True)
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
        assert why in found.notes[-1]


def shares(draft_model, model, ids, own):
    """A draft is read into a cache, and so is the target: of its own, or what the draft model has computed."""
    kept = cache_of(draft_model(input_ids=ids[:, :-1])) if ids.shape[1] > 1 else None
    kept = cache_of(model(input_ids=ids[:, :-1])) if own and ids.shape[1] > 1 else kept
    law = model(input_ids=ids[:, -1:], past_key_values=kept).logits[0, -1].softmax(-1)
    return torch.cat([ids, torch.multinomial(law, 1)[None]], 1)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("own", [True, False])
def test_keys_of_another_model_are_none_of_its_own(own):
    sampler = step_sampler(lambda *given: shares(*given, own), cached=True)
    found = prove_sampler(sampler, suite=suite()) if own else judge_sampler(sampler, suite=suite(), exact=True)
    assert found.verdict.kind is (Kind.PROVED if own else Kind.REFUTED), found.verdict.reason
    assert own or "or by another model: on a transformer" in found.notes[-1]


def test_a_model_without_a_cache_says_who_has_one():
    with pytest.raises(ValueError, match=r"keeps no cache; step_sampler\(step, cached=True\)"):
        step_sampler(lambda draft, model, ids: model(ids, past_key_values=[]))(toy("dense-3x6"), toy("dense-3x6"), 1, 0)
