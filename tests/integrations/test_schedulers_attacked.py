"""Verifications that would be proved if what they do to their numbers, or keep, went unseen; and right ones.

Each wrong one must be refused, or come out with a law that is off: never with the target's.
"""

import contextlib
import functools
import os
import random

import numpy as np
import pytest
import torch

from specverify.errors import ContractError
from specverify.evidence.cases import Weights
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.guard import Guarded
from specverify.integrations.schedulers import window
from specverify.integrations.verification import Asked
from specverify.subjects.sampler_world import World
from specverify.subjects.sampler_worlds import worlds
from specverify.subjects.suite import scattered
from toymodels.tables import prefixes

RNG = np.random.default_rng(5)


def off(verify, vocab=3, length=3, first="repeat-left"):
    model = Weights(vocab, length, scattered(prefixes(vocab, length), vocab)).model()
    law = enumerate_decoder(Guarded(window(verify, first=first)(2)), model).law
    return float((law - target_law(model)).abs().sum() / 2)


def judging(keep, begin=lambda p, q: None, residual=None):
    """A verification whose drafts are kept as `keep` says: (slot, ratio, what `begin` made) -> bool."""

    def verify(ids, logits, q):
        p, drafts = logits[0].softmax(-1), ids[0, 1:]
        made, tokens, matched = begin(p, q), p.argmax(-1), len(ids[0])
        for slot, draft in enumerate(drafts):
            if keep(slot, p[slot, draft] / q[0, slot + 1, draft], made):
                tokens[slot] = draft
            else:
                rest = (p[slot] - q[0, slot + 1]).clamp(min=0)
                tokens[slot] = torch.multinomial(rest if residual is None else residual(rest, p[slot]), 1)
                matched = slot + 1
                break
        for slot in range(matched - (matched == len(p)), len(p)):
            tokens[slot] = torch.multinomial(p[slot], 1)
        return matched, tokens[None], p[None]

    return verify


def each(u):
    return lambda slot, ratio, made: u(slot, made) < ratio


def first_in_place(ids, logits, q):
    logits -= logits.logsumexp(-1, keepdim=True)
    q /= q.sum(-1, keepdim=True)
    logits.exp_()
    return judging(each(lambda slot, made: torch.rand(())))(ids, logits.log_(), q)


def buffered():
    held = torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, 3, dtype=torch.float64)

    def verify(ids, logits, q):
        matched, tokens, scores = judging(each(lambda slot, made: torch.rand(())))(ids, logits, q)
        for buffer, found in zip(held, (tokens, scores), strict=True):
            buffer[:, : found.shape[1]] = found
        return matched, held[0][:, : tokens.shape[1]], held[1][:, : tokens.shape[1]]

    return verify


def eager(p, q):
    """A residual drawn where there may be none, as torch's error says."""
    with contextlib.suppress(RuntimeError):
        torch.multinomial((p[0] - p[0]).clamp(min=0), 1)


RIGHT = {
    "each by itself": judging(each(lambda slot, made: torch.rand(()))),
    "all at once": judging(each(lambda slot, u: u[slot]), lambda p, q: torch.rand(len(p))),
    "as a list": judging(each(lambda slot, u: u[slot]), lambda p, q: torch.rand_like(p[:, 0]).tolist()),
    "taken out": judging(lambda slot, ratio, made: torch.rand(1).item() <= float(ratio)),
    "the other way round": judging(
        lambda slot, ratio, u: np.float64(ratio) > u[slot, 0].item(), lambda p, q: torch.rand(3, 1)),
    "at most one": judging(lambda slot, ratio, made: not torch.rand(1)[0] > ratio.clamp(max=1)),
    "as a vector": judging(lambda slot, ratio, made: bool((torch.rand(1, 1).squeeze(0) < ratio[None]).all())),
    "in another precision": judging(each(lambda slot, made: torch.rand((), dtype=torch.float32).to(torch.float64))),
    "nothing to draw from": judging(each(lambda slot, made: torch.rand(())), eager),
    "asked again": judging(
        lambda slot, ratio, u: bool(u[slot] < 2 * ratio) and u[slot] < ratio, lambda p, q: torch.rand(3)),
    "NaN is no reason": judging(
        lambda slot, ratio, made: bool((u := torch.rand(())) < ratio) or bool(u > float("nan")) or u < float("nan")
    ),
    "in place": first_in_place,
    "buffers": buffered(),
}  # fmt: skip


