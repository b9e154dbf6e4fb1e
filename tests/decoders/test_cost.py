"""What decoders cost in forward passes: exact where it can be enumerated, sampled with a stated error elsewhere."""

import math

import pytest
import torch

from specverify.decoders import DraftModel, Jacobi, Speculative, sample
from specverify.evidence.enumerate import enumerate_decoder
from toymodels import TableModel, draft, toy
from toymodels.tables import prefixes

EXACT = 1e-12
COUPLED_IS_FASTER = ("dense-2x8", "ties-3x5", "markov-3x6", "raster-4x6", "synonyms-4x5", "penalty-3x6", "switch-3x6")
COUPLED_IS_SLOWER = ("dense-3x6", "sharp-3x6", "window-3x6")


def passes(redraw, name, window=None):
    model = toy(name)
    return enumerate_decoder(Speculative(Jacobi(redraw), window or model.length), model).passes


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", COUPLED_IS_FASTER + COUPLED_IS_SLOWER)
def test_s2_coupling_changes_nothing_for_one_draft_and_the_expected_passes_for_a_full_window(name):
    """Observed on these toys, as in SCD's experiments; it is no theorem, as the last three of them show."""
    assert passes("maximal", name, 1) == pytest.approx(passes("independent", name, 1), abs=EXACT)
    gain = passes("independent", name) - passes("maximal", name)
    assert gain > 1e-4 if name in COUPLED_IS_FASTER else -0.01 < gain < -1e-4


def test_s2_gumbel_coupling_lies_within_a_promille_of_the_maximal_one_over_two_tokens():
    maximal, gumbel = passes("maximal", "dense-2x8", 5), passes("gumbel", "dense-2x8", 5)
    assert gumbel == pytest.approx(maximal, rel=1e-3)
    assert gumbel < passes("independent", "dense-2x8", 5)


def test_s3_coupled_drafts_gain_from_wider_windows_where_independent_ones_no_longer_do(seed):
    model, n = toy("markov-8x32"), 1500

    def mean(redraw, window):
        result = sample(Speculative(Jacobi(redraw), window), model, n, seed).passes.double()
        error = float(result.std()) / n**0.5
        assert error < 0.1
        return float(result.mean()), 5 * error

    independent = [mean("independent", window) for window in (2, 8, 32)]
    assert independent[0][0] - independent[1][0] > 1
    assert abs(independent[1][0] - independent[2][0]) < 0.03 * independent[1][0] + independent[2][1]
    for redraw in ("maximal", "gumbel"):
        coupled = [mean(redraw, window) for window in (2, 8, 32)]
        for wide, narrow in zip(coupled[1:], coupled, strict=False):
            assert wide[0] + wide[1] < 0.75 * (narrow[0] - narrow[1])
        assert coupled[-1][0] + coupled[-1][1] < 0.55 * (independent[-1][0] - independent[-1][1])


@pytest.mark.parametrize("window", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("name", ["dense-2x8", "sparse-3x5", "penalty-3x6"])
def test_a_perfect_draft_model_takes_one_pass_per_window_and_its_bonus(name, window):
    model = toy(name)
    exact = enumerate_decoder(Speculative(DraftModel(draft("identical", model)), window), model)
    assert exact.passes == pytest.approx(math.ceil(model.length / (window + 1)), abs=EXACT)
    assert exact.accepted == pytest.approx(exact.verified, abs=EXACT)


@pytest.mark.parametrize("window", [1, 2, 9])
@pytest.mark.parametrize("name", ["sparse-3x5", "sparse-4x5"])
def test_a_draft_model_with_no_token_in_common_is_always_rejected(name, window):
    model = toy(name)
    exact = enumerate_decoder(Speculative(DraftModel(draft("disjoint", model)), window), model)
    assert exact.accepted == 0
    assert exact.passes == pytest.approx(model.length, abs=EXACT)
    assert exact.branches["recovered"] == pytest.approx(model.length, abs=EXACT)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_s4_a_round_of_independent_trials_emits_a_truncated_geometric_number(window, worlds):
    p, q = (torch.tensor(law, dtype=torch.float64) for law in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]))
    length = window + 1
    target, other = (TableModel("iid", law.repeat(prefixes(3, length), 1), length) for law in (p, q))
    decoder = Speculative(DraftModel(other), window)

    def one_round(draws):
        _, info = decoder.step(decoder.init(target, draws.batch, draws), target, draws)
        return info.emitted

    emitted, weight = worlds(one_round)
    alpha = float(torch.minimum(p, q).sum())
    for k in range(window):
        assert float(weight[emitted == k + 1].sum()) == pytest.approx(
            alpha**k * (1 - alpha) + (k == window) * alpha**window, abs=EXACT
        )
    assert float((weight * emitted).sum()) == pytest.approx((1 - alpha ** (window + 1)) / (1 - alpha), abs=EXACT)
