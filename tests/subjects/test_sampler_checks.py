"""The tests for copies, the place of an error, and what calls add up to, apart from any sampler."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.subjects.sampler_checks import INDEPENDENCE, Rows, dispersion, independence, repeats
from specverify.subjects.sampler_location import locate, locate_exactly, sentence
from toymodels import draft, toy

RATES = dict.fromkeys([*INDEPENDENCE, *Rows.checks], 1e-8)


def rows(n, seed, vocab=3, length=6):
    return torch.from_numpy(np.random.default_rng(seed).integers(vocab, size=(n, length)))


def uniform(tokens, vocab=3):
    return torch.full((len(tokens),), -tokens.shape[1] * math.log(vocab), dtype=torch.float64)


def test_chance_repetitions_make_no_evidence():
    """The e-value of independent rows has a mean of at most 1; here over 2,000 runs, within four standard errors."""
    values = []
    for seed in range(2000):
        tokens = rows(20, seed)
        values.append(math.exp(repeats(tokens, uniform(tokens), alpha=1e-6, beta=1e-3).statistic))
    assert np.mean(values) - 4 * np.std(values) / math.sqrt(len(values)) <= 1
    assert max(values) < 1e6


def test_repetitions_are_counted_against_what_chance_gives():
    tokens = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 1], [0, 0]])
    log_p = torch.tensor([0.25, 0.25, 0.25, 0.5, 0.25]).double().log()
    found = repeats(tokens, log_p, alpha=1e-6, beta=1e-3)
    assert found.coverage["repeated"] == 2
    # before each row: nothing, {00}, {00, 01}, {00, 01}, {00, 01, 11}
    chance = 0 + 0.25 + 0.5 + 0.5 + 1.0
    assert found.statistic == pytest.approx(3 * 2 - math.expm1(3) * chance)
    assert not found.rejected


@pytest.mark.parametrize("copied", [1, 3, 12])
def test_copies_at_any_place_are_seen_once_there_are_enough(copied):
    tokens = rows(400, 0, vocab=16, length=24)
    tokens[200 : 200 + copied] = tokens[torch.randperm(200)[:copied]]
    found = repeats(tokens, uniform(tokens, 16), alpha=1e-8, beta=1e-6)
    assert found.rejected == (copied > 6)
    assert found.coverage["repeated"] == copied


def test_the_stated_share_of_copies_is_missed_no_more_often_than_stated():
    generator = np.random.default_rng(0)
    n, misses, runs = 300, 0, 200
    delta = repeats(rows(n, 0, 16, 24), uniform(rows(n, 0, 16, 24), 16), alpha=1e-8, beta=0.05).delta
    assert delta < 0.1
    for seed in range(runs):
        tokens = rows(n, seed, 16, 24)
        copies = np.flatnonzero(generator.random(n) < delta)
        copies = copies[copies > 0]
        tokens[copies] = tokens[[int(generator.integers(place)) for place in copies]]
        misses += not repeats(tokens, uniform(tokens, 16), alpha=1e-8, beta=0.05).rejected
    assert misses <= 0.05 * runs + 4 * math.sqrt(0.05 * 0.95 * runs)


def test_too_few_rows_say_that_they_mean_nothing():
    tokens = rows(2, 0)
    assert "too short, or too few" in repeats(tokens, uniform(tokens), alpha=1e-8, beta=1e-6).vacuous


COPIED = {
    "copies between calls": lambda calls: [calls[0]] * 8,
    "copies of neighbours": lambda calls: [call[::2].repeat_interleave(2, 0) for call in calls],
    "copies of the next call's neighbours": lambda calls: [torch.cat(calls)[i : i + 64] for i in range(8)],
}


@pytest.mark.parametrize("name", sorted(COPIED))
def test_each_kind_of_copy_has_its_check(name):
    calls = [rows(64, seed) for seed in range(8)]
    found = {item.check: item for item in independence(COPIED[name](calls), RATES, 1e-6)}
    assert sorted(found) == sorted(INDEPENDENCE)
    assert found[name].rejected
    assert not any(item.rejected for item in independence(calls, RATES, 1e-6))


def test_calls_that_vary_too_much_or_too_little_are_seen():
    law = np.full(9, 1 / 9)
    generator = np.random.default_rng(3)
    honest = [generator.multinomial(500, law) for _ in range(8)]
    together = [5 * generator.multinomial(100, law) for _ in range(8)]
    alike = [honest[0] for _ in range(8)]
    rejected = [dispersion(law, blocks, alpha=1e-6, beta=1e-3)[0].rejected for blocks in (honest, together, alike)]
    assert rejected == [False, True, True]
    assert dispersion(law, honest[:3], alpha=1e-6, beta=1e-3) == []
    assert dispersion(np.array([1.0, 0.0]), [np.array([500, 0])] * 8, alpha=1e-6, beta=1e-3) == []
    assert dispersion(np.array([1.0, 0.0]), [np.array([499, 1])] * 8, alpha=1e-6, beta=1e-3) == []


@pytest.mark.slow
def test_long_rows_are_judged_by_their_laws():
    model = toy("hash-16x24")
    generator = np.random.default_rng(0)

    def tally(temper):
        found = Rows(model, generator)
        context = model.start(600)
        tokens = torch.zeros(600, 0, dtype=torch.int64)
        for _ in range(model.length):
            law = model.laws(context, tokens[:, :0])[:, 0] ** temper
            token = torch.multinomial(law, 1, generator=torch.Generator().manual_seed(tokens.shape[1]))
            context = model.advance(context, token, torch.ones(600, dtype=torch.int64))
            tokens = torch.cat([tokens, token], 1)
        return found.add(tokens, RATES), found.evidence(RATES, 1e-6)

    stopped, evidence = tally(1.0)
    assert not stopped
    assert not any(item.rejected for item in evidence)
    assert len(evidence) == len(Rows.checks)
    stopped, evidence = tally(0.8)
    assert not stopped
    assert {item.check for item in evidence if item.rejected} >= {"PIT uniformity", "surprisal"}


def wrong_law(delta):
    """A law over 3 x 3 x 3 that is off behind the prefix (1, 2) alone, where token 1 comes too often."""
    law = target_law(toy("dense-3x6")).reshape(27, -1).sum(1).numpy()
    came = law.copy().reshape(3, 3, 3)
    came[1, 2] = (1 - delta) * came[1, 2] + delta * came[1, 2].sum() * np.eye(3)[1]
    return law, came.reshape(-1)


def test_an_error_behind_one_prefix_is_found_there_alone():
    law, came = wrong_law(0.3)
    exact = locate_exactly(law, came, 3, 1e-12)
    counts = np.random.default_rng(0).multinomial(200_000, came)
    drawn = locate(law, counts, 3, alpha=1e-6, beta=1e-3)
    for found in (exact, drawn):
        assert (found["position"], found["prefix"], found["certain"]) == (2, [1, 2], True)
        assert found["share by position"][2] == pytest.approx(1, abs=0.05)
        assert (found["token"], found["direction"]) in ((1, "too often"), (2, "too rarely"))
    assert drawn["observed"] == pytest.approx(exact["observed"], abs=0.02)
    assert sentence(drawn).endswith(f"in {drawn['visits']:,} visits")
    assert sentence(exact).startswith("first at position 2 after [1, 2]: token ")


def test_what_is_not_certain_says_so():
    law, _ = wrong_law(0.3)
    counts = np.random.default_rng(0).multinomial(50, law)
    assert not locate(law, counts, 3, alpha=1e-6, beta=1e-3)["certain"]


def test_the_exact_place_is_that_of_the_decoder():
    from specverify import defects
    from specverify.decoders.registry import Settings

    model = toy("eos-3x6")
    decoder = defects.get("eos-inside-block-ignored").build(Settings(2, draft_model=draft("perturbed", model)))
    came = enumerate_decoder(decoder, model).law.numpy()
    found = locate_exactly(target_law(model).numpy(), came, 3, 1e-12)
    assert found["prefix"] == [2]
    assert found["expected"] == [0, 0, 1]
    assert found["direction"] == "too rarely" if found["token"] == 2 else "too often"