@pytest.mark.thinned(14)
@pytest.mark.parametrize("style", RIGHT)
def test_a_right_one_is_exact_however_its_numbers_are_compared(style):
    assert off(RIGHT[style]) < 1e-12


class Held:
    """What a wrong one keeps."""

    def __init__(self):
        self.kept, self.ids = None, None

    def first(self, make):
        """Made once."""
        self.kept = make() if self.kept is None else self.kept
        return self.kept

    def last(self, make):
        """What was made before."""
        before, self.kept = self.kept, make()
        return self.kept if before is None else before


def swallowing(use, also):
    def keep(slot, ratio, made):
        with contextlib.suppress(Exception):
            return use(torch.rand(()), ratio)
        return also

    return keep


def swallowing_all(slot, ratio, made):
    try:
        return float(torch.rand(())) ** 0.5 < ratio
    except BaseException:
        return torch.rand(()) < ratio


def beneath(u, ratio):
    with torch._C.DisableTorchFunction():
        return u < ratio


def after_another(held, verify, otherwise):
    """Right only if it is asked the same again."""

    def asked(ids, logits, q):
        same = held.ids is not None and torch.equal(held.ids, ids)
        held.ids = ids
        return (verify if same else otherwise)(ids, logits, q)

    return asked


def hidden(make):
    def keep(slot, ratio, made):
        with torch.random.fork_rng():
            x = make()
        return torch.rand(()) < 0.5 * ratio if x < 0.01 else torch.rand(()) < ratio

    return keep


def now_and_then(number):
    """Another decision in one case of some hundred, where the second draft is judged."""

    def keep(slot, ratio, made):
        return (slot == 1 and number() < 0.004) or torch.rand(()) < ratio

    return keep


def into(slot, ratio, made):
    buffer = torch.zeros(())
    torch.rand((), out=buffer)
    return buffer < ratio


@functools.cache
def cached(slot, ratio):
    return bool(torch.rand(()) < ratio)


KEEPS = "keeps state|from a source"
held = [Held() for _ in range(9)]
right = judging(each(lambda slot, made: torch.rand(())))
REFUSED = {
    "a kept number": (judging(each(lambda s, m: held[0].first(lambda: torch.rand(())))), "was kept from an earlier"),
    "a view of one": (judging(each(lambda s, m: held[1].last(lambda: torch.rand(2)[1]))), "was kept from an earlier"),
    "taken out and kept": (judging(each(lambda s, m: held[2].last(lambda: torch.rand(2)[1].item()))), "was kept from"),
    "kept, errors caught": (
        judging(swallowing(lambda u, ratio: held[3].last(lambda: u) < ratio, also=True)), "was kept from an earlier"),
    "a sine, errors caught": (judging(swallowing(lambda u, ratio: u.sin() < ratio, also=False)), "torch's sin"),
    "a float, errors caught": (judging(swallowing(lambda u, ratio: float(u) < 2 * ratio, also=False)), "__float__"),
    "a number's remainder": (judging(swallowing(lambda u, ratio: u.item() % 2 < ratio, also=False)), "__mod__"),
    "all is caught": (judging(swallowing_all), "torch's __float__"),
    "beneath torch's functions": (judging(swallowing(beneath, also=True)), "uses a uniform number in torch's"),
    "written into": (judging(into), "into a tensor of its own"),
    "eight bits": (judging(each(lambda s, m: torch.rand((), dtype=torch.bfloat16))), "torch.bfloat16, which cannot"),
    "a kept decision": (judging(lambda s, r, m: held[4].first(lambda: bool(torch.rand(()) < r))), KEEPS),
    "a cached decision": (judging(lambda s, r, m: cached(s, round(float(r), 6))), KEEPS),
    "right when asked again": (after_another(held[5], right, judging(lambda s, r, m: torch.rand(()) < 0.9 * r)), "."),
    "the rest is wrong when it is asked anew": (
        after_another(held[6], right, judging(each(lambda s, m: torch.rand(())), residual=lambda rest, p: p)), "."),
    "dropout": (judging(hidden(lambda: torch.nn.functional.dropout(torch.ones(1)))), "cannot be enumerated"),
    "a race": (
        judging(hidden(lambda: torch.nn.functional.gumbel_softmax(torch.ones(9), -1)[0])), "cannot be enumerated"),
    "numpy": (judging(now_and_then(np.random.random)), "draws from numpy"),
    "numpy's of one's own": (judging(now_and_then(RNG.random)), "that it keeps"),
    "numpy's, new": (judging(now_and_then(lambda: np.random.default_rng().random())), "os.urandom|has no seed"),
    "Python's": (judging(now_and_then(random.random)), "Python's random"),
    "the system's": (judging(now_and_then(lambda: os.urandom(1)[0] / 256)), "os.urandom|has no seed"),
    "the system's, by Python": (judging(now_and_then(random.SystemRandom().random)), "os.urandom|has no seed"),
}  # fmt: skip


