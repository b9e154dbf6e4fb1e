"""Schedulers' own verifications as decoders: enumerated exactly, sampled as they are, and told what they return."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Jacobi, Speculative, sample
from specverify.decoders.registry import Settings
from specverify.errors import ContractError, InputError
from specverify.evidence.bare import difference
from specverify.evidence.cases import Case, Weights
from specverify.evidence.discrete import ChiSquare, sequence_counts
from specverify.evidence.enumerate import enumerate_decoder, target_law
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import runs_torch
from specverify.evidence.search import SMALL, evaluate, explain
from specverify.integrations.schedulers import Window, _choose, window
from specverify.integrations.unprocessed import Processing
from specverify.integrations.verification import Outcomes, Verified
from specverify.processors import temperature, top_k, top_p
from specverify.subjects.factory import as_factory
from specverify.subjects.modes import find_modes
from specverify.subjects.suite import FAR, _far, nothing_to_cut, scattered, suite
from specverify.worlds import follow
from toymodels.tables import prefixes

PATH = Path(__file__).parents[1] / "subjects" / "examples" / "schedulers.py"


def _examples():
    spec = importlib.util.spec_from_file_location("example_schedulers", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


examples = _examples()


def weights(vocab, length, **more):
    return Weights(vocab, length, scattered(prefixes(vocab, length), vocab), **more)


def off(decoder, model):
    law = enumerate_decoder(Guarded(decoder), model).law
    return float((law - target_law(model)).abs().sum() / 2)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("first", ["repeat-left", "zero", pytest.param("random", marks=pytest.mark.slow), "last"])
def test_a_right_verification_has_the_targets_law_from_any_first_drafts(first):
    assert off(window(examples.sjd, first=first)(2), weights(2, 3 + (first == "random")).model()) < 1e-12


@pytest.mark.thinned(3)
@pytest.mark.parametrize("more", [{"eos": 1}, {"processors": "top_k=2"}, {"span": 1}])
def test_and_on_models_that_end_or_have_zeros(more):
    vocab = 3 if "processors" in more else 2
    model = Weights(vocab, 3, scattered(Weights.laws(vocab, 3, more.get("span")), vocab), **more).model()
    assert off(window(examples.sjd, plain_first=False)(2), model) < 1e-12


def late(ids, logits, q, last=4):
    """Speculative Jacobi decoding, which forgets the residual in its late slots, and what it returns if it is right."""
    p = logits.softmax(-1)
    for slot in range(ids.shape[1] - 1):
        draft, law = ids[0, slot + 1], q[0, slot + 1]
        if torch.rand(()) >= p[0, slot, draft] / law[draft]:
            left = p[0, slot] if slot >= last else (p[0, slot] - law).clamp(min=0)
            behind = [torch.multinomial(law, 1)[0] for law in p[0, slot + 1 :]]
            return slot + 1, torch.stack([*ids[0, 1 : slot + 1], torch.multinomial(left, 1)[0], *behind])[None], p
    return len(p[0]), torch.cat([ids[0, 1:], torch.multinomial(p[0, -1], 1)])[None], p


@pytest.mark.slow
@pytest.mark.parametrize(("vocab", "length", "width"), FAR)
def test_late_slots_of_long_windows_are_met_in_few_worlds(vocab, length, width):
    model = _far(vocab, length).model()
    right, wrong = (window(functools.partial(late, last=last), first="zero") for last in (99, width - 1))
    assert off(right(width), model) < 1e-12
    assert off(wrong(width), model) > 0.003


def test_long_windows_are_among_the_first_that_are_followed():
    (mode,) = find_modes(as_factory(lambda window: Speculative(Jacobi(), window)), Lossless(), SMALL, 0)
    first = [(case.model, case.window) for _, case in suite([mode], Lossless())[:12]]
    assert {(_far(vocab, length), width) for vocab, length, width in FAR} <= {*first}


@pytest.mark.parametrize("initial", ["repeat-left", pytest.param("random", marks=pytest.mark.slow)])
def test_a_mislabelled_redraft_is_located_among_the_redrafts_that_are_kept(initial):
    factory = as_factory(window(examples.coupled_as_released))
    found = explain(factory.build, Case(weights(2, 4), window=2, initial=initial), Lossless())
    assert found.problem == "law"
    assert found.location.branch == "accepted (redraft)"


def test_a_residual_that_is_warped_twice_is_located_where_it_is_drawn():
    factory = as_factory(window(examples.rewarped_residual, temperature=0.5, first="random"))
    found = explain(factory.build, Case(weights(3, 2), window=1), Lossless())
    assert found.location.branch.startswith("recovered")


def test_the_factory_varies_first_drafts_unless_they_are_given():
    assert as_factory(window(examples.sjd)).takes == {"window", "initial"}
    assert as_factory(window(examples.sjd, first="random")).takes == {"window"}
    with pytest.raises(InputError, match="'sample-left': a window takes repeat-left, zero, random, last"):
        as_factory(window(examples.sjd)).build(Settings(2, "sample-left"))


def test_sampled_it_just_runs_and_leaves_everybodys_generators_alone(seed):
    model, calls = weights(3, 4).model(), []
    before = torch.random.get_rng_state()

    def counting(*given):
        calls.append(torch.initial_seed())
        return examples.sjd(*given)

    decoder = window(counting, first="random")(2)
    once, again = sample(decoder, model, 40, seed), sample(decoder, model, 40, seed)
    assert torch.equal(once.tokens, again.tokens)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 2 * 40 <= len(calls) <= 2 * 40 * 3
    assert not decoder.verification._known
    assert difference(decoder, Guarded(decoder), model, seed=seed, n=40) == ""


def test_sampled_it_has_the_law_that_was_enumerated(seed):
    model = weights(2, 4).model()
    tokens = sample(window(examples.sjd, first="random")(2), model, 800, seed).tokens
    found = ChiSquare(target_law(model)).check(
        sequence_counts(tokens, 2), alpha=1e-6, beta=0.01, generator=np.random.default_rng(seed)
    )
    assert not found.rejected, found


@pytest.mark.slow
def test_rows_are_done_at_different_times_and_each_token_has_its_branch():
    case = Case(weights(2, 4, eos=1), window=2, initial="random", arrangement="ragged")
    outcome = evaluate(as_factory(window(examples.sjd)).build, case, Lossless())
    assert outcome.tv < 1e-12
    assert outcome.exact.branches["sampled"] == pytest.approx(1.0)
    assert all(outcome.exact.branches[branch.name.lower()] > 0 for branch in Branch if branch is not Branch.NONE)


def test_equal_windows_are_followed_once():
    calls = []

    def counting(*given):
        calls.append(given)
        return examples.sjd(*given)

    build = as_factory(window(counting)).build
    case = Case(weights(2, 3), window=2, initial="zero")
    evaluate(build, case, Lossless())
    first = len(calls)
    evaluate(build, case, Lossless())
    assert first > 0
    assert len(calls) == first


NAN = float("nan")
RETURNED = {
    "a pair": (lambda i, p, q: (1, i), "returned a tuple of 2; it returns a triple"),
    "matched 0": (lambda i, p, q: (0, i, p), "matched = 0 for 2 drafts; .* 1..3"),
    "matched True": (lambda i, p, q: (True, i, p), "matched = True"),
    "a float": (lambda i, p, q: (torch.tensor(1.0), i, p), r"matched = a tensor of shape \(\) and torch.float32"),
    "flat tokens": (lambda i, p, q: (1, i[0], p), r"tokens that are a tensor of shape \(3,\)"),
    "too few": (lambda i, p, q: (3, torch.cat([i[:, 1:], i[:, :1]], 1)[:, :2], p[:, :2]), "2 tokens, of which 3 are"),
    "too many": (lambda i, p, q: (1, i.repeat(1, 2), p.repeat(1, 2, 1)), "6 tokens, of which 1 are .* at most 3"),
    "flat scores": (lambda i, p, q: (1, i, p[0]), r"scores that are a tensor of shape \(3, 2\)"),
    "another draft": (lambda i, p, q: (3, 1 - i, p), r"2 drafts were accepted, but it returned"),
    "no id": (lambda i, p, q: (1, i - 1, p), r"tokens \[.*\]; ids are 0..1"),
    "nan": (lambda i, p, q: (1, i, p * NAN), "returned NaN among the scores of the drafts that it keeps"),
    "noise": (lambda i, p, q: (1, i, p + torch.randn(3, 2)), "draws with torch's randn.*--level sampler"),
}


@pytest.mark.thinned(4)
@pytest.mark.parametrize("what", RETURNED)
def test_what_it_returns_is_read_with_care(what):
    def mine(ids, logits, q):
        return returned(ids, logits, q) if ids.shape[1] == 3 else (1, ids[:, :1], logits[:, :1])

    returned, says = RETURNED[what]
    with pytest.raises(ContractError, match=f"(?s)^mine.*{says}"):
        enumerate_decoder(window(mine, plain_first=False)(2), weights(2, 3).model())


def test_what_it_keeps_from_call_to_call_is_seen():
    calls = []

    def mine(ids, logits, q):
        calls.append(ids)
        return examples.sjd(ids, logits * (len(calls) % 7), q)

    with pytest.raises(ContractError, match="mine"):
        enumerate_decoder(window(mine)(2), weights(2, 3).model())


def test_numbers_from_elsewhere_than_torch_are_refused():
    def mine(ids, logits, q):
        matched, tokens, scores = examples.sjd(ids, logits, q)
        tokens[0, -1] = int(np.random.randint(2))  # noqa: NPY002
        return matched, tokens, scores

    with pytest.raises(ContractError, match=r"mine.*numpy"):
        enumerate_decoder(window(mine, plain_first=False)(1), weights(2, 3).model())


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ((0.5, None, None), [0.2, 0.3, 0.5, 0.0]),
        ((1.0, 2, None), [0.0, 0.75, 0.0, 0.25]),
        ((2.0, 3, None), [0.0, 1.0, 0.0, 0.0]),
        ((1.0, None, 0.8), [0.4, 0.6, 0.0, 0.0]),
        ((0.7, 2, 0.9), [0.7, 0.3, 0.0, 0.0]),
    ],
)
def test_raw_logits_are_what_the_processors_make_a_law_from(settings, law):
    t, k, mass = settings
    due = torch.tensor([law], dtype=torch.float64)
    logits = Processing(*settings).logits(due)
    made = temperature(logits.softmax(-1), t)
    made = made if k is None else top_k(made, k)
    made = made if mass is None else top_p(made, mass)
    torch.testing.assert_close(made, due, rtol=0, atol=1e-12)
    if t == 1:  # there is something to cut
        assert bool((logits.softmax(-1)[due == 0] > 0.01).all())


def test_laws_that_no_processing_makes_are_refused():
    law = torch.tensor([[0.05, 0.35, 0.6]], dtype=torch.float64)
    with pytest.raises(InputError, match="top_k=2 leaves no law of more tokens"):
        Processing(top_k=2).logits(law)
    with pytest.raises(InputError, match="would cut tokens of this"):
        Processing(top_p=0.9).logits(law)
    for wrong in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Processing(**wrong)


@pytest.mark.parametrize("count", [1, 64, 65, 500])
def test_an_outcome_is_chosen_digit_by_digit(count):
    chance = torch.arange(1, count + 1, dtype=torch.float64)
    one = Outcomes(chance / chance.sum(), [Verified(0, 1, torch.zeros(1), torch.zeros(1, 2))] * count)
    came = torch.zeros(count, dtype=torch.float64)
    for place, _, _, weight in follow(
        lambda given, draws: torch.tensor(_choose([one] * draws.batch, draws)), None, torch.ones(1)
    ):
        came.index_add_(0, place, weight.double())
    torch.testing.assert_close(came, one.chance, rtol=0, atol=1e-9)


class Theirs(Window):
    """Somebody's own, which would be lent the generator if its word counted."""


@pytest.mark.slow
def test_nobody_elses_decoder_is_lent_a_generator():
    ours = window(examples.sjd)(2)
    theirs = Theirs(**{name: getattr(ours, name) for name in ours.__dataclass_fields__})
    model = weights(2, 3).model()
    assert runs_torch(ours)
    assert not difference(ours, Guarded(ours), model, seed=0)
    assert theirs.draws_with_torch
    assert not runs_torch(theirs)
    assert difference(theirs, Guarded(theirs), model, seed=0)


@pytest.mark.parametrize(
    ("own", "made_by", "nothing"),
    [
        ("top_k=2", "top_k=2", False),
        ("top_k=2000", "top_k=2000", True),
        ("top_k=2000", "top_k=2,top_k=2000", True),  # what others cut is not its doing
        ("top_k=3", "temperature=0.7,top_k=3", True),
        ("top_p=0.6", "top_p=0.6", False),
        ("", "top_k=2", False),
    ],
)
def test_a_processor_is_at_stake_where_it_cuts_something_itself(own, made_by, nothing):
    model = Weights(3, 2, scattered(Weights.laws(3, 2, None), 3), processors=made_by)
    assert nothing_to_cut(own, [Case(model)]) == nothing
