"""Proofs for every law: the lossless decoders have one, and no decoder that is known to be wrong."""

from __future__ import annotations

import pytest
import torch
from evidence.exact.fooling import judging

from specverify import defects
from specverify.deadline import Deadline
from specverify.decoders import Autoregressive
from specverify.decoders.registry import build, entry
from specverify.errors import InputError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.exact.box import Asked, Box
from specverify.evidence.exact.proof import BITS, at_point, prove
from specverify.evidence.exact.proof import LOSSLESS as LOSSLESS_GOAL
from specverify.evidence.exact.statement import statement
from specverify.rules.token import at

LOSSLESS = ("ar", "sd", "sd-block", "sd-multi", "sjd", "sjd-block", "scd-mc")
JACOBI = ("sjd", "sjd-block", "scd-mc")
DIFFERS = {
    "accept-all-prefix-count",
    "argmax-draw-softmax-q",
    "argmax-verify-at-temperature",
    "inplace-target-zeroed",
    "inverted-ratio",
    "synthetic-acceptance",
    "block-on-coupled-drafts",
    "block-verify-tokenwise-accept",
    "bonus-from-draft",
    "duplicate-node-reverified",
    "eos-inside-block-ignored",
    "first-draft-unverified",
    "forced-accept-special-tokens",
    "match-else-redraw",
    "one-race-for-a-step",
    "one-race-for-all-positions",
    "pad-id-collides-with-token-0",
    "race-not-shifted",
    "recovered-from-target",
    "rejected-draft-kv-retained",
    "residual-only-if-disjoint",
    "stale-branch-after-accept",
    "stale-residual-as-bonus",
    "stale-scores-after-coupling",
    "synthetic-prob-always-accept",
}
"""Known-wrong decoders that differ from the target at the random point. The others are out of reach."""


def proof(name, box, seed=1, **options):
    return prove(lambda settings: build(name, settings), box, seed=seed, **options)


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("sizes", [(2, 4, 3, None), (3, 3, 2, 2)])
def test_a_lossless_decoder_is_proved_for_every_law(name, sizes):
    vocab, length, window, eos = (2, 3, 2, sizes[3] and 1) if name == "sd-multi" else sizes
    found = proof(name, Box(vocab, length, window, eos, drafts=entry(name).needs_draft_model))
    assert found.proved, found.why
    assert found.error_bits >= BITS
    assert found.assumptions > 0 or name == "ar"


@pytest.mark.thinned(3)
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_laws_past_the_end_which_a_toy_has_equal_keep_nobody_from_a_proof(seed):
    found = proof("sd-multi", Box(2, 2, 2, drafts=True), seed)
    assert found.proved, found.why


class Nameless:
    """Nothing but what a decoder needs."""

    def __init__(self):
        decoder = Autoregressive()
        self.init, self.step = decoder.init, decoder.step


def test_a_decoder_needs_no_name():
    found = prove(lambda settings: Nameless(), Box(2, 2))
    assert found.proved, found.why


def test_a_proof_says_what_of_its_sizes_was_asked():
    wide, ended = proof("sd", Box(2, 3, 2, drafts=True)), proof("sd", Box(2, 3, 1, 1, drafts=True))
    assert (wide.asked, ended.asked) == (Asked(3, False, True), Asked(2, True, True))
    compared = prove(judging(lambda p, q, d: at(p, d) / torch.maximum(at(p, d), at(q, d))), Box(2, 1, 1, drafts=True))
    assert compared.orders > 1
    assert compared.asked == Asked(1, False, True)
    empty = proof("ar", Box(2, 3, 2, 1, drafts=True))
    assert empty.proved
    assert empty.asked == Asked(1, True, False)


def test_what_was_not_asked_is_said():
    boxes, bits = [Box(2, 3, 2, 1, drafts=True), Box(2, 3, 1, drafts=True)], [90.0, 90.0]
    said = statement("lossless", boxes, bits, 0, 0, [Asked(1, False, False), Asked(1, False, True)])
    assert (
        "; a step commits up to 1 token, no law of the draft model is read in some of them, no end comes early " in said
    )
    said = statement("lossless", boxes[1:], bits[1:], 0, 0, [Asked(3, False, True)])
    assert "; a step commits up to 3 tokens; error" in said
    assert "commits" not in statement("lossless", boxes, bits, 0, 0, [None, None])


@pytest.mark.thinned(6)
@pytest.mark.parametrize("name", JACOBI)
@pytest.mark.parametrize("initial", ["zero", "random", "sample-left"])
def test_whatever_the_initial_drafts_are(name, initial):
    assert proof(name, Box(2, 3, 2, initial=initial)).proved


@pytest.mark.parametrize("name", ["sd", "scd-mc"])
def test_whichever_the_prime(name):
    found = [proof(name, Box(2, 3, 1, drafts=name == "sd"), seed=seed) for seed in range(3)]
    assert all(each.proved for each in found)
    assert len({each.prime for each in found}) == 3
    assert all(2**126 < each.prime < 2**127 for each in found)


def test_the_same_seed_gives_the_same_proof():
    one, other = (proof("sjd", Box(2, 3, 2), seed=5) for _ in range(2))
    assert (one.prime, one.worlds, one.numbers, one.symbols) == (
        other.prime,
        other.worlds,
        other.numbers,
        other.symbols,
    )


