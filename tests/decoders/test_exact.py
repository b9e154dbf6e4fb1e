"""Losslessness as an identity: the enumerated law of every decoder equals the target's to 1e-12, on every small toy."""

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specverify.decoders import Autoregressive, DraftModel, Jacobi, SharedNoise, Speculative, TokenRule
from specverify.errors import ContractError, DependentRowsError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from toymodels import TableModel, draft, names, toy
from toymodels.catalogue import enumerable
from toymodels.drafts import kinds

EXACT = 1e-12
TOYS = [name for name in names() if enumerable(name)]
INITIALS = ("repeat-left", "zero", "random", "sample-left")
LARGE = ("redundant-4x6", "redundant-8x4", "synonyms-6x4")  # these take most of the time
SMALL = ("dense-2x8", "sparse-3x5", "eos-3x6", "switch-3x6")


@cache
def model(name):
    return toy(name)


@cache
def truth(name):
    return target_law(model(name))


def windows(name, every=True):
    """1, 2, 3 and beyond the length; where that takes too long, the first two or the first."""
    if name == "dense-4x6":
        return (1, 2) if every else (1,)
    if every or name in ("sparse-3x5", "switch-3x6"):
        return (1, 2, 3, model(name).length + 1)
    return (1, 2) if name in SMALL else (2,)


def assert_lossless(decoder, subject, law):
    exact = enumerate_decoder(decoder, subject)
    assert exact.tv(law) <= EXACT, f"{decoder} on {subject.name}: total variation {exact.tv(law):.3g}"
    return exact


@pytest.mark.parametrize("name", TOYS)
def test_autoregressive_decoding_is_the_target_law(name):
    exact = assert_lossless(Autoregressive(), model(name), truth(name))
    if model(name).eos is None:
        assert exact.passes == pytest.approx(model(name).length, abs=EXACT)


@pytest.mark.thinned(28)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("name", TOYS)
def test_speculative_decoding_is_lossless_for_every_draft_model(name, kind):
    for window in windows(name, every=kind == "perturbed"):
        decoder = Speculative(DraftModel(draft(kind, model(name))), window)
        exact = assert_lossless(decoder, model(name), truth(name))
        if kind == "identical":
            assert exact.acceptance_rate == pytest.approx(1, abs=EXACT)