@pytest.mark.thinned(6)
@pytest.mark.parametrize("how", REFUSED)
def test_a_wrong_one_is_refused_whatever_it_catches(how):
    verify, says = REFUSED[how]
    with pytest.raises(ContractError, match=says):
        off(verify)


WRONG = {
    "one number for all drafts": judging(each(lambda slot, u: u), lambda p, q: torch.rand(())),
    "one number, by views": judging(each(lambda slot, u: u[slot]), lambda p, q: torch.rand(1).expand(3)),
    "one number, copied": judging(each(lambda slot, u: u[slot]), lambda p, q: [torch.rand(()).clone()] * 3),
    "one number, taken out": judging(each(lambda slot, u: u), lambda p, q: torch.rand(()).item()),
    "another draft's number": judging(each(lambda slot, u: u[min(slot, 0)]), lambda p, q: torch.rand(3)),
    "arithmetic, errors caught": judging(swallowing(lambda u, ratio: u * 0.7 < ratio, also=False)),
    "a number's square": judging(swallowing(lambda u, ratio: u.item() ** 2 < ratio, also=False)),
    "drawn from p": judging(each(lambda slot, made: torch.rand(())), residual=lambda rest, p: p),
}


@pytest.mark.thinned(14)
@pytest.mark.parametrize("how", WRONG)
def test_numbers_that_are_one_number_are_one(how):
    assert off(WRONG[how]) > 1e-4


def test_a_number_of_another_run_is_refused_outside_of_any(seed):
    kept = []

    def program():
        kept.append(torch.rand(2))
        return bool((kept[-1] < 0.5).all())

    assert sum(world.probability for _, world in worlds(program, budget=9)) == pytest.approx(1)
    assert World.current is None
    assert kept[0].shape == (2,)
    verify = window(judging(lambda slot, ratio, made: kept[0][slot] < ratio))(1).verification
    asked = [torch.zeros(2, dtype=torch.int64), torch.zeros(2, 2), torch.full((2, 2), 0.5), 2, None]
    with pytest.raises(ContractError, match="was kept from an earlier call"):
        verify.run(Asked(*asked))


def test_the_chances_of_all_worlds_are_counted():
    """What is too improbable to be followed is missing, and no more than that."""
    weights = torch.tensor([1.0, 1e-16, 1e-14], dtype=torch.float64)
    found = [world.probability for _, world in worlds(lambda: int(torch.multinomial(weights, 1)), budget=9)]
    assert len(found) == 2
    assert 0 <= 1 - sum(found) < 3e-16


def test_a_path_that_meets_other_chances_is_refused():
    calls = []

    def program():
        calls.append(0)
        return int(torch.multinomial(torch.tensor([0.5, 0.5 + 0.1 * len(calls)]), 1)), bool(torch.rand(()) < 0.5)

    with pytest.raises(ContractError, match="keeps state between calls"):
        list(worlds(program, budget=9))
