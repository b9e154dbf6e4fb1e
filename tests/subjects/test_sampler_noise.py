"""Every possible run of a program supposes noise that is fresh: what is given out twice, or is not torch's, is told."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

MODEL = Shortened(toy("dense-3x6"), 3)
SUITE = (Case(MODEL, draft("perturbed", MODEL)),)
KEPT = np.random.default_rng(3)


def plain(target, n, choose):
    """Plain decoding; `choose(law, position)` gives the tokens."""
    rows = torch.zeros(n, 0, dtype=torch.int64)
    for position in range(target.length):
        law = target.laws(target.start(n), rows)[:, -1]
        rows = torch.cat([rows, choose(law, position)[:, None]], 1)
    return rows


def drawn(law, generator=None):
    return torch.multinomial(law, 1, generator=generator)[:, 0]


def one_generator(target, draft, n, seed):
    own = torch.Generator().manual_seed(seed)
    return plain(target, n, lambda law, position: drawn(law, own))


def global_generator(target, draft, n, seed):
    torch.manual_seed(seed)
    return plain(target, n, lambda law, position: drawn(law))


def not_seeded(target, draft, n, seed):
    return plain(target, n, lambda law, position: drawn(law))


def forked(target, draft, n, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return plain(target, n, lambda law, position: drawn(law))


def seeds_far_apart(target, draft, n, seed):
    return plain(target, n, lambda law, position: drawn(law, torch.Generator().manual_seed(1000 * seed + position)))


def everything_seeded(target, draft, n, seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    return global_generator(target, draft, n, seed)


def carried_on(target, draft, n, seed):
    """A state that is saved and restored so as to go on where it was."""
    own = torch.Generator().manual_seed(seed)

    def choose(law, position):
        again = torch.Generator()
        again.set_state(own.get_state())
        token = drawn(law, again)
        own.set_state(again.get_state())
        return token

    return plain(target, n, choose)


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "sampler", [one_generator, global_generator, not_seeded, forked, seeds_far_apart, everything_seeded, carried_on]
)
def test_noise_that_is_fresh_is_followed_however_it_is_seeded(sampler):
    before = torch.get_rng_state()
    found = prove_sampler(sampler, suite=SUITE)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert torch.equal(before, torch.get_rng_state()), "generators that everybody shares are left as they were"
    assert any("calls with other seeds are independent" in note for note in found.not_covered)


def made_anew(target, draft, n, seed):
    return plain(target, n, lambda law, position: drawn(law, torch.Generator().manual_seed(seed)))


def set_back(target, draft, n, seed):
    own = torch.Generator().manual_seed(seed)
    state = own.get_state()

    def choose(law, position):
        own.set_state(state)
        return drawn(law, own)

    return plain(target, n, choose)


def fork_in_each_step(target, draft, n, seed):
    def choose(law, position):
        with torch.random.fork_rng(devices=[]):
            return drawn(law)

    return plain(target, n, choose)


def rng_state_restored(target, draft, n, seed):
    torch.manual_seed(seed)
    state = torch.get_rng_state()

    def choose(law, position):
        if position == 2:
            torch.set_rng_state(state)
        return drawn(law)

    return plain(target, n, choose)


def overlapping(target, draft, n, seed):
    """The second generator of one seed is some numbers ahead, and is overtaken."""
    ahead, behind = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    torch.rand(0, generator=ahead)

    def choose(law, position):
        return drawn(law, ahead if position < 2 else behind)

    return plain(target, n, choose)


@pytest.mark.parametrize(
    ("sampler", "how"),
    [
        (made_anew, "two generators were seeded alike"),
        (set_back, r"a generator was set back \(seeded again, or its state was set\)"),
        (fork_in_each_step, "torch's global generator was set back"),
        (rng_state_restored, "torch's global generator was set back"),
        (overlapping, "two generators were seeded alike"),
    ],
)
def test_noise_that_is_used_twice_is_refused_by_name(sampler, how):
    found = prove_sampler(sampler, suite=SUITE)
    assert found.verdict.kind is Kind.ERROR
    with pytest.raises(AssertionError, match=how):
        raise AssertionError(found.verdict.reason)
    assert "noise is used twice within a call: draw" in found.verdict.reason
    assert "samples judge it all the same" in found.verdict.reason


@pytest.mark.parametrize("seeds", [lambda seed, position: 7, lambda seed, position: position])
def test_noise_that_no_seed_changes_is_refused(seeds):
    def ignored(target, draft, n, seed):
        used = {}

        def choose(law, position):
            key = seeds(seed, position)
            return drawn(law, used.setdefault(key, torch.Generator().manual_seed(key)))

        return plain(target, n, choose)

    found = prove_sampler(ignored, suite=SUITE)
    assert found.verdict.kind is Kind.ERROR
    assert "noise is shared by calls" in found.verdict.reason


def by_numpy(target, draft, n, seed):
    own = np.random.default_rng(seed)
    return plain(target, n, lambda law, _: torch.tensor([own.choice(len(row), p=row) for row in law.numpy()]))


def by_numpys_own(target, draft, n, seed):
    np.random.seed(seed)  # noqa: NPY002
    return plain(target, n, lambda law, _: torch.tensor([np.random.choice(3, p=row) for row in law.numpy()]))  # noqa: NPY002


def by_a_generator_that_was_there(target, draft, n, seed):
    return plain(target, n, lambda law, _: torch.tensor([KEPT.choice(len(row), p=row) for row in law.numpy()]))


def by_python(target, draft, n, seed):
    random.seed(seed)
    return plain(target, n, lambda law, _: torch.tensor([random.choices(range(3), row)[0] for row in law.tolist()]))


@pytest.mark.parametrize("sampler", [by_numpy, by_numpys_own, by_python])
def test_numpy_and_python_are_followed(sampler):
    found = prove_sampler(sampler, suite=SUITE)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason


def test_randomness_that_was_there_before_is_named():
    found = prove_sampler(by_a_generator_that_was_there, suite=SUITE)
    assert found.verdict.kind is Kind.ERROR
    named, _, remedy = found.verdict.reason.partition(
        " by a way that --exact does not follow, such as a generator that was there before the call"
    )
    assert "it draws from" in named
    assert "numpy" in named  # not alone: beartype, which only tests have, draws from Python's
    assert "samples judge it all the same" in remedy


def test_what_draws_nothing_and_never_changes_is_judged_as_it_is():
    found = prove_sampler(lambda target, draft, n, seed: torch.zeros(n, 3, dtype=torch.int64), suite=SUITE)
    assert found.verdict.kind is Kind.REFUTED