@pytest.mark.thinned(20)
@pytest.mark.parametrize("redraw", ["independent", "maximal"])
@pytest.mark.parametrize(
    ("name", "initial"),
    [
        pytest.param(name, initial, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in TOYS
        for initial in (INITIALS[::2] if name in LARGE else INITIALS)
    ],
)
def test_jacobi_decoding_is_lossless_for_every_initial_draft(name, initial, redraw):
    for window in windows(name, every=initial == "repeat-left"):
        assert_lossless(Speculative(Jacobi(redraw, initial), window), model(name), truth(name))


@pytest.mark.parametrize("redraw", ["independent", "maximal"])
@pytest.mark.parametrize("name", ["sparse-3x5", "eos-3x6"])
def test_slots_behind_the_last_law_may_be_drafted_from_it(name, redraw):
    for window in (1, 3):
        assert_lossless(Speculative(Jacobi(redraw, "left-law"), window), model(name), truth(name))


def test_ids_are_redrawn_by_the_token_rule_as_by_the_maximal_coupling():
    one, other = (
        enumerate_decoder(Speculative(Jacobi(redraw), 3), model("sparse-3x5")) for redraw in ("maximal", TokenRule())
    )
    assert torch.equal(one.law, other.law)
    assert one.passes == other.passes


@pytest.mark.thinned(4)
@pytest.mark.parametrize("drafting", [DraftModel, lambda _: Jacobi(), lambda _: Jacobi("maximal", "random")])
@pytest.mark.parametrize("name", SMALL)
def test_decoding_without_a_bonus_token_is_lossless_too(name, drafting):
    for window in windows(name, every=False):
        decoder = Speculative(drafting(draft("perturbed", model(name))), window, bonus=False)
        exact = assert_lossless(decoder, model(name), truth(name))
        assert exact.branches["bonus"] == 0


two_tokens = {
    "scd-gs": lambda window, initial: Speculative(Jacobi("gumbel", initial), window),
    "sjd-race": lambda window, initial: SharedNoise(window),
    "ar-race": lambda window, initial: Autoregressive(shared_noise=True),
}


@pytest.mark.thinned(6)
@pytest.mark.parametrize("initial", INITIALS)
@pytest.mark.parametrize("name", two_tokens)
def test_decoders_with_races_are_lossless_over_two_tokens(name, initial):
    for window in (1, 2, 3, 9) if initial == "repeat-left" else (1, 2, 3):
        assert_lossless(two_tokens[name](window, initial), model("dense-2x8"), truth("dense-2x8"))


def table(weights, length):
    weights = torch.tensor(weights, dtype=torch.float64)
    return TableModel("any", weights / weights.sum(1, keepdim=True), length)


def scrambled(vocab, length):
    """A small table with no structure."""
    rows = sum(vocab**n for n in range(length))
    return table([[1 + (7 * row * row + 3 * token) % 11 for token in range(vocab)] for row in range(rows)], length)


@given(st.data(), st.integers(2, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from(INITIALS))
@settings(max_examples=20)
def test_every_decoder_is_lossless_on_any_model_with_any_draft_model(data, vocab, length, window, initial):
    rows = sum(vocab**n for n in range(length))
    law = st.lists(st.integers(0, 5), min_size=vocab, max_size=vocab).filter(any)  # zeros, ties, certainties
    target, other = (table(data.draw(st.lists(law, min_size=rows, max_size=rows)), length) for _ in range(2))
    decoders = [Autoregressive(), Speculative(DraftModel(other), window)]
    decoders += [Speculative(Jacobi(redraw, initial), window) for redraw in ("independent", "maximal")]
    if target.vocab == 2:
        decoders += [build(window, initial) for build in two_tokens.values()]
    law = target_law(target)
    for decoder in decoders:
        assert_lossless(decoder, target, law)


FIELDS = ("passes", "verified", "accepted", "draft_passes")


@pytest.mark.parametrize(("vocab", "length"), [(2, 3), (3, 2)])
def test_worlds_run_one_by_one_give_the_same_law_and_costs(vocab, length):
    subject = scrambled(vocab, length)
    decoders = [Autoregressive(), Speculative(DraftModel(draft("perturbed", subject)), 2)]
    decoders += [Speculative(Jacobi(redraw, "zero"), 2) for redraw in ("independent", "maximal")]
    if vocab == 2:
        decoders += [build(2, "zero") for build in two_tokens.values()]
    for decoder in decoders:
        alone, few, together = (enumerate_decoder(decoder, subject, Budget(rows=n)) for n in (1, 50, 1 << 16))
        for other in (few, together):
            assert alone.tv(other.law) <= EXACT
            for field in FIELDS:
                assert getattr(alone, field) == pytest.approx(getattr(other, field), abs=EXACT)
            assert alone.branches == pytest.approx(other.branches, abs=EXACT)
            assert (alone.states, alone.worlds) == (other.states, other.worlds)


@pytest.mark.parametrize("name", ["dense-3x6", "raster-4x6", "penalty-3x6"])
@pytest.mark.parametrize("drafting", [DraftModel, lambda _: Jacobi(), lambda _: Jacobi("maximal")])
def test_expected_costs_add_up(name, drafting):
    exact = enumerate_decoder(Speculative(drafting(draft("perturbed", model(name))), 2), model(name))
    assert sum(exact.branches.values()) == pytest.approx(model(name).length, abs=EXACT)
    assert exact.branches["sampled"] == 0
    assert exact.branches["accepted"] == pytest.approx(exact.accepted, abs=EXACT)
    assert exact.branches["recovered"] == pytest.approx(exact.verified - exact.accepted, abs=EXACT)
    assert min(exact.branches[branch] for branch in ("accepted", "recovered", "bonus")) > 0.1, "a branch was not taken"
    assert model(name).length / 3 <= exact.passes < model(name).length
    assert (exact.draft_passes > 0) == (drafting is DraftModel)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["dense-3x6", "sparse-4x5", "eos-3x6", "dense-2x8"])
def test_single_precision_laws_are_enumerated_to_single_precision(name):
    single = toy(name, torch.float32)
    decoders = [Autoregressive(), Speculative(DraftModel(draft("perturbed", single)), 2)]
    decoders += [Speculative(Jacobi(redraw, "random"), 2) for redraw in ("independent", "maximal")]
    if single.vocab == 2:
        decoders += [build(2, "zero") for build in two_tokens.values()]
    for decoder in decoders:
        assert enumerate_decoder(decoder, single).tv(truth(name)) <= 1e-6


@dataclass(frozen=True)
class PlainResample(TokenRule):
    """Replaces a rejected draft from p instead of the residual."""

    def recover(self, p, q, draft):
        return p


class PeeksAtOtherRows:
    """Takes the law q of the batch's last row for all rows: right only while a row is alone."""

    name = "peeks"

    def start(self, model, batch, window, draws):
        return Jacobi("independent", "zero").start(model, batch, window, draws)

    def propose(self, state, model, window, draws):
        proposal = Jacobi("independent", "zero").propose(state, model, window, draws)
        return replace(proposal, law=proposal.law[-1:].expand_as(proposal.law))

    def carry(self, *arguments):
        return Jacobi("independent", "zero").carry(*arguments)


@pytest.mark.parametrize("name", ["dense-3x6", "sparse-4x5", "dense-2x8"])
def test_a_wrong_residual_is_seen_at_its_distance(name):
    exact = enumerate_decoder(Speculative(Jacobi(), 3, PlainResample()), model(name))
    assert exact.tv(truth(name)) > 0.01
    assert float(exact.law.sum()) == pytest.approx(1, abs=EXACT)


def test_a_decoder_that_looks_at_other_rows_is_told_so_unless_worlds_run_one_by_one():
    subject, decoder = scrambled(2, 4), Speculative(PeeksAtOtherRows(), 2)
    alone = enumerate_decoder(decoder, subject, Budget(rows=1))
    assert alone.tv(target_law(subject)) <= EXACT
    with pytest.raises(DependentRowsError, match="how many rows are in the batch or what they hold"):
        enumerate_decoder(decoder, subject)


class SlipsInOneOfFour(TokenRule):
    """Replaces a rejected draft from p instead of the residual, in the last row of each four."""

    def recover(self, p, q, draft):
        last = torch.arange(len(p)) % 4 == 3
        return torch.where(last[:, None, None] if p.ndim == 3 else last[:, None], p, super().recover(p, q, draft))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense-2x8", "dense-3x6"])
def test_a_slip_in_some_places_of_the_batch_is_told_to_be_one_of_rows(name):
    decoder = Speculative(Jacobi(), 3, SlipsInOneOfFour())
    assert enumerate_decoder(decoder, model(name), Budget(rows=1)).tv(truth(name)) <= EXACT
    with pytest.raises(ContractError, match=r"its place in the batch|how many rows are in the batch"):
        enumerate_decoder(decoder, model(name))
