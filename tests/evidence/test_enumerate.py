"""The enumerator: against direct products, against cases worked by hand, and on decoders that break the protocol."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specverify import tree
from specverify.deadline import Deadline
from specverify.decoders import Autoregressive, DraftModel, Jacobi, Speculative
from specverify.decoders.registry import Settings, build
from specverify.errors import BudgetError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import ExactLaw, sequence_index, target_law
from specverify.model import Model
from toymodels import TableModel, draft, names, strategies, toy
from toymodels.catalogue import enumerable
from toymodels.tables import prefixes

EXACT = 1e-12
SMALL = [name for name in names() if enumerable(name)]


def table(laws: list[list[float]], length: int, name: str = "by-hand") -> TableModel:
    return TableModel(name, torch.tensor(laws, dtype=torch.float64), length)


def memoryless(law: list[float], length: int, name: str = "memoryless") -> TableModel:
    return table([law] * prefixes(len(law), length), length, name)


def shortened(name: str, length: int) -> TableModel:
    """The first positions of a toy."""
    full = toy(name)
    assert isinstance(full, TableModel)
    return TableModel(f"{name}-first-{length}", full.table[: prefixes(full.vocab, length)], length, eos=full.eos)


def sequences(model: Model) -> Tensor:
    return torch.tensor(list(itertools.product(range(model.vocab), repeat=model.length)))


def total(exact: ExactLaw) -> float:
    return sum(exact.branches.values())


# The target law.


@pytest.mark.parametrize("name", SMALL)
def test_target_law_is_the_product_of_the_laws_along_every_sequence(name: str) -> None:
    """By one forward pass over each whole sequence; `target_law` walks the prefixes by `advance`."""
    model = toy(name)
    every = sequences(model)
    laws = model.laws(model.start(len(every)), every[:, :-1])
    chance = laws.gather(2, every[..., None]).squeeze(2)
    if model.eos is not None:
        ended = torch.cat([torch.zeros_like(every[:, :1]), (every == model.eos).cumsum(1)[:, :-1]], 1) > 0
        chance = torch.where(ended, (every == model.eos).double(), chance)
    law = target_law(model)
    assert float(law.sum()) == pytest.approx(1, abs=EXACT)
    assert float((law - chance.prod(1)).abs().max()) <= 1e-15


def test_sequences_are_numbered_in_lexical_order() -> None:
    every = sequences(toy("sparse-3x5"))
    assert sequence_index(every, 3).tolist() == list(range(3**5))


# Plain decoding, and cases worked by hand.


@pytest.mark.parametrize("name", SMALL)
def test_plain_decoding_has_the_target_law_and_one_pass_per_token(name: str) -> None:
    model = toy(name)
    exact = enumerate_decoder(Autoregressive(), model)
    law = target_law(model)
    tokens = torch.full((len(law),), model.length, dtype=torch.float64)
    if model.eos is not None:
        is_end = sequences(model) == model.eos
        tokens = torch.where(is_end.any(1), is_end.int().argmax(1) + 1.0, tokens)
    assert exact.tv(law) <= EXACT
    assert exact.passes == pytest.approx(float(law @ tokens), abs=EXACT)
    assert exact.branches["sampled"] == pytest.approx(exact.passes, abs=EXACT)
    assert total(exact) == pytest.approx(exact.passes, abs=EXACT)
    assert math.isnan(exact.acceptance_rate), "nothing is verified"


BY_HAND = table([[1 / 4, 3 / 4], [1 / 2, 1 / 2], [1 / 3, 2 / 3]], 2)


def test_speculative_decoding_worked_by_hand() -> None:
    """Window 1, q = 1/2, 1/2 everywhere, p = 1/4, 3/4, then 1/2, 1/2 after 0 and 1/3, 2/3 after 1.

    The first draft is kept with chance 1/2 1 + 1/2 1/2 = 3/4, and a bonus token ends the sequence. Else token 1 is
    recovered, and the second draft is kept with chance 1/2 2/3 + 1/2 1 = 5/6.
    """
    exact = enumerate_decoder(Speculative(DraftModel(memoryless([1 / 2, 1 / 2], 2)), 1), BY_HAND)
    kept, missed, second = Fraction(3, 4), Fraction(1, 4), Fraction(5, 6)
    assert exact.law.tolist() == pytest.approx([1 / 8, 1 / 8, 1 / 4, 1 / 2], abs=EXACT)
    assert exact.passes == pytest.approx(float(1 + missed), abs=EXACT)
    assert exact.draft_passes == pytest.approx(float(2 * (1 + missed)), abs=EXACT)
    assert exact.verified == pytest.approx(float(1 + missed), abs=EXACT)
    assert exact.accepted == pytest.approx(float(kept + missed * second), abs=EXACT)
    assert exact.acceptance_rate == pytest.approx(float((kept + missed * second) / (1 + missed)), abs=EXACT)
    assert exact.branches == pytest.approx(
        {
            "sampled": 0,
            "accepted": float(kept + missed * second),
            "recovered": float(missed + missed * (1 - second)),
            "bonus": float(kept),
        },
        abs=EXACT,
    )


@pytest.mark.parametrize("redraw", ["independent", "maximal", "gumbel"])
def test_jacobi_decoding_worked_by_hand(redraw: str) -> None:
    """Window 1, first draft 0: kept with chance 1/4, and a bonus token ends the sequence. Else token 1 is recovered.

    The second draft comes from the pass's last law, that after 0: 1/2, 1/2. It is kept with chance 5/6, as above. All
    three redraws agree, since no slot is looked at twice.
    """
    exact = enumerate_decoder(Speculative(Jacobi(redraw, "zero"), 1), BY_HAND)  # type: ignore[arg-type]
    assert exact.law.tolist() == pytest.approx([1 / 8, 1 / 8, 1 / 4, 1 / 2], abs=EXACT)
    assert exact.passes == pytest.approx(7 / 4, abs=EXACT)
    assert exact.verified == pytest.approx(7 / 4, abs=EXACT)
    assert exact.accepted == pytest.approx(1 / 4 + 3 / 4 * 5 / 6, abs=EXACT)
    assert exact.branches["recovered"] == pytest.approx(3 / 4 + 3 / 4 * 1 / 6, abs=EXACT)
    assert exact.branches["bonus"] == pytest.approx(1 / 4, abs=EXACT)
    assert exact.draft_passes == 0


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_passes_follow_the_law_of_independent_acceptances(window: int) -> None:
    """Where every draft is kept with chance a, a step emits k <= window tokens with chance a^(k-1) (1 - a), else all
    window + 1: (1 - a^(window+1)) / (1 - a) on average (Leviathan et al., arXiv 2211.17192, equation 1).
    """
    p, q, length = [0.5, 0.2, 0.3], [0.2, 0.5, 0.3], 7
    a = 0.7
    expected = [0.0]
    for left in range(1, length + 1):
        step = [a ** (k - 1) * (1 - a) for k in range(1, window + 1)] + [a**window]
        expected.append(1 + sum(chance * expected[left - k] for k, chance in enumerate(step, 1) if k < left))
    exact = enumerate_decoder(Speculative(DraftModel(memoryless(q, length)), window), memoryless(p, length))
    assert exact.passes == pytest.approx(expected[length], abs=EXACT)
    assert exact.acceptance_rate == pytest.approx(a, abs=EXACT)
    if window == 1:  # far from either end, by renewal, each token costs the reciprocal of a step's average
        assert expected[7] - expected[6] == pytest.approx((1 - a) / (1 - a**2), abs=0.05)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["dense-2x8", "eos-3x6", "raster-4x6", "penalty-3x6"])
@pytest.mark.parametrize("window", [1, 3])
def test_every_token_has_one_branch(name: str, window: int) -> None:
    model = toy(name)
    tokens = enumerate_decoder(Autoregressive(), model).passes
    for kind in ("sd", "sjd", "scd-mc"):
        exact = enumerate_decoder(build(kind, Settings(window, draft_model=draft("perturbed", model))), model)
        assert total(exact) == pytest.approx(tokens, abs=EXACT)
        assert exact.branches["accepted"] == pytest.approx(exact.accepted, abs=EXACT)
        assert min(exact.branches["accepted"], exact.branches["recovered"], exact.branches["bonus"]) > 0
        assert exact.branches["recovered"] == pytest.approx(exact.verified - exact.accepted, abs=EXACT)
        assert 0 < exact.states < exact.worlds


# The way that it is carried out leaves no trace.


@pytest.mark.thinned(2)
@pytest.mark.parametrize("kind", ["ar", "sd", "sjd", "scd-mc", "ar-race", "scd-gs", "sjd-race"])
def test_batching_and_merging_change_nothing(kind: str) -> None:
    model = shortened("dense-2x8", 4) if "race" in kind or kind == "scd-gs" else shortened("dense-3x6", 3)
    decoder = build(kind, Settings(2, draft_model=draft("perturbed", model)))
    whole = enumerate_decoder(decoder, model)
    assert whole.tv(target_law(model)) <= EXACT
    for rows in (1, 7):
        apart = enumerate_decoder(decoder, model, Budget(rows=rows))
        assert float((apart.law - whole.law).abs().max()) <= 1e-15
        assert (apart.states, apart.worlds) == (whole.states, whole.worlds)
        for figure in ("passes", "verified", "accepted", "draft_passes"):
            assert getattr(apart, figure) == pytest.approx(getattr(whole, figure), abs=1e-14)
        assert apart.branches == pytest.approx(whole.branches, abs=1e-14)


def test_every_state_is_expanded_once_however_many_ways_lead_to_it() -> None:
    exact = enumerate_decoder(Autoregressive(), toy("dense-3x6"))
    assert exact.states == prefixes(3, 6)
    assert exact.worlds == 1 + 3 * prefixes(3, 6), "the start, and each token after each prefix"
    # SJD comes to a prefix by a bonus, or by recovering from one of two other drafts, whose law it then carries.
    jacobi = enumerate_decoder(Speculative(Jacobi(), 1), toy("dense-3x6"))
    assert exact.states < jacobi.states < 3 * exact.states


@pytest.mark.parametrize("kind", ["sd", "sjd", "scd-mc"])
def test_single_precision_laws_give_the_law_to_single_precision(kind: str) -> None:
    double, single = toy("dense-3x6"), toy("dense-3x6", dtype=torch.float32)
    exact = enumerate_decoder(build(kind, Settings(2, draft_model=draft("perturbed", single))), single)
    assert exact.law.dtype == torch.float64
    assert EXACT < exact.tv(target_law(double)) < 1e-5


def test_states_that_share_a_hash_are_told_apart_by_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy("sparse-3x5")
    plain = enumerate_decoder(Autoregressive(), model)
    monkeypatch.setattr(tree, "hashed", lambda bits: torch.zeros_like(bits[:, 0]))
    hashed = enumerate_decoder(Autoregressive(), model)
    assert hashed.tv(plain.law) <= EXACT
    assert (hashed.states, hashed.worlds) == (plain.states, plain.worlds)


def test_no_two_of_many_rows_share_a_hash() -> None:
    values = torch.tensor([-9, -2, -1, 0, 1, 2, 2**31, -(2**31), 2**63 - 1, -(2**63)])
    bits = torch.cartesian_prod(values, values, values)
    assert len(tree.hashed(bits).unique()) == len(bits)


# Budgets.


def test_too_many_worlds_are_refused_with_a_size_that_fits() -> None:
    model, budget = toy("dense-3x6"), Budget(worlds=30_000)
    decoder = build("sjd", Settings(4))
    with pytest.raises(BudgetError, match="enumerating 'sjd' on 'dense-3x6' takes more than 30,000 worlds") as refusal:
        enumerate_decoder(decoder, model, budget)
    (window,), (length,) = (re.findall(rf"a {size} of (\d+)", str(refusal.value)) for size in ("window", "length"))
    assert enumerate_decoder(build("sjd", Settings(int(window))), model, budget).worlds <= budget.worlds
    assert enumerate_decoder(decoder, shortened("dense-3x6", int(length)), budget).worlds <= budget.worlds


def test_too_many_sequences_are_refused() -> None:
    for enumerate_it in (target_law, lambda model: enumerate_decoder(Autoregressive(), model)):
        with pytest.raises(
            BudgetError, match=r"'markov-8x32' has 8\^32 sequences, .* vocabulary 8 a length of at most 6"
        ):
            enumerate_it(toy("markov-8x32"))


@pytest.mark.parametrize("sizes", [{"worlds": 0}, {"rows": 0}])
def test_a_budget_is_at_least_one(sizes: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"worlds and \d+ rows; both are at least 1"):
        Budget(**sizes)


def test_an_empty_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what is passed is no model
    with pytest.raises(InputError, match="'empty' has vocabulary 0 and length 3"):
        target_law(SimpleNamespace(name="empty", vocab=0, length=3))  # type: ignore[arg-type]


# The property that all of this is for.


@st.composite
def subjects(draw: st.DrawFn, vocab: tuple[int, int], drafts: bool) -> tuple[Model, Model | None, int]:
    model = draw(strategies.models(vocab, eos=draw(st.booleans())))
    return model, draw(strategies.draft_models(model)) if drafts else None, draw(st.integers(1, 4))


@pytest.mark.thinned(4)
@pytest.mark.parametrize("examples", [50, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["sd", "sjd", "scd-mc", "scd-gs", "sjd-race"])
def test_every_decoder_is_lossless_on_any_model(kind: str, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly, whatever the laws: zeros, ties, one-hots, near-certainties, early ends, any window, any drafts."""
    # The type checks would take nine tenths of the time, and the tests above make them.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    covered: dict[str, float] = dict.fromkeys(("accepted", "recovered", "bonus"), 0.0)
    races = kind in ("scd-gs", "sjd-race")

    @settings(max_examples=examples)
    @given(
        subjects((2, 2) if races else (2, 3), kind == "sd"),
        st.sampled_from(["repeat-left", "zero", "random", "sample-left"]),
    )
    def check(subject: tuple[Model, Model | None, int], initial: str) -> None:
        model, draft_model, window = subject
        decoder = build(kind, Settings(window, initial, draft_model))  # type: ignore[arg-type]
        exact = enumerate_decoder(decoder, model)
        assert exact.tv(target_law(model)) <= EXACT
        for branch in covered:
            covered[branch] += exact.branches[branch]

    check()
    assert min(covered.values()) > 1, "the examples never came to some branch"


def test_an_enumeration_ends_when_its_time_is_over():
    with pytest.raises(BudgetError, match="given up after 0 worlds, when the time that it had was over"):
        enumerate_decoder(Autoregressive(), toy("dense-2x8"), Budget(deadline=Deadline(0.0)))
    assert enumerate_decoder(Autoregressive(), toy("dense-2x8"), Budget(deadline=Deadline(60.0))).worlds > 0
