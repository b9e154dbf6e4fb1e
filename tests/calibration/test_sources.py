"""Samples of a calibration are as wrong as they are said to be."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from specverify.calibration import (
    bounds,
    continuous,
    dependence,
    sources,
    traces,
)  # fmt: skip
from specverify.calibration.blackbox import FromLaw
from specverify.calibration.sources import Source
from specverify.errors import InputError
from specverify.evidence.tokens import reduce
from tests.calibration.trials import WRONG


class TestSources:
    @pytest.mark.parametrize("wanted", [0.01, 0.05])
    def test_a_flaw_is_tuned_to_an_exact_distance(self, wanted):
        found = sources.tuned(WRONG, wanted)
        size = 0.5 * np.abs(sources.exact(found) - sources.target("ties-3x5")).sum()
        assert wanted <= size <= wanted * (1 + 1e-6)

    def test_what_cannot_be_tuned_is_said(self):
        with pytest.raises(InputError, match="defect 'inverted-ratio' has no strength to tune"):
            sources.tuned(Source("inverted-ratio", "dense-2x8", draft="perturbed"), 0.01)
        with pytest.raises(InputError, match=r"residual-rewarped on ties-3x5 is wrong by 0\.0973 at most, not by 0\.5"):
            sources.tuned(WRONG, 0.5)

    def test_decoding_for_real_and_the_exact_law_agree(self, agrees, seed):
        wrong = sources.tuned(WRONG, 0.05)
        total = sum(wrong.counts(5000, 20, seed % 2**32))
        agrees(total, sources.exact(wrong), 0.05)
        assert (total[sources.exact(wrong) == 0] == 0).all()

    def test_repetitions_do_not_share_samples(self):
        first, *rest = Source("ar", "hash-16x24").tokens(3, 5, 0)
        assert not any(torch.equal(first, other) for other in rest)
        large = list(Source("ar", "dense-2x8").indices(20_000, 2, 0))
        assert [len(part) for part in large] == [20_000, 20_000]
        assert (large[0] != large[1]).any()

    def test_transforms_are_worked_out_as_they_are_measured(self):
        toy = "ties-3x5"
        tokens = sources.every_sequence(toy)[sources.target(toy) > 0]
        here = traces.along(toy)
        keep = sources.target(toy) > 0
        measured = reduce(sources.laws(toy, tokens), tokens, np.random.default_rng(0))
        pit = measured.pit.numpy()[measured.open]
        assert (here.low[keep][measured.open] - 1e-12 <= pit).all()
        assert (pit <= here.high[keep][measured.open] + 1e-12).all()
        np.testing.assert_allclose(here.overlap[keep].sum(-1), 1, atol=1e-12)

    def test_the_exact_size_of_a_flaw_is_nothing_for_a_right_decoder(self):
        right = Source("sjd", "dense-3x6")
        for check in traces.TOOLS:
            assert traces._size(check, right) < 1e-12

    def test_the_exact_kolmogorov_distance_is_what_many_tokens_show(self):
        wrong = sources.tuned(
            Source("params-dropped-on-spec-path", "dense-3x6"), 0.05, partial(traces._size, "PIT uniformity"), 0.2
        )
        (trace,) = traces.traces(wrong, 60_000, 1, 0)
        pit = np.sort(trace.pit.numpy().ravel())
        shown = np.abs(pit - np.arange(1, len(pit) + 1) / len(pit)).max()
        assert shown == pytest.approx(0.05, abs=math.sqrt(math.log(2e6) / (2 * 60_000)))

    def test_chance_collisions_of_a_chain_are_exact(self):
        tokens = Source("ar", "markov-3x6")
        chain = dependence._tool("markov-8x32").collision
        assert 0 < chain < 1e-6
        law = sources.target("markov-3x6")
        assert dependence._tool(tokens.toy).collision == pytest.approx(float((law**2).sum()))
        with pytest.raises(InputError, match="the chance that two sequences of hash-16x24 are equal is not known"):
            dependence._tool("hash-16x24")


@pytest.mark.parametrize(
    ("check", "distance"), [("energy distance", "energy"), ("Rosenblatt uniformity", "kolmogorov")]
)
def test_the_size_of_a_shift_is_what_samples_show(check, distance):
    moved = continuous.shift(check, 0.2)
    assert getattr(continuous, distance)(moved) == pytest.approx(0.2)
    one, two = np.random.default_rng(0).standard_normal((2, 2000))
    one += moved
    if distance == "energy":
        across = np.abs(one[:, None] - two).mean()
        shown = (2 * across - sum(np.abs(x[:, None] - x).mean() for x in (one, two))) / (2 * across)
    else:
        shown = stats.ks_2samp(one, two).statistic
    assert shown == pytest.approx(0.2, abs=0.05)


def test_the_distances_of_bounds_are_what_samples_show():
    generator = np.random.default_rng(0)
    overlap = bounds.moved_overlap(0.05)
    taken = bounds.geometric(generator, 200_000, overlap)
    due = (1 - bounds.OVERLAP) * bounds.OVERLAP ** np.arange(20)
    shown = np.abs([(taken > k).mean() - due[k] for k in range(20)]).max()
    assert shown == pytest.approx(0.05, abs=0.01)
    assert bounds.geometric(generator, 200_000, bounds.OVERLAP).mean() == pytest.approx(1, abs=0.03)

    ratio, inverse = bounds.TOOLS["overlap from both sides"].draw(generator, 200_000, 0.05)
    shown = np.exp(np.minimum(ratio, 0)).mean() - np.exp(np.minimum(inverse, 0)).mean()
    assert abs(shown) == pytest.approx(0.05, abs=0.01)
    ratio, inverse = bounds.TOOLS["mean ratio"].draw(generator, 200_000, 0.0)
    assert np.exp(ratio).mean() == pytest.approx(1, abs=0.01)
    assert np.exp(inverse).mean() == pytest.approx(1, abs=0.01)

    (pairs,) = bounds.TOOLS["Rosenblatt pairs"].draw(generator, 400_000, 0.05)
    cells = np.histogram2d(pairs[:, 0, 0], pairs[:, 1, 0], bins=bounds.GRID, range=[[0, 1]] * 2)[0] / 400_000
    assert np.abs(cells - bounds.GRID**-2).sum() / 2 == pytest.approx(0.05, abs=0.01)


def test_a_table_is_sampled_as_it_is():
    model = Source("ar", "sparse-3x5").model()
    law = sources.target("sparse-3x5")
    tokens = FromLaw(law)(model, model, 20_000, 0)
    index = (tokens.numpy() @ (3 ** np.arange(4, -1, -1))).ravel()
    assert 0.5 * np.abs(np.bincount(index, minlength=len(law)) / 20_000 - law).sum() < 0.05
    assert (law[index] > 0).all()
