"""Decoders, runs and enumerations that cannot be: refused by name, with the remedy, and remedies that work."""

import re

import pytest
import torch
from jaxtyping import TypeCheckError

from specverify.decoders import (
    Autoregressive,
    DraftModel,
    Jacobi,
    SharedNoise,
    Speculative,
    begin,
    registry,
    run,
    sample,
)
from specverify.draws import Sampled
from specverify.errors import BudgetError, ContractError, InputError
from specverify.evidence.budget import Budget
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from toymodels import TableModel, draft, toy
from toymodels.tables import prefixes


def refuses(message, error=InputError):
    return pytest.raises(error, match=re.escape(message))


def built(kind, **attributes):
    """An instance made past the type checker that tests run under and users do not."""
    instance = object.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(instance, name, value)
    instance.__post_init__()


@pytest.mark.parametrize("window", [0, -1, 2.5, True, None, "2"])
@pytest.mark.parametrize("kind", [Speculative, SharedNoise])
def test_impossible_windows_are_refused(kind, window):
    with refuses(f"window {window!r}: it is the number of draft tokens per forward pass, at least 1"):
        built(kind, window=window)
    with pytest.raises((InputError, TypeCheckError)):
        registry.build("sjd", registry.Settings(window=window))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"redraw": "gumble"},
            "unknown drafting 'gumble'; choose one of independent, maximal, gumbel, noise, reuse, or a",
        ),
        (
            {"initial": "ones"},
            "unknown drafting 'ones'; choose one of repeat-left, zero, random, sample-left",
        ),
    ],
)
def test_unknown_ways_to_draft_are_refused(arguments, message):
    with refuses(message):
        built(Jacobi, **{"redraw": "maximal", "initial": "zero"} | arguments)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("dense-2x8", "the draft model 'dense-2x8' has vocab 2, the target 'dense-3x6' 3"),
        ("sparse-3x5", "the draft model 'sparse-3x5' has length 5, the target 'dense-3x6' 6"),
    ],
)
def test_a_draft_model_of_other_sequences_is_refused(other, message):
    with refuses(message):
        run(Speculative(DraftModel(toy(other)), 2), toy("dense-3x6"), 4, Sampled(0))


def test_a_draft_model_of_another_precision_is_refused():
    with refuses("the draft model 'sharp-3x6' has dtype torch.float32, the target 'dense-3x6' torch.float64"):
        run(Speculative(DraftModel(toy("sharp-3x6", torch.float32)), 2), toy("dense-3x6"), 4, Sampled(0))


class Idle:
    """Commits nothing once it has `until` tokens."""

    name, claim = "idle", Autoregressive().claim

    def __init__(self, until):
        self.until = until

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        after, info = Autoregressive().step(state, model, draws)
        return (after, info) if int(state.length.min()) < self.until else (state, info)


def test_a_decoder_that_commits_nothing_is_refused():
    with refuses(
        "decoder 'idle' committed nothing after [0, 0, 0, 0, 0, 0] at length 0; each step must", ContractError
    ):
        enumerate_decoder(Idle(0), toy("dense-3x6"))
    with refuses("decoder 'idle' committed nothing after [", ContractError):
        enumerate_decoder(Idle(2), toy("dense-3x6"))
    with refuses("decoder 'idle' left rows unfinished after 6 steps; each step must commit a token", ContractError):
        run(Idle(2), toy("dense-3x6"), 4, Sampled(0))


class Forgetful(Idle):
    """Says that it is done one token early, and is not."""

    def step(self, state, model, draws):
        after, info = Autoregressive().step(state, model, draws)
        after.length.clamp_(max=model.length)
        after.length[after.length == model.length - 1] += 1
        return after, info


def test_a_decoder_that_loses_worlds_is_refused():
    with refuses("decoder 'idle' lost or made probability: its law sums to 1 +- 1", ContractError):
        enumerate_decoder(Forgetful(9), toy("dense-3x6"))


class Wrong(Autoregressive):
    """Asks for a draw from a law that is none."""

    def step(self, state, model, draws):
        draws.bernoulli(torch.full_like(state.length, torch.nan, dtype=torch.float64), ~state.done)
        return super().step(state, model, draws)


def test_a_decoder_with_an_impossible_law_is_refused_sampled_or_enumerated():
    with refuses("a draw without noise, or with NaN, negative or all-zero probabilities", ContractError):
        run(Wrong(), toy("dense-3x6"), 4, Sampled(0))
    with refuses("bernoulli was asked with probability nan", ContractError):
        enumerate_decoder(Wrong(), toy("dense-3x6"))


def test_races_over_more_than_two_tokens_are_not_enumerated():
    with refuses("a race over 3 tokens cannot be enumerated; use a model with two tokens", ContractError):
        enumerate_decoder(SharedNoise(2), toy("dense-3x6"))


@pytest.mark.parametrize(("worlds", "rows"), [(0, 1), (1, 0), (-5, 8)])
def test_budgets_below_one_are_refused(worlds, rows):
    with refuses(f"an enumeration budget of {worlds} worlds and {rows} rows; both are at least 1"):
        Budget(worlds, rows)


def test_empty_batches_and_samples_are_refused():
    with refuses("cannot run a batch of 0 sequences; it must be at least 1"):
        run(Autoregressive(), toy("dense-3x6"), 0, Sampled(0))
    for n, block in ((0, 5), (5, 0), (-1, 5)):
        with refuses(f"cannot draw {n} sequences in blocks of {block}; both must be at least 1"):
            sample(Autoregressive(), toy("dense-3x6"), n, 0, block)


