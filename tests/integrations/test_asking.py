"""Loops that guide, that forget to in one place, and that do not guide at all."""

from functools import partial

import pytest
import torch

from specverify.integrations.asking import UNGUIDED
from specverify.integrations.transformers import loop_sampler
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import smallest
from specverify.verdict import Kind
from tests.integrations.test_prompts import TELLING, beside, in_pieces


def guessing(model, prompt, slip=None):
    """Pairs of rows: a guess is kept with its chance, and a second token drawn behind it, by both halves or by one."""
    half = prompt.clone()
    half[:, 0] = model.grammar.image + 1
    made = prompt[:, :0]
    while made.shape[1] < model.size:
        guess = torch.full((1, 1), made.shape[1] % model.grammar.image)
        ids = torch.cat([torch.cat([prompt, half]), torch.cat([made, guess], 1).expand(2, -1)], 1)
        given, free = model(input_ids=ids, use_cache=False).logits[:, -2:, : model.grammar.image].double()
        scale = 1 if slip == "unguided" else model.guidance
        law = (free + scale * (given - free)).softmax(-1)
        rest = law[0].masked_fill(torch.arange(law.shape[1]) == guess[0, 0], 0)
        behind = given[1].softmax(-1) if slip == "bonus" else law[1]
        if torch.rand(()) < law[0, guess[0, 0]]:
            made = torch.cat([made, guess, torch.multinomial(behind, 1)[None]], 1)
        else:
            made = torch.cat([made, torch.multinomial(rest, 1)[None]], 1)
    return made[:, : model.size]


def test_nothing_is_proved_where_guidance_was_not_tried():
    """A second token by one half of a pair is right wherever the scale is 1."""
    right, wrong = (loop_sampler(partial(guessing, slip=slip), "llama") for slip in (None, "bonus"))
    assert prove_sampler(right, suite=TELLING[2:6]).verdict.kind is Kind.PROVED
    assert prove_sampler(wrong, suite=TELLING[2:5]).verdict.kind is Kind.PROVED, "of which none is guided"
    found = prove_sampler(wrong, suite=TELLING[2:6])
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert found.verdict.reason.startswith("on guided-2x5[:3]")
    assert UNGUIDED not in found.not_covered


def test_a_loop_that_never_asks_for_guidance_has_guided_toys_as_one_law_and_is_told_so():
    without = loop_sampler(partial(guessing, slip="unguided"), "llama")
    for found in (prove_sampler(without, suite=TELLING[5:6]), judge_sampler(without, suite=TELLING[5:6], exact=True)):
        assert found.verdict.kind is Kind.PROVED, found.verdict.reason
        assert found.not_covered.count(UNGUIDED) == 1
    for interface in ("chameleon", "janus"):
        unguided = loop_sampler(partial(beside, mixed=False) if interface == "chameleon" else plain, interface)
        assert prove_sampler(unguided, suite=TELLING[5:6]).verdict.kind is Kind.PROVED
    failing = loop_sampler(lambda model, prompt: prompt.fail(), "llama")
    assert prove_sampler(failing, suite=TELLING[5:6]).verdict.kind is Kind.ERROR
    assert UNGUIDED not in prove_sampler(failing, suite=TELLING[5:6]).not_covered


def refusing(model, prompt, error=AssertionError):
    """Token by token, where nothing is guided."""
    if model.guidance != 1:
        raise error(f"guidance {model.guidance}")
    return guessing(model, prompt, "unguided")


@pytest.mark.parametrize("error", [AssertionError, NotImplementedError, TypeError])
def test_a_loop_that_refuses_guidance_has_guided_toys_as_one_law(error):
    found = prove_sampler(loop_sampler(partial(refusing, error=error), "llama"), suite=TELLING[5:6])
    if error is TypeError:  # which no one raises on purpose
        assert found.verdict.kind is Kind.ERROR
        return
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    refused = f"the loop raises {error.__name__}('guidance 2.5') where model.guidance is 2.5"
    assert refused in found.not_covered[0], found.not_covered


def rows_of_pairs(model, prompts, slip=None):
    """Token by token, rows beside each other with a pair of halves each; a slip is in rows behind the first alone."""
    halves = prompts.clone()
    halves[:, 0] = model.grammar.image + 1
    made, one = prompts[:, :0], torch.arange(len(prompts))[:, None] == 0
    while made.shape[1] < model.size:
        given, free = (model(input_ids=torch.cat([rows, made], 1)).logits[:, -1] for rows in (prompts, halves))
        free = free[:1].expand_as(free) if slip == "the first's" else free
        law = (free + model.guidance * (given - free)).softmax(-1)
        law = torch.where(one, law, given.softmax(-1)) if slip == "unguided" else law
        made = torch.cat([made, torch.multinomial(law, 1)], 1)
    return made


@pytest.mark.parametrize("slip", [pytest.param(None, marks=pytest.mark.slow), "unguided", "the first's"])
def test_rows_beside_each_other_are_guided_each_by_its_own(slip):
    sampler = loop_sampler(partial(rows_of_pairs, slip=slip), "llama", batch=2)
    found = judge_sampler(sampler, suite=TELLING[2:6], exact=True, seconds=60)
    assert found.verdict.kind is (Kind.REFUTED if slip else Kind.PROVED), found.verdict.reason
    assert ("Rows in one call are wrong on guided-2x5[:3]" in found.verdict.reason) == bool(slip)
    if not slip:
        alone = judge_sampler(sampler, suite=TELLING[2:5], exact=True, seconds=60)
        assert alone.verdict.reason.endswith("none of these is guided"), alone.verdict.reason


class Late:
    """A loop that asks for guidance from its tenth call on."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, prompt):
        self.calls += 1
        return guessing(model, prompt, "unguided" if self.calls < 10 else None)


def test_a_loop_that_asks_for_guidance_late_has_to_say_that_it_guides():
    found = prove_sampler(loop_sampler(Late(), "llama"), suite=TELLING[2:6])
    assert found.verdict.kind is Kind.ERROR
    assert "say loop_sampler(..., guided=True) if it guides" in found.verdict.reason
    found = prove_sampler(loop_sampler(partial(guessing, slip=None), "llama", guided=True), suite=TELLING[5:6])
    assert (found.verdict.kind, UNGUIDED in found.not_covered) == (Kind.PROVED, False)
    found = prove_sampler(loop_sampler(partial(guessing, slip="unguided"), "llama", guided=True), suite=TELLING[5:6])
    assert found.verdict.kind is Kind.REFUTED
    found = prove_sampler(loop_sampler(partial(guessing, slip="unguided"), "llama", guided=False), suite=TELLING[5:6])
    assert (found.verdict.kind, UNGUIDED in found.not_covered) == (Kind.PROVED, True)


def test_guidance_is_tried_behind_more_drafts_than_most_windows_have():
    long, late = smallest()[-1], TELLING[-1]
    assert (long.name, long.guided, late.guided) == ("guided-2x8[:7] (perturbed draft)", True, True)
    assert late.target.length == 10


def plain(model, prompt):
    """Token by token, as Janus is asked."""
    return in_pieces(model, prompt, 1)
