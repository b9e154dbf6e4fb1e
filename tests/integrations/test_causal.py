"""Toys as causal models that are nothing but a call, and steps over them as samplers."""

import pytest
import torch

import toymodels
from specverify.errors import InputError
from specverify.integrations.causal import Causal, step_sampler, verification_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import smallest
from specverify.verdict import Kind

TOY = toymodels.toy("dense-3x6")


def plain(draft, target, ids):
    return torch.cat([ids, torch.multinomial(target(ids).logits[:, -1].exp(), 1)], 1)


def test_logits_are_the_laws_behind_each_id():
    ids = torch.tensor([[0, 2, 1], [0, 0, 2]])
    logits, cache = Causal(TOY, [])(ids, past_key_values=None, use_cache=False)
    assert torch.equal(logits, TOY.laws(TOY.start(2), ids[:, 1:]).log())
    assert cache is None


def test_a_step_is_called_until_a_sequence_is_as_long_as_it_must_be(seed):
    def two(draft, target, ids):
        return plain(draft, target, plain(draft, target, ids))

    for step in (plain, two):
        tokens = step_sampler(step)(TOY, TOY, 5, seed)
        assert tokens.shape == (5, 6)
        assert torch.equal(tokens, step_sampler(step)(TOY, TOY, 5, seed))
    assert torch.equal(step_sampler(plain)(TOY, TOY, 5, seed), step_sampler(two)(TOY, TOY, 5, seed))


def test_what_comes_behind_an_end_is_the_end(seed):
    toy = toymodels.toy("eos-3x6")
    tokens = step_sampler(plain)(toy, toy, 40, seed)
    ended = (tokens == toy.eos).cumsum(1) > 0
    assert ended[:, :-1].any()
    assert bool((tokens[ended] == toy.eos).all())


@pytest.mark.parametrize("made", [None, torch.zeros(6), torch.zeros(2, 6), torch.zeros(1, 1)])
def test_a_step_that_adds_nothing_is_told_what_it_returns(made, seed):
    with pytest.raises(InputError, match="the step returned"):
        step_sampler(lambda draft, target, ids: made)(TOY, TOY, 1, seed)


def test_models_with_a_cache_go_on_from_what_it_holds(seed):
    def step(draft, target, ids):
        cache = None if ids.shape[1] == 1 else target(ids[:, :-1]).past_key_values
        return plain(draft, lambda last: target(last[:, -1:], past_key_values=cache), ids)

    toy = toymodels.toy("eos-3x6")
    tokens = step_sampler(step, cached=True)(toy, toy, 20, seed)
    assert tokens.shape == (20, 6)
    assert torch.equal(tokens, step_sampler(plain, cached=True)(toy, toy, 20, seed)), "the same laws: the same draws"


def verify(draft, q, p, slip=False):
    """The rule of speculative sampling; the slip leaves q out of the residual."""
    for slot, token in enumerate(draft[0].tolist()):
        if torch.rand(()) >= p[0, slot, token] / q[0, slot, token]:
            return slot, torch.multinomial((p[0, slot] - (0 if slip else q[0, slot])).clamp(min=0), 1)
    return draft.shape[1], torch.multinomial(p[0, -1], 1)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("window", "slip"), [(1, False), (2, False), (2, True)])
def test_a_verification_is_judged_in_a_loop_around_it(window, slip):
    sampler = verification_sampler(lambda draft, q, p: verify(draft, q, p, slip), window=window)
    found = prove_sampler(sampler, suite=smallest()[1:2])
    assert found.verdict.kind is (Kind.REFUTED if slip else Kind.PROVED), found.verdict.reason