class Sized:
    """A model of which only the size is looked at."""

    name, eos, dtype, device = "sized", None, torch.float64, torch.device("cpu")

    def __init__(self, vocab, length):
        self.vocab, self.length = vocab, length

    def start(self, batch):
        raise NotImplementedError

    laws = advance = start


@pytest.mark.parametrize(("vocab", "length"), [(0, 3), (3, 0)])
def test_models_of_nothing_are_refused(vocab, length):
    with refuses(f"model 'sized' has vocabulary {vocab} and length {length}; both are at least 1"):
        target_law(Sized(vocab, length))


@pytest.mark.parametrize("work", [target_law, lambda model: enumerate_decoder(Autoregressive(), model)])
def test_models_with_too_many_sequences_name_a_length_that_fits(work):
    with refuses(
        "has 3^13 sequences, too many to tabulate; with vocabulary 3 a length of at most 12 fits", BudgetError
    ):
        work(Sized(3, 13))
    assert 3**12 <= 2**20 < 3**13
    with refuses("has 2097152^1 sequences, too many to tabulate; with length 1 a vocabulary of 1048576", BudgetError):
        work(Sized(2**21, 1))


class Shorter:
    """The first positions of a model."""

    def __init__(self, inner, length):
        self.inner, self.length = inner, length
        self.name, self.vocab, self.eos, self.dtype, self.device = (
            inner.name,
            inner.vocab,
            inner.eos,
            inner.dtype,
            inner.device,
        )
        self.start, self.laws, self.advance = inner.start, inner.laws, inner.advance


def scrambled(vocab, length):
    weights = torch.tensor(
        [[1 + (7 * r * r + 3 * v) % 11 for v in range(vocab)] for r in range(prefixes(vocab, length))]
    )
    return TableModel("scrambled", (weights / weights.sum(1, keepdim=True)).double().softmax(1), length)


MAKERS = {
    "sd": lambda model, window: Speculative(DraftModel(draft("perturbed", model)), window),
    "sjd": lambda model, window: Speculative(Jacobi("independent", "random"), window),
    "scd-mc": lambda model, window: Speculative(Jacobi("maximal", "sample-left"), window),
    "scd-gs": lambda model, window: Speculative(Jacobi("gumbel", "random"), window),
    "sjd-race": lambda model, window: SharedNoise(window),
}


def worlds_of(name, model, window, length):
    """How many worlds it takes on the first positions of a model, within some budget."""

    def within(budget=None):
        shorter = Shorter(model, length)
        if name == "sd":
            decoder = Speculative(DraftModel(Shorter(draft("perturbed", model), length)), window)
        else:
            decoder = MAKERS[name](shorter, window)
        return enumerate_decoder(decoder, shorter, budget).worlds

    return within


@pytest.mark.thinned(8)
@pytest.mark.parametrize(("vocab", "length", "window"), [(2, 7, 3), (2, 5, 4), (3, 4, 2)])
@pytest.mark.parametrize("name", MAKERS)
def test_what_a_budget_error_says_would_fit_does_fit(name, vocab, length, window):
    """Tried with the budgets that are one world short of a narrower window or a shorter sequence."""
    if name in ("scd-gs", "sjd-race") and vocab > 2:
        vocab = 2
    model = scrambled(vocab, length)
    smaller = [(narrower, length) for narrower in range(1, window)] + [(window, n) for n in range(1, length)]
    budgets = {worlds_of(name, model, *size)() - 1 for size in smaller} | {worlds_of(name, model, window, length)() - 1}
    named = 0
    for worlds in sorted(budgets):
        with pytest.raises(BudgetError) as caught:
            worlds_of(name, model, window, length)(Budget(worlds))
        message = str(caught.value)
        assert re.search(rf"takes more than {worlds:,} worlds; .*, or raise the budget", message), message
        narrower, shorter = re.search(r"a window of (\d+)", message), re.search(r"a length of (\d+)", message)
        if narrower:
            worlds_of(name, model, int(narrower[1]), length)(Budget(worlds))
        if shorter:
            worlds_of(name, model, window, int(shorter[1]))(Budget(worlds))
        assert ("fits for certain" in message) == bool(narrower or shorter)
        assert ("a smaller vocabulary may fit" in message) != bool(narrower or shorter)
        named += bool(narrower or shorter)
    assert named >= len(budgets) / 3


class Coins(Autoregressive):
    """Throws more coins at once than an integer can count the outcomes of."""

    def step(self, state, model, draws):
        coins = torch.full((len(state.length), 70), 0.5, dtype=torch.float64)
        draws.bernoulli(coins, torch.ones_like(coins, dtype=torch.bool))
        return super().step(state, model, draws)


def test_more_outcomes_than_an_integer_holds_are_over_the_budget():
    with refuses("takes more than 20,000,000 worlds", BudgetError):
        enumerate_decoder(Coins(), toy("dense-3x6"))


def test_unknown_decoders_are_refused_with_those_that_are_close():
    with refuses("unknown decoder 'scd-m'; did you mean scd-mc or "):
        registry.build("scd-m")
    with refuses(f"unknown decoder 'zzz'; known: {', '.join(registry.names())}"):
        registry.entry("zzz")


def test_speculative_decoding_by_name_needs_its_draft_model():
    with refuses("decoder 'sd' drafts with a second model; give it one, such as a toy's draft model"):
        registry.build("sd")
