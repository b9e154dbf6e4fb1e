"""Sums over rare outcomes: their moments, and misses at the stated delta where mass moves between rare and common."""

import numpy as np
import pytest
from scipy import special

from specverify.evidence.alternatives import alternative
from specverify.evidence.design import rate_excess
from specverify.evidence.discrete import ChiSquare
from specverify.evidence.distance import tv
from specverify.evidence.sequential import EProcess
from specverify.evidence.sparse import Family, least_seen

RARE = np.concatenate([[0.5], np.full(200, 0.0025)])
ZIPF = 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()


@pytest.mark.parametrize("law", [RARE, ZIPF, np.full(64, 1 / 64)], ids=["rare", "zipf", "flat"])
def test_alternatives_lie_at_their_distance(law):
    family = Family(law)
    assert family.p @ family.copies == pytest.approx(1)
    for delta in (0.01, 0.2, 0.4):
        laws = family.at(delta)
        assert len(laws) >= 2
        assert (laws >= 0).all()
        assert laws @ family.copies == pytest.approx(1)
        assert 0.5 * np.abs(laws - family.p) @ family.copies == pytest.approx(delta)


@pytest.mark.parametrize("n", [150, 3000])
@pytest.mark.parametrize("law", [RARE, ZIPF], ids=["rare", "zipf"])
def test_moments_are_those_of_multinomial_counts(law, n, seed):
    family = Family(law)

    def terms(counts, p):
        return 2 * special.xlogy(counts, counts / (n * p))

    found = family.moments(terms, family.p[None], n)
    counts = np.random.default_rng(seed).multinomial(n, law, size=4000)
    g = 2 * special.xlogy(counts, counts / (n * law)).sum(1)
    assert found.mean[0] == pytest.approx(g.mean(), abs=6 * g.std() / 4000**0.5 + 0.01 * g.mean())
    assert found.spread[0] == pytest.approx(g.std(), rel=0.08)
    assert found.quantile(0.95)[0] == pytest.approx(np.quantile(g, 0.95), rel=0.03)


@pytest.mark.parametrize(
    ("check", "law", "n"),
    [("g", RARE, 400), ("g", ZIPF, 700), ("pearson", RARE, 8200)],
    ids=["g on rare", "g on zipf", "pearson"],
)
def test_mass_moved_between_the_halves_is_missed_at_most_at_beta(check, law, n, seed):
    generator, alpha, beta, trials = np.random.default_rng(seed), 0.01, 0.05, 60
    tool = ChiSquare(law, check)
    delta = tool.smallest_detectable(n, alpha=alpha, beta=beta)
    assert delta < 0.5
    wrong = alternative(law, delta, "halved")
    assert tv(wrong, law) == pytest.approx(delta)
    counts = generator.multinomial(n, wrong, size=trials)
    if tool.plan(n, alpha).basis == "monte-carlo":  # with one set of perfect samples for all trials
        perfect = tool._statistic(generator.multinomial(n, law, size=4000), law)
        misses = int((tool._statistic(counts, law) < np.quantile(perfect, 1 - alpha)).sum())
    else:
        misses = sum(not tool.check(row, alpha=alpha, beta=beta).rejected for row in counts)
    assert rate_excess(misses, trials, beta) > 1e-6


@pytest.mark.parametrize("kind", ["halved", "spread", "dropped", "tempered"])
def test_the_e_process_misses_moves_among_rare_outcomes_at_most_at_beta(kind, seed):
    generator, tool, trials = np.random.default_rng(seed), EProcess(RARE), 60
    delta = tool.smallest_detectable(3000, alpha=0.01, beta=0.05)
    assert delta < 0.2
    counts = generator.multinomial(3000, alternative(RARE, delta, kind), size=trials)
    misses = sum(int(tool.log_e(row) < -np.log(0.01)) for row in counts)
    assert rate_excess(misses, trials, 0.05) > 1e-6


def test_nothing_below_what_can_be_moved_is_promised_where_moves_are_never_seen():
    law = np.concatenate([[0.5], np.full(1000, 0.0005)])
    assert ChiSquare(law).smallest_detectable(200, alpha=0.01, beta=0.05) > 0.5


def test_a_test_that_sees_nothing_sees_a_distance_of_one():
    assert least_seen(Family(RARE), lambda laws: np.full(len(laws), -1.0), 0.01) == 1.0
    assert least_seen(Family(RARE), lambda laws: np.ones(len(laws)), 0.01) == 0.01
