"""The field's newer decoders: what each does to the law, exactly, and what its parts are."""

from functools import cache

import pytest
import torch

from specverify.decoders import Autoregressive, Jacobi, MultiDraft, Speculative, TokenRule, registry
from specverify.decoders.multi_draft import Alike
from specverify.decoders.unverified import Unverified
from specverify.decoders.wavefront import Wavefront
from specverify.errors import InputError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.rules.joint import joint_keep, repeating, rising
from specverify.rules.relaxation import NOTHING
from specverify.rules.reuse import reuse_label, reused
from toymodels import draft, toy

EXACT = 1e-12


@cache
def model(name):
    return toy(name)


def priced(decoder, name):
    exact = enumerate_decoder(decoder, model(name))
    return exact.tv(target_law(model(name))), exact


# Reuse of drafts


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["dense-2x8", "sparse-3x5", "eos-3x6", "ties-3x5"])
def test_reused_drafts_with_their_own_label_are_lossless(name):
    for window in (1, 2, 3):
        tv, exact = priced(Speculative(Jacobi("reuse", "random" if window == 2 else None), window), name)
        assert tv <= EXACT
        assert exact.branches["recovered"] > 0


def test_the_label_is_the_law_of_what_stands_there_whatever_the_threshold():
    p, q = torch.rand(2, 50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for threshold in (0.0, 0.5, 1.0, 4.0):
        every = torch.arange(4).expand(50, 4)
        each = torch.stack([reused(p, q, every[:, x], threshold) for x in range(4)], 1)
        torch.testing.assert_close((q[:, :, None] * each).sum(1), reuse_label(p, q, threshold))


def test_vectors_are_not_reused():
    from toymodels import continuous

    with pytest.raises(InputError, match="drafts are reused of ids alone"):
        Jacobi("reuse").start(continuous.toy("gauss-1x6"), 1, 2, None)


# Joint ratios


def test_the_joint_ratio_is_that_of_the_tail_and_the_longest_run_that_passes_is_kept():
    """Two drafts in one group: ratios 1/2 and 3 with p = 0.1 and 0.6, of which the second alone holds four fifths."""
    p = torch.tensor([[[0.1, 0.9], [0.4, 0.6]]], dtype=torch.float64)
    q = torch.tensor([[[0.2, 0.8], [0.8, 0.2]]], dtype=torch.float64)
    tokens, both = torch.tensor([[0, 1]]), torch.tensor([2])
    assert rising(p, tokens).tolist() == [[False, True]]
    assert repeating(p, tokens).tolist() == [[False, False]]
    # The whole group passes with certainty by its tail; by all of it, with min(1, 1/2 * 3); alone the first by 1/2.
    for goes_on, alpha, due in (
        (rising(p, tokens), 0.8, [1.0, 1.0]),
        (rising(p, tokens), 1.0, [1.0, 1.0]),
        (repeating(p, tokens), 0.8, [0.5, 1.0]),
    ):
        assert joint_keep(p, q, tokens, goes_on, both, alpha)[0].tolist() == pytest.approx(due)
    assert joint_keep(p, q, tokens, rising(p, tokens), torch.tensor([1]))[0].tolist() == pytest.approx([0.5, 0.0])


def test_a_group_that_the_target_forbids_is_never_kept():
    p = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]], dtype=torch.float64)
    tokens = torch.zeros(1, 2, dtype=torch.int64)
    keep = joint_keep(p, torch.full_like(p, 0.5), tokens, rising(p, tokens), torch.tensor([2]))
    assert keep.tolist() == [[0.0, 0.0]]


# Relaxed decoders


@pytest.mark.parametrize("lead", [1, 2])
def test_a_wavefront_costs_nothing_where_a_pixel_sees_left_and_up_alone(lead):
    tv, exact = priced(Wavefront(lead), "raster-4x6")
    assert tv <= EXACT
    assert exact.passes == pytest.approx(3 + lead)


def test_a_wavefront_is_plain_decoding_from_the_width_on_and_loses_less_the_longer_its_lead():
    losses = [priced(Wavefront(lead, 3), "dense-3x6")[0] for lead in (1, 2)]
    assert losses[0] > losses[1] > 0.1
    tv, exact = priced(Wavefront(3, 3), "dense-3x6")
    assert tv <= EXACT
    assert exact.passes == pytest.approx(6)


@pytest.mark.parametrize(("name", "width"), [("ties-3x5", 2), ("dense-2x8", 3), ("eos-3x6", 3), ("dense-3x6", 9)])
def test_rows_that_do_not_fill_the_last_one_and_ends_are_decoded_whole(name, width):
    exact = enumerate_decoder(Wavefront(1, width), model(name))
    assert float(exact.law.sum()) == pytest.approx(1, abs=EXACT)
    assert exact.passes < model(name).length or width > model(name).length


def test_what_is_skipped_costs_no_pass_and_the_law():
    inner = MultiDraft(draft("perturbed", model("dense-3x6")), 1)
    verified = priced(inner, "dense-3x6")[1]
    tv, exact = priced(Unverified(inner, every=2), "dense-3x6")
    assert tv > 0.1
    assert exact.passes < verified.passes - 0.5
    assert exact.branches["sampled"] > 1
    assert priced(Unverified(inner, every=99), "dense-3x6")[0] <= EXACT, "a step that never comes"


def test_drafts_of_the_target_itself_may_be_taken_unseen():
    inner = MultiDraft(draft("identical", model("sparse-3x5")), 2)
    assert priced(Unverified(inner, every=2), "sparse-3x5")[0] <= EXACT


@pytest.mark.parametrize("distance", [0.0, 0.1, 1.0])
def test_siblings_judged_alike_pay_at_least_what_they_gain(distance):
    other = draft("perturbed", model("ties-3x5"))
    exact = enumerate_decoder(MultiDraft(other, 1), model("ties-3x5"))
    tv, relaxed = priced(MultiDraft(other, 1, 2, Alike(distance=distance), NOTHING), "ties-3x5")
    assert tv >= relaxed.acceptance_rate - exact.acceptance_rate - EXACT
    assert relaxed.passes <= exact.passes + EXACT
    if distance == 1:
        assert tv > 0.01


def test_the_nearer_siblings_must_be_the_less_is_lent():
    """On a toy where few laws are equal."""
    other = draft("perturbed", model("dense-3x6"))
    losses = [priced(MultiDraft(other, 1, 2, Alike(distance=d), NOTHING), "dense-3x6")[0] for d in (0.0, 0.3, 1.0)]
    assert losses[0] < 0.005 < losses[1] < losses[2]


# Matching


def test_sample_and_match_is_lossless_and_slower_than_the_token_rule():
    settings = registry.Settings(2, draft_model=draft("perturbed", model("sparse-3x5")))
    tv, exact = priced(registry.build("sd-match", settings), "sparse-3x5")
    assert tv <= EXACT
    assert exact.passes > enumerate_decoder(registry.build("sd", settings), model("sparse-3x5")).passes
    assert exact.passes < enumerate_decoder(Autoregressive(), model("sparse-3x5")).passes
    assert registry.build("sd", settings).judging == TokenRule()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Wavefront(0), "lead 0"),
        (lambda: Wavefront(1, 0), "width 0"),
        (lambda: Unverified(MultiDraft(model("dense-3x6"), 1), 1), "every 1: of so many draftings one"),
        (lambda: Alike(distance=1.5), "distance = 1.5"),
    ],
)
def test_what_cannot_be_built_says_so(build, message):
    with pytest.raises(InputError, match=message):
        build()