LOSSY = [name for name in defects.names() if defects.get(name).lossy]
OF_THREE = (
    "raw-q-for-processed-draw",
    "duplicate-node-reverified",
    "stale-target-prob-when-absent",
    "without-replacement-q-not-renormalised",
)
"""Wrong of three tokens on: the best two of two are both, of two a residual has one, which is kept, and two drafts that
differ are all there are."""


@pytest.mark.thinned(32)
@pytest.mark.parametrize("name", [name for name in LOSSY if name not in OF_THREE])
def test_no_known_wrong_decoder_is_proved(name):
    defect = defects.get(name)
    drafts = defect.smallest.draft is not None or "draft model" in defect.needs
    box = Box(2, 3, 2, 1 if "eos" in defect.needs else None, drafts, defect.smallest.initial)
    found = prove(defect.build, box, seed=3)
    assert not found.proved
    assert (found.outcome == "differs") == (name in DIFFERS), found.why


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", OF_THREE)
def test_those_left_out_are_exact_for_two_tokens(name):
    for vocab, exact in ((2, True), (3, False)):
        assert (max(_off(name, vocab, zeros) for zeros in (0.0, 0.4)) < 1e-12) == exact


def _off(name, vocab, zeros):
    """The largest distance over five tables of laws, of whose entries that share is 0."""
    generator, found = torch.Generator().manual_seed(vocab), []
    target, draft, settings = at_point(Box(vocab, 3, 2, drafts=True), 3, LOSSLESS_GOAL)
    for _ in range(5):
        for model in (target, draft):
            weights = torch.rand(model._rows.shape, dtype=torch.float64, generator=generator) + 0.1
            weights[:, 1:][torch.rand(weights[:, 1:].shape, generator=generator) < zeros] = 0
            model._rows.copy_(weights / weights.sum(-1, keepdim=True))
            model.table.copy_(model._rows[: len(model.table)])
        found.append(enumerate_decoder(defects.get(name).build(settings), target).tv(target_law(target)))
    return max(found)


EXACT_IN_TWO = {
    "block-on-coupled-drafts",
    "bonus-from-draft",
    "rejected-draft-kv-retained",
    "stale-branch-after-accept",
    "stale-residual-as-bonus",
    "tree-redrawn-from-all",
}
"""Known-wrong decoders whose conditions take more than two positions."""


def _widest(name, length):
    defect = defects.get(name)
    drafts = defect.smallest.draft is not None or "draft model" in defect.needs
    return Box(3, length, 2, 2 if "eos" in defect.needs else None, drafts, defect.smallest.initial)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSY)
def test_no_known_wrong_decoder_is_proved_at_three_tokens_and_positions(name):
    assert not prove(defects.get(name).build, _widest(name, 3), seed=7).proved


@pytest.mark.thinned(24)
@pytest.mark.parametrize("name", LOSSY)
def test_at_two_positions_only_those_are_proved_that_are_exact_there(name):
    box = _widest(name, 2)
    assert prove(defects.get(name).build, box, seed=7).proved == (name in EXACT_IN_TWO)


@pytest.mark.parametrize("name", sorted(EXACT_IN_TWO))
def test_who_is_proved_although_known_to_be_wrong_is_exact_at_any_law_of_the_box(name):
    for seed in range(3):
        target, _, settings = at_point(_widest(name, 2), seed, LOSSLESS_GOAL)
        assert enumerate_decoder(defects.get(name).build(settings), target).tv(target_law(target)) < 1e-12


@pytest.mark.parametrize("name", ["one-hot-rule-with-any-draft", "bonus-dropped-on-full-accept"])
def test_controls_that_only_look_wrong_are_proved(name):
    defect = defects.get(name)
    assert prove(defect.build, Box(2, 3, 2, drafts=True), seed=3).proved


def test_what_is_not_certain_is_named_as_it_was_computed():
    def why(keep, law):
        never = judging(lambda p, q, draft: keep * at(p, draft), lambda p, q, draft: law(p - q))
        return prove(never, Box(3, 2, 2, drafts=True), seed=1).why

    assert "the weight (p(0) - q(0)) (" in why(0, lambda gap: gap)
    mass = why(0, lambda gap: gap.clamp(min=0) / gap.clamp(min=0).sum(-1, keepdim=True))
    assert "whether ((p(0) - q(0))+ + (p(1) - q(1))+ + (p(2) - q(2))+) (" in mass
    assert "accept_run is asked with (p(0) * 2) (" in why(2, lambda gap: gap)
    assert "the weight a number (" in why(0, lambda gap: (gap + gap**3) ** 3), "too long to be said"


def test_what_takes_too_long_is_too_large():
    assert "over" in proof("sd", Box(3, 4, 3, drafts=True), budget=Budget(worlds=100)).why
    assert proof("sd", Box(3, 4, 3, drafts=True), budget=Budget(deadline=Deadline(0))).outcome == "too large"


def test_a_decoder_that_refuses_the_settings_is_out_of_reach():
    found = proof("sd", Box(2, 3, 2))
    assert found.outcome == "out of reach"
    assert "drafts with a second model" in found.why


def test_a_box_has_sizes():
    with pytest.raises(InputError, match="at least 2 tokens"):
        Box(1, 3)
    assert str(Box(2, 3, 2, 1)) == "2 tokens, 3 positions, window 2, with an end"
