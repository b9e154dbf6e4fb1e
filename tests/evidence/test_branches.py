"""Transforms and surprisal of bonus tokens, and of tokens at each slot, by themselves."""

import numpy as np
import pytest
import torch

from specverify.decoders import registry, sample
from specverify.decoders.protocol import Branch
from specverify.evidence.branches import KINDS, SLOTS, Branches, kinds
from specverify.evidence.design import rate_excess
from specverify.evidence.tokens import reduce
from toymodels import draft, toy

SAMPLED, ACCEPTED, RECOVERED, BONUS = Branch.SAMPLED, Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS


def test_the_slot_is_how_many_drafts_were_kept_just_before():
    branch = torch.tensor([[SAMPLED, ACCEPTED, ACCEPTED, RECOVERED, RECOVERED, ACCEPTED, BONUS, ACCEPTED, 0, ACCEPTED]])
    counted = torch.ones_like(branch, dtype=torch.bool)
    assert kinds(branch, counted).tolist() == [[0, 2, 3, 4, 2, 2, 1, 2, -1, 2]]
    counted[0, 5:] = False
    assert kinds(branch, counted)[0, 5:].tolist() == [-1] * 5
    long = torch.full((1, 12), int(ACCEPTED))
    found = kinds(long, torch.ones_like(long, dtype=torch.bool))[0].tolist()
    assert [KINDS[kind] for kind in found][-6:] == [f"drafts at slot {slot}" for slot in (6, *[SLOTS - 1] * 5)]


def judged(laws, tokens, branch, seed=0, alpha=1e-6, beta=1e-6):
    statistics = reduce(laws, tokens, np.random.default_rng(seed))
    found = kinds(branch, statistics.choice)
    return Branches().check(statistics, (statistics.pit.numpy(),), found, alpha=alpha, beta=beta)


def rounds(rows, length, generator, wrong=None, gamma=2):
    """Plain speculative decoding of independent tokens, in windows of two; `wrong` kind of token comes from q."""
    p = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], dtype=torch.float64)
    q = torch.tensor([0.3, 0.3, 0.1, 0.1, 0.2], dtype=torch.float64)
    left = (p - q).clamp(min=0)
    tokens, branch = torch.zeros(rows, length, dtype=torch.int64), torch.zeros(rows, length, dtype=torch.int64)
    slot = torch.zeros(rows, dtype=torch.int64)
    for place in range(length):
        mine, theirs, other = (
            torch.multinomial(law, rows, replacement=True, generator=generator) for law in (p, q, left)
        )
        kept = torch.rand(rows, generator=generator) < (p / q)[theirs]
        bonus = slot == gamma
        if wrong == "bonus":
            mine = theirs
        if wrong == "slot 1":
            kept |= slot == 1
        tokens[:, place] = torch.where(bonus, mine, torch.where(kept, theirs, other))
        branch[:, place] = torch.where(bonus, int(BONUS), torch.where(kept, int(ACCEPTED), int(RECOVERED)))
        slot = torch.where(bonus | ~kept, 0, slot + 1)
    return p.expand(rows, length, -1), tokens, branch


@pytest.mark.parametrize(("wrong", "said"), [(None, ""), ("bonus", "bonus tokens"), ("slot 1", "drafts at slot 1")])
def test_a_wrong_kind_of_token_is_seen_and_named(wrong, said, seed):
    found = judged(*rounds(600, 20, torch.Generator().manual_seed(seed), wrong), seed=seed)
    assert found.rejected == (wrong is not None), found.detail
    assert said in found.detail
    assert sum(found.coverage.values()) == found.n == 12_000


def test_false_alarms_though_what_came_decides_how_many_tokens_a_kind_has(seed):
    generator, alpha, trials, alarms = torch.Generator().manual_seed(seed), 0.05, 150, 0
    for trial in range(trials):
        alarms += judged(*rounds(12, 15, generator), seed=trial, alpha=alpha).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_miss_rate_of_a_share_that_is_off_by_delta(seed):
    generator, rate, trials, misses = np.random.default_rng(seed), 0.05, 40, 0
    n = Branches().sample_size(0.05, alpha=1e-4, beta=rate)
    said = torch.tensor([0.5, 0.5], dtype=torch.float64).expand(n, 1, 2)
    branch = torch.full((n, 1), int(SAMPLED))
    for _ in range(trials):
        tokens = torch.from_numpy((generator.random((n, 1)) < 0.45).astype(np.int64))
        misses += not judged(said, tokens, branch, int(generator.integers(1 << 30)), alpha=1e-4).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


LOSSLESS = [name for name in registry.names("ids") if not registry.entry(name).relaxed]


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_decoders_are_right_at_every_kind(name, seed):
    target = toy("hash-16x24")
    settings = registry.Settings(window=5, draft_model=draft("perturbed", target))
    run = sample(registry.build(name, settings), target, 1500, seed)
    laws = target.laws(target.start(1500), run.tokens[:, :-1])
    assert bool((run.branch > 0).all())
    found = judged(laws, run.tokens, run.branch, seed)
    assert not found.rejected, found.detail


def test_a_log_that_says_nothing_of_branches_is_vacuous():
    laws, tokens, branch = rounds(5, 3, torch.Generator())
    found = judged(laws, tokens, torch.zeros_like(branch))
    assert (found.n, found.rejected) == (0, False)
    assert found.vacuous
