"""Counts of ranks against the masses that a log gives them."""

import numpy as np
import pytest
import torch

from specverify import tree
from specverify.evidence.design import rate_excess
from specverify.evidence.ranks import NAMES, Ranks, masses


def draw(laws, generator):
    return torch.from_numpy((laws.cumsum(-1).numpy() < generator.random((len(laws), 1))).sum(-1))


def judged(found, n, **rates):
    whole = tree.map_tensors(found, lambda part: part.reshape(n, -1, *part.shape[2:]))
    return Ranks().check(whole, torch.ones(whole.place.shape, dtype=torch.bool), **rates)


def test_masses_are_of_ranks_and_the_place_is_the_tokens_own():
    law = torch.tensor([[0.1, 0.4, 0.1, 0.2, 0.15, 0.05]], dtype=torch.float64)
    due = [0.4, 0.2, 0.25, 0.15, 0, 0, 0]
    for token, place in ((1, 0), (3, 1), (4, 2), (0, 2), (2, 3), (5, 3)):
        found = masses(law, torch.tensor([token]))
        assert found.mass.flatten().tolist() == pytest.approx(due)
        assert found.place.item() == place
    listed = masses(torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64), torch.tensor([2]), listed=2)
    assert listed.mass.flatten().tolist() == pytest.approx([0.5, 0.2, 0, 0, 0, 0, 0.3])
    assert NAMES[listed.place.item()] == "unlisted"
    wide = masses(torch.full((1, 100), 0.01, dtype=torch.float64), torch.tensor([99]))
    assert wide.mass.flatten().tolist() == pytest.approx([0.01, 0.01, 0.02, 0.04, 0.24, 0.68, 0])
    assert NAMES[wide.place.item()] == "ranks above 32"


def test_false_alarms_of_perfect_logs(seed):
    generator, alpha, trials, alarms = np.random.default_rng(seed), 0.05, 100, 0
    for _ in range(trials):
        laws = torch.from_numpy(generator.dirichlet(np.full(40, 0.1), size=300))
        alarms += judged(masses(laws, draw(laws, generator)), 30, alpha=alpha, beta=0.1).rejected
    assert rate_excess(alarms, trials, alpha) > 1e-6


def test_a_log_that_is_too_sure_where_it_is_sure_is_refuted():
    generator = np.random.default_rng(1)
    sure = generator.random(20_000) < 0.1
    top = np.where(sure, 0.99, 0.5)
    said = torch.from_numpy(np.stack([top, 1 - top], 1))
    true = torch.from_numpy(np.stack([np.where(sure, 0.95, 0.5), np.where(sure, 0.05, 0.5)], 1))
    found = judged(masses(said, draw(true, generator)), 100, alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert "rank 1 where it has 0.95 or more" in found.detail or "0.99" in found.detail
    assert not judged(masses(said, draw(said, generator)), 100, alpha=1e-6, beta=1e-6).rejected


def test_tokens_that_are_always_listed_are_refuted_and_both_readings_told():
    generator = np.random.default_rng(2)
    laws = torch.tensor([[0.6, 0.39, 0.01]], dtype=torch.float64).expand(10_000, 3)
    tokens = torch.from_numpy(generator.integers(0, 2, 10_000) * (generator.random(10_000) < 0.78)).long()
    found = judged(masses(laws, tokens, listed=2), 100, alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert "every emitted token is listed" in found.detail
    assert (found.coverage["unlisted"], round(found.coverage["unlisted due"])) == (0, 100)


@pytest.mark.parametrize("top", [0.5, 0.9])
def test_miss_rate_of_a_bucket_that_is_off_by_delta(top, seed):
    generator, rate, trials, misses = np.random.default_rng(seed), 0.05, 60, 0
    n = Ranks().sample_size(0.05, alpha=1e-4, beta=rate)
    said = torch.tensor([[top, 1 - top]], dtype=torch.float64).expand(n, 2)
    true = torch.tensor([[top - 0.05, 1.05 - top]], dtype=torch.float64).expand(n, 2)
    for _ in range(trials):
        misses += not judged(masses(said, draw(true, generator)), n, alpha=1e-4, beta=rate).rejected
    assert rate_excess(misses, trials, rate) > 1e-6


def test_tokens_that_do_not_count_are_in_no_count():
    found = masses(torch.full((50, 4), 0.25, dtype=torch.float64), torch.zeros(50, dtype=torch.int64))
    none = found.where(torch.zeros(50, 1, dtype=torch.bool))
    checked = Ranks().check(none, torch.zeros(50, 1, dtype=torch.bool), alpha=0.5, beta=0.5)
    assert not checked.rejected
    assert checked.vacuous
    assert checked.n == 0


def test_a_cut_that_the_log_does_not_show_is_seen_by_the_least_probable_token(seed):
    """16 tokens, of which the last is drawn never: some 80 of 100,000 are missed, among 4,000 of ranks 9 to 16."""
    generator = np.random.default_rng(seed)
    said = torch.softmax(torch.linspace(0, -6, 16, dtype=torch.float64), 0).expand(100_000, -1)
    cut = said.clone()
    cut[:, -1] = 0
    found = judged(masses(said, draw(cut / cut.sum(1, keepdim=True), generator)), 100_000, alpha=1e-6, beta=1e-6)
    assert found.rejected
    assert found.detail.startswith("least probable token: 0 tokens came")
    assert not judged(masses(said, draw(said, generator)), 100_000, alpha=1e-6, beta=1e-6).rejected


def test_the_least_probable_token_is_the_least_that_is_possible_and_all_that_are_as_improbable():
    law = torch.tensor([[0.5, 0.2, 0.0, 0.2, 0.1], [0.6, 0.2, 0.0, 0.0, 0.2]], dtype=torch.float64)
    found = masses(law, torch.tensor([4, 1]))
    assert found.least[:, 0].tolist() == pytest.approx([0.1, 0.4])
    assert found.came[:, 0].tolist() == [True, True]
    assert found.where(torch.tensor([[False], [True]])).came[:, 0].tolist() == [False, True]
    listed = masses(law, torch.tensor([4, 1]), listed=2)
    assert listed.least[:, 0].tolist() == pytest.approx([0.2, 0.2])
    assert listed.came[:, 0].tolist() == [False, True]
